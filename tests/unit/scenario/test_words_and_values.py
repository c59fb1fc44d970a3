"""The small parts of a scenario: durations, names, vector values, YAML text, neighbours."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from twin_actors.core.columns import Attributes, Axis, Column, attribute
from twin_actors.core.layout import Layout
from twin_actors.scenario.errors import Problem, ScenarioError, key_text, nearest
from twin_actors.scenario.neighbours import nearest_places
from twin_actors.scenario.values import ValueFault, by_row, check_row, component_numbers
from twin_actors.scenario.words import LONGEST_NAME, duration_s, instant_s, name_fault
from twin_actors.scenario.yaml_text import read_yaml

PHASE = Axis("phase", ("go", "turn"))
MOVEMENT = Axis("movement", ("north", "east", "south"))


class Crossing(Attributes):
    serves: Column = attribute("1", PHASE, MOVEMENT, minimum=0, maximum=1)
    area_m2: Column = attribute("m2", minimum=0)


SERVES = Crossing.layout.fields["serves"]
AREA = Crossing.layout.fields["area_m2"]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, 90.0), ("90s", 90.0), ("5min", 300.0), ("2h", 7200.0), ("1d", 86_400.0), ("1.5 h", 5400.0), ("250ms", 0.25)],
)
def test_durations(written: object, seconds: float) -> None:
    assert duration_s(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", [True, None, "soon", "5 parsecs", -1, math.nan, math.inf, [], "-5s"])
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(PydanticCustomError):
        duration_s(written)


def test_instants_without_offset_are_utc() -> None:
    assert instant_s("1970-01-02T00:00:00") == 86_400.0
    assert instant_s("1970-01-02T01:00:00+01:00") == 86_400.0


@pytest.mark.parametrize("name", ["5th-main", "Große Bleichen".replace(" ", "_"), "a.b", "x" * LONGEST_NAME])
def test_good_names(name: str) -> None:
    assert name_fault(name) == ""


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a+", "#", "$SYS", "a\tb", "a*", "[a]", "x" * (LONGEST_NAME + 1)])
def test_bad_names(name: str) -> None:
    assert name_fault(name)


def test_vector_values_in_all_shapes() -> None:
    rows = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    assert component_numbers(SERVES, rows) == rows
    assert component_numbers(SERVES, [rows[:3], rows[3:]]) == rows
    assert component_numbers(SERVES, {"go": rows[:3], "turn": {"north": 0, "east": 1, "south": 1}}) == rows
    assert component_numbers(SERVES, 0.5) == [0.5] * 6
    assert component_numbers(SERVES, {"turn": 1}) == [None] * 3 + [1.0] * 3
    assert component_numbers(AREA, 7) == [7.0]


@pytest.mark.parametrize(
    "value", [[1, 2], {"go": [1, 2]}, {"stop": 1}, "x", True, None, math.nan, -1, 2, {"go": {"up": 1}}]
)
def test_vector_values_that_do_not_fit(value: object) -> None:
    with pytest.raises(ValueFault):
        component_numbers(SERVES, value)


@pytest.mark.parametrize("value", [[1.0], {"a": 1}])
def test_a_scalar_is_one_number(value: object) -> None:
    with pytest.raises(ValueFault, match="must be one number"):
        component_numbers(AREA, value)


def test_rows_are_called_as_the_core_calls_them() -> None:
    rows = by_row("serves", SERVES, component_numbers(SERVES, {"turn": {"east": 1}}))
    assert rows == {"serves[turn,east]": 1.0}
    assert set(rows) <= set(Layout.of({"serves": SERVES}).labels)
    assert check_row(Crossing.layout, "serves[turn, east]") == "serves[turn,east]"
    for wrong in ("serve", "serves", "serves[up,east]", "area_m2[x]"):
        with pytest.raises(ValueFault):
            check_row(Crossing.layout, wrong)


def test_problems_read_as_file_line_key_message_hint() -> None:
    problem = Problem(
        file="a.yaml", line=3, key=key_text(("entities", 3, "kind")), message="unknown", suggestion="venue"
    )
    assert str(problem) == "a.yaml:3: entities[3].kind: unknown (did you mean 'venue'?)"
    assert nearest("Venu", ["venue", "air_station"]) == "venue"
    assert nearest("zzz", ["venue", "air_station"]) == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [*x]\n", "nested more than"),
        ("? [a, b]\n: 1\n", "a key must be a word"),
        ("a: {<<: 5}\n", "'<<' takes an alias"),
        ("a: !!python/object/apply:os.system [ls]\n", "unknown tag"),
        ("a: {b: !replace [1]}\n", "unknown tag"),
        ("a: *nobody\n", "undefined alias"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=says):
        read_yaml(path, "a.yaml")


def test_bytes_that_are_no_text_and_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"city: \xff\xfe")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        read_yaml(path, "a.yaml")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read_yaml(tmp_path, "folder")


places = st.tuples(st.floats(53.4, 53.6), st.floats(9.8, 10.1))


@given(st.lists(places, min_size=2, max_size=60), st.integers(1, 5))
def test_nearest_places_are_those_of_comparing_all(points: list[tuple[float, float]], k: int) -> None:
    lat, lon = np.array(points).T
    k = min(k, len(points))
    found = nearest_places(lat, lon, lat, lon, range(len(points)), k)
    radians = np.radians(np.array(points))
    for i, chosen in enumerate(found):
        assert i not in chosen
        assert len(set(chosen.tolist())) == min(k, len(points) - 1)
        # The haversine formula, as an independent measure of distance.
        half = (radians - radians[i]) / 2
        a = np.sin(half[:, 0]) ** 2 + np.cos(radians[i, 0]) * np.cos(radians[:, 0]) * np.sin(half[:, 1]) ** 2
        away = 2 * np.arcsin(np.sqrt(a))
        others = np.delete(away, i)
        np.testing.assert_allclose(np.sort(away[chosen]), np.sort(others)[: len(chosen)], atol=2e-8)
