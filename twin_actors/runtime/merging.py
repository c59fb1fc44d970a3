"""Several routers answered for as one: their status, and their dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twin_actors.store import DeadLetter


def merged_status(statuses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What routers say of themselves, as if one said it: counts added, all connected or not, any trouble shown.

    The highest epoch and the earliest first reading stand for all.
    """
    if len(statuses) == 1:
        return dict(statuses[0])
    merged: dict[str, Any] = {}
    for status in statuses:
        for key, value in status.items():
            merged[key] = _merged(key, merged[key], value) if key in merged else value
    return merged


def _merged(key: str, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if key == "epoch":
        return max(one, other)
    if key == "first_reading_s":
        return min(one, other)
    if isinstance(one, bool):
        return one and other
    if isinstance(one, str):
        return one or other
    if isinstance(one, Mapping):
        numbers = all(isinstance(value, int) for value in (*one.values(), *other.values()))
        return {**one, **{k: one[k] + v if numbers and k in one else v for k, v in other.items()}}
    return one + other


def merged_letters(answers: Sequence[Sequence[DeadLetter]], last: int) -> list[DeadLetter]:
    """The newest letters of all routers, oldest first. All read the same store; each adds what that does not have."""
    kept = {letter.id: letter for answer in answers for letter in answer if letter.id}
    waiting = [letter for answer in answers for letter in answer if not letter.id]
    waiting.sort(key=lambda letter: letter.received_at_s)
    return [*(kept[number] for number in sorted(kept)), *waiting][-last:] if last > 0 else []
