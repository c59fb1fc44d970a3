"""Sums over links: nothing is lost or made up, silence counts for nothing, delays are weighted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.coupling.arrivals import gather, goes_on, is_news
from twin_actors.core.view import Links

SOURCES, TARGETS = 6, 4
link = st.tuples(st.integers(0, SOURCES - 1), st.integers(0, TARGETS - 1), st.floats(0, 1), st.floats(0, 3600))


def links_of(each: list[tuple[int, int, float, float]]) -> Links:
    source, target, share, delay_s = zip(*each, strict=True)
    return Links(
        source=np.array(source, np.intp),
        target=np.array(target, np.intp),
        share=np.array(share),
        delay_s=np.array(delay_s),
    )


@given(
    st.lists(link, min_size=1, max_size=30),
    st.lists(st.floats(0, 1e4), min_size=SOURCES, max_size=SOURCES),
    st.lists(st.booleans(), min_size=SOURCES, max_size=SOURCES),
)
def test_what_arrives_is_what_heard_sources_send(
    each: list[tuple[int, int, float, float]], amounts: list[float], fresh: list[bool]
) -> None:
    links = links_of(each)
    sent = (links.share * np.array(amounts)[links.source])[np.newaxis]
    heard = np.array(fresh)[links.source]
    arrivals = gather(links, sent, heard, TARGETS)
    expected = sum(share * amounts[source] for source, _, share, _ in each if fresh[source])
    assert arrivals.amount.sum() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for target in range(TARGETS):
        into = [(s, share * amounts[s], d) for s, t, share, d in each if t == target and fresh[s]]
        assert bool(arrivals.heard[target]) == bool(into)
        if into:
            delays = [delay for _, _, delay in into]
            assert min(delays) - 1e-3 <= arrivals.after_s[target] <= max(delays) + 1e-3  # whole milliseconds
            most = max(amount for _, amount, _ in into)
            assert any(s == arrivals.leader[target] and amount >= most - 1e-6 for s, amount, _ in into)
        else:
            assert arrivals.amount[0, target] == 0
            assert arrivals.leader[target] == -1


def test_the_delay_is_that_of_the_way_most_of_it_comes() -> None:
    links = links_of([(0, 0, 1.0, 100.0), (1, 0, 1.0, 500.0)])
    arrivals = gather(links, np.array([[300.0, 100.0]]), np.array([True, True]), 1)
    assert arrivals.after_s == pytest.approx([200.0])
    assert arrivals.leader.tolist() == [0]
    nothing = gather(links, np.zeros((1, 2)), np.array([True, True]), 1)
    assert nothing.after_s == pytest.approx([300.0])


def test_news_is_a_noticeable_change_or_an_end() -> None:
    present = np.array([[0.0, 100.0, 100.0, 5.0, 0.0]])
    amount = np.array([[49.0, 149.0, 150.0, 0.0, 0.0]])
    news = is_news(amount, present, 50.0)
    assert news.tolist() == [False, False, True, True, False]
    assert goes_on(amount, present, news).tolist() == [False, True, False, False, False]
