"""QoS 1 deliveries that this client has not acknowledged yet, in the order of arrival on one connection."""

from __future__ import annotations

from collections import deque


class Deliveries:
    """By the number of the message; its owner holds a lock around every call."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._held: set[int] = set()

    def __contains__(self, mid: int) -> bool:
        return mid in self._held

    def add(self, mid: int) -> None:
        self._order.append(mid)
        self._held.add(mid)

    def take_until(self, mid: int) -> list[int]:
        """Forget deliveries up to and including ``mid``, to be acknowledged in this order."""
        taken = []
        while self._order:
            oldest = self._order.popleft()
            self._held.discard(oldest)
            taken.append(oldest)
            if oldest == mid:
                break
        return taken

    def clear(self) -> None:
        """The connection is another now: the broker delivers them again."""
        self._order.clear()
        self._held.clear()
