"""Anomaly scores of the twins on the Numenta Anomaly Benchmark, with NAB's scoring, beside a published detector.

python benchmarks/nab.py [--data FOLDER] [--json]

The scoring is rebuilt from its description: Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms: the
Numenta Anomaly Benchmark" (ICMLA 2015, arXiv:1510.03336), with the constants of NAB 1.1. The windowed Gaussian, one
of NAB's own baselines, is rebuilt too: its row is published, so it shows that the scoring is right.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Attributes, Reading, State, reading, state
from twin_actors.core.inputs import Batch
from twin_actors.core.kind import Kind
from twin_actors.core.table import TwinTable

SHARED = Path(os.environ.get("TWIN_ACTORS_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DATA = SHARED / "nab_dev"
PROFILES = ("standard", "reward_low_FP_rate", "reward_low_FN_rate")
PROBATION = 0.15
PROBATION_OF_AT_MOST = 5000
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """One file: times (s since the epoch), values, and its labelled windows as first and last index."""

    name: str
    at_s: Scores
    value: Scores
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Rows at the beginning whose scores do not count."""
        return int(min(math.floor(PROBATION * len(self.value)), PROBATION * PROBATION_OF_AT_MOST))


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detected window earns, and what a missed window and a false alarm cost."""

    hit: float
    miss: float
    false_alarm: float


def load(folder: Path = DATA) -> list[Series]:
    """Every labelled series of the folder, sorted by name."""
    labels = json.loads((folder / "labels" / "combined_windows.json").read_text())
    made = []
    for name, windows in sorted(labels.items()):
        with (folder / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        at_s = np.array([_seconds(row["timestamp"]) for row in rows])
        value = np.array([float(row["value"]) for row in rows])
        limits = []
        for begin, end in windows:
            inside = np.flatnonzero((at_s >= _seconds(begin)) & (at_s <= _seconds(end)))
            limits.append((int(inside[0]), int(inside[-1])))
        made.append(Series(name, at_s, value, tuple(limits)))
    return made


def profiles(folder: Path = DATA) -> dict[str, Profile]:
    read = json.loads((folder / "profiles.json").read_text())
    return {
        name: Profile(cost["CostMatrix"]["tpWeight"], cost["CostMatrix"]["fnWeight"], cost["CostMatrix"]["fpWeight"])
        for name, cost in read.items()
    }


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def sigmoid(position: Scores) -> Scores:
    """NAB's scaled sigmoid: +1 well inside a window (−1), 0 at its end, −1 far behind it."""
    return np.where(position > 3, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, 3))) - 1)


def weigh(series: Series) -> tuple[Scores, NDArray[np.int64]]:
    """What a detection at each row is worth (share of a full hit, or of a false alarm), and in which window it lies.

    Windows are numbered; −1 is outside, −2 within the probation, which does not count.
    """
    n = len(series.value)
    worth = np.full(n, -1.0)
    window = np.full(n, -1, np.int64)
    index = np.arange(n)
    for number, (left, right) in enumerate(series.windows):
        width = right - left + 1
        inside = (index >= left) & (index <= right)
        worth[inside] = (sigmoid(-(right - index + 1) / width) / sigmoid(np.array(-1.0)))[inside]
        window[inside] = number
        behind = index > right  # the next window overwrites what is behind it
        worth[behind] = sigmoid((index - right) / max(width - 1, 1))[behind]
    window[index < series.probation] = -2
    return worth, window


def sweep(series: Sequence[Series], scores: Sequence[Scores], profile: Profile) -> tuple[Scores, Scores]:
    """Thresholds from high to low and the raw corpus score that detecting every row at or above each would earn."""
    gains: list[Scores] = []
    levels: list[Scores] = []
    missed = 0.0
    for one, score in zip(series, scores, strict=True):
        worth, window = weigh(one)
        outside = window == -1
        gains.append(worth[outside] * profile.false_alarm)
        levels.append(score[outside])
        for number in range(len(one.windows)):
            inside = np.flatnonzero(window == number)
            missed -= profile.miss
            order = inside[np.argsort(-score[inside], kind="stable")]
            best = np.maximum.accumulate(np.r_[-profile.miss, worth[order] * profile.hit])
            gains.append(np.diff(best))
            levels.append(score[order])
    gain, level = np.concatenate(gains), np.concatenate(levels)
    order = np.argsort(-level, kind="stable")
    level, total = level[order], missed + np.cumsum(gain[order])
    last = np.r_[level[1:] != level[:-1], True]
    return np.r_[np.inf, level[last]], np.r_[missed, total[last]]


def normalised(raw: float, series: Sequence[Series], profile: Profile) -> float:
    """0: a detector that never says anything; 100: one that meets every window at its first row and no other."""
    windows = sum(len(one.windows) for one in series)
    worst, best = -profile.miss * windows, profile.hit * windows
    return 100 * (raw - worst) / (best - worst)


def score_corpus(series: Sequence[Series], scores: Sequence[Scores], profile: Profile) -> tuple[float, float]:
    """The best normalised score over all thresholds, and that threshold."""
    threshold, raw = sweep(series, scores, profile)
    best = int(np.argmax(raw))
    return normalised(float(raw[best]), series, profile), float(threshold[best])


def windowed_gaussian(series: Series) -> Scores:
    """NAB's baseline: one minus the tail probability under a Gaussian of the last 6,400 rows, slid by 100.

    Rounded to the twelve digits in which NAB stores its detectors' scores; thresholds there tell no more apart.
    """
    size, step = 6400, 100
    value = series.value.astype(np.longdouble)
    n = len(value)
    first = np.r_[0, np.cumsum(value - value[0])]
    second = np.r_[0, np.cumsum((value - value[0]) ** 2)]
    last = np.arange(1, n)  # the window before each row but the first
    slid = np.maximum(last - size, 0) // step * step
    begin, end = slid, np.where(last > size, slid + size, last)
    held = end - begin
    mean = (first[end] - first[begin]) / held
    variance = np.maximum((second[end] - second[begin]) / held - mean**2, 0)
    sd = np.sqrt(np.where(variance < 1e-20, 1e-12, variance))
    away = np.abs(value[1:] - (mean + value[0])) / sd / 1.4142
    score = [0.0, *(1 - 0.5 * math.erfc(float(one)) for one in away)]
    return np.round(score, 12)


class SeriesReading(Reading):
    """One number of which nothing is known."""

    value = reading("1", sd=1.0)


class SeriesState(State):
    """The number as it was last seen: the next is expected to be the same."""

    value = state("1", default=0.0, unsure_sd=1e9, drift=1e6)


SERIES = Kind(
    name="series",
    doc="A series without a model: what the core can say about any number.",
    attributes=Attributes,
    reading=SeriesReading,
    state=SeriesState,
    predict=lambda state, attributes, command, couplings, step: state,
    indicators=lambda state, attributes, command, windows: {},
    shows=(),
)


def twin_scores(series: Sequence[Series]) -> list[Scores]:
    """What the twins score: every series is a twin of one packed table, told its readings one at a time."""
    table = TwinTable(SERIES, [one.name for one in series], np.zeros((0, len(series))))
    scores = [np.zeros(len(one.value)) for one in series]
    for row in range(max(len(one.value) for one in series)):
        twins = np.array([number for number, one in enumerate(series) if row < len(one.value)], np.intp)
        at_s = np.array([series[number].at_s[row] for number in twins])
        values = np.array([[series[number].value[row] for number in twins]])
        table.apply(Batch(rows=twins, observed_at_s=at_s, values=values))
        for number, score in zip(twins, table.score[0, twins], strict=True):
            scores[number][row] = score if score == score else 0.0
    return scores


def at_threshold(series: Sequence[Series], scores: Sequence[Scores], profile: Profile, threshold: float) -> float:
    """The normalised score of detecting every row at or above a given threshold."""
    thresholds, raw = sweep(series, scores, profile)
    return normalised(float(raw[np.flatnonzero(thresholds >= threshold)[-1]]), series, profile)


def measure(folder: Path = DATA) -> dict[str, Any]:
    """Scores of the twins for each profile, at the best threshold (NAB's rule), at ½, and by halves.

    ``halves``: every second series; ``crossed``: each half at the threshold that is best for the other.
    """
    series, costs = load(folder), profiles(folder)
    scores = twin_scores(series)
    made: dict[str, Any] = {}
    for name, profile in costs.items():
        short = {"standard": "nab_standard", "reward_low_FP_rate": "nab_low_fp", "reward_low_FN_rate": "nab_low_fn"}
        made[short[name]], threshold = score_corpus(series, scores, profile)
        made[f"{short[name]}_threshold"] = threshold
    standard = costs["standard"]
    made["nab_standard_at_half"] = at_threshold(series, scores, standard, 0.5)
    halves = [(series[begin::2], scores[begin::2]) for begin in (0, 1)]
    best = [score_corpus(*half, standard) for half in halves]
    made["halves"] = [score for score, _ in best]
    made["crossed"] = [
        at_threshold(*half, standard, threshold) for half, (_, threshold) in zip(halves, best[::-1], strict=True)
    ]
    gaussian = [windowed_gaussian(one) for one in series]
    made["windowed_gaussian"] = {name: score_corpus(series, gaussian, profile)[0] for name, profile in costs.items()}
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args()
    measured = measure(arguments.data)
    if arguments.json:
        print(json.dumps(measured, indent=2))
        return
    published = json.loads((arguments.data / "published_detectors_on_this_half.json").read_text())
    rows = {name: [row[profile] for profile in PROFILES] for name, row in published.items()}
    rows["windowed Gaussian, here"] = [measured["windowed_gaussian"][profile] for profile in PROFILES]
    rows["the twins"] = [measured[name] for name in ("nab_standard", "nab_low_fp", "nab_low_fn")]
    print(f"{'':26}{'standard':>10}{'low FP':>10}{'low FN':>10}")
    for name, row in sorted(rows.items(), key=lambda item: -item[1][0]):
        print(f"{name:26}" + "".join(f"{score:10.1f}" for score in row))
    print(f"the twins at a score of ½: {measured['nab_standard_at_half']:.1f}")
    print("by halves: " + ", ".join(f"{score:.1f}" for score in measured["halves"]))
    print("each half at the other's threshold: " + ", ".join(f"{score:.1f}" for score in measured["crossed"]))


if __name__ == "__main__":
    main()
