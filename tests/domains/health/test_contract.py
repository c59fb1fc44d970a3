"""The model contract of the health domain."""

from __future__ import annotations

from domains.health import DOMAIN
from twin_actors.testing.domains import check_domain


def test_health_keeps_the_contract() -> None:
    check_domain(DOMAIN)
