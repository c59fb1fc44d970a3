"""Conditions over columns: exactly what pandas' own query says, and nothing that it would say otherwise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twin_actors.core.expressions import MOST_CHARACTERS, Condition, Unsupported

NUMBERS = (0.0, -0.0, 1.0, 2.0, -3.5, 20.0, 1e300, -1e300, math.inf, -math.inf, math.nan, 0.1)
WORDS = ("north", "south", "", "it's", "a&b", "x|y", "`z`", None)

COLUMNS = ("flow_pph", "queue_veh[nl]", "alert_full", "alert_hot", "district", "zone & more", "entity")


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(1, 8))

    def column(of: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(of, min_size=n, max_size=n))

    number, truth = st.sampled_from(NUMBERS), st.booleans()
    words = column(st.sampled_from(WORDS))
    words[draw(st.integers(0, n - 1))] = "north"  # a tag is there because some entity has it
    data = {
        "flow_pph": np.array(column(number)),
        "queue_veh[nl]": np.array(column(number)),
        "alert_full": np.array(column(truth), np.bool_),
        "alert_hot": np.array(column(truth), np.bool_),
        "district": words,
        "zone & more": ["north"] * n,
    }
    return pd.DataFrame(data, index=pd.Index([f"tank/{number}" for number in range(n)], name="entity"))


def plain(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column as a twin actor holds it."""
    if name == "entity":
        return np.array(list(frame.index), object)
    if name not in frame:
        raise KeyError(name)
    if name in ("district", "zone & more"):
        return np.array([None if word is None or word != word else word for word in frame[name]], object)
    return frame[name].to_numpy()


literals = st.sampled_from(("0", "1", "-3.5", "20", "1e300", "2", "0.1"))
number_names = st.sampled_from(("flow_pph", "`queue_veh[nl]`", "`flow_pph`"))
arithmetic = st.recursive(
    number_names,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), literals),
        st.builds("{} {} ({})".format, literals, st.sampled_from("+-*/"), inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from("+-*/"), inner),
        st.builds("(-{})".format, inner),
    ),
    max_leaves=4,
)
signs = st.sampled_from(("<", "<=", ">", ">=", "==", "!="))
word_names = st.sampled_from(("district", "`zone & more`", "entity"))
words = st.sampled_from(('"north"', "'south'", '"it\'s"', "'a&b'", "'x|y'", "'`z`'", "'tank/1'", "''"))
word_lists = st.lists(words, max_size=3).map(lambda each: f"[{', '.join(each)}]")
number_lists = st.lists(st.sampled_from(("0", "1", "20", "0.1")), max_size=3).map(lambda each: f"[{', '.join(each)}]")
conditions = st.one_of(
    st.builds("{} {} {}".format, arithmetic, signs, literals),
    st.builds("{} {} {}".format, literals, signs, arithmetic),
    st.builds("{} {} {}".format, arithmetic, signs, arithmetic),
    st.builds("{} {} {} {} {}".format, literals, signs, number_names, signs, literals),
    st.builds("{} {} {}".format, word_names, st.sampled_from(("==", "!=")), words),
    st.builds("{} {} {}".format, word_names, st.sampled_from(("in", "not in")), word_lists),
    st.builds("{} {} {}".format, number_names, st.sampled_from(("in", "not in")), number_lists),
    st.builds("{}.between({}, {})".format, number_names, literals, literals),
    st.builds("{}.{}()".format, number_names, st.sampled_from(("isna", "notna"))),
    st.sampled_from(("alert_full", "alert_hot", "`alert_hot`")),
)
expressions = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds("({}) {} ({})".format, inner, st.sampled_from(("and", "or", "&", "|")), inner),
        st.builds("{} {} {}".format, inner, st.sampled_from(("and", "or", "&", "|")), inner),
        st.builds("{} ({})".format, st.sampled_from(("not", "~")), inner),
    ),
    max_leaves=5,
)


@settings(max_examples=400, deadline=None)
@given(tables(), expressions)
@example(pd.DataFrame({"flow_pph": [21.0, 3.0], "district": ["north", None]}), "flow_pph > 20 & district == 'north'")
def test_the_same_rows_as_pandas(frame: pd.DataFrame, expression: str) -> None:
    holds = Condition.of(expression).holds(lambda name: plain(frame, name))
    expected = frame.query(expression, engine="python")
    assert frame.index[holds].tolist() == expected.index.tolist()


@settings(max_examples=300, deadline=None)
@given(tables(), st.text(alphabet="flow_ph`[]'\" &|~!<>=().,+-*/0123456789andorti\n@:{}", max_size=40))
def test_any_text_is_answered_as_pandas_would_or_not_at_all(frame: pd.DataFrame, text: str) -> None:
    try:
        holds = Condition.of(text).holds(lambda name: plain(frame, name))
    except Unsupported:
        return
    assert frame.index[holds].tolist() == frame.query(text, engine="python").index.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flow_pph",
        "1 < 2",
        "True",
        "nothing_such > 2",
        "flow_pph > 'a'",
        "district > 'a'",
        "district == flow_pph",
        "flow_pph ** 2 > 4",
        "flow_pph // 0 > 4",
        "alert_full + alert_hot",
        "flow_pph > @limit",
        "flow_pph.abs() > 2",
        "district.str.contains('n')",
        "flow_pph.between(1, 2, inclusive='left')",
        "flow_pph = 2",
        "flow_pph > 9007199254740993",
        "`flow_pph > 2",
        "(lambda: True)()",
        "__import__('os').system('true')",
        "[x for x in (1, 2)]",
        "flow_pph.__class__",
        "flow_pph if alert_full else alert_hot",
        "not " * 60 + "alert_full",
        "~" * 400 + "alert_full",
        " " * MOST_CHARACTERS + "flow_pph > 1",
        "flow_pph > 1; alert_full",
        "(y := alert_full)",
    ],
)
def test_what_is_not_certainly_the_same_is_left_to_pandas(text: str) -> None:
    frame = pd.DataFrame({"flow_pph": [1.0], "alert_full": [True], "alert_hot": [False], "district": ["n"]})
    with pytest.raises(Unsupported):
        Condition.of(text).holds(lambda name: plain(frame, name))


def test_it_says_which_columns_it_reads() -> None:
    condition = Condition.of("`queue_veh[nl]` > 2 and district in ['`', \"&\"]")
    assert set(condition.columns.values()) == {"queue_veh[nl]", "district"}
