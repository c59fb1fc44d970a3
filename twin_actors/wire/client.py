"""An MQTT client that says how it is: reconnecting, bounded, with acknowledgements in the caller's hand.

There is one engine, ``step``, which the router calls in its own thread; ``start`` runs the same engine in a thread for
everybody else. All calls are thread-safe.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Self

from twin_actors.wire.address import BrokerAddress, BrokerUnreachable
from twin_actors.wire.connection import Connection, Receive
from twin_actors.wire.greeting import Will

__all__ = ["BrokerAddress", "BrokerUnreachable", "MqttClient", "Receive", "Will"]

logger = logging.getLogger(__name__)


class MqttClient(Connection):
    """A connection to one broker that is kept up for ever.

    ``subscriptions`` are renewed after every reconnect. With ``manual_ack`` QoS 1 deliveries are acknowledged by
    ``acknowledge`` only. At most ``max_queued`` messages wait to be sent for each QoS; what does not fit is refused,
    and counted in ``refused``. With ``clean_start=False`` the broker keeps the session of ``client_id`` for
    ``session_expiry_s``, and with ``receive_maximum`` it has at most so many QoS 1 messages under way unacknowledged
    (MQTT 5). A TCP or TLS handshake may hold a ``step`` up for ``connect_timeout_s``.
    """

    @property
    def published(self) -> int:
        """Messages taken by ``publish``."""
        return self._outbox.published

    @property
    def refused(self) -> int:
        """Messages that ``publish`` did not take: no room, or QoS 0 without a connection."""
        return self._outbox.refused

    @property
    def denied(self) -> int:
        """QoS 1 messages that the broker did not take (MQTT 5 only: 3.1.1 brokers cannot say so)."""
        return self._outbox.denied

    @property
    def unsent(self) -> int:
        """Messages taken by ``publish`` that are not known to have left: QoS 1 not acknowledged, QoS 0 in buffers."""
        with self._lock:
            return self._outbox.unsent(self._client)

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
            self._wakeup.close()

    def drop(self) -> None:
        """Cut the connection without a word, as a failing network would; it comes back by itself."""
        with self._lock:
            self._hang_up(politely=False)
            self._client = self._new_client()
            self._wake()

    def pause(self) -> None:
        """Leave the broker and stay away until ``resume``; it keeps QoS 1 for a session that lasts."""
        with self._lock:
            if not self.paused:
                self.paused = True
                self.last_error = "away from the broker until there is room for more"
                self._hang_up(politely=False)
                self._client = self._new_client()

    def resume(self) -> None:
        """Come back after ``pause``."""
        with self._lock:
            self.paused = False
            self._redial.at_once()

    def wake(self) -> None:
        """End the ``step`` under way in another thread."""
        try:
            self._wakeup.ring()
        except OSError:
            return  # closed

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
        if not topic or "+" in topic or "#" in topic:
            raise ValueError(f"nothing can be published to {topic!r}: a topic is not empty and has no wildcards")
        with self._lock:
            if qos and self._client.on_publish is None:
                self._client.on_publish = self._on_publish  # clients of QoS 0 alone need not pay for it
            taken = self._outbox.take(self._client, self._connected, topic, payload, qos, retain)
            if self._client.want_write():
                self._wake()
            return taken

    def acknowledge(self, mid: int, connection: int) -> int:
        """Acknowledge all QoS 1 deliveries of a connection up to and including ``mid``, in their order of arrival.

        Returns how many; 0, and counted, when they came on an earlier connection, whose deliveries the broker repeats.
        """
        with self._lock:
            if connection != self.connection or mid not in self._deliveries:
                self.stale_acknowledgements += 1
                return 0
            if not self._connected:
                return 0
            mids = self._deliveries.take_until(mid)
            self._client.acknowledge(mids)
            if self._client.want_write():
                self._wake()
            return len(mids)
