"""What the router itself counts, per entity: readings received, refused before any twin, and given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twin_actors.core.inputs import Channel
from twin_actors.runtime import notes
from twin_actors.runtime.notes import Note, Quarantine, Refusal, Tally
from twin_actors.store.base import NOBODY, Entry
from twin_actors.store.bundles import BUNDLE, count, numbers_of
from twin_actors.wire.elements import count_readings

READING = int(Channel.READING)


def readings_of(entry: Entry) -> list[tuple[int, int]]:
    """(entity number, readings) of what an entry of the log holds; what is not a reading has none."""
    if entry.entity == BUNDLE:
        return [(number, 1) for number in numbers_of(entry.payload).tolist()]
    return [(entry.entity, count_readings(entry.payload))] if entry.channel == READING else []


def count_of(entry: Entry) -> int:
    """How many readings an entry of the log holds."""
    if entry.entity == BUNDLE:
        return count(entry.payload)
    return count_readings(entry.payload) if entry.channel == READING else 0


class Accounts:
    """Counts of readings by entity number; those of nobody stand apart."""

    def __init__(self, entities: int) -> None:
        self.received = [0] * entities
        self.dead = [0] * entities
        self.shed = [0] * entities
        self.received_by_nobody = 0
        self.dead_by_nobody = 0
        self._untold: dict[int, int] = {}  # given up since the last tally
        self._held: dict[int, int] = {}  # of the last tally read back from a log

    def receive(self, entity: int, readings: int) -> None:
        if entity == NOBODY:
            self.received_by_nobody += readings
        else:
            self.received[entity] += readings

    def bury(self, entity: int, readings: int) -> None:
        if entity == NOBODY:
            self.dead_by_nobody += readings
        else:
            self.dead[entity] += readings

    def recount(self, entry: Entry) -> None:
        """Count once more what an entry that is read back from a log was counted as."""
        for number, readings in readings_of(entry):
            self.receive(number, readings)
        if entry.channel in (Note.REFUSED, Note.QUARANTINED, Note.TALLY):
            note = notes.decode(entry.channel, entry.payload)
            if isinstance(note, Tally):
                self.tally(note)
            elif isinstance(note, Refusal):
                self.receive(entry.entity, note.readings)
                self.bury(entry.entity, note.readings)
            elif isinstance(note, Quarantine):
                self.bury(entry.entity, note.readings)

    def give_up(self, entity: int, readings: int) -> None:
        self.shed[entity] += readings
        self._untold[entity] = self._untold.get(entity, 0) + readings

    @property
    def total_received(self) -> int:
        return sum(self.received) + self.received_by_nobody

    @property
    def total_dead(self) -> int:
        return sum(self.dead) + self.dead_by_nobody

    @property
    def total_shed(self) -> int:
        return sum(self.shed)

    # -- over restarts -----------------------------------------------------------------------------------------

    def take_untold(self) -> dict[int, int]:
        untold, self._untold = self._untold, {}
        return untold

    def tally(self, tally: Tally) -> None:
        """Count what a tally in the log tells: these readings were received and given up."""
        for entity, readings in tally.shed.items():
            self.received[entity] += readings
            self.shed[entity] += readings
        self._held = tally.held

    def lose_held(self) -> bool:
        """What the last tally knew as held back died with its router: received, and given up. True if there was any."""
        held, self._held = self._held, {}
        for entity, readings in held.items():
            self.received[entity] += readings
            self.give_up(entity, readings)
        return bool(held)

    def state(self, not_yet: Iterable[Entry], held: Mapping[int, int]) -> Mapping[str, Any]:
        """The counts as of the last commit: without what is ``not_yet`` in the log, where it will be counted again.

        ``held`` readings wait before the log: a router that takes this state up again counts them as given up.
        """
        received, dead, shed = list(self.received), list(self.dead), list(self.shed)
        nobody_received, nobody_dead = self.received_by_nobody, self.dead_by_nobody
        for entry in not_yet:
            for number, readings in readings_of(entry):
                received[number] -= readings
            if entry.channel in (Note.REFUSED, Note.QUARANTINED):
                note = notes.decode(entry.channel, entry.payload)
                refused = isinstance(note, Refusal)
                readings: int = note.readings  # type: ignore[union-attr]  # both have it
                if entry.entity == NOBODY:
                    nobody_received -= readings
                    nobody_dead -= readings
                else:
                    received[entry.entity] -= readings if refused else 0
                    dead[entry.entity] -= readings
            elif entry.channel == Note.TALLY:
                tally = notes.decode(entry.channel, entry.payload)
                assert isinstance(tally, Tally)
                for entity, readings in tally.shed.items():
                    received[entity] -= readings
                    shed[entity] -= readings
        for entity, readings in self._untold.items():
            received[entity] -= readings
            shed[entity] -= readings
        for entity, readings in held.items():
            received[entity] -= readings
        nobody = [nobody_received, nobody_dead]
        return {"received": received, "dead": dead, "shed": shed, "nobody": nobody, "held": dict(held)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.received, self.dead, self.shed = list(state["received"]), list(state["dead"]), list(state["shed"])
        self.received_by_nobody, self.dead_by_nobody = state["nobody"]
        self._held = {int(entity): readings for entity, readings in state["held"].items()}
