"""City: what people hold in a REPL. An ordinary Ray driver: closing it changes nothing in the city."""

from __future__ import annotations

import contextlib
import difflib
import functools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twin_actors.core.layout import Layout
from twin_actors.core.ledger import Ledger
from twin_actors.runtime import driving, launching, local, relocating, shutdown
from twin_actors.runtime.asking import Asking
from twin_actors.runtime.card import TwinCard
from twin_actors.runtime.driving import Progress
from twin_actors.runtime.local import CityNotFound
from twin_actors.runtime.merging import merged_status
from twin_actors.runtime.metrics import Sample, gather
from twin_actors.runtime.placement import LaunchRefused
from twin_actors.runtime.plan import PLAN_FILE, CityPlan
from twin_actors.runtime.processes import Record
from twin_actors.runtime.recorded import Recorded
from twin_actors.runtime.remembered import Remembered
from twin_actors.runtime.reshaping import Reshaped
from twin_actors.runtime.shelf import place_of, shelf_of
from twin_actors.store import erase_store

if TYPE_CHECKING:
    import pandas as pd

    from twin_actors.scenario.model import Scenario

__all__ = ["City", "CityNotFound", "LaunchRefused"]

DEADLINE_S = 15.0
LOOK_EVERY_S = 1.0
"""How old a plan that is kept in Ray may be: a look costs a call. Who finds other twins than it says looks again."""


class Made(NamedTuple):
    """A city's plan as it was read, and what is looked up in it most."""

    plan: CityPlan
    stamp: Any  # another one after every change
    number: Mapping[str, int]
    kind_of: Mapping[str, str]
    actor_of: Mapping[int, str]

    @classmethod
    def of(cls, plan: CityPlan, stamp: Any) -> Made:
        entities = plan.scenario.entities
        return cls(
            plan,
            stamp,
            {entity.id: number for number, entity in enumerate(entities)},
            {entity.id: entity.kind for entity in entities},
            {number: actor.name for actor in plan.actors for number in actor.entities},
        )


class City(Reshaped, Remembered, Recorded, Asking):
    """A running city. ``City.launch("scenarios/harbour.yaml")`` starts one, ``City.connect("harbour")`` finds it."""

    def __init__(self, record: Record) -> None:
        import ray

        self._ray = ray
        self._record = record
        self.name = record.city
        self._folder = local.folder_of(record.city)
        self._place = place_of(record, self._folder)
        self._shelf = shelf_of(self._place)
        self._looked_at = time.monotonic()
        self._made = self._read()

    def _read(self) -> Made:
        """The plan in force. In a cluster it is with Ray: the copy in the folder is for the device host beside us."""
        try:
            stamp = self._shelf.stamp(PLAN_FILE)  # before the plan: who replaces it meanwhile is noticed next time
            plan = CityPlan.load(self._place)
        except FileNotFoundError:  # Ray has been started anew, and the city with it is no more: what it was
            return Made.of(CityPlan.load(self._folder), None)
        if self._place != str(self._folder):
            CityPlan.save(self._folder, plan.scenario, plan.record)
        return Made.of(plan, stamp)

    @property
    def _now_made(self) -> Made:
        """How the city is made up; anybody may change it while it runs."""
        in_ray = self._place != str(self._folder)
        if in_ray and (time.monotonic() - self._looked_at < LOOK_EVERY_S or not self._ray.is_initialized()):
            return self._made
        self._looked_at = time.monotonic()
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile: what it was
            if self._shelf.stamp(PLAN_FILE) != self._made.stamp:
                self._made = self._read()
        return self._made

    def _look_again(self) -> None:
        """The city has been changed, or shows that it has been: the next look at its plan is a fresh one."""
        self._looked_at = float("-inf")
        _ = self._now_made

    @property
    def plan(self) -> CityPlan:  # type: ignore[override]
        """The launch plan, as of the last change."""
        return self._now_made.plan

    @property
    def scenario(self) -> Scenario:  # type: ignore[override]
        """The scenario that the city goes by now."""
        return self._now_made.plan.scenario

    @property
    def _plan(self) -> CityPlan:
        return self._now_made.plan

    @property
    def _number(self) -> Mapping[str, int]:
        return self._now_made.number

    @property
    def _kind_of(self) -> Mapping[str, str]:
        return self._now_made.kind_of

    @property
    def _actor_of(self) -> Mapping[int, str]:
        return self._now_made.actor_of

    # -- coming and going --------------------------------------------------------------------------------------

    @classmethod
    def launch(
        cls,
        scenario: str | Path | Sequence[str | Path] | Scenario,
        *,
        address: str | None = None,
        progress: Progress | None = None,
        deadline_s: float = 600.0,
    ) -> City:
        """Start a city and return when every twin has answered; it goes on when this process ends.

        ``scenario`` is a file, several files layered in order, or a Scenario. ``address="local"`` keeps Ray inside
        this process, for tests: the city ends with it. Raises ScenarioError, LaunchRefused, TimeoutError.
        """
        from twin_actors.scenario import Scenario as ScenarioRecord
        from twin_actors.scenario import load_scenario

        if not isinstance(scenario, ScenarioRecord):
            files = [scenario] if isinstance(scenario, str | Path) else list(scenario)
            scenario = load_scenario([Path(file) for file in files])
        return cls(launching.launch(scenario, address=address, progress=progress, deadline_s=deadline_s))

    @classmethod
    def connect(cls, name: str) -> City:
        """The city of this name that runs on this machine. Raises CityNotFound, naming those that do."""
        record = local.running(name)
        if record is None:
            there = ", ".join(local.cities()) or "none"
            raise CityNotFound(
                f"no city called {name!r} runs here (running: {there}); start one with City.launch(file)"
            )
        driving.connect_ray(record)
        return cls(record)

    def down(self, *, volumes: bool = False) -> None:
        """End the city: exactly the processes that its launch started. What it has kept stays, unless ``volumes``.

        The next launch of the same scenario goes on where this one stopped.
        """
        shutdown.end(self._record, local.folder_of(self.name))
        self.close()
        if volumes:
            shutdown.delete(self.name)
        elif not self._plan.keeps:
            erase_store(self._plan.store_url)

    def close(self) -> None:
        """Let go of the city; it goes on. A Ray that was started for this city's head is disconnected."""
        if "_store" in self.__dict__:
            self.__dict__.pop("_store").close()
        if self._record.address != "local" and self._ray.is_initialized():
            self._ray.shutdown()

    def __enter__(self) -> City:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- actors ------------------------------------------------------------------------------------------------

    def _call(
        self, actor: str, method: str, *arguments: Any, deadline_s: float = DEADLINE_S, again: bool = True
    ) -> Any:
        """Ask an actor; one that is being started again is asked again within the deadline, unless not ``again``."""
        deadline = time.monotonic() + deadline_s
        errors = self._ray.exceptions
        while True:
            try:
                handle = self._handle(actor)
                left_s = max(deadline - time.monotonic(), 0.1)
                return self._ray.get(getattr(handle, method).remote(*arguments), timeout=left_s)
            except errors.RayTaskError as error:
                raise error.cause from error  # what the actor itself has to say
            except errors.GetTimeoutError as error:
                raise TimeoutError(
                    f"{actor} of {self.name} did not answer within {deadline_s:g} s; "
                    "it may be overloaded: see city.status()"
                ) from error
            except (CityNotFound, errors.RayActorError) as error:
                if again and time.monotonic() < deadline and not self._ended():
                    time.sleep(0.2)  # a restart cannot be waited on; the loop has a deadline
                    continue
                raise CityNotFound(
                    f"the actor {actor!r} of {self.name!r} does not answer ({str(error).splitlines()[0]}): "
                    "the city may be ending or restarting it; see 'twin-actors ps'"
                ) from error

    def _ask_routers(self, method: str, *arguments: Any, deadline_s: float = DEADLINE_S) -> list[Any]:
        return [self._call(router, method, *arguments, deadline_s=deadline_s) for router in self._plan.routers]

    def _handle(self, actor: str) -> Any:
        try:
            return self._ray.get_actor(actor, namespace=self._record.namespace)
        except ValueError as error:
            raise CityNotFound(f"no actor {actor!r} is registered") from error

    def _ended(self) -> bool:
        """Nobody will start the actor again: the city's head, or its controller, is gone."""
        if local.running(self.name) is None:
            return True
        try:
            self._ray.get_actor("controller", namespace=self._record.namespace)
        except ValueError:
            return True
        return False

    # -- twins -------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> list[str]:
        return list(self._number)

    def _ipython_key_completions_(self) -> list[str]:
        return self.ids

    def __contains__(self, entity: object) -> bool:
        return entity in self._number

    def __len__(self) -> int:
        return len(self._number)

    def __getitem__(self, entity: str) -> TwinCard:
        """The twin of one entity, asked from its actor now. Raises KeyError with the nearest id."""
        if entity not in self._number:
            near = difflib.get_close_matches(entity, self._number, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise KeyError(f"{self.name} has no entity {entity!r}{hint}")
        number = self._number[entity]
        actor = self._actor_of[number]
        shown, reported = self._call(actor, "show", entity, self.now_s())
        kind = self._plan.catalogue.kinds[self._kind_of[entity]]
        predict = functools.partial(self.predicted, entity)
        return TwinCard(kind, self.scenario.entities[number], shown, 0, reported, predict)

    def now_s(self) -> float:
        """The city's time, seconds since the epoch."""
        if self._plan.clock.mode == "events":
            return max(float(latest_s) for latest_s in self._ask_routers("latest_s"))
        return self._plan.clock.now_s()

    def kinds(self) -> tuple[str, ...]:
        return self.scenario.kinds_used()

    # -- the city ----------------------------------------------------------------------------------------------

    def ledger(self, by: str | None = None) -> Ledger | dict[str, Ledger]:
        """The whole city's ledger, or one per "entity", "kind" or "actor" ("" holds the readings of nobody)."""
        if by is None:
            return sum(self._ask_routers("ledger"), start=Ledger())
        entities: dict[str, Ledger] = {}
        for part in self._ask_routers("ledger_by_entity", deadline_s=60.0):
            nobody = entities.get("", Ledger())
            entities |= part
            entities[""] = nobody + part[""]
        if by == "entity":
            return dict(entities)
        if by not in ("kind", "actor"):
            raise ValueError(f"a ledger goes by 'entity', 'kind' or 'actor', not by {by!r}")
        grouped: dict[str, Ledger] = {}
        for entity, ledger in entities.items():
            group = ""
            if entity:
                group = self._kind_of[entity] if by == "kind" else self._actor_of[self._number[entity]]
            grouped[group] = grouped.get(group, Ledger()) + ledger
        return grouped

    def command(self, entity: str, *, reason: str = "ordered by hand", **values: float | Sequence[float]) -> str:
        """Order something from one entity's device; returns the decision's id. Checked before it is sent.

        Raises KeyError for an unknown entity or field and ValueError for a value outside the field's limits.
        """
        if entity not in self._number:
            self[entity]
        layout = self._plan.catalogue.kinds[self._kind_of[entity]].command.layout
        if not values:
            raise ValueError(f"say what to set: {', '.join(layout.fields) or 'this kind takes no commands'}")
        checked = {name: _checked(layout, name, value) for name, value in values.items()}
        return str(self._call("aggregator", "order", entity, checked, reason, again=False))

    def status(self) -> dict[str, Any]:
        """Everything that the aggregator, the routers and the controller say about themselves.

        ``router`` is all routers as if they were one; several are told apart under ``routers``.
        """
        statuses = self._ask_routers("status")
        return {
            "city": self.name,
            "now_s": self.now_s(),
            "clock": self._plan.clock.mode,
            "aggregator": self._call("aggregator", "status"),
            "router": merged_status(statuses),
            "routers": {status["router"]: status for status in statuses},
            "controller": self._call("controller", "progress"),
        }

    def metrics(self) -> list[Sample]:
        """The city's metrics now, also of a city that only answers in part; ``metrics.exposition`` makes text of it."""

        def ask(actor: str, method: str) -> Any:
            try:
                return self._call(actor, method, deadline_s=5.0)
            except (CityNotFound, TimeoutError):
                return None  # the metrics themselves say so

        return gather(self.name, self._plan.routers, ask)

    def metrics_targets(self) -> list[dict[str, Any]]:
        """Where Prometheus finds the endpoint of every Ray node, in the form of its file discovery."""
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["MetricsExportPort"] > 0]
        found = sorted(f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes)
        return [{"targets": found, "labels": {}}]

    def nodes(self) -> pd.DataFrame:
        """One row a node that can hold twin actors: its state, how many it holds, memory, readings a second, labels."""
        return relocating.nodes(self._call)

    def sizes(self) -> pd.DataFrame:
        """One row a kind: how many of its twins share an actor, which bound decided that and from what figures.

        Beside it what was measured: readings a second of all twins of the kind together, over how long (s), the time of
        a reading in its twin actor (µs) and the memory of a twin (bytes); None where that is not known.
        """
        return relocating.sizes(self._call)

    def moves(self, last: int = 10) -> pd.DataFrame:
        """The last twin actors that were moved: from which node to which, why, and how long their readings waited."""
        return relocating.moves(self._call, last)

    def rebalance(
        self, *, dry_run: bool = False, deadline_s: float = 600.0, progress: Progress | None = None
    ) -> pd.DataFrame:
        """Move few twin actors, a few at a time, until every node has its share of memory and readings."""
        return relocating.rebalance(self._call, dry_run=dry_run, deadline_s=deadline_s, progress=progress)

    def drain(
        self, node: str, *, undo: bool = False, deadline_s: float = 600.0, progress: Progress | None = None
    ) -> pd.DataFrame:
        """Move everything off a node (address, or beginning of its id) and keep it empty, until ``undo``."""
        return relocating.drain(self._call, node, undo=undo, deadline_s=deadline_s, progress=progress)

    def actors(self) -> pd.DataFrame:
        """One row a twin actor: its twins, process, memory, node, and how it stands with the router."""
        import pandas as pd

        links = merged_status(self._ask_routers("status"))["actors"]
        rows = [line | links.get(line["actor"], {}) for line in self._call("controller", "actors")]
        return pd.DataFrame(rows).set_index("actor")

    def __repr__(self) -> str:
        try:
            kinds = self._call("aggregator", "status", deadline_s=5.0)
        except (CityNotFound, TimeoutError) as error:
            return f"<City {self.name}: not answering ({error})>"
        stale = sum(each["stale"] for each in kinds["kinds"].values())
        twins = f"{len(self):,} twins in {len(self.kinds())} kinds"
        return f"<City {self.name}: {twins}, {stale:,} stale, tick {kinds['tick']:,}>"


def _checked(layout: Layout, name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    if name not in layout.fields:
        near = difflib.get_close_matches(name, layout.fields, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise KeyError(f"no command field {name!r}{hint}; there are: {', '.join(layout.fields)}")
    field = layout.fields[name]
    numbers = (float(value),) if isinstance(value, int | float) else tuple(map(float, value))
    if len(numbers) not in (1, field.size):
        raise ValueError(f"{name} takes {field.size} numbers, not {len(numbers)}")
    for number in numbers:
        if not field.minimum <= number <= field.maximum:
            raise ValueError(f"{name} = {number:g} is outside {field.minimum:g} to {field.maximum:g} {field.unit}")
    if not field.shape:
        return numbers[0]
    return numbers if len(numbers) == field.size else numbers * field.size
