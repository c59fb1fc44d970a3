"""The default detector by compiled loops: one pass over its memory, to the bit what ``ensemble.detect`` gives."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.detection import charts, ensemble
from twin_actors.core.detection.alarms import Behind, keep
from twin_actors.core.detection.memory import LEVELS, SCALES, WEIGHED, DetectionMemory
from twin_actors.core.kernels import dense_rows, kernels, pointer, rows
from twin_actors.core.places import place_of

WORTH = 0.99 * ensemble.ALARM_EVIDENCE
"""Evidence below which a score is surely under a half."""

_KEPT = WEIGHED + 4  # the statistics, then the last value, its time, and what the two courses knew
_SHORT, _LONG = LEVELS.index("short"), LEVELS.index("long")
_DEVIATION, _MAGNITUDE, _RUN, _LONGEST = (
    SCALES.index(name) for name in ("deviation", "magnitude", "run", "longest_run")
)  # fmt: skip


class Limits(ctypes.Structure):
    """What the detectors go by, as ``struct limits`` of the kernels has it; float32 where the detectors' state is."""

    _fields_ = (
        ("largest", ctypes.c_double), ("least_variance", ctypes.c_double),
        *((name, ctypes.c_float) for name in (
            "learning", "long_least", "short_least", "day_least", "week_least", "day_bins", "week_bins", "fade",
            "small", "largest_f", "scale_share", "scale_least", "tail", "tail_least", "tail_step", "tail_teaching",
        )),
        ("unit", ctypes.c_float * WEIGHED), ("weight", ctypes.c_float * WEIGHED),
        *((name, ctypes.c_float) for name in (
            "most", "stuck_at_least", "stuck_evidence", "hold", "worse", "worth",
        )),
    )  # fmt: skip


@cache
def limits() -> Limits:
    (day_bins, day_most), (week_bins, week_most) = ensemble.COURSES
    return Limits(
        largest=charts.LARGEST,
        least_variance=ensemble.LEAST_VARIANCE,
        learning=ensemble.LEARNING,
        long_least=1.0 / ensemble.LONG,
        short_least=1.0 / ensemble.SHORT,
        day_least=1.0 / day_most,
        week_least=1.0 / week_most,
        day_bins=day_bins,
        week_bins=week_bins,
        fade=ensemble.FADE,
        small=charts.SMALL,
        largest_f=charts.LARGEST,
        scale_share=ensemble.SCALE_SHARE,
        scale_least=ensemble.SCALE_LEAST,
        tail=charts.TAIL,
        tail_least=charts.TAIL_LEAST,
        tail_step=charts.TAIL_STEP,
        tail_teaching=charts.TAIL_TEACHING,
        unit=(ctypes.c_float * WEIGHED)(*(1 / unit for unit in ensemble.UNITS)),
        weight=(ctypes.c_float * WEIGHED)(*ensemble.WEIGHTS),
        most=ensemble.MOST,
        stuck_at_least=ensemble.STUCK_AT_LEAST,
        stuck_evidence=ensemble.STUCK_EVIDENCE,
        hold=ensemble.HOLD,
        worse=ensemble.WORSE,
        worth=WORTH,
    )


def detect(
    memory: DetectionMemory,
    twins: NDArray[np.intp],
    at_s: Column,
    values: Column,
    innovation: Column,
    innovation_variance: Column,
    totals: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """As ``ensemble.detect``, and by it where the kernels are not there."""
    library = kernels().loops
    if library is None or not values.size:
        return ensemble.detect(memory, twins, at_s, values, innovation, innovation_variance, totals)
    x = np.where(totals, innovation, values) if totals.any() else dense_rows(values, np.float64)
    innovation, variance = dense_rows(innovation, np.float64), dense_rows(innovation_variance, np.float64)
    at_s, twins = np.ascontiguousarray(at_s, np.float64), np.ascontiguousarray(twins, np.intp)
    log_x = np.empty(x.shape)
    place = (
        ctypes.byref(limits()), len(x), memory.levels.shape[-1], len(twins), pointer(twins),
        isinstance(place_of(twins), slice),
    )  # fmt: skip
    levels, scales = pointer(memory.levels), pointer(memory.scales)
    said = library.detect_scale(*place, levels, scales, *rows(x), pointer(log_x))
    score = np.zeros(x.shape, np.float32)
    if not said:
        score[...] = np.nan
        return score
    with np.errstate(over="ignore", under="ignore"):  # a wild value is shown as infinite
        np.arcsinh(log_x, out=log_x)
        day, week = ensemble.hour_bins(at_s)
        places, kept = np.empty(x.size, np.int64), np.empty((x.size, _KEPT))
        found = library.detect_score(
            *place, levels, scales, pointer(memory.course), pointer(day), pointer(week), pointer(at_s),
            *rows(x), pointer(log_x), *rows(innovation), *rows(variance), pointer(score), pointer(places),
            pointer(kept),
        )  # fmt: skip
        spoken = charts.places(score != 0)  # few: what is held back scores 0
        score[spoken] = ensemble.score_of(score[spoken])
        if found:
            _keep_alarms(memory, places[:found], kept[:found], twins, at_s, score, x, innovation, log_x)
    if said < x.size:
        score[np.isnan(x)] = np.nan
    return score


def _keep_alarms(
    memory: DetectionMemory,
    places: NDArray[np.int64],
    kept: Column,
    twins: NDArray[np.intp],
    at_s: Column,
    score: NDArray[np.float32],
    x: Column,
    innovation: Column,
    log_x: Column,
) -> None:
    """Keep what was behind those of some places that are alarms; ``kept`` is what has been overwritten since."""
    alarming = score.ravel()[places] >= 0.5
    if not alarming.any():
        return
    at = row, column = np.unravel_index(places[alarming], x.shape)
    whose = (row, twins[column])
    kept = kept[alarming].T
    statistics = kept[:WEIGHED].astype(np.float32)
    last, last_at_s = kept[WEIGHED : WEIGHED + 2]
    knew = kept[WEIGHED + 2 :].astype(np.float32)
    run, longest = memory.scales[_RUN][whose], memory.scales[_LONGEST][whose]
    keep(
        memory,
        Behind(
            rows=row,
            twins=whose[1],
            at_s=at_s[column],
            score=score[at],
            value=np.clip(x[at], -charts.LARGEST, charts.LARGEST),
            innovation=innovation[at],
            last=last,
            last_at_s=last_at_s,
            short=memory.levels[_SHORT][whose],
            long=memory.levels[_LONG][whose],
            run=run,
            scale=ensemble.scale_of(memory.scales[_DEVIATION][whose], memory.scales[_MAGNITUDE][whose]),
            knew=knew,
            away=np.abs(log_x[at].astype(np.float32) - knew),
            evidence=ensemble.evidence_of(statistics, ensemble.stuck_now(run, longest)),
            statistics=statistics,
        ),
    )
