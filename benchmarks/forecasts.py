"""Forecasts on real data beside published rows and simple baselines: ETTh1, METR-LA, Melbourne, Beijing PM2.5.

python benchmarks/forecasts.py [--json] [--only ett,metr_la,melbourne,pm25]

Everything is causal: methods are fitted on rows before each origin, penalties, choices and mixtures are made on
validation time, and the figures are of the time after it. The data is read from ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from twin_actors.core.columns import Column
from twin_actors.core.forecasts import (
    Evaluation,
    Method,
    ProfileDecay,
    Regression,
    RepeatLast,
    RhythmRegression,
    SeasonalNaive,
    Series,
    WindowRidge,
    evaluate,
    outcomes,
)
from twin_actors.core.forecasts.rhythm import Scale, Scope

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"

NLINEAR = {96: (0.053, 0.177), 192: (0.069, 0.204), 336: (0.081, 0.226), 720: (0.080, 0.226)}
"""MSE and MAE of NLinear, univariate ETTh1 (Zeng et al., AAAI 2023, table of univariate results)."""
INFORMER = {168: (0.183, 0.346), 336: (0.222, 0.387), 720: (0.269, 0.435)}
"""Zhou et al., AAAI 2021, table 1."""
ETT_SPLIT = (8640, 11520, 14400)
LOOK_BACK = 336
SCOPES: tuple[Scope, ...] = ("pooled", "own")
SCALES: tuple[Scale, ...] = ("log", "root", "plain")

MELBOURNE_HOLIDAYS = (
    "2014-01-01", "2014-01-27", "2014-03-10", "2014-04-18", "2014-04-19", "2014-04-20", "2014-04-21", "2014-04-25",
    "2014-06-09", "2014-11-04", "2014-12-25", "2014-12-26",
)  # fmt: skip
"""Public holidays of Victoria in 2014: known ahead, and like Sundays for the purpose of counts."""

WIND = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        return list(csv.DictReader(text))


def number(text: str) -> float:
    return float(text) if text not in ("", "NA") else float("nan")


def wide(path: Path) -> tuple[list[str], list[str], Column]:
    """Times, names and values ``(T, n)`` of a table with one column an entity."""
    rows = rows_of(path)
    names = [name for name in rows[0] if name != "timestamp"]
    return (
        [row["timestamp"] for row in rows],
        names,
        np.array([[number(row[name]) for name in names] for row in rows]),
    )


# -- ETTh1 ----------------------------------------------------------------------------------------------------------


def ett() -> dict[str, Any]:
    """MSE and MAE of z-scored oil temperature by horizon: λ by the validation months, maps from the training months."""
    values = np.array([float(row["OT"]) for row in rows_of(DATA / "ett" / "ETTh1.csv")])
    train, valid, test = ETT_SPLIT
    z = (values - values[:train].mean()) / values[:train].std()
    series = Series(values=z[:test, None], period_s=3600.0)
    result: dict[str, Any] = {"mse": {}, "mae": {}, "repeat_last_mse": {}, "coverage_90": {}}
    for horizon in NLINEAR:
        steps = tuple(range(1, horizon + 1))
        ridge = WindowRidge(LOOK_BACK, validation=(valid - train) / valid, refit=False)
        origins = np.arange(valid - 1, test - horizon)
        fitted = ridge.fit(series.head(valid), steps)
        made, came = fitted.at(series, origins), outcomes(series, steps, origins)
        last = RepeatLast().fit(series, steps).at(series, origins)
        result["mse"][horizon] = float(((made - came) ** 2).mean())
        result["mae"][horizon] = float(np.abs(made - came).mean())
        result["repeat_last_mse"][horizon] = float(((last - came) ** 2).mean())
    tracked = evaluate(
        series, (24, 96), methods=[RepeatLast(), WindowRidge(LOOK_BACK)], first=train, choose_until=valid,
        refit_every=test,
    )  # fmt: skip
    result["coverage_90"] = dict(zip((24, 96), tracked.covered(), strict=True))
    return result


# -- the others ------------------------------------------------------------------------------------------------------


def _of(judged: Evaluation, horizons: tuple[int, ...], labels: tuple[int, ...]) -> dict[str, Any]:
    mae, last = judged.errors().overall(), judged.last_errors().overall()
    return {
        "mae": dict(zip(labels, mae.tolist(), strict=True)),
        "persistence_mae": dict(zip(labels, last.tolist(), strict=True)),
        "gain": dict(zip(labels, (1 - mae / last).tolist(), strict=True)),
        "coverage_90": dict(zip(labels, judged.covered(), strict=True)),
        "method": dict(zip(labels, judged.choice.chosen, strict=True)),
        "validation_mae": {name: each.tolist() for name, each in judged.choice.mae.items()},
    }


def metr_la() -> dict[str, Any]:
    """100 loop detectors, a week at 5 minutes: chosen on 60 to 80 % of the week, judged on the last 20 %."""
    _, _, values = wide(DATA / "metr_la" / "los_speed_first100.csv")
    series, rows = Series(values=values, period_s=300.0), len(values)
    methods: list[Method] = [
        RepeatLast(), ProfileDecay(288, "day"), WindowRidge(24), Regression("pooled"),
        Regression("own", neighbours=8),
    ]  # fmt: skip
    until = int(rows * 0.8)
    judged = evaluate(
        series, (3, 6, 12), methods=methods, first=int(rows * 0.6), choose_until=until,
        refit_every=until - int(rows * 0.6), minimum=0.0,
    )  # fmt: skip
    return _of(judged, (3, 6, 12), (15, 30, 60))


def melbourne(holidays: bool = True) -> dict[str, Any]:
    """Twelve pedestrian counters, hourly: chosen on May to August 2014, judged on September to December."""
    times, _, values = wide(DATA / "melbourne_ped" / "ped_2014_hourly.csv")
    days = np.arange(len(times)) // 24
    classes = (days + 2) % 7  # 1 January 2014 was a Wednesday; 6 is Sunday
    if holidays:
        classes = np.where(np.isin([each[:10] for each in times], MELBOURNE_HOLIDAYS), 6, classes)
    series = Series(values=values, period_s=3600.0, day_class=classes)
    horizons = (1, 3, 6, 24, 168)
    start = next(row for row, each in enumerate(times) if each.startswith("2014-09-01"))
    methods: list[Method] = [
        RepeatLast(), SeasonalNaive(168, "time-last-week"), ProfileDecay(168, "week"),
        ProfileDecay(168, "steady-week", 0.9), Regression("own", logarithm=True), Regression("pooled", logarithm=True),
        *(RhythmRegression(scope, scale) for scope in SCOPES for scale in SCALES),
    ]  # fmt: skip
    judged = evaluate(
        series, horizons, methods=methods, first=17 * 168, choose_until=start, refit_every=28 * 24, minimum=0.0
    )
    naive = np.stack([_before(values, judged.origins, horizon, 168) for horizon in horizons], axis=1)
    compared = judged.held_back[..., None] & np.isfinite(naive) & np.isfinite(judged.came) & np.isfinite(judged.made)
    result = _of(judged, horizons, horizons)
    result["weekly_naive_mae"], result["gain"] = {}, {}
    for order, horizon in enumerate(horizons):
        mask = compared[:, order]
        own = float(np.abs(judged.made - judged.came)[:, order][mask].mean())
        week = float(np.abs(naive - judged.came)[:, order][mask].mean())
        result["mae"][horizon], result["weekly_naive_mae"][horizon] = own, week
        result["gain"][horizon] = 1 - own / week
    return result


def _before(values: Column, origins: np.ndarray, horizon: int, lag: int) -> Column:
    """The value ``lag`` rows before each target."""
    return np.asarray(values[origins + horizon - lag])


def beijing() -> Series:
    """PM2.5 of twelve stations with the other pollutants and the weather as extras, hourly."""
    tables = [rows_of(path) for path in sorted((DATA / "beijing_air").glob("*.csv"))]

    def column(name: str) -> Column:
        return np.array([[number(row[name]) for row in table] for table in tables]).T

    extras = {name: column(name) for name in ("TEMP", "PRES", "DEWP", "PM10", "NO2", "SO2", "CO", "O3")}
    speed = column("WSPM")
    angle = np.array(
        [[2 * np.pi * WIND.index(row["wd"]) / 16 if row["wd"] in WIND else np.nan for row in table] for table in tables]
    ).T
    extras |= {"wind": speed, "wind_east": speed * np.sin(angle), "wind_north": speed * np.cos(angle)}
    return Series(values=column("PM2.5"), period_s=3600.0, extras=extras)


def pm25() -> dict[str, Any]:
    """Chosen on 60 to 80 % of the year, judged on the last 20 % (mid December to February), fitted every two weeks."""
    series = beijing()
    rows, quarter = len(series), 90 * 24
    methods: list[Method] = [
        RepeatLast(), ProfileDecay(24, "day"), Regression("pooled"), Regression("pooled", logarithm=True),
        Regression("pooled", ridge=0.1, logarithm=True, memory=quarter),
    ]  # fmt: skip
    judged = evaluate(
        series, (6, 24), methods=methods, first=int(rows * 0.6), choose_until=int(rows * 0.8), refit_every=14 * 24,
        minimum=0.0,
    )  # fmt: skip
    return _of(judged, (6, 24), (6, 24))


SETS = {"ett": ett, "metr_la": metr_la, "melbourne": melbourne, "pm25": pm25}


def measure(only: tuple[str, ...] = tuple(SETS)) -> dict[str, Any]:
    """All figures as plain values, by the names that ``benchmarks/fidelity.py`` uses."""
    result: dict[str, Any] = {"coverage_90": {}, "seconds": {}, "detail": {}}
    for name in only:
        began = time.perf_counter()
        found = SETS[name]()
        result["seconds"][name] = time.perf_counter() - began
        result["detail"][name] = found
        result["coverage_90"][name] = found["coverage_90"]
        if name == "ett":
            result["ett_mse"], result["ett_nlinear_mse"] = found["mse"], {h: row[0] for h, row in NLINEAR.items()}
        else:
            result[f"{name}_gain"] = found["gain"]
    return result


def _say(result: dict[str, Any]) -> None:
    detail = result["detail"]
    if "ett" in detail:
        found = detail["ett"]
        print("ETTh1 oil temperature, univariate, z-scored, look-back 336: MSE / MAE")
        print(f"{'hours':>6} {'ours':>16} {'NLinear':>14} {'Informer':>14} {'repeat-last':>12}")
        for horizon, (mse, mae) in NLINEAR.items():
            informer = "{:.3f} / {:.3f}".format(*INFORMER[horizon]) if horizon in INFORMER else ""
            print(
                f"{horizon:>6} {found['mse'][horizon]:>8.4f} / {found['mae'][horizon]:.3f} {mse:>6.3f} / {mae:.3f} "
                f"{informer:>14} {found['repeat_last_mse'][horizon]:>12.3f}"
            )
    for name, unit, against in (
        ("metr_la", "min", "persistence_mae"), ("melbourne", "h", "weekly_naive_mae"), ("pm25", "h", "persistence_mae"),
    ):  # fmt: skip
        if name not in detail:
            continue
        found = detail[name]
        print(f"\n{name}: MAE against {against.removesuffix('_mae').replace('_', ' ')}, on held-back time")
        for horizon, gain in found["gain"].items():
            print(
                f"{horizon:>6} {unit:<4} {found['mae'][horizon]:8.2f} {found[against][horizon]:8.2f}  "
                f"{100 * gain:5.1f} % less  90 % interval held {100 * found['coverage_90'][horizon]:.1f} %  "
                f"{found['method'][horizon]}"
            )
    if "metr_la" in detail:
        print("       T-GCN published 3.18 / 3.75 / 4.60 mph on all 207 sensors: another cut, not comparable")
    for name, covered in result["coverage_90"].items():
        shown = ", ".join(f"{horizon}: {100 * share:.1f} %" for horizon, share in covered.items())
        print(f"coverage of the 90 % interval on {name}: {shown} ({result['seconds'][name]:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--only", default=",".join(SETS), help="sets to run, separated by commas")
    arguments = parser.parse_args()
    only = tuple(name for name in arguments.only.split(",") if name)
    if unknown := [name for name in only if name not in SETS]:
        parser.error(f"there is no set {unknown[0]!r}; there are {', '.join(SETS)}")
    if not DATA.is_dir():
        sys.exit(f"{DATA} is not there: the benchmark needs the shared data beside the project")
    result = measure(only)
    if arguments.json:
        print(json.dumps(result))
    else:
        _say(result)


if __name__ == "__main__":
    main()
