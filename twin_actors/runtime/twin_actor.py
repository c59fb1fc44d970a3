"""The twin actor: a thin Ray shell over a Holder. It takes batches and ticks, answers, and never calls anybody."""

from __future__ import annotations

import os
import uuid
from typing import Any, NamedTuple

import psutil

from twin_actors.core.table import Shown
from twin_actors.runtime.holder import Outcomes, Refused, Reply
from twin_actors.runtime.plan import CityPlan


class Hello(NamedTuple):
    """Who answers under an actor's name, and how far it has come."""

    name: str
    epoch: int
    incarnation: str
    outcomes: Outcomes
    twins: int
    pid: int
    memory_bytes: int
    refused: list[Refused]  # of late, in case their answer was lost


class TwinActor:
    """Constructor arguments are ids and paths only, so that Ray can run it again at any time on its own."""

    def __init__(self, folder: str, name: str, epoch: int) -> None:
        self._name = name
        self._holder = CityPlan.load(folder).holder(name, epoch=epoch, incarnation=uuid.uuid4().hex[:12])

    def hello(self) -> Hello:
        holder = self._holder
        return Hello(
            self._name,
            holder.epoch,
            holder.incarnation,
            holder.outcomes(),
            sum(len(group.table) for group in holder.groups),
            os.getpid(),
            psutil.Process().memory_full_info().uss,
            list(holder.refused),
        )

    def apply(self, blob: bytes) -> Reply:
        return self._holder.apply(blob)

    def show(self, now_s: float, with_control: bool) -> tuple[dict[str, Shown], float]:
        """Every kind's columns at a moment, and the newest device time seen."""
        return self._holder.show(now_s, with_control=with_control), self._holder.latest_s

    def reported(self, entity: str) -> dict[str, Any]:
        return self._holder.reported(entity)

    def fates_by_entity(self) -> tuple[int, dict[str, tuple[int, ...]]]:
        return self._holder.fates_by_entity()

    def snapshot(self) -> tuple[int, bytes]:
        return self._holder.snapshot()

    def restore(self, offset: int, blob: bytes) -> Hello:
        self._holder.restore(offset, blob)
        return self.hello()

    def fence(self, epoch: int) -> None:
        """Take a new epoch; batches of any other are refused from now on. Lower ones than the present are ignored."""
        self._holder.epoch = max(self._holder.epoch, epoch)

    def __repr__(self) -> str:
        return f"TwinActor({self._name})"
