"""``check_domain``: the model contract as a test that every domain, ours or a third party's, must pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Columns, Role
from twin_actors.core.forecasting import ensemble
from twin_actors.core.inputs import Batch, Channel
from twin_actors.core.kind import Domain, Kind, Step, records
from twin_actors.core.rolling import Held, roll
from twin_actors.core.table import TwinTable
from twin_actors.core.view import Policy

START_S = 1_780_000_000.0


def check_domain(domain: Domain, *, seed: int = 0) -> None:
    """Raise AssertionError, naming the kind and the rule, where a domain breaks the model contract."""
    assert domain.doc.strip(), f"domain {domain.name} has no doc"
    for name, policy in domain.policies.items():
        assert isinstance(policy, Policy), f"policy {name} is not a twin_actors.core.view.Policy"
        assert policy.name == name, f"policy {name} calls itself {policy.name}"
        assert policy.doc.strip(), f"policy {name} has no doc"
    for kind in domain.kinds:
        for check in CHECKS:
            try:
                check(kind, np.random.default_rng(seed))
            except (AssertionError, ValueError, TypeError, KeyError, IndexError) as error:
                what = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
                raise AssertionError(f"kind {kind.name}: {check.__name__}: {what}") from error


def plausible_attributes(kind: Kind, n: int, chance: np.random.Generator) -> Column:
    """Attributes ``(rows, n)`` around their defaults, within limits; 1…100 where no default is declared."""
    layout = kind.attributes.layout
    default = np.repeat(layout.per_row("default"), n, axis=1)
    low, high = layout.per_row("minimum"), layout.per_row("maximum")
    drawn = np.where(np.isnan(default), chance.uniform(1.0, 100.0, default.shape), default)
    return np.clip(drawn, low, high)


def plausible_state(kind: Kind, n: int, chance: np.random.Generator) -> Column:
    """States ``(rows, n)`` within one unsure_sd of their defaults and within limits."""
    layout = kind.state.layout
    spread = np.nan_to_num(layout.per_row("unsure_sd"))
    drawn = layout.per_row("default") + spread * chance.uniform(-1, 1, (layout.rows, n))
    return np.clip(drawn, layout.per_row("minimum"), layout.per_row("maximum"))


def plausible_readings(kind: Kind, b: int, chance: np.random.Generator) -> Column:
    """Readings ``(rows, b)`` within limits, about a third of the fields not said."""
    layout = kind.reading.layout
    state = kind.state.layout
    values = np.empty((layout.rows, b))
    for name, field in layout.fields.items():
        target = field.of or name
        if target in state.fields:
            measured = state.fields[target]
            middle = state.per_row("default")[state.places[target]]
            spread = max(measured.unsure_sd, field.sd)
        else:
            middle = np.full((field.size, 1), max(field.minimum, 0.0) if np.isfinite(field.minimum) else 0.0)
            spread = max(field.sd, 1.0)
        drawn = middle + spread * chance.uniform(-1, 1, (field.size, b))
        low, high = max(field.minimum, -1e12), min(field.maximum, 1e12)
        values[layout.places[name]] = np.clip(drawn, low, high)
    values[chance.uniform(size=values.shape) < 0.3] = np.nan
    return values


def plausible_batch(kind: Kind, n: int, b: int, chance: np.random.Generator) -> Batch:
    """A stream of ``b`` inputs of all channels for ``n`` twins, partly late and partly repeated."""
    rows = max(record.layout.rows for record in (kind.reading, kind.command, kind.couplings))
    channels = chance.choice(
        [Channel.READING, Channel.DESIRED, Channel.COMMAND, Channel.COUPLING], size=b, p=[0.85, 0.05, 0.05, 0.05]
    ).astype(np.uint8)
    values = np.full((rows, b), np.nan)
    values[: kind.reading.layout.rows] = plausible_readings(kind, b, chance)
    for record, own in ((kind.command, (Channel.DESIRED, Channel.COMMAND)), (kind.couplings, (Channel.COUPLING,))):
        chosen = np.isin(channels, own)
        drawn = np.full((rows, b), np.nan)
        layout = record.layout
        default = np.repeat(layout.per_row("default"), b, axis=1)
        low = np.maximum(layout.per_row("minimum"), default - 0.2 * (1 + np.abs(default)))
        high = np.minimum(layout.per_row("maximum"), default + 0.2 * (1 + np.abs(default)))
        drawn[: layout.rows] = low + (high - low) * chance.uniform(size=default.shape)
        values[:, chosen] = drawn[:, chosen]
    observed = START_S + np.cumsum(chance.exponential(20.0, b)) - np.where(chance.uniform(size=b) < 0.1, 300.0, 0.0)
    keys = (observed * 1e6).astype(np.int64)
    repeats = np.flatnonzero(chance.uniform(size=b) < 0.05)
    twins = chance.integers(0, n, b)
    for place in repeats[repeats > 0]:
        twins[place], channels[place], keys[place] = twins[place - 1], channels[place - 1], keys[place - 1]
        observed[place] = observed[place - 1]
        values[:, place] = values[:, place - 1]
    return Batch(rows=twins.astype(np.intp), observed_at_s=observed, values=values, channels=channels, keys=keys)


def part_of(batch: Batch, positions: NDArray[np.intp] | slice) -> Batch:
    """Some inputs of a batch, in their order."""
    return Batch(
        rows=batch.rows[positions],
        observed_at_s=batch.observed_at_s[positions],
        values=batch.values[:, positions],
        channels=batch.channels[positions],
        keys=batch.keys[positions],
    )


def same_twins(one: TwinTable, other: TwinTable, *, relative: float = 1e-9) -> None:
    """Assert that two tables hold the same twins: every array of their snapshots, to ``relative``."""
    mine, theirs = one.snapshot(), other.snapshot()
    for name, array in mine.items():
        # off-diagonal covariances near zero carry the rounding of the variances beside them
        scale = float(np.nanmax(np.abs(array), initial=0.0)) if name.startswith("covariance") else 1e-3
        np.testing.assert_allclose(array, theirs[name], rtol=relative, atol=relative * scale, err_msg=name)


def _frozen(matrix: Column) -> Column:
    matrix.flags.writeable = False
    return matrix


def _documents_itself(kind: Kind, chance: np.random.Generator) -> None:
    assert kind.doc.strip(), "the kind has no doc"
    module = inspect.getmodule(kind.predict)
    assert module is not None, "predict must be a function of a module"
    assert (module.__doc__ or "").strip(), f"{module.__name__} has no docstring"
    for function in (kind.predict, kind.indicators):
        assert (function.__doc__ or "").strip(), f"{getattr(function, '__name__', function)} has no docstring"
    for what, record in records(kind).items():
        for name, field in record.layout.fields.items():
            assert field.unit, f"{what}.{name} has no unit"
    for field_name, field in kind.state.layout.fields.items():
        assert np.isfinite(np.asarray(field.default)).all(), f"state {field_name} needs a finite default"
        if field.role is Role.STATE:
            assert field.unsure_sd > 0, f"state {field_name} needs an unsure_sd"
    for shown in kind.shows:
        assert shown.doc.strip(), f"indicator {shown.name} has no doc"


def _call_all(kind: Kind, tail: tuple[int, ...], blocks: dict[str, Column], dt_s: float = 30.0) -> dict[str, Column]:
    """Every function of the kind on lifted blocks of shape (rows, *tail); its outputs as arrays."""
    state, attributes = kind.state.of_block(blocks["state"]), kind.attributes.of_block(blocks["attributes"])
    command, couplings = kind.command.of_block(blocks["command"]), kind.couplings.of_block(blocks["couplings"])
    windows = kind.windows.of_block(blocks["windows"])
    n = tail[-1]
    step = Step(dt_s=_frozen(np.full(n, dt_s)), at_s=_frozen(np.full(n, START_S)))
    out: dict[str, Column] = {"predict": kind.predict(state, attributes, command, couplings, step).block(tail)}
    indicators = kind.indicators(state, attributes, command, windows)
    names = {shown.name for shown in kind.shows}
    assert set(indicators) == names, f"indicators returned {sorted(indicators)}, shows declares {sorted(names)}"
    for name, column in indicators.items():
        out[f"indicator {name}"] = np.broadcast_to(column, tail)
    if kind.observe is not None:
        for name, column in kind.observe(state, attributes, command).items():
            out[f"observe {name}"] = np.broadcast_to(column, kind.reading.layout.fields[name].shape + tail)
    if kind.control is not None:
        out["control"] = kind.control(state, attributes, command, indicators).block(tail)
    if kind.needs is not None:
        for name, need in kind.needs(state, attributes, indicators).items():
            out[f"need {name}"] = np.broadcast_to(need.amount, tail)
    return out


def _blocks(kind: Kind, n: int, chance: np.random.Generator) -> dict[str, Column]:
    return {
        "state": _frozen(plausible_state(kind, n, chance)),
        "attributes": _frozen(plausible_attributes(kind, n, chance)),
        "command": _frozen(np.repeat(kind.command.layout.per_row("default"), n, axis=1)),
        "couplings": _frozen(np.repeat(kind.couplings.layout.per_row("default"), n, axis=1)),
        "windows": _frozen(np.full((kind.windows.layout.rows, n), np.nan)),
    }


def _lifts(kind: Kind, chance: np.random.Generator) -> None:
    """n = 1, 7, and samples before entities: 3, and as many as each component axis is long."""
    axes = {len(axis) for record in records(kind).values() for f in record.layout.fields.values() for axis in f.axes}
    for n in (1, 7):
        blocks = _blocks(kind, n, chance)
        plain = _call_all(kind, (n,), blocks)
        for name, column in plain.items():
            assert np.isfinite(column).all(), f"{name} is not finite for n = {n}"
        for samples in {3, n, *axes}:
            lifted = {k: _frozen(np.repeat(v[:, None, :], samples, axis=1)) for k, v in blocks.items()}
            for name, column in _call_all(kind, (samples, n), lifted).items():
                want = np.broadcast_to(np.expand_dims(plain[name], -2), column.shape)
                np.testing.assert_allclose(column, want, rtol=1e-12, atol=1e-12, err_msg=f"{name}, {samples} samples")


def _says_the_same_twice(kind: Kind, chance: np.random.Generator) -> None:
    """The functions are pure: the same inputs give the same outputs, with no chance of their own."""
    blocks = _blocks(kind, 7, chance)
    once, again = (_call_all(kind, (7,), blocks) for _ in range(2))
    for name, column in once.items():
        np.testing.assert_array_equal(column, again[name], err_msg=f"{name} differs between two calls")


def _columns_stay_apart(kind: Kind, chance: np.random.Generator) -> None:
    """What one entity's columns say changes nothing for the others, in any function."""
    n = 7
    plain = _blocks(kind, n, chance)
    changed = {name: block.copy() for name, block in plain.items()}
    changed["state"][:, 3] = kind.state.layout.per_row("default")[:, 0]
    changed["attributes"][:, 3] = plausible_attributes(kind, n, np.random.default_rng(99))[:, 3]
    others = np.arange(n) != 3
    mine, theirs = _call_all(kind, (n,), plain), _call_all(kind, (n,), changed)
    for name, column in mine.items():
        np.testing.assert_array_equal(column[..., others], theirs[name][..., others], err_msg=f"{name} leaks")


def _keeps_neighbours_apart(kind: Kind, chance: np.random.Generator) -> None:
    """Wild values of one twin change nothing for the others."""
    n = 7
    batch = plausible_batch(kind, n, 60, chance)
    attributes = plausible_attributes(kind, n, chance)
    calm, wild = (TwinTable(kind, [f"{kind.name}/{i}" for i in range(n)], attributes) for _ in range(2))
    values = batch.values.copy()
    mine = batch.rows == 3
    values[:, mine] = chance.choice([1e300, -1e300, np.nan, 0.0], size=(len(values), int(mine.sum())))
    calm.apply(batch)
    wild.apply(
        Batch(
            rows=batch.rows,
            observed_at_s=batch.observed_at_s,
            values=values,
            channels=np.where(mine, Channel.READING, batch.channels).astype(np.uint8),
            keys=batch.keys,
        )
    )
    others = np.arange(n) != 3
    np.testing.assert_array_equal(calm.x[:, others], wild.x[:, others])
    assert np.isfinite(wild.x).all(), "a wild reading made a state that is not finite"


def _any_cut_gives_the_same_twins(kind: Kind, chance: np.random.Generator) -> None:
    n, b = 5, 120
    attributes = plausible_attributes(kind, n, chance)
    batch = plausible_batch(kind, n, b, chance)
    tables = []
    for cuts in ([], [b // 3, b // 2], list(range(1, b)), sorted(chance.integers(1, b, 10).tolist())):
        table = TwinTable(kind, [f"{kind.name}/{i}" for i in range(n)], attributes)
        for part in np.split(np.arange(b), cuts):
            table.apply(part_of(batch, part))
        tables.append(table)
    alone = TwinTable(kind, [f"{kind.name}/2"], attributes[:, 2:3])
    own = np.flatnonzero(batch.rows == 2)
    chosen = part_of(batch, own)
    alone.apply(
        Batch(
            rows=np.zeros(len(own), np.intp),
            observed_at_s=chosen.observed_at_s,
            values=chosen.values,
            channels=chosen.channels,
            keys=chosen.keys,
        )
    )
    np.testing.assert_allclose(alone.x[:, 0], tables[0].x[:, 2], rtol=1e-9, atol=1e-12)
    for other in tables[1:]:
        same_twins(tables[0], other)


def _one_long_step_agrees_with_many(kind: Kind, chance: np.random.Generator) -> None:
    n = 7
    x, attributes = plausible_state(kind, n, chance), plausible_attributes(kind, n, chance)
    at_s = np.full(n, START_S)

    def held() -> tuple[Held, Held]:
        return Held.defaults(kind.command.layout, n), Held.defaults(kind.couplings.layout, n)

    once, *_ = roll(kind, x, attributes, *held(), at_s, at_s + 3600)
    parts, (command, coupling) = x, held()
    for piece in range(60):
        parts, command, coupling = roll(
            kind, parts, attributes, command, coupling, at_s + 60 * piece, at_s + 60 * (piece + 1)
        )
    scale = np.maximum(np.nan_to_num(kind.state.layout.per_row("unsure_sd")), np.abs(once))
    off = np.abs(once - parts) / np.maximum(scale, 1e-9)
    row = int(off.max(axis=1).argmax())
    assert off.max() < 0.02, (
        f"one hour at once and in 60 pieces differ by {off.max():.1%} in {kind.state.layout.labels[row]}: "
        "lower max_step_s or integrate exactly"
    )


def _snapshots_round_trip(kind: Kind, chance: np.random.Generator) -> None:
    n = 4
    ids = [f"{kind.name}/{i}" for i in range(n)]
    attributes = plausible_attributes(kind, n, chance)
    batch = plausible_batch(kind, n, 80, chance)
    table, back = TwinTable(kind, ids, attributes), TwinTable(kind, ids, attributes)
    table.apply(part_of(batch, slice(0, 50)))
    back.restore(table.snapshot())
    for each in (table, back):
        each.apply(part_of(batch, slice(50, 80)))
    same_twins(table, back, relative=0.0)


def _forecasts_do_not_depend_on_packing(kind: Kind, chance: np.random.Generator) -> None:
    n = 4
    ids = [f"{kind.name}/{i}" for i in range(n)]
    attributes = plausible_attributes(kind, n, chance)
    packed, alone = TwinTable(kind, ids, attributes), TwinTable(kind, ids[2:3], attributes[:, 2:3])
    futures = [
        ensemble(table, np.array([row]), now_s=START_S, samples=5, steps=4, dt_s=60.0, seed=11)
        for table, row in ((packed, 2), (alone, 0), (packed, 2))
    ]
    assert np.isfinite(futures[0]).all(), "a forecast is not finite"
    np.testing.assert_allclose(futures[0], futures[1], rtol=1e-12)
    np.testing.assert_array_equal(futures[0], futures[2])


def _devices_drive(kind: Kind, chance: np.random.Generator) -> None:
    if kind.devices is None:
        return
    n = 7
    blocks = _blocks(kind, n, chance)
    step = Step(dt_s=np.full(n, 10.0), at_s=np.full(n, START_S))
    made: list[Any] = []
    for _ in range(2):
        drivers = kind.devices.drivers.defaults(n)
        driven = kind.devices.drive(
            kind.state.of_block(blocks["state"]),
            kind.attributes.of_block(blocks["attributes"]),
            kind.command.of_block(blocks["command"]),
            kind.couplings.of_block(blocks["couplings"]),
            drivers,
            step,
            np.random.default_rng(5),
        )
        assert isinstance(driven, Columns), "drive must return the State"
        made.append(driven.block((n,)))
    assert np.isfinite(made[0]).all(), "drive made a state that is not finite"
    np.testing.assert_array_equal(made[0], made[1], err_msg="drive draws from something else than its chance argument")


CHECKS: tuple[Callable[[Kind, np.random.Generator], None], ...] = (
    _documents_itself,
    _says_the_same_twice,
    _lifts,
    _columns_stay_apart,
    _keeps_neighbours_apart,
    _any_cut_gives_the_same_twins,
    _one_long_step_agrees_with_many,
    _snapshots_round_trip,
    _forecasts_do_not_depend_on_packing,
    _devices_drive,
)
