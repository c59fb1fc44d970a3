"""How true each twin is to its entity: the running error of what it expected, and the coverage of its 90 % interval.

Both forget exponentially, so they speak of the last hundred readings or so, per row of the reading. A twin that
*drifts* has intervals that no longer hold its entity: its model, its parameters or its sensor are wrong, whatever it
shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.kernels import dense_rows, kernels, rows
from twin_actors.core.kind import Alert
from twin_actors.core.layout import Layout
from twin_actors.core.places import Places, taken

FORGET = 0.01
"""Weight of the newest reading."""

NOMINAL = 0.9
Z2_90 = 1.6448536269514722**2
"""The square of the normal quantile whose interval holds 90 %."""

_LARGEST2 = np.float32(1e36)  # squares beyond it would not stay float32

DRIFTING_BELOW = 0.7
"""Of independent readings that the model describes, the running coverage stays within 0.9 ± 0.02; it takes 25 misses
in a row, or every second reading outside for 70, to fall below this."""

BACK_ABOVE = 0.8

DRIFTS = Alert(
    name="drifts_from_entity",
    of="coverage_90",
    below=DRIFTING_BELOW,
    clear=BACK_ABOVE,
    says="its 90 % intervals no longer hold its readings: check the sensor, or calibrate the model",
)
"""Every kind has this alert, without declaring it."""


@dataclass(slots=True)
class Fidelity:
    """Running statistics of ``n`` twins by reading row, ``(rows, n)``: mean squared innovation and coverage; and which
    twins drift ``(n,)``, as ``judge`` has found them last.

    ``error2`` is NaN until a first reading was compared; ``covered`` starts at the nominal share, as nothing speaks
    against the twin yet.
    """

    error2: NDArray[np.float32]
    covered: NDArray[np.float32]
    drifting: NDArray[np.bool_]

    @classmethod
    def empty(cls, rows: int, n: int) -> Fidelity:
        return cls(
            np.full((rows, n), np.nan, np.float32), np.full((rows, n), NOMINAL, np.float32), np.zeros(n, np.bool_)
        )

    def record(self, innovation: Column, variance: Column, place: Places) -> None:
        """Take in innovations with variances ``(rows, b)``, NaN where nothing came; ``place`` says whose, distinct."""
        error2, covered = taken(self.error2, place), taken(self.covered, place)
        self._fold(innovation, variance, error2, covered)
        if not isinstance(place, slice):
            self.error2[:, place], self.covered[:, place] = error2, covered

    @staticmethod
    def _fold(innovation: Column, variance: Column, error2: NDArray[np.float32], covered: NDArray[np.float32]) -> None:
        """In place: NaN innovations change nothing."""
        library = kernels().loops
        if library is not None and innovation.size:
            innovation, variance = dense_rows(innovation, np.float64), dense_rows(variance, np.float64)
            library.record_fidelity(
                *innovation.shape, *rows(innovation), *rows(variance), *rows(error2), *rows(covered),
                FORGET, Z2_90, _LARGEST2,
            )  # fmt: skip
            return
        with np.errstate(over="ignore", under="ignore"):
            less, wide = innovation.astype(np.float32), variance.astype(np.float32)
            less *= less
            np.minimum(less, _LARGEST2, out=less)
            wide *= np.float32(Z2_90)
        inside = less <= wide
        some = np.isnan(less.max(initial=0.0))  # a NaN is the largest of all
        came = ~np.isnan(less) if some else np.True_
        if np.isnan(error2.max(initial=0.0)):
            np.copyto(error2, less, where=came & np.isnan(error2))
        less -= error2
        less *= np.float32(FORGET)
        step = np.subtract(inside, covered, out=wide)
        step *= np.float32(FORGET)
        if some:
            np.add(error2, less, out=error2, where=came)
            np.add(covered, step, out=covered, where=came)
        else:
            error2 += less
            covered += step

    def rmse(self) -> Column:
        """Root mean square innovation in the units of the reading rows; NaN before a first one."""
        return np.sqrt(self.error2.astype(np.float64))

    def judge(self) -> NDArray[np.bool_]:
        """Twins of which some row is covered too seldom, until all rows are back above BACK_ABOVE, ``(n,)``."""
        low = (self.covered < DRIFTING_BELOW).any(axis=0)
        self.drifting = low | (self.drifting & (self.covered < BACK_ABOVE).any(axis=0))
        return self.drifting.copy()


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityShown:
    """The fidelity of ``n`` twins at one moment: ``rmse`` and ``covered (rows, n)``, ``drifting (n,)``."""

    rmse: Column
    covered: Column
    drifting: NDArray[np.bool_]

    @classmethod
    def of(cls, fidelity: Fidelity) -> FidelityShown:
        return cls(
            rmse=fidelity.rmse(), covered=fidelity.covered.astype(np.float64), drifting=fidelity.judge()
        )  # fmt: skip


def least_covered(shown: FidelityShown) -> Column:
    """The coverage of each twin's least covered row ``(n,)``, NaN before a first comparison."""
    compared = np.isfinite(shown.rmse)
    least = np.where(compared, shown.covered, np.inf).min(axis=0, initial=np.inf)
    return np.where(np.isinf(least), np.nan, least)


def summary(layout: Layout, shown: FidelityShown) -> dict[str, Any]:
    """Of a whole kind whose reading has this ``layout``: how many twins have been compared with their readings, the
    root mean square of what readings differed by, by field; mean coverage, that of the worst row, and twins that drift.
    """
    compared = np.isfinite(shown.rmse)
    if not compared.any():
        return {
            "compared": 0, "innovation_rmse": {}, "coverage_90": None, "worst_coverage_90": None, "drifting": 0,
        }  # fmt: skip
    rmse: dict[str, float] = {}
    for name, place in layout.places.items():
        known = shown.rmse[place][compared[place]]
        if len(known):
            rmse[name] = float(np.sqrt((known**2).mean()))
    return {
        "compared": int(compared.any(axis=0).sum()),
        "innovation_rmse": rmse,
        "coverage_90": float(shown.covered[compared].mean()),
        "worst_coverage_90": float(np.where(compared, shown.covered, 1.0).min()),
        "drifting": int(shown.drifting.sum()),
    }
