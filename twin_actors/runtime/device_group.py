"""Simulated devices of one kind as they speak and listen: whose turn it is, what they send, how they answer commands.

No client and no clock in here: the device host asks for messages and hands commands in.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from twin_actors.core.inputs import rounds
from twin_actors.core.kind import Kind
from twin_actors.core.simulation import Rows, SimulatedFleet
from twin_actors.runtime.plan import attribute_matrix
from twin_actors.runtime.story import Story
from twin_actors.scenario.model import Entity, Simulation
from twin_actors.wire.messages import Acknowledgement, Command, Value, encode_reading, to_ms
from twin_actors.wire.topics import Topics

SLOT_WALL_S: Final = 0.05
"""Devices that take their turn within one such stretch of wall time take it together, in one step."""


class DeviceGroup:
    """The devices of one kind in one simulation.

    Their period is divided into slots, and every slot has its share of the devices, so that the load is even. Slot k
    falls due at ``start_s`` + k slots on the city's clock, whatever became of the slots before it, and its readings
    carry that time: the same seed tells the same story however busy the machine was. ``wall_seconds`` turns city
    seconds into wall seconds.
    """

    def __init__(
        self,
        kind: Kind,
        entities: Sequence[Entity],
        simulation: Simulation,
        topics: Topics,
        *,
        boot: str,
        start_s: float,
        wall_seconds: Callable[[float], float],
        number: int = 0,
    ) -> None:
        self.kind = kind
        ids = [entity.id for entity in entities]
        self.fleet = SimulatedFleet(
            kind,
            ids,
            attribute_matrix(kind, entities),
            seed=simulation.seed,
            noise=simulation.noise,
            gap_share=simulation.gap_share,
            number=number,
        )
        self.column = {entity: place for place, entity in enumerate(ids)}
        self.story = Story(simulation.story, self.fleet, start_s)
        assert kind.devices is not None  # the fleet has refused a kind without
        self.period_s = simulation.period_s or kind.devices.period_s
        slots = max(1, min(len(ids), int(np.ceil(wall_seconds(self.period_s) / SLOT_WALL_S))))
        self._slots: list[Rows] = [np.arange(first, len(ids), slots) for first in range(slots)]
        self._slot_s = self.period_s / slots
        self._start_s = start_s
        self._turn = 0
        self._boot = boot
        self._seq = np.zeros(len(ids), np.int64)
        self._topics = [topics.telemetry(entity) for entity in ids]
        self._epoch = np.full(len(ids), -1, np.int64)
        layout = kind.reading.layout
        self._fields = [(name, layout.places[name], bool(field.shape)) for name, field in layout.fields.items()]

    def __len__(self) -> int:
        return len(self.column)

    # -- speaking ------------------------------------------------------------------------------------------------

    @property
    def next_s(self) -> float:
        """When the next slot falls due."""
        return self._start_s + self._turn * self._slot_s

    def turn(self) -> Iterator[tuple[str, bytes]]:
        """Take the next slot: move its entities, and yield what their devices publish as (topic, payload)."""
        at_s, rows = self.next_s, self._slots[self._turn % len(self._slots)]
        self._turn += 1
        self.story.play(at_s)
        self.fleet.step(at_s, rows)
        values = self.fleet.readings(at_s, rows)
        self._seq[rows] += 1  # also for readings that get lost: the gap in the numbers tells of them
        said = ~np.isnan(values)
        names: list[str] = []
        columns: list[list[float] | list[list[float]]] = []
        for name, place, vector in self._fields:
            if said[place].any():
                names.append(name)
                columns.append(values[place].T.tolist() if vector else values[place.start].tolist())
        ts_ms, seqs = to_ms(at_s), self._seq[rows].tolist()
        speaks: list[bool] = np.any(said, axis=0).tolist()
        for row, heard, seq, cells in zip(rows.tolist(), speaks, seqs, zip(*columns, strict=True), strict=False):
            if heard:
                said_now = dict(zip(names, cells, strict=True))
                yield self._topics[row], encode_reading(said_now, ts_ms, seq, self._boot)

    def catch_up(self, now_s: float) -> int:
        """Leave out whole rounds that lie more than a period in the past; the number of readings not taken."""
        rounds_missed = int((now_s - self.next_s) // self.period_s)
        if rounds_missed <= 0:
            return 0
        self._turn += rounds_missed * len(self._slots)
        return rounds_missed * len(self)

    # -- listening -----------------------------------------------------------------------------------------------

    def obey(self, commands: Sequence[tuple[str, Command]], now_s: float) -> list[tuple[str, Acknowledgement]]:
        """Carry commands out in their order; one (entity id, answer) for each of them, in any order.

        Expired commands, those of an older sender than the last one, and those with a field that the kind does not
        have are not carried out. Values are clipped to their limits, and the answer says what is in force.
        """
        self.story.play(now_s)
        layout = self.kind.command.layout
        answers: list[tuple[str, Acknowledgement]] = []
        rows: list[int] = []
        values: list[np.ndarray] = []
        accepted: list[tuple[str, Command]] = []
        for entity, command in commands:
            row = self.column[entity]
            if command.expires_at_s <= now_s:
                answers.append((entity, Acknowledgement(id=command.id, status="expired", at_s=now_s)))
                continue
            try:
                if command.epoch < self._epoch[row]:
                    raise ValueError(f"epoch {command.epoch} is older than {self._epoch[row]}, which was obeyed before")
                values.append(self._command_rows(command.values))
            except ValueError as error:
                rejected = Acknowledgement(id=command.id, status="rejected", reason=str(error), at_s=now_s)
                answers.append((entity, rejected))
                continue
            self._epoch[row] = command.epoch
            rows.append(row)
            accepted.append((entity, command))
        if not rows:
            return answers
        asked = np.stack(values, axis=1)
        columns = np.array(rows, dtype=np.intp)
        for chosen in rounds(columns):
            in_force = self.fleet.obey(columns[chosen], asked[:, chosen], now_s)
            for place, position in enumerate(chosen.tolist()):
                entity, command = accepted[position]
                done: dict[str, Value] = {}
                for name in command.values:
                    numbers = tuple(in_force[layout.places[name], place].tolist())
                    done[name] = numbers if layout.fields[name].shape else numbers[0]
                answers.append((entity, Acknowledgement(id=command.id, values=done, at_s=now_s)))
        return answers

    def _command_rows(self, values: Mapping[str, Value]) -> np.ndarray:
        """Command rows ``(rows,)``, NaN where not commanded; ValueError for what the kind does not have."""
        layout = self.kind.command.layout
        asked = np.full(layout.rows, np.nan)
        if not values:
            raise ValueError("the command has no values")
        for name, value in values.items():
            field = layout.fields.get(name)
            if field is None:
                close = difflib.get_close_matches(name, layout.fields, 1)
                guess = f" (did you mean {close[0]!r}?)" if close else ""
                known = ", ".join(layout.fields) or "none: this device obeys nothing"
                raise ValueError(f"unknown field {name!r}{guess}; there are {known}")
            if isinstance(value, tuple) and len(value) != field.size:
                raise ValueError(f"{name} has {len(value)} numbers, the field has {field.size} components")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} is not a finite number")
            asked[layout.places[name]] = value
        return asked
