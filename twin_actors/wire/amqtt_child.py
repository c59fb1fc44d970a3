"""The embedded amqtt broker as a process: ``python -m twin_actors.wire.amqtt_child --port 1883 --log amqtt.log``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler

_LOG_BYTES = 4 * 1024 * 1024


async def serve(port: int) -> None:
    """Serve MQTT 3.1.1 on the loopback, anybody welcome, until SIGTERM or SIGINT."""
    from amqtt.broker import Broker

    configuration = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ended.set)
    broker = Broker(configuration)
    await broker.start()
    await ended.wait()
    await broker.shutdown()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True, help="file for warnings and errors, at most 8 MiB")
    chosen = parser.parse_args(arguments)
    handler = RotatingFileHandler(chosen.log, maxBytes=_LOG_BYTES, backupCount=1)
    logging.basicConfig(
        level=logging.WARNING, handlers=[handler], format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    asyncio.run(serve(chosen.port))


if __name__ == "__main__":
    main()
