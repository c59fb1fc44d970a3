"""The engine of the client: one connection to a broker, kept up for ever by calls of ``step``."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from twin_actors.wire.address import BrokerAddress, explain_failure, explain_refusal
from twin_actors.wire.buffered import BufferedClient, PlainClient
from twin_actors.wire.deliveries import Deliveries
from twin_actors.wire.greeting import Greeting, Will
from twin_actors.wire.outbox import MOST_INFLIGHT, Outbox
from twin_actors.wire.redial import Redial
from twin_actors.wire.wakeup import Wakeup

Receive: TypeAlias = Callable[[str, bytes, int, int, int], None]
"""``receive(topic, payload, qos, mid, connection)``; the topic is empty where the sender's was not UTF-8."""

logger = logging.getLogger(__name__)

_CONNACK_WITHIN_S: Final = 5.0
_BURST: Final = 256  # messages read in one step before others get their turn
_MISC_EVERY_S: Final = 0.25
_UNSUPPORTED_PROTOCOL: Final = 132
_SESSION_TAKEN_OVER: Final = 142
_OK: Final = MQTTErrorCode.MQTT_ERR_SUCCESS


class Connection:
    """One connection to one broker with its state, its retries and its callbacks; `MqttClient` is what people use."""

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
        receive_maximum: int | None = None,
        will: Will | None = None,
        max_queued: int = 10_000,
        max_inflight: int = 1_000,
        connect_timeout_s: float = 3.0,
    ) -> None:
        self._greeting = Greeting(
            client_id=client_id,
            clean_start=clean_start,
            session_expiry_s=session_expiry_s,
            manual_ack=manual_ack,
            receive_maximum=receive_maximum,
            will=will,
        )
        self.address = address
        self.client_id = client_id
        self._receive = receive
        self._subscriptions = dict(subscriptions)
        self._manual_ack = manual_ack
        self._outbox = Outbox(max_queued, max_inflight)
        self._connect_timeout_s = connect_timeout_s
        self._tls = address.tls_context() if address.tls else None

        self.connection = 0  # number of the session with the broker, 0 before the first
        self.last_error = ""
        self.received = 0
        self.stale_acknowledgements = 0
        self.callback_errors = 0
        self.paused = False

        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._redial = Redial(address.protocol)
        self._connected = False
        self._greeted = False  # the broker answered the CONNECT under way, with yes or no
        self._subscribing: set[int] = set()
        self._deliveries = Deliveries()
        self._failure: Exception | None = None
        self._opened_s = 0.0
        self._misc_s = 0.0
        self._poll: select.poll | None = None
        self._polled_for_write = False
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._closed = False
        self._wakeup = Wakeup()
        self._client = self._new_client()

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
        return "5" if self._redial.version == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    @property
    def failed_attempts(self) -> int:
        """Connections that did not come about, or were lost."""
        return self._redial.failed

    def fileno(self) -> int:
        """The socket to watch from outside; -1 while there is none."""
        with self._lock:
            sock = self._client.socket()
            return -1 if sock is None else sock.fileno()

    def __repr__(self) -> str:
        how = "connected" if self._connected else f"not connected: {self.last_error or 'not tried yet'}"
        return f"<MqttClient {self.address.url} MQTT {self.protocol} {how}, {self.received} received>"

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
                select.select([self._wakeup], [], [], wait_s)
            self._wakeup.drain()
            return 0
        events = dict(poller.poll(max(wait_s, 0.0) * 1000.0))
        with self._lock:
            if events.pop(self._wakeup.fileno(), 0):
                self._wakeup.drain()
            self._serve(bool(events))
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self.received - before

    def _new_client(self) -> BufferedClient | PlainClient:
        client = self._greeting.client(self.address, self._redial.version, self._tls, self._connect_timeout_s)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        return client

    def _reconnect_if_due(self) -> None:
        if self._stopping or self.paused or not self._redial.due:
            return
        self._greeted = False
        self._opened_s = time.monotonic()
        try:
            self._greeting.connect(self._client, self.address, self._redial.version)
        except (OSError, ValueError) as error:  # a certificate for another host is a ValueError as well
            if self._tls is not None:
                self._tls.close_last()
            failure = error if isinstance(error, OSError) else OSError(str(error))
            self._attempt_failed(explain_failure(self.address, failure))

    def _attempt_failed(self, why: str) -> None:
        if why != self.last_error:
            logger.warning("%s", why)
        self.last_error = why
        self._redial.put_off()
        self._changed.notify_all()

    def _prepare_wait(self, timeout_s: float) -> float:
        """Adjust what is polled for; the time to wait, which ends early for a retry or for bytes held by TLS."""
        sock = self._client.socket()
        if sock is None or self._poll is None:
            return min(timeout_s, self._redial.wait_s)
        wants = self._client.want_write()
        if wants != self._polled_for_write:
            self._poll.modify(sock.fileno(), select.POLLIN | (select.POLLOUT if wants else 0))
            self._polled_for_write = wants
        if self._client.buffered or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return 0.0
        return min(timeout_s, _MISC_EVERY_S) if not self._connected else timeout_s

    def _serve(self, readable: bool) -> None:
        client = self._client
        if readable or client.buffered or self._tls is not None:
            until = self.received + _BURST
            while self.received < until:
                seen = self.received
                client.take_publishes(self._arrived, until - seen)
                if self._failure is not None or self.received >= until or client.cut_short:
                    break
                if client.loop_read() != _OK or client.socket() is None or self._failure is not None:
                    break
                if self.received == seen and not client.buffered:
                    break
        if self._connected:
            if self._outbox.uses_qos_1 and client.on_publish is None:
                client.on_publish = self._on_publish  # clients of QoS 0 alone need not pay for it
            self._outbox.send(client)
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
        if self._outbox.busy:
            self._changed.notify_all()

    def _subscribe(self, filters: list[tuple[str, int]]) -> None:
        _, mid = self._client.subscribe(filters)
        if mid is not None:
            self._subscribing.add(mid)

    def _hang_up(self, *, politely: bool) -> None:
        """Close the socket, keep what the broker has not acknowledged for the next connection."""
        client = self._client
        sock = client.socket()
        self._outbox.take_back(client)
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
        self._deliveries.clear()
        self._outbox.disconnected()
        self._changed.notify_all()

    def _wake(self) -> None:
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._wakeup.ring()

    # -- callbacks of paho, under the lock --------------------------------------------------------------------------

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.forget_buffer()
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        self._poll.register(self._wakeup.fileno(), select.POLLIN)
        self._polled_for_write = False

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        self._poll = None

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._greeted = True
        if reason.is_failure:
            if reason.value == _UNSUPPORTED_PROTOCOL and not self._redial.version_known:
                self._greeted = False  # on_disconnect, which follows, tries the other version
                return
            self._attempt_failed(explain_refusal(self.address, reason.value, reason.getName()))
            return
        if self._manual_ack:
            self._deliveries.clear()
        self.connection += 1
        self._connected = True
        self._redial.succeeded()
        self.last_error = ""
        self._outbox.connected(getattr(properties, "ReceiveMaximum", MOST_INFLIGHT))
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
        switched, first_try = self._redial.hung_up_on()
        if switched:
            self._outbox.take_back(self._client)
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
        if self._outbox.answered(mid) and reason.is_failure:
            self._outbox.denied += 1
            self.last_error = (
                f"{self.address.url}: the broker refuses a message ({reason.getName()}). "
                "Give the user the right to write this topic"
            )
            logger.error("%s", self.last_error)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        self._deliver(topic, bytes(message.payload), message.qos, message.mid)  # type: ignore[arg-type]  # received ones are bytes

    def _arrived(self, topic: bytes, payload: bytes, qos: int, mid: int) -> None:
        """A message that the buffered client took past paho."""
        try:
            name = topic.decode()
        except UnicodeDecodeError:
            name = ""
        self._deliver(name, payload, qos, mid)
        if qos and not self._manual_ack:
            self._client.acknowledge((mid,))

    def _deliver(self, topic: str, payload: bytes, qos: int, mid: int) -> None:
        self.received += 1
        if qos and self._manual_ack:
            self._deliveries.add(mid)
        if self._receive is None:
            return
        try:
            self._receive(topic, payload, qos, mid, self.connection)
        except Exception as error:  # raised by step: here it would leave paho in the middle of a packet
            self.callback_errors += 1
            self._failure = self._failure or error
