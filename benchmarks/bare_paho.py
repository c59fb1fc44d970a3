"""The peer: a subscriber with paho-mqtt as published, which counts messages and does nothing else.

With ``json`` as a last argument it also reads gateways' messages into a dictionary of last values.
"""

from __future__ import annotations

import json
import sys
import time

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


def main() -> None:
    host, port, topic, count, qos = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    reads = sys.argv[6:] == ["json"]
    seen = 0
    last: dict[str, tuple[float, dict[str, float]]] = {}

    def read(payload: bytes) -> None:
        said = json.loads(payload)
        if isinstance(said, dict):
            kind, ts, columns = said["kind"], said["ts"], said["values"]
            for place, name in enumerate(said["entities"]):
                last[f"{kind}/{name}"] = ts, {field: column[place] for field, column in columns.items()}
        else:
            for each in said:
                last[each["entity"]] = each["ts"], each["values"]

    def on_message(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        nonlocal seen
        seen += 1
        if reads:
            read(message.payload)
        if seen == count:
            print(json.dumps({"ended": time.time(), "cpu_s": time.process_time()}), flush=True)
            client.disconnect()

    def on_connect(client: paho.Client, *_: object) -> None:
        client.subscribe(topic, qos)

    def on_subscribe(*_: object) -> None:
        print("ready", flush=True)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message, client.on_connect, client.on_subscribe = on_message, on_connect, on_subscribe
    client.connect(host, port)
    client.loop_forever()


if __name__ == "__main__":
    main()
