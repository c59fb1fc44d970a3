"""An MQTT client that says how it is: reconnecting, bounded, with acknowledgements in the caller's hand.

There is one engine, ``step``, which the router calls in its own thread; ``start`` runs the same engine in a thread for
everybody else. All calls are thread-safe.
"""

from __future__ import annotations

import logging
import random
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from twin_actors.wire.address import BrokerAddress, BrokerUnreachable, explain_failure, explain_refusal

__all__ = ["BrokerAddress", "BrokerUnreachable", "MqttClient", "Receive", "Will"]

Receive: TypeAlias = Callable[[str, bytes, int, int, int], None]
"""``receive(topic, payload, qos, mid, connection)``; the topic is empty where the sender's was not UTF-8."""

logger = logging.getLogger(__name__)

_FIRST_DELAY_S: Final = 0.2
_LONGEST_DELAY_S: Final = 10.0
_CONNACK_WITHIN_S: Final = 5.0
_BURST: Final = 256  # messages read in one step before others get their turn
_MISC_EVERY_S: Final = 0.25
_UNSUPPORTED_PROTOCOL: Final = 132
_SESSION_TAKEN_OVER: Final = 142
_FORGET_PROTOCOL_AFTER: Final = 3  # closings before CONNACK until the known version of MQTT is doubted
_OK: Final = MQTTErrorCode.MQTT_ERR_SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes for a client that vanishes without a word."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


def _close_both(one: socket.socket, other: socket.socket) -> None:
    one.close()
    other.close()


class MqttClient:
    """A connection to one broker that is kept up for ever.

    ``subscriptions`` are renewed after every reconnect. With ``manual_ack`` QoS 1 deliveries are acknowledged by
    ``acknowledge`` only. At most ``max_queued`` messages wait to be sent for each QoS; what does not fit is refused,
    and counted in ``refused``. With ``clean_start=False`` the broker keeps the session of ``client_id`` for
    ``session_expiry_s``. A TCP or TLS handshake may hold a ``step`` up for ``connect_timeout_s``.
    """

    def __init__(
        self,
        address: BrokerAddress,
        receive: Receive | None = None,
        *,
        client_id: str = "",
        subscriptions: Iterable[tuple[str, int]] = (),
        clean_start: bool = True,
        session_expiry_s: int = 86_400,
        manual_ack: bool = False,
        will: Will | None = None,
        max_queued: int = 10_000,
        max_inflight: int = 1_000,
        connect_timeout_s: float = 3.0,
    ) -> None:
        if not clean_start and not client_id:
            raise ValueError("clean_start=False needs a client_id: the broker keeps the session under that name")
        if not 0 < max_inflight < 65_536:
            raise ValueError(f"max_inflight lies between 1 and 65535, not {max_inflight}")
        self.address = address
        self.client_id = client_id
        self._receive = receive
        self._subscriptions = dict(subscriptions)
        self._clean_start = clean_start
        self._session_expiry_s = session_expiry_s
        self._manual_ack = manual_ack
        self._will = will
        self._max_queued = max_queued
        self._max_inflight = max_inflight
        self._connect_timeout_s = connect_timeout_s
        self._tls = address.tls_context() if address.tls else None

        self.connection = 0  # number of the session with the broker, 0 before the first
        self.last_error = ""
        self.received = 0
        self.published = 0
        self.refused = 0  # messages that publish did not take
        self.denied = 0  # messages that the broker did not take
        self.stale_acknowledgements = 0
        self.failed_attempts = 0
        self.callback_errors = 0

        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._protocol = MQTTProtocolVersion.MQTTv311 if address.protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
        self._protocol_known = address.protocol != "auto"
        self._connected = False
        self._greeted = False  # the broker answered the CONNECT under way, with yes or no
        self._subscribing: set[int] = set()
        self._window = max_inflight
        self._waiting: deque[tuple[str, bytes, bool]] = deque()  # QoS 1, not handed to paho yet
        self._unanswered: set[int] = set()  # QoS 1 at the broker, by mid
        self._backlog = 0  # QoS 0 published since the socket was last seen drained
        self._unacknowledged: deque[int] = deque()  # QoS 1 deliveries in the order of arrival
        self._held: set[int] = set()
        self._failure: Exception | None = None
        self._attempts = 0
        self._closed_early = 0
        self._next_attempt_s = 0.0
        self._opened_s = 0.0
        self._misc_s = 0.0
        self._poll: select.poll | None = None
        self._polled_for_write = False
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._closed = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        weakref.finalize(self, _close_both, self._wake_in, self._wake_out)  # a client may be forgotten unclosed
        self._client = self._new_client()

    # -- what it is doing ----------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._connected

    @property
    def ready(self) -> bool:
        """Connected, and all subscriptions are in force."""
        return self._connected and not self._subscribing

    @property
    def reconnects(self) -> int:
        return max(self.connection - 1, 0)

    @property
    def protocol(self) -> str:
        """The version of MQTT in use or tried next: "5" or "3.1.1"."""
        return "5" if self._protocol == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    @property
    def unsent(self) -> int:
        """Messages taken by ``publish`` that are not known to have left: QoS 1 not acknowledged, QoS 0 in buffers."""
        with self._lock:
            backlog = self._backlog if self._client.want_write() else 0
            return len(self._waiting) + len(self._unanswered) + backlog

    def fileno(self) -> int:
        """The socket to watch from outside; -1 while there is none."""
        with self._lock:
            sock = self._client.socket()
            return -1 if sock is None else sock.fileno()

    def __repr__(self) -> str:
        how = "connected" if self._connected else f"not connected: {self.last_error or 'not tried yet'}"
        return f"<MqttClient {self.address.url} MQTT {self.protocol} {how}, {self.received} received>"

    # -- driving it ----------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Run in a thread of its own; exceptions of ``receive`` are logged and counted."""
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name=f"mqtt-{self.client_id or 'client'}", daemon=True)
            self._thread.start()
        return self

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.step(0.5)
            except Exception:
                logger.exception("%s: receiving a message failed", self.address.url)

    def step(self, timeout_s: float = 0.0) -> int:
        """Wait for the network for at most ``timeout_s``, handle what is there; the number of messages received.

        Reconnects when that is due. An exception of ``receive`` is raised here, after the message was taken.
        """
        before = self.received
        with self._lock:
            if self._client.socket() is None:
                self._reconnect_if_due()
            wait_s = self._prepare_wait(timeout_s)
            poller = self._poll
        if poller is None:
            if wait_s > 0:
                select.select([self._wake_in], [], [], wait_s)
            self._drain_wake()
            return 0
        events = dict(poller.poll(max(wait_s, 0.0) * 1000.0))
        with self._lock:
            if events.pop(self._wake_in.fileno(), 0):
                self._drain_wake()
            self._serve(bool(events))
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self.received - before

    def wait_connected(self, deadline_s: float = 10.0) -> None:
        """Return when connected and subscribed; raises BrokerUnreachable with the reason after ``deadline_s``."""
        end = time.monotonic() + deadline_s
        if self._thread is not None:
            with self._changed:
                self._changed.wait_for(lambda: self.ready, deadline_s)
        else:
            while not self.ready and time.monotonic() < end:
                self.step(min(0.1, max(end - time.monotonic(), 0.0)))
        if not self.ready:
            why = self.last_error or f"{self.address.url}: the broker does not answer"
            raise BrokerUnreachable(f"no connection within {deadline_s:g} s. {why}")

    def flush(self, deadline_s: float = 5.0) -> bool:
        """Wait until everything published has left (QoS 1: was acknowledged); False when the deadline passed."""
        end = time.monotonic() + deadline_s
        while self.unsent and time.monotonic() < end:
            if self._thread is not None and threading.current_thread() is not self._thread:
                with self._changed:
                    self._changed.wait(0.02)
            else:
                self.step(0.02)
        return self.unsent == 0

    def close(self, deadline_s: float = 2.0) -> None:
        """Send what is waiting, say goodbye (no Last Will), end the thread. The client cannot be used again."""
        if self._closed:
            return
        self._closed = True
        if self._connected:
            self.flush(deadline_s)
        self._stopping = True
        self._wake()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(deadline_s + self._connect_timeout_s)
        with self._lock:
            self._hang_up(politely=self._connected)
            self._wake_in.close()
            self._wake_out.close()

    def drop(self) -> None:
        """Cut the connection without a word, as a failing network would; it comes back by itself."""
        with self._lock:
            self._hang_up(politely=False)
            self._client = self._new_client()
            self._wake()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- using it ------------------------------------------------------------------------------------------------

    def subscribe(self, topic_filter: str, qos: int = 0) -> None:
        """Subscribe now (if connected) and after every reconnect."""
        with self._lock:
            self._subscriptions[topic_filter] = qos
            if self._connected:
                self._subscribe([(topic_filter, qos)])

    def unsubscribe(self, topic_filter: str) -> None:
        with self._lock:
            self._subscriptions.pop(topic_filter, None)
            if self._connected:
                self._client.unsubscribe(topic_filter)

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> bool:
        """Take a message for sending; False, and counted, when it cannot be taken.

        QoS 0 needs a connection; QoS 1 waits for one and is sent again until the broker acknowledges it. Raises
        ValueError for a topic with wildcards or a QoS other than 0 and 1.
        """
        if qos not in (0, 1):
            raise ValueError(f"QoS {qos} is not offered: use 0, or 1 (twins recognise duplicates)")
        with self._lock:
            if qos == 1:
                if len(self._waiting) + len(self._unanswered) >= self._max_queued:
                    self.refused += 1
                    return False
                self._waiting.append((topic, payload, retain))
                self._send_waiting()
            else:
                if not self._connected:
                    self.refused += 1
                    return False
                if not self._client.want_write():
                    self._backlog = 0
                elif self._backlog >= self._max_queued:
                    self.refused += 1
                    return False
                if self._client.publish(topic, payload, 0, retain).rc != _OK:
                    self.refused += 1
                    return False
                self._backlog += 1
            self.published += 1
            if self._client.want_write():
                self._wake()
            return True

    def acknowledge(self, mid: int, connection: int) -> int:
        """Acknowledge all QoS 1 deliveries of a connection up to and including ``mid``, in their order of arrival.

        Returns how many; 0, and counted, when they came on an earlier connection, whose deliveries the broker repeats.
        """
        with self._lock:
            if connection != self.connection or mid not in self._held:
                self.stale_acknowledgements += 1
                return 0
            done = 0
            while self._unacknowledged and self._connected:
                oldest = self._unacknowledged.popleft()
                self._held.discard(oldest)
                self._client.ack(oldest, 1)
                done += 1
                if oldest == mid:
                    break
            if self._client.want_write():
                self._wake()
            return done

    # -- the engine ----------------------------------------------------------------------------------------------

    def _new_client(self) -> paho.Client:
        v5 = self._protocol == MQTTProtocolVersion.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if v5 else self._clean_start,
            protocol=self._protocol,
            reconnect_on_failure=False,  # the engine here reconnects; paho would go down to MQTT 3.1
            manual_ack=self._manual_ack,
        )
        client.connect_timeout = self._connect_timeout_s
        client.max_inflight_messages = 0  # the window is kept here, where the broker's own limit is known
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        if self.address.username is not None:
            client.username_pw_set(self.address.username, self.address.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, self._will.qos, self._will.retain)
        return client

    def _reconnect_if_due(self) -> None:
        if self._stopping or time.monotonic() < self._next_attempt_s:
            return
        self._greeted = False
        self._opened_s = time.monotonic()
        address = self.address
        try:
            if self._protocol == MQTTProtocolVersion.MQTTv5:
                properties = Properties(PacketTypes.CONNECT)
                if not self._clean_start:
                    properties.SessionExpiryInterval = self._session_expiry_s
                self._client.connect(
                    address.host,
                    address.port,
                    address.keepalive_s,
                    clean_start=self._clean_start,
                    properties=properties,
                )
            else:
                self._client.connect(address.host, address.port, address.keepalive_s)
        except (OSError, ValueError) as error:  # a certificate for another host is a ValueError as well
            if self._tls is not None:
                self._tls.close_last()
            failure = error if isinstance(error, OSError) else OSError(str(error))
            self._attempt_failed(explain_failure(address, failure))

    def _attempt_failed(self, why: str) -> None:
        if why != self.last_error:
            logger.warning("%s", why)
        self.last_error = why
        self.failed_attempts += 1
        delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._attempts, 10))
        self._attempts += 1
        self._next_attempt_s = time.monotonic() + delay_s * random.uniform(0.5, 1.0)
        self._changed.notify_all()

    def _prepare_wait(self, timeout_s: float) -> float:
        """Adjust what is polled for; the time to wait, which ends early for a retry or for bytes held by TLS."""
        sock = self._client.socket()
        if sock is None or self._poll is None:
            return min(timeout_s, max(self._next_attempt_s - time.monotonic(), 0.0))
        wants = self._client.want_write()
        if wants != self._polled_for_write:
            self._poll.modify(sock.fileno(), select.POLLIN | (select.POLLOUT if wants else 0))
            self._polled_for_write = wants
        if self._tls is not None and sock.pending():
            return 0.0
        return min(timeout_s, _MISC_EVERY_S) if not self._connected else timeout_s

    def _serve(self, readable: bool) -> None:
        client = self._client
        if readable or self._tls is not None:
            for _ in range(_BURST):
                seen = self.received
                if client.loop_read() != _OK or client.socket() is None or self.received == seen:
                    break
                if self._failure is not None:
                    break
        if self._connected:
            self._send_waiting()
        if client.want_write():
            client.loop_write()
        now = time.monotonic()
        if now - self._misc_s >= _MISC_EVERY_S:
            self._misc_s = now
            client.loop_misc()
            if not self._connected and client.socket() is not None and now - self._opened_s > _CONNACK_WITHIN_S:
                self._hang_up(politely=False)
                self._client = self._new_client()
                self._attempt_failed(
                    f"{self.address.url}: something listens there but does not answer as an MQTT broker. "
                    "Is this the right port, and does it want TLS (mqtts://)?"
                )
        if self._unanswered or self._waiting or self._backlog:
            self._changed.notify_all()

    def _send_waiting(self) -> None:
        while self._waiting and self._connected and len(self._unanswered) < self._window:
            topic, payload, retain = self._waiting[0]
            if self._client.on_publish is None:
                self._client.on_publish = self._on_publish  # clients of QoS 0 alone need not pay for it
            info = self._client.publish(topic, payload, 1, retain)
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # all numbers of messages are in use
                return
            self._waiting.popleft()
            self._unanswered.add(info.mid)

    def _subscribe(self, filters: list[tuple[str, int]]) -> None:
        _, mid = self._client.subscribe(filters)
        if mid is not None:
            self._subscribing.add(mid)

    def _hang_up(self, *, politely: bool) -> None:
        """Close the socket, keep what the broker has not acknowledged for the next connection."""
        client = self._client
        sock = client.socket()
        unanswered = [(m.topic, bytes(m.payload), m.retain) for m in client.drop_out_messages()]
        self._waiting.extendleft(reversed(unanswered))
        self._unanswered.clear()
        client.on_disconnect = None
        if sock is not None and politely:
            client.disconnect()
        if sock is not None:
            self._on_socket_close(client, None, sock)
            client.on_socket_close = None
            sock.close()
        self._lost()

    def _lost(self) -> None:
        self._connected = False
        self._subscribing.clear()
        self._unacknowledged.clear()
        self._held.clear()
        self._backlog = 0
        self._changed.notify_all()

    def _wake(self) -> None:
        if self._thread is not None and threading.current_thread() is not self._thread:
            try:
                self._wake_out.send(b"x")
            except BlockingIOError:
                return  # it is about to wake up anyway

    def _drain_wake(self) -> None:
        try:
            self._wake_in.recv(4096)
        except BlockingIOError:
            return

    # -- callbacks of paho, under the lock --------------------------------------------------------------------------

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._poll.register(self._wake_in.fileno(), select.POLLIN)
        self._polled_for_write = False

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._poll = None

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._greeted = True
        if reason.is_failure:
            if reason.value == _UNSUPPORTED_PROTOCOL and not self._protocol_known:
                self._greeted = False  # on_disconnect, which follows, tries the other version
                return
            self._attempt_failed(explain_refusal(self.address, reason.value, reason.getName()))
            return
        if self._manual_ack:
            self._unacknowledged.clear()
            self._held.clear()
        self.connection += 1
        self._connected = True
        self._protocol_known = True
        self._closed_early = self._attempts = 0
        self._next_attempt_s = 0.0
        self.last_error = ""
        limit = getattr(properties, "ReceiveMaximum", 65_535)
        self._window = min(self._max_inflight, limit)
        self._subscribing.clear()
        if self._subscriptions:
            self._subscribe(list(self._subscriptions.items()))
        self._changed.notify_all()

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        was_connected = self._connected
        self._lost()
        if self._stopping:
            return
        if was_connected:
            why = f"{self.address.url}: the connection was lost ({reason.getName()})"
            if reason.value == _SESSION_TAKEN_OVER:
                why += f". Another client has connected as {self.client_id!r}: every client needs an id of its own"
            self._attempt_failed(why)
        elif not self._greeted:
            self._closed_before_greeting()

    def _closed_before_greeting(self) -> None:
        """A broker that speaks 3.1.1 only may say so, or just hang up; so may one that is being shut down."""
        self._closed_early += 1
        if self.address.protocol == "auto" and self._closed_early >= _FORGET_PROTOCOL_AFTER:
            self._protocol_known = False
        other = {
            MQTTProtocolVersion.MQTTv5: MQTTProtocolVersion.MQTTv311,
            MQTTProtocolVersion.MQTTv311: MQTTProtocolVersion.MQTTv5,
        }
        switch = not self._protocol_known
        first_try = switch and self._protocol == MQTTProtocolVersion.MQTTv5 and self._closed_early == 1
        if switch:
            unanswered = [(m.topic, bytes(m.payload), m.retain) for m in self._client.drop_out_messages()]
            self._waiting.extendleft(reversed(unanswered))
            self._unanswered.clear()
            self._protocol = other[self._protocol]
            self._client = self._new_client()
        if first_try:
            return  # no delay: the usual greeting of an older broker
        self._attempt_failed(
            f"{self.address.url}: the connection is closed before the broker answers. Is it an MQTT broker, "
            "does this port want TLS (mqtts://), or is it just starting or stopping?"
        )

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        self._subscribing.discard(mid)
        refused = [reason.getName() for reason in reasons if reason.is_failure]
        if refused:
            self.last_error = (
                f"{self.address.url}: the broker refuses a subscription ({', '.join(sorted(set(refused)))}). "
                "Give the user the right to read these topics"
            )
            logger.error("%s", self.last_error)
        self._changed.notify_all()

    def _on_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        # QoS 0 comes here too; a mid of its own that equals a waiting one (after 65,535 messages) only widens the window
        if mid in self._unanswered:
            self._unanswered.discard(mid)
            if reason.is_failure:
                self.denied += 1
                self.last_error = (
                    f"{self.address.url}: the broker refuses a message ({reason.getName()}). "
                    "Give the user the right to write this topic"
                )
                logger.error("%s", self.last_error)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self.received += 1
        qos, mid = message.qos, message.mid
        if qos and self._manual_ack:
            self._unacknowledged.append(mid)
            self._held.add(mid)
        if self._receive is None:
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        try:
            self._receive(topic, message.payload, qos, mid, self.connection)
        except Exception as error:  # raised by step: here it would leave paho in the middle of a packet
            self.callback_errors += 1
            self._failure = error
