"""A peer: one pykka actor per twin (a thread and a mailbox each), paho in front, one ``tell`` per message."""

from __future__ import annotations

import itertools
import os
import threading
import time
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pykka
from equation import FlowTwin
from paho.mqtt.enums import CallbackAPIVersion
from protocol import SILENCE_S, Counted, arguments, say_done, say_ready


class TwinActor(pykka.ThreadingActor):
    """One twin; ``payload`` arrives as it came and is decoded here, as in the product."""

    use_daemon_thread = True

    def __init__(self, arrived: Any) -> None:
        super().__init__()
        self.twin = FlowTwin()
        self._arrived = arrived

    def on_receive(self, message: Any) -> Any:
        if message is None:
            return self.twin.flow_pph
        decoded = msgspec.json.decode(message)
        self.twin.update(decoded["ts"] / 1000.0, decoded["values"]["flow_pph"])
        self._arrived()
        return None


def main() -> None:
    said = arguments(__doc__)
    counted, done, numbers = Counted(said.count), threading.Event(), itertools.count(1)

    def arrived() -> None:
        counted.seen = number = next(numbers)  # next() of a count is one step of the interpreter
        if number == said.count:
            counted.mark()
            done.set()

    actors: dict[str, Any] = {}

    def on_message(client: paho.Client, userdata: object, message: paho.MQTTMessage) -> None:
        _, kind, name, _ = message.topic.split("/")
        entity = f"{kind}/{name}"
        actor = actors.get(entity)
        if actor is None:
            actor = actors[entity] = TwinActor.start(arrived)
        actor.tell(message.payload)

    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.on_connect = lambda client, *_: client.subscribe(said.topic, said.qos)
    client.on_subscribe = lambda *_: say_ready()
    client.connect(said.host, said.port)
    client.loop_start()
    before = -1
    while not done.wait(SILENCE_S):
        if counted.silent(before):
            counted.mark()
            break
        before = counted.seen
    cpu_s = time.process_time()
    client.disconnect()
    client.loop_stop()
    flows = {entity: actor.ask(None, timeout=30) for entity, actor in actors.items()}
    say_done(ended=counted.ended, seen=next(numbers) - 1, cpu_s=cpu_s, flows=flows)
    os._exit(0)  # thousands of threads that wait for messages: nothing is to be tidied


if __name__ == "__main__":
    main()
