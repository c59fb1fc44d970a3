"""Whose turn it is when the time is short: who was left out of one tick comes first in the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


class Turns:
    """Jobs in their declared order as long as there is time for all of them; otherwise round and round."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._first = 0
        self.waiting: Mapping[str, int] = {}
        """Those left out of the last round, with the number of rounds in a row that they have been."""

    def go_round(self, do: Callable[[str], None], may_start: Callable[[], bool]) -> None:
        """Do every job once while ``may_start`` says so; the first one is always done, so that all get their turn.

        A job that raises ends the round; the next one begins behind it.
        """
        count = len(self._names)
        order = [(self._first + step) % count for step in range(count)]
        done = 0
        try:
            for place in order:
                if done and not may_start():
                    break
                done += 1
                do(self._names[place])
        finally:
            left = [self._names[place] for place in order[done:]]
            self.waiting = {name: self.waiting.get(name, 0) + 1 for name in left}
            self._first = order[done] if left else 0
