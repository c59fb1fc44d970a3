"""The routers' sessions with the broker when a launch divides the topics anew: nothing queued may vanish unseen."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import NamedTuple

from twin_actors.runtime.hearing import hearing_of
from twin_actors.runtime.inbox import BROKER_DROPPED
from twin_actors.runtime.notes import NOBODY, Note, Refusal, encode
from twin_actors.runtime.plan import CityPlan
from twin_actors.runtime.reach import mqtt_client
from twin_actors.store import Entry, Store
from twin_actors.wire.client import MqttClient
from twin_actors.wire.elements import count_readings
from twin_actors.wire.reasons import Reason

CONNECT_DEADLINE_S = 10.0
QUIET_S = 1.0
"""A session whose broker says nothing for so long has nothing left."""
HEARD_OUT_WITHIN_S = 60.0


class _Heard(NamedTuple):
    topic: str
    payload: bytes
    mid: int
    connection: int


def client_id(city: str, router: str) -> str:
    """The name under which the broker keeps a router's session."""
    return f"{city}-{router}"


def divide_anew(store: Store, old: CityPlan, new: CityPlan) -> int:
    """Have the broker keep for each router of ``new`` what it will hear; no router may be running.

    New filters are added before old ones are given up. What a router that is no more has queued becomes dead letters of
    the main router, to be replayed; returns how many. Raises BrokerUnreachable.
    """
    before = {router: hearing_of(old, router).filters for router in old.routers}
    after = {router: hearing_of(new, router).filters for router in new.routers}
    if before == after or new.scenario.broker.qos == 0:
        return 0
    for router, filters in after.items():
        with _session(new, router, filters):
            pass  # subscribed: from now on the broker keeps what it is to hear
    heard = 0
    for router, filters in before.items():
        stale = set(filters) - set(after.get(router, ()))
        messages: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
        gone = router not in after
        with _session(new, router, (), messages if gone else None) as client:
            for topic in sorted(stale):
                client.unsubscribe(topic)
            # the answer to this, which changes nothing, follows those to the above
            client.subscribe(BROKER_DROPPED if gone else after[router][0], 0 if gone else new.scenario.broker.qos)
            client.wait_connected(CONNECT_DEADLINE_S)
            if gone:
                heard += _hear_out(store, new, client, messages)
        if gone:
            with _session(new, router, (), clean_start=True):
                pass  # the broker need not keep anything for it any more
    return heard


def _session(
    plan: CityPlan, router: str, filters: tuple[str, ...], heard: queue.SimpleQueue[_Heard] | None = None, *,
    clean_start: bool = False,
) -> MqttClient:  # fmt: skip
    """A client that stands in for a router and acknowledges nothing by itself: the broker delivers it again."""

    def receive(topic: str, payload: bytes, qos: int, mid: int, connection: int) -> None:
        if heard is not None and qos:
            heard.put(_Heard(topic, payload, mid, connection))

    client = mqtt_client(
        plan.broker,
        client_id=client_id(plan.scenario.city, router),
        receive=receive,
        subscriptions=[(topic, plan.scenario.broker.qos) for topic in filters],
        clean_start=clean_start,
        manual_ack=True,
    )
    client.start()
    try:
        client.wait_connected(CONNECT_DEADLINE_S)
    except BaseException:
        client.close()
        raise
    return client


def _hear_out(store: Store, plan: CityPlan, client: MqttClient, messages: queue.SimpleQueue[_Heard]) -> int:
    """Log what a session still holds as refused, then acknowledge it. The main router makes the dead letters."""
    epoch = store.next_epoch(plan.main_router)
    count = 0
    for group in _groups(messages):
        now_s = time.time()
        store.log(plan.main_router).append(epoch, [_refused(each, now_s) for each in group])
        client.acknowledge(group[-1].mid, group[-1].connection)
        count += len(group)
    return count


def _groups(messages: queue.SimpleQueue[_Heard]) -> Iterator[list[_Heard]]:
    deadline = time.monotonic() + HEARD_OUT_WITHIN_S
    while time.monotonic() < deadline:
        try:
            group = [messages.get(timeout=QUIET_S)]
        except queue.Empty:
            return
        while len(group) < 1000 and not messages.empty():
            group.append(messages.get())
        yield group


def _refused(heard: _Heard, now_s: float) -> Entry:
    reason = Reason.ELSEWHERE
    said = Refusal(heard.topic, reason.value, reason.explain(), count_readings(heard.payload), heard.payload)
    return Entry(NOBODY, int(Note.REFUSED), 0, now_s, encode(said))
