"""Everything that reaches the router over MQTT: whose it is, what it says, and the words for what nobody can take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from twin_actors.core.inputs import Channel
from twin_actors.runtime import notes
from twin_actors.runtime.clock import Clock
from twin_actors.runtime.desk import CommandDesk, Verdict
from twin_actors.runtime.fleets import FleetTopics
from twin_actors.runtime.hearing import Hearing
from twin_actors.runtime.notes import Note, Told, listed
from twin_actors.runtime.packing import Delivery
from twin_actors.runtime.routing import Routing
from twin_actors.runtime.share import Share
from twin_actors.scenario.model import Scenario
from twin_actors.wire import messages
from twin_actors.wire.gateway import GatewayDecoder
from twin_actors.wire.reasons import Reason
from twin_actors.wire.topics import ACKNOWLEDGEMENT, COMMAND, STATE, Topics

log = logging.getLogger(__name__)

HEARS_ALL = Hearing(())
BROKER_DROPPED = "$SYS/broker/publish/messages/dropped"


class Inbox:
    """Gives readings to the routing, answers of devices to the desk, and the rest to the dead letters."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        routing: Routing,
        desk: CommandDesk,
        hearing: Hearing = HEARS_ALL,
        gateways: Callable[[], GatewayDecoder] | None = None,
    ) -> None:
        """``gateways`` makes the decoder of what gateways send, when the first of them speaks."""
        self._scenario, self._clock, self._routing, self._desk = scenario, clock, routing, desk
        self._hearing, self._make_decoder = hearing, gateways
        self._of_gateways: GatewayDecoder | None = None
        self._topics = topics = Topics(scenario.root)
        self._own_topics = {topics.decision, topics.alert, topics.dead_letter, topics.status}  # what the city says
        self._kinds = {entity.kind for entity in scenario.entities}
        self.number = {entity: number for number, entity in enumerate(routing.entities)}
        self.fleets = FleetTopics(scenario.fleets)
        self._routes: dict[str, tuple[int, int]] = {
            topics.telemetry(entity): (number, 0) for entity, number in self.number.items()
        }
        self.delivered: tuple[int, int] | None = None  # last QoS 1 delivery: (mid, connection)
        self.burst_s = 0.0  # when the burst of messages under way began to arrive; 0: none has
        self.first_reading_s: float | None = None
        self._dropped: int | None = None
        self._dropped_before = 0

    @property
    def broker_dropped(self) -> int | None:
        """Messages that the broker says it has dropped since this router started; None where it does not say."""
        return None if self._dropped is None else self._dropped + self._dropped_before

    def receive(self, topic: str, payload: bytes, qos: int, mid: int, connection: int) -> None:
        """Take one message in. Whatever it is, it is counted, and what is not telemetry or an answer is explained."""
        if qos:
            self.delivered = mid, connection
        route = self._routes.get(topic)
        if route is None:
            self._receive_other(topic, payload, qos)
            return
        if len(payload) > self._scenario.limits.payload_bytes:
            self._refuse(topic, Reason.TOO_LARGE, f"{len(payload):,} bytes", payload, route[0])
            return
        if self.burst_s == 0.0 or self._clock.mode == "scaled":  # there a burst may last minutes of city time
            self.burst_s = self._clock.now_s()
            self.first_reading_s = self.first_reading_s or time.time()
        self._routing.arrive(route[0], route[1], payload, self.burst_s, qos)

    def receive_again(self, topic: str, payload: bytes) -> None:
        """Take in a message that no broker delivers now: a dead letter that has been mended."""
        delivered, self.burst_s = self.delivered, 0.0
        fleet = self.fleets.source_of(topic)
        if fleet is not None and fleet[1] in self.number:
            self._routing.arrive(self.number[fleet[1]], fleet[0], payload, self._clock.now_s())
        else:
            self.receive(topic, payload, 1, 0, -1)
        self.delivered = delivered

    def _receive_other(self, topic: str, payload: bytes, qos: int) -> None:
        """Topics seen for the first time, answers of devices, and what belongs to nobody."""
        if topic == BROKER_DROPPED:
            self._note_dropped(payload)
            return
        if self._make_decoder is not None and self._topics.gateway_of(topic) is not None:
            self._receive_together(topic, payload, qos, self._make_decoder)
            return
        parsed = self._topics.parse(topic)
        if topic in self._own_topics or (parsed is not None and parsed[1] in (COMMAND, STATE)):
            return  # what the city itself has said
        if parsed is not None and parsed[1] == ACKNOWLEDGEMENT:
            self._receive_answer(topic, parsed[0], payload)
            return
        fleet = self.fleets.match(topic)
        entity = fleet.entity if fleet else parsed[0] if parsed else None
        if entity is not None and entity not in self.number and self._hearing.passes_over(entity):
            return  # another router hears it too, and counts it
        if len(payload) > self._scenario.limits.payload_bytes:
            self._refuse(topic, Reason.TOO_LARGE, f"{len(payload):,} bytes", payload)
        elif entity is None:
            self._refuse(topic, Reason.UNKNOWN_TOPIC, "", payload)
        elif entity in self._hearing.elsewhere:
            self._refuse(topic, Reason.ELSEWHERE, entity, payload)
        elif entity not in self.number:
            known = entity.split("/", 1)[0] in self._kinds
            self._refuse(topic, Reason.UNKNOWN_ENTITY if known else Reason.UNKNOWN_KIND, entity, payload)
        else:
            self._routes[topic] = (self.number[entity], fleet.source if fleet else 0)
            if self.first_reading_s is None:
                self.first_reading_s = time.time()
            self._routing.arrive(*self._routes[topic], payload, self._clock.now_s(), qos)

    def _receive_together(self, topic: str, payload: bytes, qos: int, make: Callable[[], GatewayDecoder]) -> None:
        """A gateway's message: to every twin its own readings, and a dead letter for each that belongs to nobody."""
        if len(payload) > self._scenario.limits.payload_bytes:
            if self._hearing.main:
                self._refuse(topic, Reason.TOO_LARGE, f"{len(payload):,} bytes", payload)
            return
        if self._of_gateways is None:
            self._of_gateways = make()
        if self.burst_s == 0.0 or self._clock.mode == "scaled":
            self.burst_s = self._clock.now_s()
            self.first_reading_s = self.first_reading_s or time.time()
        message = self._of_gateways.decode(payload, self.burst_s)
        for bundle in message.gathered:
            self._routing.arrive_together(bundle, self.burst_s, qos)
        for number, single in message.singles:
            self._routing.arrive(number, 0, single, self.burst_s, qos)
        for stray in message.strays:
            if self._hearing.main and stray.entity not in self._hearing.elsewhere:  # else another router's
                self._refuse(topic, stray.reason, stray.detail, stray.payload, readings=1)

    def _note_dropped(self, payload: bytes) -> None:
        """What the broker says it has dropped since it started; it begins anew with the broker."""
        try:
            dropped = int(payload)
        except ValueError:
            log.warning("%s says %r, which is no number", BROKER_DROPPED, payload[:40])
            return
        if self._dropped is None:
            self._dropped_before = -dropped  # what it dropped before we listened is not ours
        elif dropped < self._dropped:
            self._dropped_before += self._dropped
        self._dropped = dropped

    def _receive_answer(self, topic: str, entity: str, payload: bytes) -> None:
        """A device's acknowledgement: log what it means for the twin, and close the command."""
        if entity not in self.number:
            self._refuse(topic, Reason.UNKNOWN_ENTITY, entity, payload)
            return
        now_s = self.city_now_s()
        try:
            answer = messages.decode_acknowledgement(payload)
        except messages.BadMessage as bad:
            self._refuse(topic, bad.reason, bad.detail, payload)
            return
        verdict, values = self._desk.acknowledged(entity, answer)
        note = answer.reason or ("" if answer.status == "done" else answer.status)
        if verdict is Verdict.UNKNOWN:
            self._refuse(topic, Reason.UNKNOWN_COMMAND, answer.id, payload)
        elif verdict is Verdict.DONE:
            told = Told(at_s=now_s, values=listed(values), id=answer.id, note=note)
            self._routing.tell(self.number[entity], Channel.COMMAND, told, now_s)
            self._desk.close(answer.id, done=True, at_s=now_s, note=note)
        elif verdict is Verdict.REFUSED:
            self._routing.note(Note.ANSWERED, notes.Answered(answer.id, now_s, note), now_s)
            self._desk.close(answer.id, done=False, at_s=now_s, note=note)

    def _refuse(
        self, topic: str, reason: Reason, detail: str, payload: bytes, entity: int | None = None, readings: int = 0
    ) -> None:
        """Log what no twin gets, with the words for its sender; it becomes a dead letter when that is durable."""
        number = notes.NOBODY if entity is None else entity
        self._routing.refuse(
            topic, reason.value, reason.explain(detail), payload, self._clock.now_s(), number, readings
        )

    def topic_of(self, share: Share, delivery: Delivery) -> str:
        """Where a logged input came from, in the words that ``receive_again`` understands."""
        entity = self._routing.entities[share.entities[delivery.place]]
        return self.fleets.told(delivery.source, entity) if delivery.source else self._topics.telemetry(entity)

    # -- time --------------------------------------------------------------------------------------------------

    def city_now_s(self) -> float:
        """The time that commands and couplings live by: in mode ``events`` the newest that devices have told."""
        if self._clock.mode != "events":
            return self._clock.now_s()
        latest_s = self.latest_s()
        return latest_s if latest_s > float("-inf") else 0.0

    def latest_s(self) -> float:
        """The newest device time that any twin has seen."""
        return max((share.latest_s for share in self._routing.shares.values()), default=float("-inf"))
