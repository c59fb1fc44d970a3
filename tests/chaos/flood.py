"""Sending below any client library, so that the sender is not what limits a flood: MQTT 3.1.1 packets made by hand.

``python -m tests.chaos.flood PORT ROOT QOS PER_S SECONDS TWINS`` prints how many readings it has sent, and the seconds.
"""

from __future__ import annotations

import secrets
import select
import socket
import struct
import sys
import time
from typing import Final

WINDOW: Final = 20_000
"""QoS 1 packets without PUBACK in the one connection; below the 65,535 that MQTT has numbers for."""


def _remaining(length: int) -> bytes:
    coded = bytearray()
    while True:
        length, low = divmod(length, 128)
        coded.append(low | (0x80 if length else 0))
        if not length:
            return bytes(coded)


def publish(topic: bytes, payload: bytes, qos: int, mid: int) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (struct.pack(">H", mid) if qos else b"") + payload
    return bytes((0x30 | qos << 1,)) + _remaining(len(body)) + body


def connected(port: int) -> socket.socket:
    """A socket with an MQTT 3.1.1 session on it (CONNECT sent, CONNACK read)."""
    client_id = f"flood-{secrets.token_hex(4)}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack(">H", len(client_id)) + client_id
    link = socket.create_connection(("127.0.0.1", port), timeout=10.0)
    link.sendall(b"\x10" + _remaining(len(body)) + body)
    answer = link.recv(4)
    if answer[:1] != b"\x20" or answer[3:] != b"\x00":
        raise ConnectionError(f"the broker refused the flood: {answer!r}")
    return link


def flood(port: int, root: str, qos: int, per_s: float, seconds: float, twins: int) -> tuple[int, float]:
    """Send readings of ``twins`` entities at a rate, as far as socket and window allow: (how many, seconds taken)."""
    topics = [f"{root}/footfall/f-{n:03d}/telemetry".encode() for n in range(1, twins + 1)]
    link = connected(port)
    link.setblocking(False)
    sent = answered = 0  # readings, and bytes of PUBACKs: four for each
    waiting = bytearray()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        ready, writable, _ = select.select([link], [link] if waiting else [], [], 0 if not waiting else 0.01)
        if ready:
            answers = link.recv(1 << 16)
            if not answers:
                raise ConnectionError("the broker has closed the flood's connection")
            answered += len(answers)
        if writable:
            del waiting[: link.send(waiting[: 1 << 16])]
        due = int(passed * per_s) - sent
        if len(waiting) > 1 << 16 or due <= 0 or (qos and sent - answered // 4 >= WINDOW):
            if not waiting:
                select.select([link], [], [], 0.002)
            continue
        now_ms = round(time.time() * 1000)
        for number in range(sent, sent + min(due, 500)):
            payload = b'{"ts":%d,"seq":%d,"values":{"flow_pph":%d}}' % (now_ms, number, 500 + number % 400)
            waiting += publish(topics[number % len(topics)], payload, qos, number % 65_535 + 1)
        sent += min(due, 500)
    took_s = time.monotonic() - began
    link.setblocking(True)
    link.settimeout(20.0)
    link.sendall(waiting)
    while qos and answered // 4 < sent:
        answers = link.recv(1 << 16)
        if not answers:
            raise ConnectionError("the broker has closed the flood's connection before its last acknowledgement")
        answered += len(answers)
    link.sendall(b"\xe0\x00")
    link.close()
    return sent, took_s


def main() -> int:
    port, root, qos, per_s, seconds, twins = sys.argv[1:]
    print(*flood(int(port), root, int(qos), float(per_s), float(seconds), int(twins)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
