"""The router's dead letters: made from refusals, kept in the store, told once; a store that is away loses none."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Final

from twin_actors.runtime import notes
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.packing import Delivery
from twin_actors.store import DeadLetter, Entry, LetterState, Store, StoreUnavailable
from twin_actors.wire.reasons import Reason

log = logging.getLogger(__name__)

MOST_WAITING: Final = 10_000
MOST_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Letters and bytes of them that may wait for a store that does not take them; then the router leaves the broker."""


class Letters:
    """Letters wait here until the store has them. Each is known by its place in the log, so none is kept twice.

    A letter that is taken in again counts as replayed when the log has its reading, not before: ``begin`` and
    ``committed`` tell of the group that is being written.
    """

    def __init__(self, store: Store, share: str) -> None:
        self._store, self._share = store, share
        self._waiting: list[DeadLetter] = []
        self._waiting_bytes = 0
        self._untold: list[DeadLetter] = []
        self._mended: dict[int, Future[None]] = {}  # taken in again, to be logged
        self._committing: dict[int, Future[None]] = {}  # in the group that is being written
        self._logged: dict[int, Future[None]] = {}  # durable, to be marked
        self.reasons: dict[str, int] = {}
        self.last_topic: dict[str, str] = {}  # where the last letter of each reason came from
        self.trouble = ""

    @property
    def waiting(self) -> int:
        """Letters that the store does not have yet; the log has their readings."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """As much waits for the store as may."""
        return len(self._waiting) >= MOST_WAITING or self._waiting_bytes >= MOST_WAITING_BYTES

    def of_refusal(self, offset: int, entry: Entry) -> None:
        """A payload that the router itself refused."""
        said = notes.decode(entry.channel, entry.payload)
        assert isinstance(said, notes.Refusal)
        self._add(said.topic, said.reason, said.detail, said.payload, entry.received_at_s, offset, 0)

    def of_twin(self, topic: str, refused: Refused, delivery: Delivery) -> None:
        """A reading that its twin refused."""
        detail = Reason(refused.reason).explain(refused.detail)
        self._add(
            topic, refused.reason, detail, delivery.payload, delivery.received_at_s, refused.offset, refused.element
        )

    def of_harm(self, topic: str, offset: int, harmful: Delivery | Entry, detail: str) -> None:
        """An input that its twin actor did not survive."""
        detail = Reason.HARMFUL.explain(detail)
        self._add(topic, Reason.HARMFUL, detail, harmful.payload, harmful.received_at_s, offset, 0)

    def _add(
        self, topic: str, reason: str, detail: str, payload: bytes, received_at_s: float, offset: int, element: int
    ) -> None:
        letter = DeadLetter(
            topic=topic,
            reason=str(reason),
            detail=detail,
            payload=payload,
            received_at_s=received_at_s,
            share=self._share,
            offset=offset,
            element=element,
        )
        self._waiting.append(letter)
        self._waiting_bytes += len(payload)
        self._untold.append(letter)
        self.reasons[letter.reason] = self.reasons.get(letter.reason, 0) + 1
        self.last_topic[letter.reason] = topic

    def save(self) -> list[DeadLetter]:
        """Give the store what it does not have; returns the letters that listeners have not been told of."""
        try:
            if self._waiting:
                self._store.add_dead_letters(self._waiting)
                self._waiting, self._waiting_bytes = [], 0
            self._mark()
        except StoreUnavailable as error:
            if not self.trouble:
                log.error("the store does not take dead letters: %s", error)
            self.trouble = str(error)
        else:
            self.trouble = ""
        untold, self._untold = self._untold, []
        return untold

    def newest(self, last: int, state: LetterState | None = None, reason: str = "") -> list[DeadLetter]:
        waiting = [
            letter for letter in self._waiting if reason in ("", letter.reason) and state in (None, letter.state)
        ]
        return (self._store.dead_letters(last, state=state, reason=reason) + waiting)[-last:] if last > 0 else []

    def one(self, number: int) -> DeadLetter:
        """Raises KeyError."""
        return self._store.dead_letter(number)

    def settle(self, number: int, state: LetterState) -> None:
        """Raises KeyError."""
        self._store.settle_dead_letter(number, state)

    # -- taken in again ----------------------------------------------------------------------------------------

    def mend(self, number: int) -> Future[None]:
        """Note that a letter has been taken in again; the future is done when it is logged and marked."""
        self._mended[number] = marked = Future()
        return marked

    def is_mended(self, number: int) -> bool:
        return any(number in some for some in (self._mended, self._committing, self._logged))

    def begin(self) -> None:
        """A group is being written: what has been mended so far is in it."""
        self._committing, self._mended = self._mended, {}

    def committed(self) -> None:
        """The group is durable; the next ``save`` marks them."""
        self._logged |= self._committing
        self._committing = {}

    def _mark(self) -> None:
        for number, marked in list(self._logged.items()):
            self.settle(number, LetterState.REPLAYED)
            del self._logged[number]
            marked.set_result(None)
