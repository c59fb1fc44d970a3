"""Hypothesis strategies of what devices may send: good, broken, late, repeated, ahead of the clock, any bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.unit.runtime.cities import T0, tells
from twin_actors.core.inputs import Channel

PLACES = 5
"""Twins of the town in ``cities``: three counters, the substation, the venue."""

RECEIVED_S = T0 + 600.0
"""When everything is received: times up to five seconds later are accepted."""

_FIELDS = ("flow_pph", "load_mw", "oil_temp_c", "in_persons", "out_persons", "nonsense")
_NUMBERS = st.sampled_from([0, 1, 17.5, 300, 900.25, -1, -60, 1e5, 1e12, None, "7", True, [1, 2], {}])
_TIMES = st.one_of(
    st.integers(0, 650).map(lambda second: (T0 + second) * 1000),
    st.sampled_from([None, T0, "2026-05-28T20:30:00Z", "yesterday", -1, T0 * 1000 + 1e9, 1e300]),
)


@st.composite
def readings(draw: st.DrawFn) -> dict[str, Any]:
    """One object, most often a good reading of somebody."""
    values = draw(st.dictionaries(st.sampled_from(_FIELDS), _NUMBERS, max_size=3))
    said: dict[str, Any] = {"values": values} if draw(st.booleans()) else dict(values)
    if draw(st.booleans()):
        said["ts"] = draw(_TIMES)
    if draw(st.booleans()):
        said["seq"] = draw(st.one_of(st.integers(0, 9), st.sampled_from([-1, 2**63, "1"])))
    if draw(st.integers(0, 3)) == 0:
        said["boot"] = draw(st.sampled_from(["a", "b", 3, None]))
    return said


def good_readings() -> st.SearchStrategy[dict[str, Any]]:
    """Readings of which many can be applied, with repeats and late ones among them."""
    fields = ("flow_pph", "load_mw", "oil_temp_c", "in_persons", "out_persons")
    return st.builds(
        lambda second, number: {
            "ts": (T0 + second) * 1000,
            "values": dict(zip(fields, (500.0 + number, 20.0 + number / 10, 45.0, number, number // 2), strict=True)),
        },
        st.integers(0, 600),
        st.integers(0, 40),
    )


_SENML = st.lists(
    st.fixed_dictionaries(
        {"n": st.sampled_from(["flow_pph", "load_mw", "x:in_persons", "nobody"])},
        optional={"v": _NUMBERS, "t": st.sampled_from([0, -5, T0, T0 + 3]), "u": st.sampled_from(["1/min", "MW", "?"])},
    ),
    min_size=1,
    max_size=3,
)


def payloads() -> st.SearchStrategy[bytes]:
    """Payloads of any number of readings, from any device."""
    as_json = st.one_of(
        good_readings(),
        readings(),
        st.lists(st.one_of(good_readings(), readings()), max_size=4),
        st.lists(st.one_of(readings(), st.integers(), st.none(), st.text(max_size=3)), max_size=4),
        _SENML,
        st.sampled_from([[], {}, [[]], [{}, []], 5, None, "text"]),
    ).map(lambda said: json.dumps(said).encode())
    broken = st.one_of(as_json.map(lambda encoded: encoded[:-1]), st.binary(max_size=12))
    return st.one_of(as_json, as_json, as_json, broken)


def gateway_payloads() -> st.SearchStrategy[bytes]:
    """Messages of gateways for the twins of the town, in every form, with strangers and nonsense among the elements."""
    entity = st.sampled_from([*(f"footfall/gate-{n}" for n in (1, 2, 3)), "footfall/gate-1", "substation/quay",
                              "venue/arena", "footfall/nobody", "reactor/x", "", 7])  # fmt: skip
    good = st.builds(lambda of, said: {"entity": of, **said}, entity, good_readings())
    poor = st.builds(lambda of, said: {"entity": of, **said}, entity, readings())
    nonsense = st.sampled_from([[], {}, 5, None, "text", {"entities": 5}])
    usual = st.lists(good, min_size=1, max_size=12)
    elements = st.one_of(usual, usual, st.lists(st.one_of(good, good, poor, nonsense), max_size=8), good, poor)
    return st.one_of(
        elements.map(json.dumps),
        usual.map(columnar).map(json.dumps),
        usual.map(columnar).map(json.dumps),
        st.tuples(st.lists(good, min_size=1, max_size=5), st.lists(poor, min_size=1, max_size=3)).map(
            lambda both: json.dumps([columnar(both[0]), *both[1]])
        ),
        st.lists(poor, min_size=1, max_size=5).map(columnar).map(json.dumps),
        usual.map(columnar).map(json.dumps).map(lambda text: text[:-3]),
    ).map(str.encode)


def columnar(elements: list[dict[str, Any]]) -> dict[str, Any]:
    """The elements of a gateway's message as columns."""
    envelope = ("entity", "ts", "seq", "boot", "values")
    said = [each.get("values", {k: v for k, v in each.items() if k not in envelope}) for each in elements]
    columns: dict[str, Any] = {"entities": [each.get("entity") for each in elements]}
    for name in ("ts", "seq", "boot"):
        if any(name in each for each in elements):
            columns[name] = [each.get(name) for each in elements]
    names = dict.fromkeys(name for values in said for name in values)
    columns["values"] = {name: [values.get(name) for values in said] for name in names}
    return columns


def told() -> st.SearchStrategy[tuple[Channel, int, bytes]]:
    """(channel, place, payload) of commands and couplings, for the substation and the venue."""
    second = st.integers(0, 600)
    return st.one_of(
        st.builds(lambda s, v: (Channel.COMMAND, 4, tells(T0 + s, gates_open=v)), second, st.floats(0, 1)),
        st.builds(lambda s, v: (Channel.DESIRED, 4, tells(T0 + s, gates_open=v)), second, st.floats(0, 1)),
        st.builds(lambda s, v: (Channel.COUPLING, 4, tells(T0 + s, arrivals_pmin=v)), second, st.floats(0, 90)),
        st.builds(lambda s, v: (Channel.COUPLING, 3, tells(T0 + s, transfer_mw=v)), second, st.floats(-5, 5)),
    )


def inputs() -> st.SearchStrategy[tuple[Channel, int, bytes]]:
    """(channel, place, payload) of anything that may stand in a log."""
    reading = st.tuples(st.just(Channel.READING), st.integers(0, PLACES - 1), payloads())
    return st.one_of(reading, reading, reading, told())
