"""The traffic domain keeps the contract of every domain."""

from __future__ import annotations

from domains.traffic import DOMAIN
from twin_actors.testing.domains import check_domain


def test_contract() -> None:
    check_domain(DOMAIN)
