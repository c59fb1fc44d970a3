"""Numbers of entities in the log: they stay with an entity, whatever a later scenario adds, removes or sorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twin_actors.store.base import NOBODY, Entry, Log

GONE = -2
"""What entries of entities show as that the scenario does not have any more."""


class NumberedLog:
    """A log whose entries are numbered by the present scenario (0 … n−1), kept under the numbers that last.

    ``numbers[place]`` is the lasting number of the entity at that place of the scenario.
    """

    def __init__(self, log: Log, numbers: Sequence[int]) -> None:
        self._log, self._numbers = log, tuple(numbers)
        self._places = {number: place for place, number in enumerate(self._numbers)}

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        numbers = self._numbers
        lasting = [entry if entry[0] == NOBODY else Entry(numbers[entry[0]], *entry[1:]) for entry in entries]
        return self._log.append(epoch, lasting, expected)

    def read(self, first: int, limit: int) -> list[tuple[int, Entry]]:
        return self._placed(self._log.read(first, limit))

    def read_of(self, entity: int, **chosen: Any) -> list[tuple[int, Entry]]:
        return self._placed(self._log.read_of(self._numbers[entity], **chosen))

    def rollup(self, entity: int, field: str, **chosen: Any) -> Any:
        return self._log.rollup(self._numbers[entity], field, **chosen)

    def _placed(self, entries: Sequence[tuple[int, Entry]]) -> list[tuple[int, Entry]]:
        places = self._places
        return [
            (offset, entry if entry[0] == NOBODY else Entry(places.get(entry[0], GONE), *entry[1:]))
            for offset, entry in entries
        ]

    def __getattr__(self, name: str) -> Any:
        """Ends, sizes and trimming know no entities."""
        return getattr(self._log, name)


def numbers_for(entities: Sequence[str], before: Mapping[str, int]) -> tuple[int, ...]:
    """Lasting numbers for a scenario's entities: those they had, and fresh ones for the new."""
    fresh = max(before.values(), default=-1) + 1
    numbers = []
    for entity in entities:
        if entity in before:
            numbers.append(before[entity])
        else:
            numbers.append(fresh)
            fresh += 1
    return tuple(numbers)
