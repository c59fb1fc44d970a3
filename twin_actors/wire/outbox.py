"""What a client still has to send: bounded, in order, kept over reconnects for QoS 1."""

from __future__ import annotations

from collections import deque
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

MOST_INFLIGHT: Final = 65_535


class Outbox:
    """Messages on their way out of one client; its owner holds a lock around every call.

    At most ``max_queued`` of each QoS wait; at most ``max_inflight`` of QoS 1 (less, where the broker says so) are
    with the broker without an acknowledgement.
    """

    def __init__(self, max_queued: int, max_inflight: int) -> None:
        if not 0 < max_inflight <= MOST_INFLIGHT:
            raise ValueError(f"max_inflight lies between 1 and {MOST_INFLIGHT}, not {max_inflight}")
        if max_queued < 1:
            raise ValueError(f"max_queued is at least 1, not {max_queued}")
        self.published = 0
        self.refused = 0  # not taken here
        self.denied = 0  # not taken by the broker
        self._max_queued = max_queued
        self._max_inflight = max_inflight
        self._window = max_inflight
        self._waiting: deque[tuple[str, bytes, bool]] = deque()  # QoS 1, not handed to paho yet
        self._unanswered: set[int] = set()  # QoS 1 at the broker, by mid
        self._backlog = 0  # QoS 0 published since the socket was last seen drained

    def unsent(self, client: paho.Client) -> int:
        """Messages taken that are not known to have left: QoS 1 not acknowledged, QoS 0 in buffers."""
        return len(self._waiting) + len(self._unanswered) + (self._backlog if client.want_write() else 0)

    @property
    def busy(self) -> bool:
        return bool(self._waiting or self._unanswered or self._backlog)

    def take(self, client: paho.Client, connected: bool, topic: str, payload: bytes, qos: int, retain: bool) -> bool:
        """Send or keep a message; False, and counted, when there is no room (QoS 0: or no connection)."""
        taken = (
            self._take_sure(client, connected, topic, payload, retain)
            if qos
            else connected and self._take_quick(client, topic, payload, retain)
        )
        if taken:
            self.published += 1
        else:
            self.refused += 1
        return taken

    def _take_sure(self, client: paho.Client, connected: bool, topic: str, payload: bytes, retain: bool) -> bool:
        if len(self._waiting) + len(self._unanswered) >= self._max_queued:
            return False
        self._waiting.append((topic, payload, retain))
        if connected:
            self.send(client)
        return True

    def _take_quick(self, client: paho.Client, topic: str, payload: bytes, retain: bool) -> bool:
        if not client.want_write():
            self._backlog = 0
        elif self._backlog >= self._max_queued:
            return False
        if client.publish(topic, payload, 0, retain).rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        self._backlog += 1
        return True

    def send(self, client: paho.Client) -> None:
        """Hand QoS 1 messages to paho as far as the window allows; only when connected."""
        while self._waiting and len(self._unanswered) < self._window:
            topic, payload, retain = self._waiting[0]
            info = client.publish(topic, payload, 1, retain)
            if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # all numbers of messages are in use
                return
            self._waiting.popleft()
            self._unanswered.add(info.mid)

    def answered(self, mid: int) -> bool:
        """Note the broker's answer; whether it was one to a QoS 1 message."""
        # paho reports QoS 0 here too: a mid that equals a waiting one (65,535 messages later) only widens the window
        if mid not in self._unanswered:
            return False
        self._unanswered.discard(mid)
        return True

    @property
    def uses_qos_1(self) -> bool:
        return bool(self._waiting or self._unanswered)

    def connected(self, receive_maximum: int) -> None:
        self._window = min(self._max_inflight, receive_maximum)

    def disconnected(self) -> None:
        self._backlog = 0

    def take_back(self, client: paho.Client) -> None:
        """Before a paho client is given up: keep what the broker has not acknowledged for the next one."""
        unanswered = [(m.topic, bytes(m.payload), m.retain) for m in client.drop_out_messages()]
        self._waiting.extendleft(reversed(unanswered))
        self._unanswered.clear()
