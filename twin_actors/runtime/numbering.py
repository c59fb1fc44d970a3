"""Numbers of entities in the log: they stay with an entity, whatever a later scenario adds, removes or sorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twin_actors.runtime.notes import Note
from twin_actors.store.base import NOBODY, Entry, Log
from twin_actors.store.bundles import BUNDLE, expanded, numbers_of, renumbered


class NumberedLog:
    """A log whose entries are numbered by the present scenario (0 … n−1), kept under the numbers that last.

    ``numbers[place]`` is the lasting number of the entity at that place of the scenario.
    """

    def __init__(self, log: Log, numbers: Sequence[int]) -> None:
        self._log, self._numbers = log, tuple(numbers)
        self._places = {number: place for place, number in enumerate(self._numbers)}
        self._lasting = np.array(self._numbers, np.int32)

    def append(self, epoch: int, entries: Sequence[Entry], expected: int | None = None) -> int:
        numbers = self._numbers
        lasting = [
            entry if (entity := entry[0]) == NOBODY
            else self._lasting_bundle(entry) if entity == BUNDLE
            else Entry(numbers[entity], *entry[1:])
            for entry in entries
        ]  # fmt: skip
        return self._log.append(epoch, lasting, expected)

    def _lasting_bundle(self, entry: Entry) -> Entry:
        payload = entry.payload
        return entry._replace(payload=renumbered(payload, self._lasting[numbers_of(payload)]))

    def read(self, first: int, limit: int, *, together: bool = False) -> list[tuple[int, Entry]]:
        found = self._log.read(first, limit, together=together)
        if together and any(entry[0] == BUNDLE for _, entry in found):
            return [placed for offset, entry in found for placed in self._placed_together(offset, entry)]
        return self._placed(found)

    def _placed_together(self, offset: int, entry: Entry) -> list[tuple[int, Entry]]:
        """A bundle by places stays whole, unless an entity in it has gone."""
        if entry[0] != BUNDLE:
            return self._placed([(offset, entry)])
        places = [self._places.get(number) for number in numbers_of(entry.payload).tolist()]
        if None in places:
            return self._placed(list(enumerate(expanded([entry]), start=offset)))
        return [(offset, entry._replace(payload=renumbered(entry.payload, np.array(places, np.int32))))]

    def read_of(self, entity: int, **chosen: Any) -> list[tuple[int, Entry]]:
        return self._placed(self._log.read_of(self._numbers[entity], **chosen))

    def rollup(self, entity: int, field: str, **chosen: Any) -> Any:
        return self._log.rollup(self._numbers[entity], field, **chosen)

    def _placed(self, entries: Sequence[tuple[int, Entry]]) -> list[tuple[int, Entry]]:
        return [(offset, entry if entry[0] == NOBODY else self._present(entry)) for offset, entry in entries]

    def _present(self, entry: Entry) -> Entry:
        """An entry by its place; one of an entity that has gone is nobody's, and for nobody to read."""
        place = self._places.get(entry[0])
        if place is None:
            return Entry(NOBODY, int(Note.FOREIGN), entry.source, entry.received_at_s, entry.payload)
        return Entry(place, *entry[1:])

    def __getattr__(self, name: str) -> Any:
        """Ends, sizes and trimming know no entities."""
        return getattr(self._log, name)


def numbers_for(entities: Sequence[str], known: Mapping[str, int]) -> tuple[tuple[int, ...], dict[str, int]]:
    """Lasting numbers for a scenario's entities, and those of all that there ever were: no number is given twice."""
    ever = dict(known)
    for entity in entities:
        if entity not in ever:
            ever[entity] = max(ever.values(), default=-1) + 1
    return tuple(ever[entity] for entity in entities), ever
