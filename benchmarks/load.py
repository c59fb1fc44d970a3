"""A load generator that costs next to nothing: MQTT 3.1.1 packets made beforehand and written to a socket."""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import sys
import time

MOST_OPEN = 5_000
"""QoS 1 messages that the broker may owe an acknowledgement for; packet identifiers must not meet themselves."""


def length(number: int) -> bytes:
    """The variable-length integer of MQTT 3.1.1, section 2.2.3."""
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def publish_packet(topic: str, payload: bytes, mid: int = 0) -> bytes:
    """A PUBLISH of QoS 0, or of QoS 1 with a packet identifier."""
    body = text(topic) + (struct.pack(">H", mid) if mid else b"") + payload
    return (b"\x32" if mid else b"\x30") + length(len(body)) + body


class Acknowledged:
    """Counts the PUBACKs that come back on a socket, and waits until few enough are outstanding."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._bytes = sock, 0

    def wait(self, sent: int, most_open: int) -> None:
        while sent - self._bytes // 4 > most_open:
            self._take(block=True)
        self._take(block=False)

    def _take(self, *, block: bool) -> None:
        if not block and not select.select([self._sock], [], [], 0)[0]:
            return
        data = self._sock.recv(65_536)
        if not data:
            raise ConnectionError("the broker has hung up on the load generator")
        self._bytes += len(data)


def connect(host: str, port: int, client_id: str) -> socket.socket:
    sock = socket.create_connection((host, port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = text("MQTT") + b"\x04\x02" + struct.pack(">H", 0) + text(client_id)
    sock.sendall(b"\x10" + length(len(body)) + body)
    answer = sock.recv(4)
    if answer[:1] != b"\x20" or answer[3] != 0:
        raise ConnectionError(f"the broker refused the load generator: {answer!r}")
    sock.settimeout(60)
    return sock


def readings(count: int, twins: int, root: str, kind: str, field: str) -> list[tuple[str, float]]:
    """(entity name, value) round robin over the twins, with values that differ from reading to reading."""
    return [(f"{kind}/e-{n % twins + 1:05d}", 100.0 + (n * 7919 % 1000)) for n in range(count)]


def main() -> None:
    """Read a plan as JSON from stdin, prepare, say "ready", wait for a line, publish, print what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    plan = json.loads(sys.stdin.readline())
    sock = connect(plan["host"], plan["port"], plan["client_id"])
    items = readings(plan["count"], plan["twins"], plan["root"], plan["kind"], plan["field"])
    start_ms = plan["start_ms"]
    rate, qos = plan.get("rate"), plan.get("qos", 0)
    template = '{{"ts": {ts}, "values": {{"' + plan["field"] + '": {value}}}}}'
    if rate is None:
        packets = [
            publish_packet(
                f"{plan['root']}/{e}/telemetry",
                template.format(ts=start_ms + n, value=v).encode(),
                n % 60_000 + 1 if qos else 0,
            )
            for n, (e, v) in enumerate(items)
        ]
        chunks = [b"".join(packets[n : n + 200]) for n in range(0, len(packets), 200)]
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # whoever asked has ended
    began = time.time()
    if rate is None:
        acknowledged = Acknowledged(sock)
        for number, chunk in enumerate(chunks, start=1):
            sock.sendall(chunk)
            if qos:
                acknowledged.wait(number * 200, MOST_OPEN)
        if qos:
            acknowledged.wait(len(packets), 0)
    else:
        topics = [f"{plan['root']}/{entity}/telemetry" for entity, _ in items]
        due = time.perf_counter()
        every = 1 / rate
        for (_, value), topic in zip(items, topics, strict=True):
            due += every
            wait = due - time.perf_counter()
            if wait > 0.0005:
                time.sleep(wait)
            payload = template.format(ts=f"{time.time() * 1000:.3f}", value=value).encode()
            sock.sendall(publish_packet(topic, payload))
    ended = time.time()
    print(json.dumps({"began": began, "ended": ended, "sent": len(items)}), flush=True)
    sys.stdin.readline()  # amqtt forgets what it has not passed on when its sender leaves: stay until told
    sock.sendall(b"\xe0\x00")


if __name__ == "__main__":
    main()
