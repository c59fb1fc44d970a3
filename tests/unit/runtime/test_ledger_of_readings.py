"""The ledger's arithmetic and its words."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.runtime.cities import UNHURRIED
from twin_actors.core.ledger import Ledger

COUNTS = st.integers(0, 10**12)
LEDGERS = st.builds(Ledger, **{field.name: COUNTS for field in fields(Ledger)})
FATES = [field.name for field in fields(Ledger) if field.name != "received"]


def test_nothing_received_is_balanced() -> None:
    assert Ledger().balanced
    assert Ledger().unexplained == 0


@pytest.mark.parametrize("fate", FATES)
def test_every_fate_explains_a_reading(fate: str) -> None:
    ledger = Ledger(received=5, **{fate: 5})
    assert (ledger.unexplained, ledger.balanced) == (0, True)
    assert Ledger(received=5, **{fate: 3}).unexplained == 2
    assert Ledger(received=5, **{fate: 6}).unexplained == -1


@UNHURRIED
@given(LEDGERS, LEDGERS, LEDGERS)
def test_ledgers_add_up(one: Ledger, two: Ledger, three: Ledger) -> None:
    total = one + two + three
    assert total == three + one + two
    assert total.unexplained == one.unexplained + two.unexplained + three.unexplained
    assert total.received == one.received + two.received + three.received
    assert sum([one, two, three], Ledger()) == total


@UNHURRIED
@given(LEDGERS)
def test_the_dictionary_says_all(ledger: Ledger) -> None:
    said = ledger.to_dict()
    assert (said.pop("unexplained"), said.pop("balanced")) == (ledger.unexplained, ledger.balanced)
    assert Ledger(**said) == ledger


def test_the_line_reads_as_an_equation() -> None:
    ledger = Ledger(received=1_234, applied=1_000, duplicate=100, late=50, dead_lettered=30, shed=20, in_flight=34)
    assert str(ledger) == (
        "received 1,234 = applied 1,000 + duplicate 100 + late 50 + dead-lettered 30 + shed 20 + in flight 34"
        "  [balanced]"
    )
    assert str(Ledger(received=2_000)).endswith("[+2,000 UNEXPLAINED]")
    assert str(Ledger(applied=1)).endswith("[-1 UNEXPLAINED]")
