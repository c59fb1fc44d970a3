"""The router actor: MQTT on one side, twin actors on the other, the log between them. One thread does it all."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import ray

from twin_actors.core.ledger import Ledger
from twin_actors.core.view import Value
from twin_actors.runtime import reckoning
from twin_actors.runtime.calls import CALL_DEADLINE_S, Calls
from twin_actors.runtime.committing import Committed, Committer
from twin_actors.runtime.desk import CommandDesk, Outgoing
from twin_actors.runtime.dispatch import Dispatch, Exchange
from twin_actors.runtime.hearing import hearing_of
from twin_actors.runtime.inbox import BROKER_DROPPED, Inbox
from twin_actors.runtime.intake import Refused
from twin_actors.runtime.letters import Letters
from twin_actors.runtime.links import Links
from twin_actors.runtime.notes import Note
from twin_actors.runtime.orders import Orders
from twin_actors.runtime.packing import Delivery
from twin_actors.runtime.patience import patiently
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.reach import mqtt_client
from twin_actors.runtime.routing import TALLY_S, routing_of
from twin_actors.runtime.saving import RouterMemory
from twin_actors.runtime.sessions import client_id
from twin_actors.runtime.share import Share
from twin_actors.store import DeadLetter, LetterState, StaleEpoch
from twin_actors.wire import messages
from twin_actors.wire.client import Will
from twin_actors.wire.topics import Topics

log = logging.getLogger(__name__)

COMMIT_S = 0.004
TURN_S = 0.008
"""How often calls are looked after while messages stream in; asking Ray costs as much as twenty messages."""
IDLE_S = 0.25
"""How long a router with nothing under way waits for the network: messages and questions end the wait."""
RECOVERY_DEADLINE_S = 40.0
"""How long a question about the accounts waits for twins that are still catching up with the log."""
SNAPSHOT_EVERY_S = 30.0
SNAPSHOT_AT_INPUTS = 200_000
"""Inputs since the last snapshots at which new ones are made early: a recovery never replays many more."""
MOST_UNCOMMITTED = 50_000
"""Messages that may wait for a store that cannot be written; then the router leaves the broker until it can."""
RECEIVE_MAXIMUM = 10_000
"""QoS 1 messages that the broker may have under way to us unacknowledged (MQTT 5): what lies behind stays with it."""


class Router:
    """Constructor arguments are ids and paths only. All state belongs to one thread; calls are handed to it.

    Each incarnation takes the next epoch of the log, goes on from snapshot and log, and ends itself when a newer one
    writes.
    """

    def __init__(self, place: str, namespace: str, name: str) -> None:
        whole = CityPlan.load(place)
        plan, hearing = whole.of_router(name), hearing_of(whole, name)
        self._name, self._speaks = name, name == whole.main_router
        self._scenario, self._clock, self._namespace = plan.scenario, plan.clock, namespace
        self._topics = Topics(plan.scenario.root)
        self._kinds = [entity.kind for entity in plan.scenario.entities]
        self._store = patiently(plan.open_store)
        epoch = patiently(lambda: self._store.next_epoch(name))
        self._log = plan.log(self._store)
        self._routing = routing_of(plan, self._log, epoch, durable=self._store.durable)
        self._desk = CommandDesk()
        self._letters = Letters(self._store, name)
        self._memory = RouterMemory(self._store, name, self._routing, self._desk, self._letters)
        self._memory.recover()
        self._inbox = Inbox(plan.scenario, plan.clock, self._routing, self._desk, hearing, plan.gateway_decoder)
        self._orders = Orders(
            self._routing,
            self._desk,
            self._inbox,
            lambda entity, payload: self._publish(self._topics.command(entity), payload, qos=1),
        )
        self._links = Links(
            self._routing, self._find, self._refused_by_twin, self._harmed, answer_s=plan.scenario.limits.answer_s
        )
        self._writing: tuple[int, int] | None = None  # the last QoS 1 delivery in the group that is being committed
        self._dispatch = Dispatch(self._routing, self._desk, self._inbox, self._orders, self._topics, self._publish)
        self._stopping = threading.Event()
        self._recovered = threading.Event()
        self._client = mqtt_client(
            plan.broker,
            client_id=client_id(plan.scenario.city, name),
            receive=self._inbox.receive,
            subscriptions=[
                *((topic, plan.scenario.broker.qos) for topic in hearing.filters),
                *([(BROKER_DROPPED, 0)] if self._speaks else []),
            ],
            clean_start=False,
            manual_ack=True,
            receive_maximum=RECEIVE_MAXIMUM,
            will=Will(topic=self._topics.status, payload=_status(plan.scenario.city, "lost")) if self._speaks else None,
        )
        self._calls = Calls(wake=self._client.wake)
        self._committer = Committer(self._log, epoch, wake=self._client.wake, ended=_end_of_a_router)
        self._thread = threading.Thread(target=self._run, name="router", daemon=True)
        self._thread.start()

    def _find(self, name: str) -> Any:
        return ray.get_actor(name, namespace=self._namespace)

    # -- the one thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        # Thousands of small tuples without cycles wait in the queues; the collector's usual pace would walk through
        # all of them again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        sys.setswitchinterval(0.001)  # the committer needs the interpreter for moments, and soon
        try:
            committed = polled = tidied = snapped = 0.0
            announced = False
            while not self._stopping.is_set():
                self._inbox.burst_s = 0.0
                self._client.step(self._patience_s(committed))
                now = time.monotonic()
                done = self._committer.done()
                if done is not None:
                    self._settle(done, now)
                if not self._committer.busy and self._is_due(now, committed):
                    self._commit(now)
                    committed = now
                if now - polled >= (TURN_S if self._routing.fresh else COMMIT_S):
                    self._links.turn(now)
                    polled = now
                    self._calls.serve()
                if now - tidied >= 1.0:
                    tidied = now
                    if self._client.ready and not announced:
                        self._say_status("up")
                    announced = self._client.ready
                    if not self._recovered.is_set() and self._links.caught_up:
                        self._recovered.set()
                    self._leave_or_come_back()
                    self._tell_letters()
                    self._orders.send()
                    if now - snapped >= SNAPSHOT_EVERY_S or self._memory.inputs_since > SNAPSHOT_AT_INPUTS:
                        snapped = now
                        self._save(now)
                    self._memory.trim(self._links.oldest_needed(self._memory.needs))
            self._finish()
        except Exception as error:
            _end_of_a_router(error)

    @property
    def _due(self) -> bool:
        return bool(self._routing.fresh or self._inbox.delivered)

    def _is_due(self, now: float, committed: float) -> bool:
        """A group waits; or the log is to be told of readings given up, though nothing else comes."""
        since_s = now - committed
        return (self._due and since_s >= COMMIT_S) or (self._routing.untold and since_s >= TALLY_S)

    def _patience_s(self, committed: float) -> float:
        """How long to wait for the network: until the next commit is due, or a look at the calls, or at requests."""
        if self._routing.fresh and not self._committer.busy:
            return max(committed + COMMIT_S - time.monotonic(), 0.0)
        if self._committer.busy:
            return COMMIT_S
        return IDLE_S if self._links.idle and not self._calls.waiting else COMMIT_S

    def _commit(self, now: float) -> None:
        """Have all that has come written as one group, or acknowledge at once what needs no writing."""
        entries = self._routing.take(self._clock.now_s(), now)
        self._writing, self._inbox.delivered = self._inbox.delivered, None
        if entries:
            self._orders.begin()
            self._letters.begin()
            self._committer.begin(entries)
        else:
            self._acknowledge()

    def _settle(self, done: Committed, now: float) -> None:
        """A group is durable: queue it for the twins, acknowledge it to the broker, let its commands go."""
        own = self._routing.committed(done.first, done.entries, now)
        self._memory.inputs_since += self._routing.committed_until - done.first
        self._acknowledge()
        for offset, entry in own:
            if entry.channel == Note.REFUSED:
                self._letters.of_refusal(offset, entry)
        self._letters.committed()
        self._tell_letters()
        self._orders.committed()

    def _acknowledge(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            self._client.acknowledge(*writing)  # it and all before it on that connection, in order of arrival

    def _tell_letters(self) -> None:
        for letter in self._letters.save():
            wired = messages.DeadLetter(
                topic=letter.topic,
                reason=letter.reason,
                detail=letter.detail,
                payload=letter.payload,
                received_at_s=letter.received_at_s,
            )
            self._publish(self._topics.dead_letter, messages.encode_dead_letter(wired))

    def _leave_or_come_back(self) -> None:
        """With a store that does not take what comes: leave the broker, which keeps QoS 1, before memory fills."""
        if self._routing.fresh >= MOST_UNCOMMITTED or self._letters.full:
            self._client.pause()
            return
        calm = self._routing.fresh < MOST_UNCOMMITTED // 2 and not self._committer.trouble and not self._letters.waiting
        if self._client.paused and calm:
            self._client.resume()

    def _save(self, now: float) -> None:
        """Have twins and router save snapshots; but what the store has no letter of yet must stay behind them all."""
        if not self._letters.waiting:
            self._links.take_snapshots(now)
        self._memory.save(self._inbox.latest_s())

    def _finish(self) -> None:
        """Write what has come, keep everything, say goodbye."""
        deadline = time.monotonic() + CALL_DEADLINE_S / 2
        while (self._committer.busy or self._due) and time.monotonic() < deadline and not self._committer.trouble:
            done = self._committer.done()
            if done is not None:
                self._settle(done, time.monotonic())
            elif not self._committer.busy:
                self._commit(time.monotonic())
            else:
                self._client.step(COMMIT_S)
        self._memory.save(self._inbox.latest_s())
        self._say_status("down")
        self._client.close()
        self._committer.stop()

    # -- what becomes of it ------------------------------------------------------------------------------------

    def _refused_by_twin(self, share: Share, refused: list[tuple[Refused, Delivery]]) -> None:
        for each, delivery in refused:
            self._letters.of_twin(self._inbox.topic_of(share, delivery), each, delivery)
        self._tell_letters()

    def _harmed(self, share: Share, delivery: Delivery, detail: str) -> None:
        """An input that its twin actor did not survive twice is put aside for good."""
        topic = self._inbox.topic_of(share, delivery)
        self._letters.of_harm(topic, delivery.offset, delivery, detail)
        self._routing.quarantine(share, delivery, detail, self._clock.now_s(), topic)
        self._tell_letters()

    def _publish(self, topic: str, payload: bytes, *, qos: int = 0, retain: bool = False) -> bool:
        return self._client.publish(topic, payload, qos=qos, retain=retain)

    def _say_status(self, state: str) -> None:
        """Of several routers one speaks for the city."""
        if self._speaks:
            self._publish(self._topics.status, _status(self._scenario.city, state), qos=1, retain=True)

    # -- calls -------------------------------------------------------------------------------------------------

    def exchange(
        self,
        commands: Sequence[Outgoing],
        couplings: Sequence[tuple[str, float, Mapping[str, Value]]],
        news: Sequence[tuple[str, bytes]],
        states: Sequence[tuple[str, bytes]] = (),
        answered: int = 0,
        epoch: int = 0,
    ) -> Exchange:
        """Send the aggregator's effects on their way and give it the answers of devices that it does not have yet.

        ``couplings`` are (entity, at_s, values); ``news`` are (city channel, payload) for listeners of the city;
        ``states`` are (entity, payload), published retained on the entity's own topic; ``answered`` is the number of
        the last answer it has. A command handed over again, by its id, is not sent again. Raises StaleEpoch where an
        aggregator of a higher ``epoch`` has been here.
        """
        self._dispatch.accept(epoch)
        return self._calls.ask(lambda: self._dispatch.exchange(commands, couplings, news, states, answered))

    def ledger(self) -> Ledger:
        """The city's ledger; after a crash it waits until the twins have caught up with the log."""
        self._wait_until_recovered()
        return self._calls.ask(self._routing.ledger)

    def ledger_by_entity(self) -> dict[str, Ledger]:
        """One ledger per entity, and one under "" for readings of nobody."""
        self._wait_until_recovered()
        return reckoning.ledger_by_entity(self._calls.ask, self._routing, self._links, CALL_DEADLINE_S)

    def _wait_until_recovered(self) -> None:
        if not self._recovered.wait(RECOVERY_DEADLINE_S):
            behind = [link.share.name for link in self._links.links.values() if not link.caught_up]
            raise TimeoutError(f"the city is still recovering: {len(behind)} twin actors behind, first {behind[:3]}")

    def status(self) -> dict[str, Any]:
        return self._calls.ask(self._status)

    def _status(self) -> dict[str, Any]:
        return {
            "router": self._name,
            "epoch": self._routing.epoch,
            "connected": self._client.ready,
            "broker_error": self._client.last_error,
            "protocol": self._client.protocol,
            "reconnects": self._client.reconnects,
            "broker_dropped": self._inbox.broker_dropped,
            "recovered": self._recovered.is_set(),
            "store_trouble": self._committer.trouble or self._letters.trouble or self._memory.trouble,
            "store_failures": self._committer.failures,
            "first_reading_s": self._inbox.first_reading_s,
            "dead_letter_reasons": dict(self._letters.reasons),
            "dead_letter_topics": dict(self._letters.last_topic),
            "open_commands": len(self._desk),
            "late_answers": self._desk.late,
            "couplings_astray": self._dispatch.astray,
            "inputs_since_snapshot": self._memory.inputs_since,
            "log_offset": self._routing.committed_until,
            "uncommitted": self._routing.fresh + self._routing.committing,
            "unpublished": self._client.refused,
            "cpu_s": time.process_time(),
            **reckoning.standing(self._routing, self._links),
        }

    def received_by_kind(self) -> dict[str, int]:
        """Readings ever received for the twins of each kind, usable or not."""
        received = self._calls.ask(lambda: list(self._routing.accounts.received))
        return reckoning.summed_by(self._kinds, received)

    def dead_letters(self, last: int, state: LetterState | None = None, reason: str = "") -> list[DeadLetter]:
        return self._calls.ask(lambda: self._letters.newest(last, state, reason))

    def dead_letter(self, number: int) -> DeadLetter:
        """Raises KeyError."""
        return self._calls.ask(lambda: self._letters.one(number))

    def replay_letter(self, number: int, payload: bytes | None, topic: str) -> None:
        """Take a dead letter in as if it had just been published, with another payload or topic if given.

        Returns when the log has it. Raises KeyError, ValueError for one that has been taken in again already.
        """

        def work() -> Future[None]:
            letter = self._letters.one(number)
            if letter.state is LetterState.REPLAYED or self._letters.is_mended(number):
                raise ValueError(f"dead letter {number} has been replayed already")
            self._inbox.receive_again(topic or letter.topic, letter.payload if payload is None else payload)
            return self._letters.mend(number)

        try:
            self._calls.ask(work).result(timeout=CALL_DEADLINE_S / 2)
        except TimeoutError:
            raise TimeoutError(
                f"dead letter {number} waits for the store, which does not take it now; it is marked replayed as soon "
                "as it does: see 'twin-actors doctor', and do not replay it again before"
            ) from None

    def discard_letter(self, number: int) -> None:
        """Raises KeyError."""
        self._calls.ask(lambda: self._letters.settle(number, LetterState.DISCARDED))

    def latest_s(self) -> float:
        """The newest device time that any twin has seen."""
        return self._calls.ask(self._inbox.latest_s)

    def hold(self, actors: Sequence[str], for_s: float) -> dict[str, int]:
        """Send some twin actors nothing for a while, so that they can be moved; see ``Links.hold``."""
        until = time.monotonic() + for_s
        return self._calls.ask(lambda: {name: self._links.hold(name, until) for name in actors})

    def let_go(self, actors: Sequence[str]) -> None:
        """Their moves are over."""

        def work() -> None:
            for name in actors:
                self._links.let_go(name, time.monotonic())

        self._calls.ask(work)

    def keep(self) -> int:
        """Have the twins and this router save snapshots now. Returns the log's offset."""

        def work() -> int:
            self._save(time.monotonic())
            return self._routing.committed_until

        return self._calls.ask(work)

    def stop(self) -> None:
        """Write what has come, say goodbye to the broker and end the thread."""
        self._stopping.set()
        self._thread.join(timeout=CALL_DEADLINE_S)


def _status(city: str, state: str) -> bytes:
    return json.dumps({"city": city, "status": state}).encode()


def _end_of_a_router(error: Exception) -> None:
    """End this process at once: a router that only looks alive is worse than none, and one that a newer one has
    replaced must not say another word, not even to the broker. Ray starts the one that is missing."""
    if isinstance(error, StaleEpoch):
        log.error("this router stops: %s", error)
    else:
        log.error("the router fails", exc_info=error)
    os._exit(3)
