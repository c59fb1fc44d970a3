"""Snapshots of earlier versions, or of a kind declared otherwise, in the columns that a table has now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Role
from twin_actors.core.detection.memory import ALARM, ALARM_TIMES, LEVELS, SCALES
from twin_actors.core.layout import Layout
from twin_actors.core.windows import PROFILE_MEMORY

Arrays = dict[str, NDArray[Any]]

CONSTANT = ("default", "hold_s")
"""Of the inputs in force: declared by the kind, and no part of a snapshot any more."""

_SLOTS = (
    "count", "deviation", "magnitude", "long", "short", "largest_shift", "long_log", "short_log", "largest_ratio",
    "season_quantile", "season_excess", "season_count", "season_mean",
    "model_quantile", "model_excess", "model_count", "model_mean",
    "peak", "age", "last", "last_at_s", "run", "longest_run",
)  # fmt: skip
_ALARM = (
    "at_s", "score", "value", "before", "before_at_s", "short", "long", "usual", "expected", "statistic", "run", "view",
)  # fmt: skip


def converted(
    arrays: Mapping[str, NDArray[Any]],
    current: Mapping[str, NDArray[Any]],
    *,
    watched: NDArray[np.intp],
    windows: Layout,
) -> Arrays:
    """The snapshot ``arrays`` in the shapes of ``current``, a snapshot of the table that is to take them over.

    ``watched`` are the reading rows with a detector. What fits already is left as it is; so is what no version has ever
    kept that way, for the table to refuse.
    """
    made = _windows(_detection(arrays, watched), windows)
    for held in ("command", "coupling"):
        for constant in CONSTANT:
            made.pop(f"{held}.{constant}", None)
    detection = {name for name in current if name.startswith("detection.")}
    if any(name in made and made[name].shape != current[name].shape for name in detection):
        made = {name: array for name, array in made.items() if name not in detection}  # other fields are watched now
    return _cleaning(made, current)


def _detection(arrays: Mapping[str, NDArray[Any]], watched: NDArray[np.intp]) -> Arrays:
    """Once: one float64 matrix ``(23, R, n)`` of statistics and one ``(12, R, n)`` of alarms, both of all rows."""
    rows, alarm = arrays.get("detection.rows"), arrays.get("detection.alarm")
    if rows is None or alarm is None or len(rows) != len(_SLOTS) or len(alarm) != len(_ALARM):
        return dict(arrays)

    def taken(matrix: NDArray[Any], names: tuple[str, ...], of: tuple[str, ...], kind: type) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            return matrix[[of.index(name) for name in names]][:, watched].astype(kind)

    return {
        **{name: array for name, array in arrays.items() if name != "detection.rows"},
        "detection.levels": taken(rows, LEVELS, _SLOTS, np.float64),
        "detection.scales": taken(rows, SCALES, _SLOTS, np.float32),
        "detection.course": arrays["detection.course"][:, watched],
        "detection.alarm": taken(alarm, ALARM, _ALARM, np.float32),
        "detection.alarm_at_s": taken(alarm, ALARM_TIMES, _ALARM, np.float64),
    }


def _windows(arrays: Mapping[str, NDArray[Any]], layout: Layout) -> Arrays:
    """Once: hours and usual courses in one matrix, in the order of their declaration."""
    mean, count = arrays.get("windows.mean"), arrays.get("windows.count")
    if mean is None or count is None or "windows.course" in arrays or len(mean) != layout.rows:
        return dict(arrays)
    rows: dict[Role, list[int]] = {Role.HOURLY: [], Role.PROFILE: []}
    for name, place in layout.places.items():
        rows[layout.fields[name].role].extend(range(place.start, place.stop))
    hours, courses = rows[Role.HOURLY], rows[Role.PROFILE]
    return {
        **arrays,
        "windows.mean": mean[hours],
        "windows.count": count[hours].astype(np.float32),
        "windows.course": mean[courses].astype(np.float32),
        "windows.weight": np.minimum(count[courses], PROFILE_MEMORY).astype(np.uint8),
    }


def _cleaning(arrays: Arrays, current: Mapping[str, NDArray[Any]]) -> Arrays:
    """Rows are kept only where a field declares a use for them, and it may have begun, or ceased, to do so.

    A value of which nobody knows since when it has not changed counts from its last reading.
    """
    for name in ("changed_at_s", "offset", "smoothed"):
        key = f"cleaning.{name}"
        now, then = current[key], arrays.get(key)
        if then is None or then.shape[1:] != now.shape[1:] or 0 not in (len(then), len(now)):
            continue
        starts = len(now) > 0 and name == "changed_at_s"
        arrays[key] = arrays["cleaning.at_s"] if starts else now
    return arrays
