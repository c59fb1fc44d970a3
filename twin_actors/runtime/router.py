"""The router actor: MQTT on one side, twin actors on the other, the log between them. One thread does it all."""

from __future__ import annotations

import gc
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import ray

from twin_actors.core.inputs import Channel
from twin_actors.core.ledger import Ledger
from twin_actors.core.view import Value
from twin_actors.runtime.desk import Answer, CommandDesk, Outgoing, Verdict
from twin_actors.runtime.fleets import FleetTopics
from twin_actors.runtime.holder import Refused
from twin_actors.runtime.links import Links
from twin_actors.runtime.packing import Delivery
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.reach import mqtt_client
from twin_actors.runtime.routing import Placed, Routing, Share
from twin_actors.store import DeadLetter, open_store
from twin_actors.wire import messages
from twin_actors.wire.client import Will
from twin_actors.wire.reasons import Reason
from twin_actors.wire.topics import ACKNOWLEDGEMENT, COMMAND, STATE, Topics

log = logging.getLogger(__name__)

COMMIT_S = 0.004
TURN_S = 0.008
"""How often calls are looked after while messages stream in; asking Ray costs as much as twenty messages."""
IDLE_S = 0.02
REQUEST_DEADLINE_S = 10.0
SNAPSHOT_EVERY_S = 30.0
SNAPSHOT_AT_BYTES = 32_000_000

T = TypeVar("T")


class Exchange(NamedTuple):
    """What the router gives back when the aggregator hands over its effects."""

    answers: list[Answer]
    unsent: list[str]
    latest_s: float


class Router:
    """Constructor arguments are ids and paths only. All state belongs to one thread; calls are handed to it."""

    def __init__(self, folder: str, namespace: str, epoch: int) -> None:
        plan = CityPlan.load(folder)
        self._scenario, self._clock, self._namespace = plan.scenario, plan.clock, namespace
        self._topics = Topics(plan.scenario.root)
        self._store = open_store(plan.scenario.store_url)
        self._log = self._store.log("router")
        shares = {actor.name: Share(actor.name, epoch=1) for actor in plan.actors}
        placed: list[Placed | None] = [None] * len(plan.scenario.entities)
        for actor in plan.actors:
            for place, number in enumerate(actor.entities):
                placed[number] = Placed(shares[actor.name], place)
        entities = [entity.id for entity in plan.scenario.entities]
        self._number = {entity: number for number, entity in enumerate(entities)}
        self._kinds = {entity.kind for entity in plan.scenario.entities}
        self._routing = Routing(
            entities=entities,
            placed=[each for each in placed if each is not None],
            log=self._log,
            epoch=epoch,
            backlog=plan.scenario.limits.backlog,
        )
        self._links = Links(self._routing, self._store, self._find, self._refused_by_twin)
        topics = self._topics
        self._own_topics = {topics.decision, topics.alert, topics.dead_letter, topics.status}
        self._fleets = FleetTopics(plan.scenario.fleets)
        self._routes: dict[str, tuple[int, int]] = {
            self._topics.telemetry(entity): (number, 0) for entity, number in self._number.items()
        }
        self._delivered: tuple[int, int] | None = None  # last QoS 1 delivery: (mid, connection)
        self._desk = CommandDesk()
        self._astray = 0  # couplings to entities that are not in the city
        self._letters: list[DeadLetter] = []
        self._dead_reasons: dict[str, int] = {}
        self.first_reading_s: float | None = None
        self._arrived_s = 0.0  # when the burst of messages under way began to arrive; 0: none has
        self._requests: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(maxsize=1000)
        self._stopping = threading.Event()
        self._client = mqtt_client(
            plan.broker,
            client_id=f"{plan.scenario.city}-router",
            receive=self._receive,
            subscriptions=[
                # all under the root, not only telemetry: a mistyped channel or kind must not vanish unseen
                (f"{plan.scenario.root}/#", plan.scenario.broker.qos),
                *((topic, plan.scenario.broker.qos) for topic in self._fleets.filters),
            ],
            clean_start=False,
            manual_ack=True,
            will=Will(topic=self._topics.status, payload=_status(plan.scenario.city, "lost")),
        )
        self._thread = threading.Thread(target=self._run, name="router", daemon=True)
        self._thread.start()

    def _find(self, name: str) -> Any:
        return ray.get_actor(name, namespace=self._namespace)

    # -- the one thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        # The log holds hundreds of thousands of small tuples without cycles; the collector's usual pace would
        # walk through all of them again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        try:
            committed = polled = tidied = snapped = 0.0
            announced = False
            while not self._stopping.is_set():
                self._arrived_s = 0.0
                self._client.step(self._patience_s(committed))
                now = time.monotonic()
                if (self._routing.fresh or self._delivered) and now - committed >= COMMIT_S:
                    self._commit(now)
                    committed = now
                if now - polled >= (TURN_S if self._routing.fresh else COMMIT_S):
                    self._links.turn(now)
                    polled = now
                    self._serve()
                if now - tidied >= 1.0:
                    tidied = now
                    if self._client.ready and not announced:
                        self._publish(self._topics.status, _status(self._scenario.city, "up"), qos=1, retain=True)
                    announced = self._client.ready
                    if now - snapped >= SNAPSHOT_EVERY_S or self._log.held_bytes > SNAPSHOT_AT_BYTES:
                        self._links.take_snapshots(now)
                        snapped = now
                    self._routing.trim(self._links.oldest_needed(self._log.next_offset))
            self._publish(self._topics.status, _status(self._scenario.city, "down"), qos=1, retain=True)
            self._client.close()
        except Exception:
            log.exception("the router's loop failed")
            # a router that only looks alive is worse than none: Ray starts the process again
            os._exit(1)

    def _patience_s(self, committed: float) -> float:
        """How long to wait for the network: until the next commit is due, or a look at the calls, or at requests."""
        if self._routing.fresh:
            return max(committed + COMMIT_S - time.monotonic(), 0.0)
        return IDLE_S if self._links.idle else COMMIT_S

    def _commit(self, now: float) -> None:
        delivered, self._delivered = self._delivered, None
        self._routing.commit(now)
        if delivered is not None:
            self._client.acknowledge(*delivered)  # it and all before it on that connection, in order of arrival
        if self._letters:
            letters, self._letters = self._letters, []
            self._store.add_dead_letters(letters)

    def _serve(self) -> None:
        while True:
            try:
                work, result = self._requests.get_nowait()
            except queue.Empty:
                return
            try:
                result.set_result(work())
            except Exception as error:
                result.set_exception(error)

    def _ask(self, work: Callable[[], T]) -> T:
        """Have the thread do something and wait for it, with a deadline."""
        result: Future[T] = Future()
        self._requests.put((work, result), timeout=REQUEST_DEADLINE_S)
        return result.result(timeout=REQUEST_DEADLINE_S)

    # -- arrivals ----------------------------------------------------------------------------------------------

    def _receive(self, topic: str, payload: bytes, qos: int, mid: int, connection: int) -> None:
        if qos:
            self._delivered = mid, connection
        route = self._routes.get(topic)
        if route is None:
            self._slow(topic, payload)
            return
        if len(payload) > self._scenario.limits.payload_bytes:
            self._routing.refuse_of(route[0], payload)
            self._dead(topic, Reason.TOO_LARGE, f"{len(payload):,} bytes", payload)
            return
        if self._arrived_s == 0.0 or self._clock.mode == "scaled":  # there a burst may last minutes of city time
            self._arrived_s = self._clock.now_s()
            self.first_reading_s = self.first_reading_s or time.time()
        self._routing.arrive(route[0], route[1], payload, self._arrived_s)

    def _slow(self, topic: str, payload: bytes) -> None:
        """Topics seen for the first time, answers of devices, and what belongs to nobody."""
        parsed = self._topics.parse(topic)
        if topic in self._own_topics or (parsed is not None and parsed[1] in (COMMAND, STATE)):
            return  # what the city itself has said
        if parsed is not None and parsed[1] == ACKNOWLEDGEMENT:
            self._acknowledged(topic, parsed[0], payload)
            return
        if len(payload) > self._scenario.limits.payload_bytes:
            self._routing.refuse(payload)
            self._dead(topic, Reason.TOO_LARGE, f"{len(payload):,} bytes", payload)
            return
        fleet = self._fleets.match(topic)
        entity = fleet.entity if fleet else parsed[0] if parsed else None
        if entity is None:
            self._routing.refuse(payload)
            self._dead(topic, Reason.UNKNOWN_TOPIC, "", payload)
        elif entity not in self._number:
            self._routing.refuse(payload)
            known = entity.split("/", 1)[0] in self._kinds
            self._dead(topic, Reason.UNKNOWN_ENTITY if known else Reason.UNKNOWN_KIND, entity, payload)
        else:
            self._routes[topic] = (self._number[entity], fleet.source if fleet else 0)
            if self.first_reading_s is None:
                self.first_reading_s = time.time()
            self._routing.arrive(*self._routes[topic], payload, self._clock.now_s())

    def _city_now_s(self) -> float:
        """The time that commands and couplings live by: in mode ``events`` the newest that devices have told."""
        if self._clock.mode != "events":
            return self._clock.now_s()
        latest_s = self._latest_s()
        return latest_s if latest_s > float("-inf") else 0.0

    def _latest_s(self) -> float:
        return max((share.latest_s for share in self._routing.shares.values()), default=float("-inf"))

    def _acknowledged(self, topic: str, entity: str, payload: bytes) -> None:
        now_s = self._city_now_s()
        try:
            answer = messages.decode_acknowledgement(payload)
        except messages.BadMessage as bad:
            self._routing.refuse(payload)
            self._dead(topic, bad.reason, bad.detail, payload)
            return
        verdict, values = self._desk.acknowledged(entity, answer, now_s)
        if verdict is Verdict.UNKNOWN:
            self._routing.refuse(payload)
            self._dead(topic, Reason.UNKNOWN_COMMAND, answer.id, payload)
        elif verdict is Verdict.DONE:
            self._routing.tell(self._number[entity], Channel.COMMAND, now_s, values, now_s)

    def _dead(
        self, topic: str, reason: Reason, detail: str, payload: bytes, received_at_s: float | None = None
    ) -> None:
        self._bury(
            DeadLetter(
                topic=topic,
                reason=reason.value,
                detail=reason.explain(detail),
                payload=payload,
                received_at_s=self._clock.now_s() if received_at_s is None else received_at_s,
            )
        )

    def _refused_by_twin(self, share: Share, refused: list[tuple[Refused, Delivery]]) -> None:
        for each, delivery in refused:
            entity = self._routing.entities[share.entities[delivery.place]]
            topic = self._topics.telemetry(entity)
            if delivery.source:
                topic = f"{self._scenario.fleets[delivery.source - 1].topic} ({entity})"
            self._dead(topic, Reason(each.reason), each.detail, delivery.payload, delivery.received_at_s)

    def _bury(self, letter: DeadLetter) -> None:
        self._letters.append(letter)
        self._dead_reasons[letter.reason] = self._dead_reasons.get(letter.reason, 0) + 1
        wired = messages.DeadLetter(
            topic=letter.topic,
            reason=letter.reason,
            detail=letter.detail,
            payload=letter.payload,
            received_at_s=letter.received_at_s,
        )
        self._publish(self._topics.dead_letter, messages.encode_dead_letter(wired))

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        return self._client.publish(topic, payload, qos=qos, retain=retain)

    # -- calls -------------------------------------------------------------------------------------------------

    def exchange(
        self,
        commands: Sequence[Outgoing],
        couplings: Sequence[tuple[str, float, Mapping[str, Value]]],
        news: Sequence[tuple[str, bytes]],
        states: Sequence[tuple[str, bytes]] = (),
    ) -> Exchange:
        """Send the aggregator's effects on their way and give it the answers of devices since the last time.

        ``couplings`` are (entity, at_s, values); ``news`` are (city channel, payload) for listeners of the city;
        ``states`` are (entity, payload), published retained on the entity's own topic.
        """
        return self._ask(lambda: self._exchange(commands, couplings, news, states))

    def _exchange(
        self,
        commands: Sequence[Outgoing],
        couplings: Sequence[tuple[str, float, Mapping[str, Value]]],
        news: Sequence[tuple[str, bytes]],
        states: Sequence[tuple[str, bytes]],
    ) -> Exchange:
        now_s = self._city_now_s()
        unsent = [
            command.id
            for command in commands
            if command.entity not in self._number or not self._send_command(command, now_s)
        ]
        for entity, at_s, values in couplings:
            if entity in self._number:
                self._routing.tell(self._number[entity], Channel.COUPLING, at_s, values, now_s)
            else:
                self._astray += 1
                log.warning("a policy couples to %r, which is not in the city", entity)
        channels = {"decision": self._topics.decision, "alert": self._topics.alert}
        for channel, payload in news:
            self._publish(channels[channel], payload)
        for entity, payload in states:
            self._publish(self._topics.state(entity), payload, retain=True)
        self._desk.expire(now_s)
        return Exchange(self._desk.take_answers(), unsent, self._latest_s())

    def _send_command(self, command: Outgoing, now_s: float) -> bool:
        if self._desk.full:
            return False
        payload = messages.encode_command(
            messages.Command(
                id=command.id,
                issued_at_s=command.issued_at_s,
                expires_at_s=command.expires_at_s,
                epoch=self._routing.epoch,
                decision=command.decision,
                values=dict(command.values),
            )
        )
        if not self._publish(self._topics.command(command.entity), payload, qos=1):
            return False
        self._desk.sent(command)
        self._routing.tell(self._number[command.entity], Channel.DESIRED, now_s, command.values, now_s)
        return True

    def ledger(self) -> Ledger:
        return self._ask(self._routing.ledger)

    def ledger_by_entity(self) -> dict[str, Ledger]:
        """One ledger per entity, and one under "" for readings of nobody."""
        refs = {name: link.handle.fates_by_entity for name, link in self._links.links.items() if link.handle}
        snapshot, asked = self._ask(lambda: (self._count_arrivals(), {n: call.remote() for n, call in refs.items()}))
        received, dead, shed, nobody, waiting = snapshot
        answers = dict(zip(asked, ray.get(list(asked.values()), timeout=REQUEST_DEADLINE_S), strict=True))
        fates = {entity: fate for _, by_entity in answers.values() for entity, fate in by_entity.items()}
        earlier = [link.fates_before for link in self._links.links.values() if link.fates_before is not None]
        for _, by_entity in ray.get(earlier, timeout=REQUEST_DEADLINE_S):
            for entity, fate in by_entity.items():
                fates[entity] = tuple(now - then for now, then in zip(fates[entity], fate, strict=True))
        reached = {name: offset for name, (offset, _) in answers.items()}
        in_flight: dict[int, int] = {}
        for share, offset, number, readings in waiting:
            if offset > reached.get(share, -1):
                in_flight[number] = in_flight.get(number, 0) + readings
        ledgers = {"": nobody}
        for number, entity in enumerate(self._routing.entities):
            applied, duplicate, late, rejected = fates.get(entity, (0, 0, 0, 0))
            ledgers[entity] = Ledger(
                received=received[number],
                applied=applied,
                duplicate=duplicate,
                late=late,
                dead_lettered=rejected + dead[number],
                shed=shed[number],
                in_flight=in_flight.get(number, 0),
            )
        return ledgers

    def _count_arrivals(
        self,
    ) -> tuple[list[int], list[int], list[int], Ledger, list[tuple[str, int, int, int]]]:
        """Everything counted on arrival, and every reading not yet known to be applied, at one moment.

        Calls of one sender to one actor run in order, so an actor asked at this moment answers for all that was
        sent to it before; what it has applied beyond that is recognised by its offset.
        """
        routing = self._routing
        nobody = Ledger(received=routing.received_by_nobody, dead_lettered=routing.dead_by_nobody)
        return (
            list(routing.received_by_entity),
            list(routing.dead_by_entity),
            list(routing.shed_by_entity),
            nobody,
            list(routing.on_their_way()),
        )

    def status(self) -> dict[str, Any]:
        return self._ask(self._status)

    def _status(self) -> dict[str, Any]:
        links = self._links.links.values()
        return {
            "connected": self._client.ready,
            "broker_error": self._client.last_error,
            "protocol": self._client.protocol,
            "reconnects": self._client.reconnects,
            "first_reading_s": self.first_reading_s,
            "dead_letter_reasons": dict(self._dead_reasons),
            "open_commands": len(self._desk),
            "late_answers": self._desk.late,
            "couplings_astray": self._astray,
            "log_bytes": self._log.held_bytes,
            "log_offset": self._log.next_offset,
            "rejected_fields": sum(link.share.outcomes.rejected_fields for link in links),
            "missing_upstream": sum(link.share.outcomes.missing_upstream for link in links),
            "unpublished": self._client.refused,
            "cpu_s": time.process_time(),
            "actors": {
                link.share.name: {
                    "standing": link.standing.value,
                    "received": self._routing.received_by(link.share),
                    "offset": link.share.outcomes.offset,
                    "waiting": len(link.share.waiting),
                    "under_way": len(link.share.under_way),
                    "busy_s": link.share.busy_s,
                    "resent": link.share.resent,
                    "failures": link.failures,
                    "last_error": link.last_error,
                }
                for link in links
            },
        }

    def dead_letters(self, last: int) -> list[DeadLetter]:
        return self._ask(lambda: (self._store.dead_letters(last) + self._letters)[-last:])

    def latest_s(self) -> float:
        """The newest device time that any twin has seen."""
        return self._ask(self._latest_s)

    def stop(self) -> None:
        """Say goodbye to the broker and end the thread."""
        self._stopping.set()
        self._thread.join(timeout=REQUEST_DEADLINE_S)


def _status(city: str, state: str) -> bytes:
    return json.dumps({"city": city, "status": state}).encode()
