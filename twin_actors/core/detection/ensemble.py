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

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.cleaning import Quality
from twin_actors.core.columns import Column
from twin_actors.core.detection import charts
from twin_actors.core.detection.alarms import Behind, keep
from twin_actors.core.detection.memory import (
    ALARM,
    HOURS,
    LEVELS,
    SCALES,
    WEEK_HOURS,
    WEIGHED,
    DetectionMemory,
    View,
)
from twin_actors.core.places import place_of, run_of

HOUR_S = 3600.0

LEARNING = 50.0
"""Readings from which a row learns the scale of its logarithmic view; until then it scores 0."""

LONG, SHORT = 4000.0, 10.0
"""Memories of what is usual and of what is now, in readings; less is all there were."""

HOLD, WORSE = 100.0, 1.2
"""For so many readings an alarm is not repeated unless the evidence is so much stronger."""

STUCK_AT_LEAST = 6.0
"""Fewer equal readings in a row are never called stuck, and never fewer than twice the longest run before."""

SCALE_SHARE, SCALE_LEAST = 1e-3, 1e-9
"""Of its magnitude at least, and at least: a series that was constant so far still has a scale."""

LEAST_VARIANCE = 1e-300
"""Variance of an innovation that counts as none."""

ALARM_EVIDENCE = 2.3
"""Evidence whose score is one half: two views at their usual limit hardly reach it, three or one far beyond it do."""

UNITS = (1.04, 1.017, 3.0, 3.0)  # a statistic worth one unit of evidence: just beyond all records; e⁻³ of the tail
WEIGHTS = (1.0, 1.0, 1.0, 0.25)
MOST = 1.4  # units that a single view may bring
STUCK_EVIDENCE = 1.2 * ALARM_EVIDENCE
COURSES = ((HOURS, 150.0), (WEEK_HOURS, 100.0))  # bins of each usual course, and its memory in readings of a bin
FADE = 0.5 ** (1 / LONG)
_LONG, _SHORT, _LONG_LOG, _SHORT_LOG, _LAST, _LAST_AT = range(len(LEVELS))
(
    _COUNT, _DEVIATION, _MAGNITUDE, _SHIFT, _RATIO, _SEASON, _, _, _, _MODEL, _, _, _, _PEAK, _AGE, _RUN, _LONGEST,
) = range(len(SCALES))  # fmt: skip


def score_of(evidence: Column | NDArray[np.float32]) -> Column:
    """Evidence as a score: 0 for none, ½ at ``ALARM_EVIDENCE``, towards 1 beyond; 1 − 2^(−(e/e½)²)."""
    return np.asarray(-np.expm1(-np.log(2.0) * (evidence / ALARM_EVIDENCE) ** 2))


def hour_bins(at_s: Column) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The two rows of ``course`` of a moment in UTC: its hour of day, and its hour of a working or a weekend day."""
    day = np.floor(at_s / 86400.0)
    hour = (np.floor(at_s / 3600.0) - 24.0 * day).astype(np.intp)
    weekend = (day + 4.0) % 7.0 % 6.0 == 0.0  # 1970-01-01 was a Thursday; 0 is Sunday, 6 is Saturday
    return hour, HOURS + hour + np.where(weekend, 24, 0)


@dataclass(frozen=True, slots=True)
class _Said:
    """What a batch has said, in the batch and in the memory: all of it, whole rows, or here and there.

    ``memory`` indexes (row, twin); ``numbers`` are the rows and twins themselves, to be broadcast.
    """

    batch: tuple[Any, ...]
    memory: tuple[Any, Any]
    numbers: tuple[NDArray[np.intp], NDArray[np.intp]]
    at_s: Column
    in_place: bool  # the memory can be worked on as it lies

    @classmethod
    def of(cls, new: NDArray[np.bool_], twins: NDArray[np.intp], at_s: Column) -> _Said:
        speaking = new.any(axis=1)
        if new[speaking].all():
            numbers = np.flatnonzero(speaking)
            rows, place = run_of(numbers), place_of(twins)
            together = isinstance(rows, slice) and isinstance(place, slice)
            memory = (rows, place) if together or isinstance(rows, slice) else (numbers[:, None], twins)
            return cls((rows,), memory, (numbers[:, None], twins), at_s, together)
        rows, columns = np.nonzero(new)
        return cls((rows, columns), (rows, twins[columns]), (rows, twins[columns]), at_s[columns], False)

    def whose(self, at: tuple[NDArray[np.intp], ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The rows and twins at some places of what was said."""
        rows, twins = np.broadcast_arrays(*self.numbers)
        return rows[at], twins[at]


def detect(
    memory: DetectionMemory,
    twins: NDArray[np.intp],
    at_s: Column,
    values: Column,
    innovation: Column,
    innovation_variance: Column,
    totals: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Score one reading each of ``b`` different twins: ``(R, b)`` in [0, 1], NaN where nothing usable was said.

    ``values (R, b)`` are cleaned, NaN: not said or not usable; ``at_s (b,)``. Where ``totals (R, 1)`` the row is a
    running total, which has no usual level: its innovation takes the place of its value. Memory moves on.
    """
    x = np.where(totals, innovation, values) if totals.any() else values
    new = ~np.isnan(x)
    score = np.full(x.shape, np.nan, np.float32)
    if not new.any():
        return score
    said = _Said.of(new, twins, at_s)
    everywhere = (slice(None), *said.memory)
    levels, scales = memory.levels[everywhere], memory.scales[everywhere]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
        score[said.batch] = _scored(
            memory,
            said,
            levels,
            scales,
            np.clip(x[said.batch], -charts.LARGEST, charts.LARGEST),
            innovation[said.batch],
            innovation_variance[said.batch],
        )
    if not said.in_place:
        memory.levels[everywhere], memory.scales[everywhere] = levels, scales
    return score


def _scored(
    memory: DetectionMemory,
    said: _Said,
    levels: Column,
    scales: NDArray[np.float32],
    x: Column,
    innovation: Column,
    variance: Column,
) -> NDArray[np.float32]:
    """The scores of what was said; ``levels`` and ``scales`` of its rows and twins move on in place."""
    count = scales[_COUNT]
    count += 1
    fewest = float(count.min())
    learning = count <= LEARNING if fewest <= LEARNING else None
    weight = _weight(count, fewest, LONG)
    scale = _scale(levels, scales, x, learning)
    log_x = np.arcsinh(x / scale)
    statistics = np.zeros((WEIGHED, *x.shape), np.float32)
    shift = _shift(levels[_LONG], levels[_SHORT], x, _wide(weight), _wide(_weight(count, fewest, SHORT)))
    statistics[View.SHIFT] = charts.record(scales[_SHIFT], shift, FADE)
    since, least = np.maximum(count - LEARNING, 1), max(fewest - LEARNING, 1.0)  # the scale is settled from then on
    shift = _shift(
        levels[_LONG_LOG],
        levels[_SHORT_LOG],
        log_x,
        _wide(_weight(since, least, LONG)),
        _wide(_weight(since, least, SHORT)),
    )
    statistics[View.RATIO] = charts.record(scales[_RATIO], shift)
    courses = [] if learning is not None and learning.all() else _courses(memory, said, log_x, count, learning)
    if courses:
        residual = np.fmin(courses[0].away, courses[1].away)
        if learning is not None:
            residual[learning] = np.nan
        statistics[View.SEASON] = charts.tail(charts.Tail(*scales[_SEASON : _SEASON + 4]), residual, weight)
    z = np.abs(innovation)
    z /= np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    z = np.minimum(z, charts.LARGEST, out=z).astype(np.float32)
    statistics[View.MODEL] = charts.tail(charts.Tail(*scales[_MODEL : _MODEL + 4]), z, weight)

    total = np.zeros_like(z)
    for view in range(WEIGHED):
        total += _evidence(statistics[view], view)
    charts.run_length(levels[_LAST], scales[_RUN], scales[_LONGEST], x)
    stuck = stuck_now(scales[_RUN], scales[_LONGEST])
    if learning is not None:
        total[learning] = 0.0
        stuck &= ~learning
    through = charts.latch(scales[_PEAK], scales[_AGE], total, HOLD, WORSE)
    if stuck.any():
        through[stuck] = np.maximum(through[stuck], STUCK_EVIDENCE)
    score = np.zeros_like(total)
    spoken = charts.places(through != 0)  # few: what is held back scores 0
    score[spoken] = score_of(through[spoken])
    at = charts.places(score >= 0.5)
    if len(at[0]):
        keep(memory, _behind(said, at, score, x, innovation, levels, scales, statistics, stuck, courses, scale))
    levels[_LAST] = x
    levels[_LAST_AT] = said.at_s
    for course in courses:
        course.learn(memory, said)
    return score


def _weight(count: NDArray[np.float32], fewest: float, most: float) -> NDArray[np.float32] | np.float32:
    """What the newest of ``count`` readings weighs in a memory of ``most``; ``fewest`` is the least of the counts.

    One number where all weigh the same, and exactly the one that each would have in any other batch.
    """
    least = np.float32(1.0 / most)
    return least if fewest >= most else np.maximum(np.float32(1.0) / count, least)


def _wide(weight: NDArray[np.float32] | np.float32) -> Column | np.float64:
    """The same as float64: converted once instead of in every product."""
    return weight.astype(np.float64)


def _scale(
    levels: Column, scales: NDArray[np.float32], x: Column, learning: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """What counts as one on the logarithmic scale of each row; the first readings teach it."""
    if learning is not None:
        count, long = scales[_COUNT], levels[_LONG]
        np.copyto(long, x, where=count == 1.0)
        away, size = np.abs(x - long), np.abs(x)
        scales[_DEVIATION] += np.where(learning, 1.0 / np.maximum(count - 1.0, 1.0), 0.0) * (away - scales[_DEVIATION])
        scales[_MAGNITUDE] += np.where(learning, 1.0 / count, 0.0) * (size - scales[_MAGNITUDE])
    return scale_of(scales[_DEVIATION], scales[_MAGNITUDE])


def scale_of(deviation: NDArray[np.float32], magnitude: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scale of rows of which this is the mean deviation and the mean magnitude."""
    scale: NDArray[np.float32] = magnitude * np.float32(SCALE_SHARE)
    scale += deviation
    scale += np.float32(SCALE_LEAST)
    return scale


def _shift(
    long: Column,
    short: Column,
    value: Column,
    slow: Column | np.float64,
    fast: Column | np.float64,
) -> NDArray[np.float32]:
    """How far the mean of now is from the usual one; both move on in place."""
    for mean, weight in ((short, fast), (long, slow)):
        step = value - mean
        step *= weight
        mean += step
    step = np.subtract(short, long, out=step)
    return np.abs(step, out=step).astype(np.float32)


def _evidence(statistic: NDArray[np.float32], view: int) -> NDArray[np.float32]:
    units = statistic * np.float32(1 / UNITS[view])
    np.minimum(units, np.float32(MOST), out=units)
    evidence: NDArray[np.float32] = units * units
    evidence *= units
    evidence *= np.float32(WEIGHTS[view])
    return evidence


@dataclass(frozen=True, slots=True)
class _Course:
    """One usual course at the moment of some readings: what it ``knew``, how far off they are, and what it learns."""

    place: int | NDArray[np.intp]  # the bin, where all readings fall into the same one
    knew: NDArray[np.float32]
    away: NDArray[np.float32]
    learnt: NDArray[np.float32]

    def learn(self, memory: DetectionMemory, said: _Said) -> None:
        if isinstance(self.place, int):
            memory.course[self.place][said.memory] = self.learnt
        else:
            memory.course[(self.place, *said.numbers)] = self.learnt


def _courses(
    memory: DetectionMemory,
    said: _Said,
    log_x: Column,
    count: NDArray[np.float32],
    learning: NDArray[np.bool_] | None,
) -> list[_Course]:
    """The daily and the weekly course; neither has learnt yet."""
    log_32 = log_x.astype(np.float32)
    same_hour = np.floor(said.at_s.min() / HOUR_S) == np.floor(said.at_s.max() / HOUR_S)
    moments = said.at_s[:1] if same_hour else said.at_s
    fewest = float(count.min())
    courses = []
    for bins, (number, most) in zip(hour_bins(moments), COURSES, strict=True):
        place = int(bins[0]) if same_hour else bins
        knew = memory.course[place][said.memory] if isinstance(place, int) else memory.course[(place, *said.numbers)]
        off = log_32 - knew
        learnt = off * _weight(count / np.float32(number) + 1, fewest / number + 1, most)
        learnt += knew
        if np.isnan(off.sum()):
            np.copyto(learnt, log_32, where=np.isnan(knew))
        if learning is not None:
            np.copyto(learnt, knew, where=learning)
        courses.append(_Course(place, knew, np.abs(off, out=off), learnt))
    return courses


def stuck_now(run: NDArray[np.float32], longest: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where a run of equal readings is called stuck: once in a run, so that it needs no latch."""
    return np.asarray(run == np.maximum(2 * longest, STUCK_AT_LEAST))


def _behind(
    said: _Said,
    at: tuple[NDArray[np.intp], ...],
    score: NDArray[np.float32],
    x: Column,
    innovation: Column,
    levels: Column,
    scales: NDArray[np.float32],
    statistics: NDArray[np.float32],
    stuck: NDArray[np.bool_],
    courses: list[_Course],
    scale: NDArray[np.float32],
) -> Behind:
    """What is behind the scores at some places, before the last value and the courses move on."""
    rows, twins = said.whose(at)
    none = np.zeros((0, len(rows)), np.float32)
    told = np.stack([statistics[view][at] for view in range(WEIGHED)])
    return Behind(
        rows=rows,
        twins=twins,
        at_s=np.broadcast_to(said.at_s, x.shape)[at],
        score=score[at],
        value=x[at],
        innovation=innovation[at],
        last=levels[_LAST][at],
        last_at_s=levels[_LAST_AT][at],
        short=levels[_SHORT][at],
        long=levels[_LONG][at],
        run=scales[_RUN][at],
        scale=scale[at],
        knew=np.stack([each.knew[at] for each in courses]) if courses else none,
        away=np.stack([each.away[at] for each in courses]) if courses else none,
        evidence=evidence_of(told, stuck[at]),
        statistics=told,
    )


def evidence_of(statistics: NDArray[np.float32], stuck: NDArray[np.bool_]) -> Column:
    """Evidence of each view ``(WEIGHED, m)``, and last that of being stuck."""
    weighed = [_evidence(statistics[view], view) for view in range(WEIGHED)]
    return np.stack([*weighed, np.where(stuck, STUCK_EVIDENCE, 0.0)])


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
            whose = twins[columns]
            alarm = np.full((len(ALARM), len(rows)), np.nan)
            alarm[:3] = np.ones(len(rows)), values[at], memory.levels[_LAST, rows, whose]
            alarm[-1] = view
            with np.errstate(over="ignore"):  # a wild value is shown as infinite
                memory.alarm[:, rows, whose] = alarm.astype(np.float32)
            memory.alarm_at_s[:, rows, whose] = at_s[columns], memory.levels[_LAST_AT, rows, whose]
    return found


_VIEW_OF_QUALITY = (
    (Quality.OUT_OF_RANGE, View.RANGE),
    (Quality.RATE, View.RATE),
    (Quality.STUCK, View.STUCK_DECLARED),
)
