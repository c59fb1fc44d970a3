"""The model contract of the water domain."""

from __future__ import annotations

from domains.water import DOMAIN
from twin_actors.testing.domains import check_domain


def test_water_keeps_the_contract() -> None:
    check_domain(DOMAIN)
