"""Simulated entities of one kind as columns: a truth moved by the kind's own ``predict``, and devices that report it.

No clock and no chance of its own: the time is an argument, the random stream is keyed by seed and kind.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Role
from twin_actors.core.estimation import MeasurementPlan
from twin_actors.core.kind import Devices, Kind, Step
from twin_actors.core.layout import Layout
from twin_actors.core.rolling import Held, roll

Rows: TypeAlias = NDArray[np.intp]
Fault: TypeAlias = Literal["silent", "stuck", "bias", "spike", "drift"]

SPIKE_SHARE = 0.05
"""The share of readings that a spike befalls."""

COUNTED = frozenset({"veh", "persons"})
"""Units of things that come whole: a device's running total of them is a whole number."""


def rows_of(layout: Layout, name: str) -> Rows:
    """The rows of a field, or the one row of a label ``field[component]``; raises KeyError when there is none."""
    if name in layout.places:
        place = layout.places[name]
        return np.arange(place.start, place.stop)
    if name in layout.labels:
        return np.array([layout.labels.index(name)], dtype=np.intp)
    raise KeyError(f"no field or row {name!r}; there are {', '.join(layout.labels)}")


class SimulatedFleet:
    """``n`` simulated entities. ``attributes (rows, n)`` must be finite; ``noise`` scales the declared ``sd``.

    ``gap_share`` is the share of readings that are lost on their way. ``number`` tells fleets of the same kind and
    seed apart. The truth and the measurements have a random stream each, so that faults and noise never change
    what happens to the entities. Raises ValueError for a kind without ``devices`` and for missing attributes.
    """

    def __init__(
        self,
        kind: Kind,
        ids: Sequence[str],
        attributes: Column,
        *,
        seed: int = 0,
        noise: float = 1.0,
        gap_share: float = 0.0,
        number: int = 0,
    ) -> None:
        if kind.devices is None:
            raise ValueError(f"kind {kind.name} has no simulated devices: give it devices=Devices(…)")
        self.kind, self.ids = kind, tuple(ids)
        self._devices: Devices = kind.devices
        n = len(self.ids)
        expected = (kind.attributes.layout.rows, n)
        if attributes.shape != expected:
            raise ValueError(f"kind {kind.name}: attributes have shape {attributes.shape}, expected {expected}")
        bad = np.argwhere(~np.isfinite(attributes))
        if len(bad):
            label = kind.attributes.layout.labels[bad[0][0]]
            raise ValueError(f"{self.ids[bad[0][1]]}: attribute {label} is missing or not finite")
        self.attributes = np.array(attributes, dtype=np.float64)
        self.noise, self.gap_share = noise, gap_share

        stream = np.random.Philox(key=[seed & (2**64 - 1), zlib.crc32(kind.name.encode()) | number << 32])
        self._chance = np.random.Generator(stream)
        self._measuring = np.random.Generator(stream.jumped())

        self._everyone = np.arange(n)
        self._driver_defaults = self._devices.drivers.layout.per_row("default")
        self.x = np.repeat(kind.state.layout.per_row("default"), n, axis=1)
        self.drivers = np.repeat(self._driver_defaults, n, axis=1)
        self.command = Held.defaults(kind.command.layout, n)
        self._coupling = Held.defaults(kind.couplings.layout, n)
        self.time_s = np.full(n, -np.inf)
        self.model_errors = np.zeros(n, np.int64)
        self._low, self._high = (kind.state.layout.per_row(end) for end in ("minimum", "maximum"))

        reading = kind.reading.layout
        self._measured = MeasurementPlan.of(kind).measured
        self._least, self._most = (reading.per_row(end) for end in ("minimum", "maximum"))
        declared = [reading.fields[name] for name in reading.field_of_row()]
        total = [field.role is Role.RUNNING_TOTAL for field in declared]
        whole = [
            field.integer or (is_total and field.unit in COUNTED)
            for field, is_total in zip(declared, total, strict=True)
        ]
        self._is_total = np.array(total, dtype=np.bool_).reshape(-1, 1)
        self._is_whole = np.array(whole, dtype=np.bool_).reshape(-1, 1)
        self._sd = np.where(self._is_total, 0.0, reading.per_row("sd"))
        self._counted = np.full((reading.rows, n), -np.inf)  # the last running totals
        self._last_said = np.full((reading.rows, n), np.nan)
        self._silent, self._stuck = (np.zeros((reading.rows, n), np.bool_) for _ in range(2))
        self._bias, self._spike, self._drift_h = (np.zeros((reading.rows, n)) for _ in range(3))
        self._drift_since_s = np.zeros((reading.rows, n))
        self._faulty = False

    def __len__(self) -> int:
        return len(self.ids)

    # -- the truth -----------------------------------------------------------------------------------------------

    def step(self, now_s: float, due: Rows | None = None) -> None:
        """Move the truth of the entities ``due`` (None: all) to ``now_s``; nothing ever goes back in time.

        The outside world drives, then the kind predicts, in steps no longer than ``max_step_s`` that end where a
        command lapses. An entity's first step only sets its clock and lets the outside world set its state. Where a
        model gives numbers that are not finite the truth stays as it was, and ``model_errors`` counts it.
        """
        rows = self._everyone if due is None else due
        mover = self._mover(rows)
        attributes, x = self.attributes[:, rows], self.x[:, rows]
        command, coupling = self.command.gather(rows), self._coupling.gather(rows)
        since_s = self.time_s[rows]
        fresh = ~np.isfinite(since_s)
        if fresh.any():
            since_s = np.where(fresh, now_s, since_s)
            settled = mover.predict(
                mover.state.of_block(x),
                mover.attributes.of_block(attributes),
                mover.command.of_block(command.value),
                mover.couplings.of_block(coupling.value),
                Step(dt_s=np.zeros(len(rows)), at_s=since_s),
            ).block((len(rows),))
            x = np.where(fresh, settled, x)
        until_s = np.maximum(since_s, now_s)
        moved, command, _ = roll(mover, x, attributes, command, coupling, since_s, until_s)
        sound = np.isfinite(moved).all(axis=0)
        self.x[:, rows] = np.where(sound, moved, self.x[:, rows])
        self.model_errors[rows] += ~sound
        self.command.scatter(rows, command)
        self.time_s[rows] = until_s

    def _mover(self, rows: Rows) -> Kind:
        """The kind with ``drive`` before its ``predict``, for the entities of ``rows``."""
        kind, drive, chance = self.kind, self._devices.drive, self._chance
        drivers = self._devices.drivers.of_block(self.drivers[:, rows])

        def predict(state: Any, attributes: Any, command: Any, couplings: Any, step: Step) -> Any:
            tail = step.dt_s.shape
            driven = drive(state, attributes, command, couplings, drivers, step, chance).block(tail)
            moved = kind.predict(kind.state.of_block(driven), attributes, command, couplings, step).block(tail)
            return kind.state.of_block(np.clip(moved, self._low, self._high))

        return replace(kind, predict=predict)

    def obey(self, rows: Rows, values: Column, now_s: float) -> Column:
        """Take commands ``values (command rows, b)`` of ``b`` different entities into force; NaN: not commanded.

        They are clipped to the declared limits and fall back to the default after ``hold_s``. Returns what is in
        force now, ``(command rows, b)``.
        """
        self.step(now_s, rows)
        layout = self.kind.command.layout
        clipped = np.clip(values, layout.per_row("minimum"), layout.per_row("maximum"))
        self.command.put(rows, clipped, self.time_s[rows])
        return self.command.value[:, rows]

    def set_state(self, rows: Rows, values: Mapping[str, float], now_s: float) -> None:
        """Put state rows (by label or field) of some entities at values, within limits, at ``now_s``."""
        self.step(now_s, rows)
        for name, value in values.items():
            for row in rows_of(self.kind.state.layout, name):
                self.x[row, rows] = np.clip(value, self._low[row, 0], self._high[row, 0])

    def set_drivers(self, rows: Rows, values: Mapping[str, float], now_s: float) -> None:
        """Let the outside world be different for some entities from ``now_s`` on."""
        self.step(now_s, rows)
        layout = self._devices.drivers.layout
        for name, value in values.items():
            for row in rows_of(layout, name):
                low, high = layout.per_row("minimum")[row, 0], layout.per_row("maximum")[row, 0]
                self.drivers[row, rows] = np.clip(value, low, high)

    def clear_drivers(self, rows: Rows, now_s: float) -> None:
        """The outside world is as usual again for some entities."""
        self.step(now_s, rows)
        self.drivers[:, rows] = self._driver_defaults

    # -- the devices ---------------------------------------------------------------------------------------------

    def set_fault(self, rows: Rows, fault: Fault, now_s: float, *, value: float = 0.0, reading: str = "") -> None:
        """Let devices fail from ``now_s`` on, all readings or the one that ``reading`` names (field or row label).

        ``silent`` says nothing, ``stuck`` repeats its last value, ``bias`` adds ``value``, ``spike`` adds it to 5 % of
        the readings, ``drift`` adds it per hour since ``now_s``. A fault may carry a value beyond its field's limits.
        """
        layout = self.kind.reading.layout
        own = rows_of(layout, reading) if reading else np.arange(layout.rows)
        where = np.ix_(own, rows)
        if fault == "silent":
            self._silent[where] = True
        elif fault == "stuck":
            self._stuck[where] = True
        elif fault == "bias":
            self._bias[where] = value
        elif fault == "spike":
            self._spike[where] = value
        elif fault == "drift":
            self._drift_h[where] = value
            self._drift_since_s[where] = now_s
        else:
            raise ValueError(f"no fault {fault!r}: there are silent, stuck, bias, spike and drift")
        self._faulty = True

    def clear_faults(self, rows: Rows) -> None:
        """The devices of some entities work again."""
        for fault in (self._silent, self._stuck, self._bias, self._spike, self._drift_h):
            fault[:, rows] = 0
        self._faulty = any(
            bool(fault.any()) for fault in (self._silent, self._stuck, self._bias, self._spike, self._drift_h)
        )

    def readings(self, now_s: float, due: Rows | None = None) -> Column:
        """What the devices of the entities ``due`` (None: all) report, ``(reading rows, b)``; NaN: not said.

        That is what ``observe`` expects (else the measured state) plus noise of the declared ``sd``, within the
        field's limits; counts are whole; running totals carry no noise and never fall. Faults come on top, those
        that grow with time as of ``now_s``. A column without any value is a reading that never left its device,
        or was lost on its way.
        """
        rows = self._everyone if due is None else due
        said = self._expected(rows)
        said = said + self.noise * self._sd * self._measuring.standard_normal(said.shape)
        said = np.clip(said, self._least, self._most)
        said = np.where(self._is_whole, np.rint(said), said)
        said = np.where(self._is_total, np.fmax(said, self._counted[:, rows]), said)
        self._counted[:, rows] = np.where(self._is_total, said, self._counted[:, rows])
        if self._faulty:
            said = self._spoil(said, rows, now_s)
        self._last_said[:, rows] = np.where(np.isnan(said), self._last_said[:, rows], said)
        if self.gap_share > 0.0:
            said[:, self._measuring.uniform(size=len(rows)) < self.gap_share] = np.nan
        return said

    def _expected(self, rows: Rows) -> Column:
        kind, measured = self.kind, self._measured
        x, tail = self.x[:, rows], (len(rows),)
        expected = np.where((measured >= 0)[:, None], x[measured], np.nan)
        if kind.observe is not None:
            seen = kind.observe(
                kind.state.of_block(x),
                kind.attributes.of_block(self.attributes[:, rows]),
                kind.command.of_block(self.command.value[:, rows]),
            )
            layout = kind.reading.layout
            for name, column in seen.items():
                expected[layout.places[name]].reshape(layout.fields[name].shape + tail)[...] = column
        return expected

    def _spoil(self, said: Column, rows: Rows, now_s: float) -> Column:
        drifted = self._drift_h[:, rows] * np.maximum(now_s - self._drift_since_s[:, rows], 0.0) / 3600.0
        struck = self._measuring.uniform(size=said.shape) < SPIKE_SHARE
        said = said + self._bias[:, rows] + drifted + np.where(struck, self._spike[:, rows], 0.0)
        said = np.where(self._is_whole, np.rint(said), said)
        last = self._last_said[:, rows]
        said = np.where(self._stuck[:, rows] & ~np.isnan(last), last, said)
        return np.where(self._silent[:, rows], np.nan, said)
