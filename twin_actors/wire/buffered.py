"""paho's client with a buffer before its socket, and its two packets of mass traffic done without ceremony.

paho reads a packet by its first byte, then byte by byte its length, then the rest, each from the socket, and makes six
objects for a message. At tens of thousands of messages a second that is most of the router's work (ADR 0010). Here a
PUBLISH of QoS 0 or 1 that lies whole in the buffer is taken from it by slices, and many PUBACKs leave as one write.
Everything else (connecting, keeping alive, subscriptions, QoS 2, long messages, anything malformed) is left in the
buffer for paho. paho offers no place for this but private names; where a version of it lacks them,
``client_class`` falls back to the client as it is.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion

_CHUNK: Final = 65_536
_PUBLISH: Final = 0x30
_PUBACK: Final = 0x40
_ACKNOWLEDGEMENT: Final = struct.Struct("!BBH")

Arrive: TypeAlias = Callable[[bytes, bytes, int, int], None]
"""``arrive(topic, payload, qos, mid)``; the topic as the broker sent it."""


class BufferedClient(paho.Client):
    """Reads ahead; ``buffered`` says that a packet waits here although the socket may have nothing more."""

    _ahead = b""
    _taken = 0
    _cut_short = False  # what waits is the beginning of a PUBLISH whose end has not arrived

    @property
    def buffered(self) -> bool:
        return self._taken < len(self._ahead) and not self._cut_short

    @property
    def cut_short(self) -> bool:
        """Only the beginning of a message waits: there is nothing to do until more arrives."""
        return self._cut_short

    def forget_buffer(self) -> None:
        """What was read ahead belongs to a connection that has ended."""
        self._ahead, self._taken, self._cut_short = b"", 0, False

    def take_publishes(self, arrive: Arrive, most: int) -> int:
        """Hand over up to ``most`` messages of QoS 0 and 1; stops at any other packet, which ``loop_read`` reads.

        An exception of ``arrive`` leaves the buffer behind the message that raised it.
        """
        if self._in_packet["command"]:
            return 0  # paho is in the middle of a packet
        waits = self._taken < len(self._ahead)
        if (not waits or self._cut_short) and not self._read_ahead():
            return 0
        ahead, at, end = self._ahead, self._taken, len(self._ahead)
        has_properties = self._protocol == MQTTProtocolVersion.MQTTv5
        taken = 0
        cut_short = False
        try:
            while taken < most and at < end:
                head = ahead[at]
                if head & 0xF0 != _PUBLISH or head & 0x04:
                    break  # another packet, or QoS 2
                begin = at + 2
                if begin >= end:
                    cut_short = True
                    break
                length = ahead[at + 1]
                if length & 0x80:  # the length goes on in a second byte; in a third, and it is left to paho
                    second = ahead[begin]
                    if second & 0x80:
                        break
                    length = length & 0x7F | second << 7
                    begin += 1
                stop = begin + length
                if stop > end:
                    cut_short = True
                    break
                topic_at = begin + 2
                topic_end = topic_at + (ahead[begin] << 8 | ahead[begin + 1]) if length >= 2 else stop + 1
                qos = head >> 1
                payload_at = topic_end
                mid = 0
                if qos & 1:
                    payload_at += 2
                if payload_at + has_properties > stop:
                    break  # malformed: paho says so
                if qos & 1:
                    mid = ahead[topic_end] << 8 | ahead[topic_end + 1]
                if has_properties:
                    skip = ahead[payload_at]
                    payload_at += 1 + skip
                    if skip & 0x80 or payload_at > stop:
                        break  # long properties, or malformed
                at = stop
                taken += 1
                arrive(ahead[topic_at:topic_end], ahead[payload_at:stop], qos & 1, mid)
        finally:
            self._taken = at
            self._cut_short = cut_short
        if taken:
            with self._msgtime_mutex:
                self._last_bytes_received = time.monotonic()
        return taken

    def acknowledge(self, mids: Sequence[int]) -> None:
        """Send a PUBACK (success) for each, in order, as one write."""
        packets = b"".join([_ACKNOWLEDGEMENT.pack(_PUBACK, 2, mid) for mid in mids])
        self._packet_queue(_PUBACK, packets, mids[-1], 1)

    def _read_ahead(self) -> bool:
        """Append what the socket has to what is left; False when that is nothing, or the connection has ended."""
        try:
            more = super()._sock_recv(_CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            more = b""
        if not more:
            self._cut_short = False  # let paho read on, and meet the end itself
            return False
        self._ahead, self._taken = self._ahead[self._taken :] + more, 0
        return True

    def _sock_recv(self, bufsize: int) -> bytes:
        start = self._taken
        self._cut_short = False
        if start == len(self._ahead):
            if bufsize >= _CHUNK:
                return super()._sock_recv(bufsize)
            self._ahead, start = super()._sock_recv(_CHUNK), 0
        self._taken = end = min(start + bufsize, len(self._ahead))
        return self._ahead[start:end]


class PlainClient(paho.Client):
    """The same face without a buffer."""

    buffered = False
    cut_short = False

    def forget_buffer(self) -> None:
        """There is none."""

    def take_publishes(self, arrive: Arrive, most: int) -> int:
        """None: ``loop_read`` hands every message to ``on_message``."""
        return 0

    def acknowledge(self, mids: Sequence[int]) -> None:
        for mid in mids:
            self.ack(mid, 1)


_NEEDED: Final = ("_sock_recv", "_packet_queue")


@cache
def client_class() -> type[BufferedClient] | type[PlainClient]:
    if not all(hasattr(paho.Client, name) for name in _NEEDED):
        return PlainClient
    probe = paho.Client(paho.CallbackAPIVersion.VERSION2)
    known = hasattr(probe, "_msgtime_mutex") and "command" in getattr(probe, "_in_packet", {})
    return BufferedClient if known else PlainClient
