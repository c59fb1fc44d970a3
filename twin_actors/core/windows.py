"""Recent clock hours and usual courses of a reading, kept beside the state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Role
from twin_actors.core.kind import Kind

PROFILE_MEMORY = 8.0
"""A bin of a profile forgets with a weight of at least 1/8: about eight weeks of a weekly course."""


class WindowTable:
    """All windows of ``n`` twins of one kind.

    Clock hours ``mean (hour rows, n)`` with the ``count`` of their readings; usual courses ``course (course rows, n)``
    with the ``weight`` of each bin, 8 at most, in five bytes a bin.
    """

    def __init__(self, kind: Kind, n: int) -> None:
        self._layout = kind.windows.layout
        self._record = kind.windows
        reading = kind.reading.layout
        self._source = {name: reading.places[field.of] for name, field in self._layout.fields.items()}
        self._place: dict[str, slice] = {}  # of each window in the matrix of its sort
        rows = {Role.HOURLY: 0, Role.PROFILE: 0}
        for name, field in self._layout.fields.items():
            self._place[name] = slice(rows[field.role], rows[field.role] + field.size)
            rows[field.role] += field.size
        self.mean = np.full((rows[Role.HOURLY], n), np.nan)
        self.count = np.zeros((rows[Role.HOURLY], n), np.float32)
        self.course = np.full((rows[Role.PROFILE], n), np.nan, np.float32)
        self.weight = np.zeros((rows[Role.PROFILE], n), np.uint8)
        self.hour = np.full((len(self._layout.fields), n), -1, np.int64)

    @property
    def empty(self) -> bool:
        return self._layout.rows == 0

    def record(self, values: Column, usable: NDArray[np.bool_], at_s: Column, twins: NDArray[np.intp]) -> None:
        """Add cleaned ``values (reading rows, b)`` observed at ``at_s (b,)`` by the twins."""
        for order, (name, field) in enumerate(self._layout.fields.items()):
            said, value = usable[self._source[name]], values[self._source[name]]
            mean, count, slots = self._slots(name)
            if field.role is Role.HOURLY:
                slot = self._hours_ago(order, mean, count, np.floor(at_s / 3600.0).astype(np.int64), twins, said)
                weight_limit = np.inf
            else:
                slot = np.floor(at_s / (field.period_s / field.bins)).astype(np.int64) % field.bins
                weight_limit = PROFILE_MEMORY
            within = (slot >= 0) & (slot < slots)
            inside, slot = said & within, np.where(within, slot, 0)
            before = mean[slot, :, twins].T.astype(np.float64)  # (parts, b)
            weight = count[slot, :, twins].T.astype(np.float64)
            weight = np.where(inside, np.minimum(weight + 1, weight_limit), weight)
            before = np.where(inside & np.isnan(before), 0.0, before)
            after = before + np.where(inside, value - before, 0.0) / np.maximum(weight, 1.0)
            mean[slot, :, twins], count[slot, :, twins] = after.T, weight.T

    def _slots(self, name: str) -> tuple[NDArray[Any], NDArray[Any], int]:
        """Mean and count of one window as views ``(slots, parts, n)``, and how many slots."""
        field, place = self._layout.fields[name], self._place[name]
        hourly = field.role is Role.HOURLY
        mean, count = (self.mean, self.count) if hourly else (self.course, self.weight)
        slots = field.keep if hourly else field.bins
        shape = (slots, field.size // slots, mean.shape[1])
        return mean[place].reshape(shape), count[place].reshape(shape), slots

    def at(self, now_s: Column) -> Any:
        """The kind's record of windows, ``(rows, n)`` a field, whose hour 0 is the one of ``now_s (n,)``.

        Courses are the table's own columns in float32, not to be written to: a week is 168 numbers a twin.
        """
        hour = np.floor(now_s / 3600.0).astype(np.int64)
        columns: dict[str, NDArray[Any]] = {}
        for order, (name, field) in enumerate(self._layout.fields.items()):
            slots = self._slots(name)[0]
            if field.role is Role.HOURLY:
                by = np.maximum(hour - self.hour[order], 0)
                slots = _shift(slots, by, np.nan) if by.any() else slots.copy()
            else:
                slots = slots.view()
                slots.flags.writeable = False
            columns[name] = slots.reshape(*field.shape, -1)
        return self._record.of_fields(columns)

    def of_twin(self, twin: int, at_s: Column) -> Any:
        """The record of one twin at several moments ``at_s (H,)``, ``(rows, H)`` a field."""
        at = [self.at(np.full(self.hour.shape[1], moment)) for moment in at_s]
        names = self._layout.fields
        return self._record.of_fields(
            {name: np.stack([getattr(each, name)[..., twin] for each in at], axis=-1) for name in names}
        )

    def _hours_ago(
        self,
        order: int,
        mean: NDArray[Any],
        count: NDArray[Any],
        hour: NDArray[np.int64],
        twins: NDArray[np.intp],
        said: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Turn the hours of twins that have entered a new one; the slot of each reading's own hour."""
        last = self.hour[order, twins]
        now = np.where(said.any(axis=0), np.maximum(last, hour), last)
        turned = (now > last) & (last >= 0)
        if turned.any():
            whose, by = twins[turned], (now - last)[turned]
            mean[:, :, whose] = _shift(mean[:, :, whose], by, np.nan)
            count[:, :, whose] = _shift(count[:, :, whose], by, 0.0)
        self.hour[order, twins] = now
        ago: NDArray[np.int64] = now - hour
        return ago


def _shift(slots: NDArray[Any], by: NDArray[np.int64], empty: float) -> NDArray[Any]:
    """Move ``slots (keep, parts, b)`` towards the past by a number of slots per twin."""
    keep = slots.shape[0]
    source = np.arange(keep)[:, None] - by
    moved = np.take_along_axis(slots, np.clip(source, 0, keep - 1)[:, None, :], axis=0)
    return np.where((source >= 0)[:, None, :], moved, empty)
