"""The default detector of every twin: several kinds of evidence about each reading row, one score in [0, 1].

*shift*: the mean of the last ten or so readings has left the long mean by more than ever before; *ratio*: the same on
a logarithmic scale, where a fall to a tenth is as far as a rise to tenfold; *season*: the reading lies in the far
tail of its residuals from the usual course of its hour; *model*: its innovation (reading minus what the twin's model
expected, over its standard deviation) lies in the far tail of this row's innovations. Each is judged against the row's
own past, so nothing is tuned to a unit, a rate or a series. Their evidence adds up, because what several views agree
on is rarely an accident, and none counts for more than a bounded amount. *stuck* has its own say: a value
repeated for far longer than it ever was.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import Quality
from twin_actors.core.columns import Column
from twin_actors.core.detection import charts
from twin_actors.core.detection.memory import ALARM, HOURS, SLOTS, WEEK_HOURS, WEIGHED, DetectionMemory, View

LEARNING = 50.0
"""Readings from which a row learns the scale of its logarithmic view; until then it scores 0."""

LONG, SHORT = 4000.0, 10.0
"""Memories of what is usual and of what is now, in readings; less is all there were."""

HOLD, WORSE = 100.0, 1.2
"""For so many readings an alarm is not repeated unless the evidence is so much stronger."""

STUCK_AT_LEAST = 6.0
"""Fewer equal readings in a row are never called stuck, and never fewer than twice the longest run before."""

ALARM_EVIDENCE = 2.3
"""Evidence whose score is one half: two views at their usual limit hardly reach it, three or one far beyond it do."""

_UNITS = (1.04, 1.017, 3.0, 3.0)  # a statistic worth one unit of evidence: just beyond all records; e⁻³ of the tail
_WEIGHTS = (1.0, 1.0, 1.0, 0.25)
_MOST = 1.4  # units that a single view may bring
_STUCK_EVIDENCE = 1.2 * ALARM_EVIDENCE
_DAY_MEMORY, _WEEK_MEMORY = 150.0, 100.0
_FADE = 0.5 ** (1 / LONG)
(
    _COUNT, _DEVIATION, _MAGNITUDE, _LONG, _SHORT, _SHIFT, _LONG_LOG, _SHORT_LOG, _RATIO,
    _SEASON, _, _, _, _MODEL, _, _, _, _PEAK, _AGE, _LAST, _LAST_AT, _RUN, _LONGEST,
) = range(len(SLOTS))  # fmt: skip


def score_of(evidence: Column) -> Column:
    """Evidence as a score: 0 for none, ½ at ``ALARM_EVIDENCE``, towards 1 beyond; 1 − 2^(−(e/e½)²)."""
    return np.asarray(-np.expm1(-np.log(2.0) * (evidence / ALARM_EVIDENCE) ** 2))


def hour_bins(at_s: Column) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The two rows of ``course`` of a moment in UTC: its hour of day, and its hour of a working or a weekend day."""
    day = np.floor(at_s / 86400.0)
    hour = (np.floor(at_s / 3600.0) - 24.0 * day).astype(np.intp)
    weekend = (day + 4.0) % 7.0 % 6.0 == 0.0  # 1970-01-01 was a Thursday; 0 is Sunday, 6 is Saturday
    return hour, HOURS + hour + np.where(weekend, 24, 0)


def detect(
    memory: DetectionMemory,
    twins: NDArray[np.intp],
    at_s: Column,
    values: Column,
    innovation: Column,
    innovation_variance: Column,
    totals: NDArray[np.bool_],
) -> Column:
    """Score one reading each of ``b`` different twins: ``(R, b)`` in [0, 1], NaN where nothing usable was said.

    ``values (R, b)`` are cleaned, NaN: not said or not usable; ``at_s (b,)``. Where ``totals (R, 1)`` the row is a
    running total, which has no usual level: its innovation takes the place of its value. Memory moves on.
    """
    x = np.where(totals, innovation, values) if totals.any() else values
    new = ~np.isnan(x)
    if not new.any():
        return np.full(x.shape, np.nan)
    gaps = not new.all()
    in_place = not gaps and len(twins) > 1 and bool((np.diff(twins) == 1).all())  # neither gather nor scatter
    m = memory.rows[:, :, twins[0] : twins[-1] + 1] if in_place else np.take(memory.rows, twins, axis=2)
    was = m.copy() if gaps else m[_LAST : _LAST_AT + 1].copy()
    last, last_at_s = was[_LAST : _LAST_AT + 1] if gaps else was
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        x = np.clip(np.where(new, x, 0.0) if gaps else x, -charts.LARGEST, charts.LARGEST)
        z = np.minimum(np.abs(innovation) / np.sqrt(np.maximum(innovation_variance, 1e-300)), charts.LARGEST)
        statistics, usual_log, scale = _look(memory, m, twins, at_s, x, z, new)
        evidence = np.empty((WEIGHED + 1, *x.shape))
        for view, (unit, weight) in enumerate(zip(_UNITS, _WEIGHTS, strict=True)):
            units = np.minimum(statistics[view] * (1 / unit), _MOST)
            np.multiply(units * units, units * weight, out=evidence[view])
        learning = m[_COUNT] <= LEARNING
        total = np.where(learning, 0.0, evidence[:WEIGHED].sum(axis=0))
        through, m[_PEAK], m[_AGE] = charts.latch(m[_PEAK], m[_AGE], total, HOLD, WORSE)
        evidence[View.STUCK] = np.where(_gets_stuck(m, x) & ~learning, _STUCK_EVIDENCE, 0.0)
        through = np.maximum(through, evidence[View.STUCK])
        score = np.zeros(x.shape)
        spoken = np.nonzero(through)  # few: what is held back scores 0
        score[spoken] = score_of(through[spoken])
    m[_LAST_AT] = at_s
    at = np.nonzero((score >= 0.5) & new)
    if len(at[0]):
        view = evidence[:, at[0], at[1]].argmax(axis=0)
        memory.alarm[:, at[0], twins[at[1]]] = np.stack(
            [
                at_s[at[1]], score[at], x[at], last[at], last_at_s[at], m[_SHORT][at], m[_LONG][at],
                np.sinh(usual_log[at]) * scale[at],
                x[at] - innovation[at], statistics[np.minimum(view, WEIGHED - 1), at[0], at[1]], m[_RUN][at], view,
            ]
        )  # fmt: skip
    if gaps:
        m, score = np.where(new, m, was), np.where(new, score, np.nan)
    if not in_place:
        memory.rows[:, :, twins] = m
    return score


def flag(
    memory: DetectionMemory, twins: NDArray[np.intp], at_s: Column, values: Column, verdict: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Take over what cleaning has found, ``verdict (R, b)`` of ``Quality``: where it is a score of 1.

    A value out of its range, one that changes too fast and one that is stuck by the kind's own limit need no
    statistics; ``values (R, b)`` are as they were said.
    """
    found = np.zeros(verdict.shape, np.bool_)
    for quality, view in _VIEW_OF_QUALITY:
        rows, columns = at = np.nonzero(verdict == quality)
        if len(rows):
            found[at] = True
            alarm = np.full((len(ALARM), len(rows)), np.nan)
            alarm[:4] = at_s[columns], np.ones(len(rows)), values[at], memory.rows[_LAST, rows, twins[columns]]
            alarm[4], alarm[-1] = memory.rows[_LAST_AT, rows, twins[columns]], view
            memory.alarm[:, rows, twins[columns]] = alarm
    return found


_VIEW_OF_QUALITY = (
    (Quality.OUT_OF_RANGE, View.RANGE),
    (Quality.RATE, View.RATE),
    (Quality.STUCK, View.STUCK_DECLARED),
)


def _look(
    memory: DetectionMemory,
    m: Column,
    twins: NDArray[np.intp],
    at_s: Column,
    x: Column,
    z: Column,
    new: NDArray[np.bool_],
) -> tuple[Column, Column, Column]:
    """The statistics of the weighed views ``(4, R, b)``, the usual logarithmic value of the hour and the scale of
    that logarithm; ``m`` moves on in place.
    """
    m[_COUNT] += 1.0
    count = m[_COUNT]
    first, learning = count == 1.0, count <= LEARNING
    weight = np.maximum(1.0 / count, 1.0 / LONG)

    m[_LONG] = np.where(first, x, m[_LONG])
    if learning.any():
        away = np.abs(x - m[_LONG])
        m[_DEVIATION] += np.where(learning, 1.0 / np.maximum(count - 1.0, 1.0), 0.0) * (away - m[_DEVIATION])
        m[_MAGNITUDE] += np.where(learning, 1.0 / count, 0.0) * (np.abs(x) - m[_MAGNITUDE])
    scale = m[_DEVIATION] + 1e-3 * m[_MAGNITUDE] + 1e-9  # a series that was constant so far still has a scale
    log_x = np.arcsinh(x / scale)

    statistics = np.empty((WEIGHED, *x.shape))
    m[_SHORT] += np.where(first, x - m[_SHORT], np.maximum(1.0 / count, 1.0 / SHORT) * (x - m[_SHORT]))
    m[_LONG] += weight * (x - m[_LONG])
    statistics[View.SHIFT], m[_SHIFT] = charts.record(m[_SHIFT], np.abs(m[_SHORT] - m[_LONG]), _FADE)

    started = np.maximum(count - LEARNING, 1.0)  # the scale is settled from here on
    m[_LONG_LOG] += np.maximum(1.0 / started, 1.0 / LONG) * (log_x - m[_LONG_LOG])
    m[_SHORT_LOG] += np.maximum(1.0 / started, 1.0 / SHORT) * (log_x - m[_SHORT_LOG])
    statistics[View.RATIO], m[_RATIO] = charts.record(m[_RATIO], np.abs(m[_SHORT_LOG] - m[_LONG_LOG]))

    residual, usual = _season(memory, twins, at_s, log_x, new & ~learning, count)
    statistics[View.SEASON] = _tail(m, _SEASON, residual, weight)
    statistics[View.MODEL] = _tail(m, _MODEL, z, weight)
    return statistics, usual, scale


def _tail(m: Column, place: int, magnitude: Column, weight: Column) -> Column:
    """One tail, whose four numbers lie at ``place`` of the memory."""
    statistic, state = charts.tail(charts.Tail(*m[place : place + 4]), magnitude, weight)
    for offset, column in enumerate(state):
        m[place + offset] = column
    return statistic


def _season(
    memory: DetectionMemory,
    twins: NDArray[np.intp],
    at_s: Column,
    log_x: Column,
    new: NDArray[np.bool_],
    count: Column,
) -> tuple[Column, Column]:
    """Distance from the nearer of the two usual courses (NaN: neither known) and that course; both courses learn."""
    r, n = memory.course.shape[1:]
    course = memory.course.reshape(-1)
    own = np.arange(r)[:, None] * n + twins
    nearest = np.full(log_x.shape, np.nan)
    usual = np.full(log_x.shape, np.nan)
    for place, bins, most in zip(hour_bins(at_s), (HOURS, WEEK_HOURS), (_DAY_MEMORY, _WEEK_MEMORY), strict=True):
        flat = place * (r * n) + own
        known = course.take(flat)
        away = np.abs(log_x - known)
        nearer = ~(away >= nearest) & ~np.isnan(away)
        nearest, usual = np.where(nearer, away, nearest), np.where(nearer, known, usual)
        weight = np.maximum(1.0 / (count / bins + 1.0), 1.0 / most)
        learnt = np.where(np.isnan(known), log_x, known + weight * (log_x - known))
        course[flat] = np.where(new, learnt, known)
    return np.where(new, nearest, np.nan), usual


def _gets_stuck(m: Column, x: Column) -> NDArray[np.bool_]:
    """Whether the run of equal readings has now become twice the longest before it; ``m`` moves on in place.

    True once in a run, so that it needs no latch and waits for none.
    """
    run, m[_LAST] = charts.run_length(m[_LAST], m[_RUN], x)
    m[_LONGEST] = np.where(run == 1.0, np.maximum(m[_LONGEST], m[_RUN]), m[_LONGEST])
    m[_RUN] = run
    return np.asarray(run == np.maximum(2.0 * m[_LONGEST], STUCK_AT_LEAST))
