"""Gateways as a load: MQTT packets of many readings made beforehand and written to a socket at once."""

from __future__ import annotations

import argparse
import json
import sys
import time

from load import Acknowledged, connect, publish_packet

CHUNK = 20
MOST_OPEN = 1_000
"""QoS 1 messages for which the broker may owe one gateway an acknowledgement."""


def message(form: str, kind: str, field: str, names: list[str], ts: int, values: list[float]) -> bytes:
    """One message of a gateway in one of its forms: ``columns`` or ``list``."""
    if form == "columns":
        said: object = {"kind": kind, "entities": names, "ts": ts, "values": {field: values}}
    else:
        said = [
            {"entity": f"{kind}/{name}", "ts": ts, "values": {field: value}}
            for name, value in zip(names, values, strict=True)
        ]
    return json.dumps(said, separators=(",", ":")).encode()


def readings(plan: dict[str, object], number: int) -> tuple[list[int], list[float]]:
    """(twins, values) of one message: gateways take turns through the twins they speak for."""
    batch, first, twins = int(plan["batch"]), int(plan["first"]), int(plan["twins"])  # type: ignore[call-overload]
    begin = number * batch % twins
    own = [first + (begin + place) % twins for place in range(batch)]
    return own, [100.0 + ((number * batch + place) * 7919 % 1000) for place in range(batch)]


def main() -> None:
    """Read a plan as JSON from stdin, prepare, say "ready", wait for a line, publish, print what was done."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    plan = json.loads(sys.stdin.readline())
    sock = connect(plan["host"], plan["port"], plan["client_id"])
    topic = f"{plan['root']}/gateway/{plan['client_id']}/telemetry"
    packets = []
    for number in range(plan["messages"]):
        own, values = readings(plan, number)
        names = [f"e-{twin + 1:05d}" for twin in own]
        payload = message(plan["form"], plan["kind"], plan["field"], names, plan["start_ms"] + number, values)
        packets.append(publish_packet(topic, payload, number % 60_000 + 1 if plan["qos"] else 0))
    chunks = [b"".join(packets[n : n + CHUNK]) for n in range(0, len(packets), CHUNK)]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.time()
    acknowledged = Acknowledged(sock)
    for number, chunk in enumerate(chunks, start=1):
        sock.sendall(chunk)
        if plan["qos"]:
            acknowledged.wait(number * CHUNK, MOST_OPEN)
    if plan["qos"]:
        acknowledged.wait(len(packets), 0)
    ended = time.time()
    sock.sendall(b"\xe0\x00")
    print(json.dumps({"began": began, "ended": ended, "sent": len(packets)}), flush=True)


if __name__ == "__main__":
    main()
