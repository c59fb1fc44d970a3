"""When a client tries its broker again, and with which version of MQTT."""

from __future__ import annotations

import random
import time
from typing import Final

from paho.mqtt.enums import MQTTProtocolVersion

_FIRST_DELAY_S: Final = 0.2
_LONGEST_DELAY_S: Final = 10.0
_FORGET_VERSION_AFTER: Final = 3  # closings before CONNACK until the known version of MQTT is doubted
_OTHER: Final = {
    MQTTProtocolVersion.MQTTv5: MQTTProtocolVersion.MQTTv311,
    MQTTProtocolVersion.MQTTv311: MQTTProtocolVersion.MQTTv5,
}


class Redial:
    """``protocol`` is "5", "3.1.1", or "auto": 5 first, and 3.1.1 where the broker does not know it."""

    def __init__(self, protocol: str) -> None:
        self.version = MQTTProtocolVersion.MQTTv311 if protocol == "3.1.1" else MQTTProtocolVersion.MQTTv5
        self.version_known = protocol != "auto"
        self.failed = 0
        self._auto = protocol == "auto"
        self._in_a_row = 0
        self._hung_up = 0
        self._next_s = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next_s

    @property
    def wait_s(self) -> float:
        return max(self._next_s - time.monotonic(), 0.0)

    def at_once(self) -> None:
        self._next_s = 0.0

    def succeeded(self) -> None:
        self.version_known = True
        self._hung_up = self._in_a_row = 0
        self._next_s = 0.0

    def put_off(self) -> None:
        """An attempt failed: the next one is later, each time twice as much, and not all clients' at once."""
        self.failed += 1
        delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(self._in_a_row, 10))
        self._in_a_row += 1
        self._next_s = time.monotonic() + delay_s * random.uniform(0.5, 1.0)

    def hung_up_on(self) -> tuple[bool, bool]:
        """The broker closed the connection without an answer: a broker that speaks 3.1.1 only may do so.

        Whether the other version is up now, and whether this was the usual greeting of an older broker, for which
        nobody needs to wait.
        """
        self._hung_up += 1
        if self._auto and self._hung_up >= _FORGET_VERSION_AFTER:
            self.version_known = False
        if self.version_known:
            return False, False
        usual = self.version == MQTTProtocolVersion.MQTTv5 and self._hung_up == 1
        self.version = _OTHER[self.version]
        return True, usual
