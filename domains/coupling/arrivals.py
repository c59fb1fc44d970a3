"""What the sources of a relation send to its targets: sums over links, what is news, what must be renewed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.core.view import CoupleTo, KindView, Links

RENEWALS = 3.0
"""A coupling that goes on is said again this many times within the time that its target holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Sums over the links into each of ``t`` targets, of the sources that are heard.

    ``amount (parts, t)``; ``heard (t,)``: at least one source of this target is heard; ``after_s (t,)``: mean
    delay, weighted by what comes each way; ``leader (t,)``: the source that sends most (−1: none is heard).
    """

    amount: Column
    heard: NDArray[np.bool_]
    after_s: Column
    leader: NDArray[np.intp]


def gather(links: Links, sent: Column, heard: NDArray[np.bool_], targets: int) -> Arrivals:
    """Add up what ``k`` links carry: ``sent (parts, k)`` already includes each link's share.

    ``heard (k,)`` says whether the link's source is heard of lately; the others count for nothing. Totals are
    conserved: ``amount`` summed over targets is ``sent`` summed over the heard links.
    """
    sent = np.where(heard, sent, 0.0)
    amount = np.stack([np.bincount(links.target, part, minlength=targets).astype(np.float64) for part in sent])
    # A link that carries nothing just now still has a delay: it weighs next to nothing, not nothing.
    weight = np.where(heard, sent.sum(axis=0) + 1e-9, 0.0)
    total = np.bincount(links.target, weights=weight, minlength=targets)
    delay = np.bincount(links.target, weights=weight * links.delay_s, minlength=targets)
    leader = np.full(targets, -1, dtype=np.intp)
    ascending = np.argsort(weight, kind="stable")
    ascending = ascending[heard[ascending]]
    leader[links.target[ascending]] = links.source[ascending]  # the last to be written is the greatest
    mean_s = np.divide(delay, total, out=np.zeros(targets), where=total > 0)
    return Arrivals(
        amount=amount,
        heard=leader >= 0,
        after_s=np.asarray(np.round(mean_s, 3), dtype=np.float64),
        leader=leader,
    )


def is_news(amount: Column, present: Column, noticeable: float) -> NDArray[np.bool_]:
    """Where ``amount (parts, t)`` differs noticeably from what is in force, or has ended altogether: ``(t,)``."""
    changed = np.abs(amount - present).max(axis=0) >= noticeable
    ended = (amount == 0).all(axis=0) & (present != 0).any(axis=0)
    return np.asarray(changed | ended)


def goes_on(amount: Column, present: Column, news: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where something in force is still right and must be said again before the target lets it lapse: ``(t,)``."""
    return np.asarray(~news & (amount > 0).any(axis=0) & (present > 0).any(axis=0))


def in_force(target: KindView, fields: tuple[str, ...]) -> Column:
    """Scalar couplings of a view as rows ``(parts, t)``."""
    return np.stack([np.asarray(getattr(target.couplings, field), dtype=np.float64) for field in fields])


def renewal_s(target: KindView, field: str) -> float:
    """How often a coupling that goes on must be said again, so that it does not lapse at the target."""
    return target.kind.couplings.layout.fields[field].hold_s / RENEWALS


def couplings_to(
    target: KindView, rows: Iterable[int], fields: tuple[str, ...], arrivals: Arrivals
) -> tuple[CoupleTo, ...]:
    """One effect per target row; part ``i`` of the arrivals is the value of the scalar field ``fields[i]``."""
    return tuple(
        CoupleTo(
            entity=target.ids[row],
            values={field: float(arrivals.amount[part, row]) for part, field in enumerate(fields)},
            after_s=float(arrivals.after_s[row]),
        )
        for row in rows
    )


def causes(
    ids: Sequence[str], links: Links, rows: NDArray[np.intp], sent: Column, heard: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Ids of the heard sources that send something to the target ``rows``; of all heard ones if nobody does."""
    into = heard & np.isin(links.target, rows)
    sending = into & (sent > 0).any(axis=0)
    chosen = links.source[sending if sending.any() else into]
    return tuple(ids[place] for place in dict.fromkeys(chosen.tolist()))
