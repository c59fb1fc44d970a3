"""The reason of an alarm in plain words, from the numbers that detection has kept with it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from twin_actors.core.detection.charts import TAIL
from twin_actors.core.detection.memory import View


def reason(label: str, unit: str, alarm: Mapping[str, float]) -> str:
    """One sentence about the alarm of one reading row; ``alarm`` as ``DetectionMemory.last_alarm`` gives it."""
    value = _quantity(alarm["value"], unit)
    view = View(int(alarm["view"]))
    if view is View.RANGE:
        return f"{label} said {value}, which is outside its range"
    if view is View.RATE:
        return f"{label} said {value}{_after(alarm, unit)}, faster than it can change"
    if view is View.STUCK_DECLARED:
        return f"{label} has said {value} for longer than it can stay the same"
    if view is View.STUCK:
        return f"{label} has said {value} {alarm['run']:.0f} times in a row, twice as often as ever before"
    moved = f"{label} {_moved(alarm, unit)}"
    if view is View.SHIFT:
        return (
            f"{moved}; its last readings are about {_quantity(alarm['short'], unit)} where {alarm['long']:.4g} is "
            f"usual, the largest shift so far {_by(alarm['statistic'])}"
        )
    if view is View.RATIO:
        return (
            f"{moved}; its last readings are about {_quantity(alarm['short'], unit)} where {alarm['long']:.4g} is "
            f"usual, in proportion the largest shift so far {_by(alarm['statistic'])}"
        )
    if view is View.SEASON:
        return f"{moved}; at this hour {_quantity(alarm['usual'], unit)} is usual ({_rarity(alarm['statistic'])})"
    return f"{moved}; its model expected {_quantity(alarm['expected'], unit)} ({_rarity(alarm['statistic'])})"


def _quantity(value: float, unit: str) -> str:
    return f"{value:.4g}" if unit in ("", "1") else f"{value:.4g} {unit}"


def _after(alarm: Mapping[str, float], unit: str) -> str:
    return "" if math.isnan(alarm["before"]) else f" after {_quantity(alarm['before'], unit)}{_since(alarm)}"


def _moved(alarm: Mapping[str, float], unit: str) -> str:
    change = alarm["value"] - alarm["before"]
    value = _quantity(alarm["value"], unit)
    if math.isnan(change) or change == 0:
        return f"is {value}"
    return f"{'rose' if change > 0 else 'fell'} by {abs(change):.4g} to {value}{_since(alarm)}"


def _since(alarm: Mapping[str, float]) -> str:
    """How long ago the value before was observed."""
    elapsed_s = alarm["at_s"] - alarm["before_at_s"]
    if not elapsed_s > 0:
        return ""
    for size_s, name in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if elapsed_s >= 2 * size_s:
            return f" within {elapsed_s / size_s:.3g} {name}"
    return f" within {elapsed_s:.3g} seconds"


def _by(ratio: float) -> str:
    return f"by {100 * (ratio - 1):.0f} %" if 1.005 <= ratio < 10 else f"({ratio:.3g} times the largest before)"


def _rarity(excess: float) -> str:
    """The tail probability in words: the tail's share times e^−excess."""
    once_in = math.exp(min(excess, 700.0)) / TAIL
    return f"so far off about once in {once_in:.2g} readings" if once_in < 1e6 else "never so far off before"
