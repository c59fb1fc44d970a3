"""The exchange with the aggregator: its effects go to devices, twins and listeners, the devices' answers to it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from twin_actors.core.inputs import Channel
from twin_actors.core.view import Value
from twin_actors.runtime.desk import Answer, CommandDesk, Outgoing
from twin_actors.runtime.inbox import Inbox
from twin_actors.runtime.notes import Told, listed
from twin_actors.runtime.orders import Orders
from twin_actors.runtime.routing import Routing
from twin_actors.store import StaleEpoch
from twin_actors.wire.topics import Topics

log = logging.getLogger(__name__)


class Exchange(NamedTuple):
    """What the router gives back when the aggregator hands over its effects."""

    answers: list[Answer]
    unsent: list[str]
    latest_s: float


class Publish(Protocol):
    def __call__(self, topic: str, payload: bytes, *, retain: bool = False) -> bool: ...


class Dispatch:
    """Commands and couplings go through the log first; news and states are published at once, or not at all."""

    def __init__(
        self, routing: Routing, desk: CommandDesk, inbox: Inbox, orders: Orders, topics: Topics, publish: Publish
    ) -> None:
        self._routing, self._desk, self._inbox, self._orders = routing, desk, inbox, orders
        self._topics, self._publish = topics, publish
        self._city_topics = {"decision": topics.decision, "alert": topics.alert}
        self._epoch = 0  # the highest of an aggregator that has been here
        self.astray = 0
        """Couplings to entities that are not in the city."""

    def accept(self, epoch: int) -> None:
        """Raises StaleEpoch where an aggregator of a higher epoch has been here; 0 is that of none."""
        if epoch and epoch < self._epoch:
            raise StaleEpoch(f"aggregator: epoch {epoch} is refused, epoch {self._epoch} has taken over")
        self._epoch = max(epoch, self._epoch)

    def exchange(
        self,
        commands: Sequence[Outgoing],
        couplings: Sequence[tuple[str, float, Mapping[str, Value]]],
        news: Sequence[tuple[str, bytes]],
        states: Sequence[tuple[str, bytes]],
        answered: int,
    ) -> Exchange:
        """Send effects on their way; the answers after number ``answered``. See ``Router.exchange``."""
        now_s = self._inbox.city_now_s()
        unsent = [command.id for command in commands if not self._orders.take(command)]
        for entity, at_s, values in couplings:
            if entity in self._inbox.number:
                told = Told(at_s=at_s, values=listed(values))
                self._routing.tell(self._inbox.number[entity], Channel.COUPLING, told, now_s)
            else:
                self.astray += 1
                log.warning("a policy couples to %r, which is not in the city", entity)
        for channel, payload in news:
            self._publish(self._city_topics[channel], payload)
        for entity, payload in states:
            self._publish(self._topics.state(entity), payload, retain=True)
        self._desk.expire(now_s)
        return Exchange(self._desk.answers_after(answered), unsent, self._inbox.latest_s())
