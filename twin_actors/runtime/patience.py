"""Waiting for a store that is away while an actor starts: better late than a constructor that Ray gives up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from twin_actors.store import StoreUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE_PATIENCE_S = 60.0
"""How long a new incarnation waits for a store that is away before Ray must start it again."""
LOOK_EVERY_S = 0.5


def patiently(ask: Callable[[], T]) -> T:
    """What ``ask`` returns, asked again while the store is away; its last StoreUnavailable after the patience."""
    deadline = time.monotonic() + STORE_PATIENCE_S
    said = False
    while True:
        try:
            return ask()
        except StoreUnavailable as error:
            if time.monotonic() > deadline:
                raise
            if not said:
                log.warning("waiting for the store: %s", error)
                said = True
            time.sleep(LOOK_EVERY_S)  # a server that is away cannot be waited on; the loop has a deadline
