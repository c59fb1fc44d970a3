"""The air domain keeps the model contract."""

from __future__ import annotations

from domains.air import DOMAIN
from twin_actors.testing.domains import check_domain


def test_air_keeps_the_contract() -> None:
    check_domain(DOMAIN)
