"""The contract that every domain is held to."""

from __future__ import annotations

from domains.venues import DOMAIN
from twin_actors.testing.domains import check_domain


def test_the_venues_keep_the_contract_of_a_domain() -> None:
    check_domain(DOMAIN)
