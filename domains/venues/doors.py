"""What door counters get wrong: persons inside by conservation, mended by reflection and once a day by an empty house.

A counter misses people and counts some twice, so in − out drifts: the main door of CalIt2 (UCI 156) gains 7.8 persons
a day and is at −89 in the middle of one. Three remedies, in the order of what they know:

- nobody can be inside less than nobody: a deficit is people who came in uncounted (reflection at zero, Skorokhod 1961),
- at ``empty_at_h`` the house is empty: the totals of that moment are the new zero,
- what was left over then is the counters' error of the day, as a share of the entries; it is learnt from day to day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.venues.records import VenueAttributes, VenueState
from twin_actors.core.columns import Column

DAY_S = 86_400.0

FEW_PERSONS = 100.0
"""A day with this many entries teaches half of what a busy one does: the error of single counts weighs too much."""

MOST_MISCOUNT = 0.5


def net_persons(state: VenueState, attributes: VenueAttributes) -> Column:
    """Persons inside by the counters alone, ``(…, n)``: entries since the house was empty, mended by the learnt
    share, less exits; may be negative. Before the first empty hour ``initial_persons`` were inside."""
    entered = np.maximum(state.entered_persons - state.entered_before_persons, 0.0) * (1.0 - state.miscount)
    left = np.maximum(state.left_persons - state.left_before_persons, 0.0)
    return np.asarray(np.where(state.nights > 0.0, 0.0, attributes.initial_persons) + entered - left)


def inside_persons(state: VenueState, attributes: VenueAttributes) -> Column:
    """Persons inside, never below zero: what the counters say and who must have come in uncounted."""
    return np.maximum(net_persons(state, attributes) + state.uncounted_persons, 0.0)


def reflected(state: VenueState, attributes: VenueAttributes) -> VenueState:
    """The state with a deficit of the counters booked as persons who came in uncounted; nothing is ever unbooked.

    Only where there is an ``empty_at_h`` that ends the day's account: elsewhere one false total would count for ever.
    A total of the empty hour that was foreseen too high is lowered to what the counter said after it.
    """
    state = state.replace(
        entered_before_persons=np.minimum(state.entered_before_persons, state.entered_persons),
        left_before_persons=np.minimum(state.left_before_persons, state.left_persons),
    )
    deficit = np.where(attributes.empty_at_h >= 0.0, -net_persons(state, attributes), 0.0)
    return state.replace(uncounted_persons=np.maximum(state.uncounted_persons, deficit))


@dataclass(frozen=True, slots=True)
class _Night:
    """Where the house was empty within a step: ``passed``, and the totals then, linear between start and end."""

    passed: NDArray[np.bool_]
    entered: Column
    left: Column


def _night(
    before: VenueState, after: VenueState, attributes: VenueAttributes, dt_s: Column, at_s: Column
) -> _Night | None:
    """None where no house was empty within the step, as in all steps but one of a day."""
    hour_s = attributes.empty_at_h * 3600.0
    latest_s = np.floor((at_s - hour_s) / DAY_S) * DAY_S + hour_s
    passed = (attributes.empty_at_h >= 0.0) & (latest_s > at_s - dt_s)
    if not passed.any():
        return None
    part = np.where(passed, (latest_s - (at_s - dt_s)) / np.maximum(dt_s, 1e-9), 0.0)
    return _Night(
        passed=passed,
        entered=before.entered_persons + part * (after.entered_persons - before.entered_persons),
        left=before.left_persons + part * (after.left_persons - before.left_persons),
    )


def counted(
    before: VenueState, after: VenueState, attributes: VenueAttributes, dt_s: Column, at_s: Column
) -> VenueState:
    """``after`` with its memories moved on: reflection at zero, and a new start where the house was empty.

    The first empty hour only sets the zero: what was inside before the twin began is not known well enough to learn
    from. Exact however a stretch of time is cut, as long as the flows hold.
    """
    clock_s = at_s + np.zeros_like(after.entered_persons)
    night = _night(before, after, attributes, dt_s, at_s)
    if night is None:
        same = ("entered_before_persons", "left_before_persons", "nights", "miscount", "uncounted_persons")
        return reflected(after.replace(**{name: getattr(before, name) for name in same}, clock_s=clock_s), attributes)
    entries = night.entered - before.entered_before_persons
    surplus = entries - (night.left - before.left_before_persons)
    seen = np.clip(surplus / np.maximum(entries, 1.0), -MOST_MISCOUNT, MOST_MISCOUNT)
    weight = attributes.counter_learning * np.maximum(entries, 0.0) / (np.maximum(entries, 0.0) + FEW_PERSONS)
    learns = night.passed & (before.nights > 0.0)
    moved = after.replace(
        entered_before_persons=np.where(night.passed, night.entered, before.entered_before_persons),
        left_before_persons=np.where(night.passed, night.left, before.left_before_persons),
        nights=before.nights + night.passed,
        miscount=np.where(learns, before.miscount + weight * (seen - before.miscount), before.miscount),
        uncounted_persons=np.where(night.passed, 0.0, before.uncounted_persons),
        clock_s=clock_s,
    )
    return reflected(moved, attributes)


def history_of_a_day(entered: Column, left: Column) -> Column:
    """Persons inside after each slot of a day that begins and ends empty, ``(slots, …, n)`` from counts per slot.

    For looking back, when the whole day is known: the count forward from the empty morning and the count backward from
    the empty night, both reflected at zero, weighted by the share of the door's traffic that lies on the other side.
    The error of a count grows with the traffic counted, so these are the weights of least variance (a two-point
    smoother of a random walk). Never negative, and zero at the end of the day.
    """
    net = np.cumsum(entered - left, axis=0)
    forward = net + np.maximum(np.maximum.accumulate(-net, axis=0), 0.0)
    to_come = net[-1:] - net  # persons still to be gained until the end; negative: who is still to leave
    backward = -to_come
    backward = backward + np.maximum(np.maximum.accumulate(-backward[::-1], axis=0)[::-1], 0.0)
    traffic = np.cumsum(entered + left, axis=0)
    gone = traffic / np.maximum(traffic[-1:], 1.0)
    return np.asarray((1.0 - gone) * forward + gone * backward)
