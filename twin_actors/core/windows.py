"""Recent clock hours and usual courses of a reading, kept beside the state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Role
from twin_actors.core.kind import Kind

PROFILE_MEMORY = 8.0
"""A bin of a profile forgets with a weight of at least 1/8: about eight weeks of a weekly course."""


class WindowTable:
    """All windows of ``n`` twins of one kind."""

    def __init__(self, kind: Kind, n: int) -> None:
        self._layout = kind.windows.layout
        self._record = kind.windows
        reading = kind.reading.layout
        self._source = {name: reading.places[field.of] for name, field in self._layout.fields.items()}
        rows = self._layout.rows
        self.mean = np.full((rows, n), np.nan)
        self.count = np.zeros((rows, n))
        self.hour = np.full((len(self._layout.fields), n), -1, np.int64)

    @property
    def empty(self) -> bool:
        return self._layout.rows == 0

    def record(self, values: Column, usable: NDArray[np.bool_], at_s: Column, twins: NDArray[np.intp]) -> None:
        """Add cleaned ``values (reading rows, b)`` observed at ``at_s (b,)`` by the twins."""
        for order, (name, field) in enumerate(self._layout.fields.items()):
            rows = self._source[name]
            said, value = usable[rows], values[rows]
            place = self._layout.places[name]
            slots = field.keep if field.role is Role.HOURLY else field.bins
            parts = field.size // slots
            if field.role is Role.HOURLY:
                hour = np.floor(at_s / 3600.0).astype(np.int64)
                mean, count, now = self._shifted(order, name, hour, twins, np.asarray(said.any(axis=0)))
                slot = now - hour
            else:
                width_s = field.period_s / field.bins
                mean = self.mean[place, :][:, twins].reshape(slots, parts, -1)
                count = self.count[place, :][:, twins].reshape(slots, parts, -1)
                slot = np.floor(at_s / width_s).astype(np.int64) % field.bins
            here = (np.arange(slots)[:, None] == slot)[:, None, :] & said
            limit = np.inf if field.role is Role.HOURLY else PROFILE_MEMORY
            count = np.where(here, np.minimum(count + 1, limit), count)
            before = np.where(np.isnan(mean), 0.0, mean)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.where(here, before + (value - before) / count, mean)
            shape = (field.size, len(twins))
            self.mean[place][:, twins] = mean.reshape(shape)
            self.count[place][:, twins] = count.reshape(shape)

    def at(self, now_s: Column, twins: NDArray[np.intp]) -> Column:
        """The windows of the twins as a matrix ``(rows, b)`` whose hour 0 is the one of ``now_s (b,)``."""
        matrix = self.mean[:, twins]
        hour = np.floor(now_s / 3600.0).astype(np.int64)
        for order, (name, field) in enumerate(self._layout.fields.items()):
            if field.role is Role.HOURLY:
                old = matrix[self._layout.places[name]].reshape(field.keep, -1, len(twins))
                by = np.maximum(hour - self.hour[order, twins], 0)
                matrix[self._layout.places[name]] = _shift(old, by, np.nan).reshape(field.size, -1)
        return matrix

    def _shifted(
        self, order: int, name: str, hour: NDArray[np.int64], twins: NDArray[np.intp], said: NDArray[np.bool_]
    ) -> tuple[Column, Column, NDArray[np.int64]]:
        field = self._layout.fields[name]
        place = self._layout.places[name]
        last = self.hour[order, twins]
        now = np.where(said, np.maximum(last, hour), last)
        by = np.where(last < 0, 0, now - last)
        self.hour[order, twins] = now
        mean = self.mean[place][:, twins].reshape(field.keep, -1, len(twins))
        count = self.count[place][:, twins].reshape(field.keep, -1, len(twins))
        return _shift(mean, by, np.nan), _shift(count, by, 0.0), now


def _shift(slots: Column, by: NDArray[np.int64], empty: float) -> Column:
    """Move ``slots (keep, parts, b)`` towards the past by a number of slots per twin."""
    keep = slots.shape[0]
    source = np.arange(keep)[:, None] - by
    moved = np.take_along_axis(slots, np.clip(source, 0, keep - 1)[:, None, :], axis=0)
    return np.where((source >= 0)[:, None, :], moved, empty)
