"""The model contract, and what the joint filter makes of an ambient temperature that nobody measures."""

from __future__ import annotations

import numpy as np

from domains.power import DOMAIN
from twin_actors.testing.domains import check_domain


def test_domain_keeps_the_model_contract() -> None:
    check_domain(DOMAIN)
