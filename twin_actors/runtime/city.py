"""City: what people hold in a REPL. An ordinary Ray driver: closing it changes nothing in the city."""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twin_actors.core.columns import Layout
from twin_actors.core.deciding import Decision, IssuedCommand
from twin_actors.core.emergencies import Emergency
from twin_actors.core.ledger import Ledger
from twin_actors.runtime import history, launching, relocating
from twin_actors.runtime.asking import Asking
from twin_actors.runtime.card import TwinCard
from twin_actors.runtime.council import AlertEvent
from twin_actors.runtime.fleets import FleetTopics
from twin_actors.runtime.launching import CityNotFound, LaunchRefused, Progress, Record
from twin_actors.runtime.merging import merged_letters, merged_status
from twin_actors.runtime.metrics import Sample, gather
from twin_actors.runtime.pace import TickNote
from twin_actors.runtime.plan import PLAN_FILE, CityPlan
from twin_actors.runtime.reshaping import Reshaped
from twin_actors.store import DeadLetter, LetterState, Store, erase_store
from twin_actors.wire.topics import Topics

if TYPE_CHECKING:
    import pandas as pd

    from twin_actors.core.forecasts import Predicted
    from twin_actors.scenario.model import Scenario

__all__ = ["City", "CityNotFound", "LaunchRefused"]

DEADLINE_S = 15.0


class Made(NamedTuple):
    """A city's plan as it was read, and what is looked up in it most."""

    plan: CityPlan
    stamp: int  # when its file was written
    number: Mapping[str, int]
    kind_of: Mapping[str, str]
    actor_of: Mapping[int, str]

    @classmethod
    def of(cls, plan: CityPlan, file: Path) -> Made:
        entities = plan.scenario.entities
        return cls(
            plan,
            file.stat().st_mtime_ns,
            {entity.id: number for number, entity in enumerate(entities)},
            {entity.id: entity.kind for entity in entities},
            {number: actor.name for actor in plan.actors for number in actor.entities},
        )


class City(Reshaped, Asking):
    """A running city. ``City.launch("scenarios/harbour.yaml")`` starts one, ``City.connect("harbour")`` finds it."""

    def __init__(self, record: Record) -> None:
        import ray

        self._ray = ray
        self._record = record
        self.name = record.city
        self._plan_file = launching.folder_of(record.city) / PLAN_FILE
        self._made = Made.of(CityPlan.load(self._plan_file.parent), self._plan_file)

    @property
    def _now_made(self) -> Made:
        """How the city is made up; anybody may change it while it runs."""
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile: what it was
            if self._plan_file.stat().st_mtime_ns != self._made.stamp:
                self._made = Made.of(CityPlan.load(self._plan_file.parent), self._plan_file)
        return self._made

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
        record = launching.running(name)
        if record is None:
            there = ", ".join(launching.cities()) or "none"
            raise CityNotFound(
                f"no city called {name!r} runs here (running: {there}); start one with City.launch(file)"
            )
        launching.connect_ray(record)
        return cls(record)

    def down(self, *, volumes: bool = False) -> None:
        """End the city: exactly the processes that its launch started. What it has kept stays, unless ``volumes``.

        The next launch of the same scenario goes on where this one stopped.
        """
        launching.end(self._record, launching.folder_of(self.name))
        self.close()
        if volumes:
            launching.delete(self.name)
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
        if launching.running(self.name) is None:
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
        return TwinCard(kind, self.scenario.entities[number], shown, 0, reported)

    def now_s(self) -> float:
        """The city's time, seconds since the epoch."""
        if self._plan.clock.mode == "events":
            return max(float(latest_s) for latest_s in self._ask_routers("latest_s"))
        return self._plan.clock.now_s()

    def kinds(self) -> tuple[str, ...]:
        return self.scenario.kinds_used()

    # -- the past ----------------------------------------------------------------------------------------------

    @cached_property
    def _store(self) -> Store:
        """The city's store, read beside the actors that write it."""
        return self._plan.open_store()

    def history(
        self,
        entity: str,
        field: str,
        *,
        last: float | str | None = None,
        since: float | str | None = None,
        until: float | str | None = None,
        resolution: str = "raw",
    ) -> pd.DataFrame:
        """What one entity has said of one field: ``city.history("air_station/dongsi", "pm25_ugm3", last="6h")``.

        Raw readings with the quality that cleaning gave each, or ``resolution="minute"`` / ``"hour"``: count, min,
        mean, max, last of each bucket. Moments are seconds since the epoch or ISO 8601; the unit is in
        ``df.attrs["units"]["value"]``. Raises KeyError with the nearest name, ValueError.
        """
        now_s = self.now_s()
        since_s, until_s = history.stretch_s(now_s, last, since, until)
        return history.history(
            self._plan, self._store, entity, field,
            since_s=since_s, until_s=until_s, now_s=now_s, resolution=resolution,
        )  # fmt: skip

    def at(self, moment: float | str) -> history.PastCity:
        """The city as it was: ``city.at("2026-11-20T12:00Z")["substation/quay"]`` is a card of that moment."""
        at_s = history.moment_s(moment)
        history.check_moment(self._plan, at_s, self.now_s())
        return history.PastCity(self._plan, self._store, at_s)

    # -- what comes, and how true the twins are ----------------------------------------------------------------

    def forecast(
        self, entity: str, field: str, horizon: float | str | Sequence[float | str] = "1h", *, last: str = "60d"
    ) -> Predicted:
        """What a field will be, with quantiles: ``city.forecast("road/a1", "speed_kmh", "30min")``.

        It rests on the history of ``last``. The method is chosen by a rolling backtest, whose error stands beside the
        forecast. ``horizon`` may be several. Raises KeyError with the nearest name and ValueError for a history that is
        too short.
        """
        from twin_actors.runtime.predicting import predicted_from_history

        frame = self.history(entity, field, last=last)
        kind = self._plan.catalogue.kinds[self._kind_of[entity]]
        several = [horizon] if isinstance(horizon, str | int | float) else list(horizon)
        horizons_s = [history.length_s(each) for each in several]
        return predicted_from_history(kind, field, frame, now_s=self.now_s(), horizons_s=horizons_s)

    def calibrate(
        self, kind: str, *, fit: Sequence[str] = (), last: float | str = "30d", noises: bool = True
    ) -> pd.DataFrame:
        """Fit attributes and noises of a kind's twins to the city's own history, judged on its last third.

        Parameters that are no better on that time are not taken. What is better is kept as a version in the store, with
        the evidence that is returned; ``twin-actors calibrate`` writes it as a layer for the scenario. Raises KeyError
        for an unknown kind and ValueError for too little history.
        """
        import pandas as pd

        from twin_actors.runtime import training

        entities = [entity for entity in self.scenario.entities if entity.kind == kind]
        if not entities:
            raise KeyError(f"{self.name} has no twins of kind {kind!r}; its kinds: {', '.join(self.kinds())}")
        now_s = self.now_s()
        batch = training.history_of_store(
            self._plan, self._store, [self._number[entity.id] for entity in entities], now_s - history.length_s(last)
        )
        described = self._plan.catalogue.kinds[kind]
        found = training.calibrate_entities(described, entities, batch, fit=fit, noises=noises)
        training.keep_versions(self._store, found, described, at_s=now_s)
        return pd.DataFrame(found.evidence()).set_index("entity")

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

    def decisions(self, last: int = 10) -> pd.DataFrame:
        """The last decisions: when, by which policy, why, on the sight of which twins, with which effects."""
        return _records(self._call("aggregator", "decisions", last), Decision, "id")

    def commands(self, last: int = 10) -> pd.DataFrame:
        return _records(self._call("aggregator", "commands", last), IssuedCommand, "id")

    def allocations(self, last: int = 10) -> list[Any]:
        """The last divisions of resources, each with objective, LP bound, gap and what bound it."""
        return list(self._call("aggregator", "allocations", last))

    def emergencies(self, last: int = 10) -> pd.DataFrame:
        return _records(self._call("aggregator", "emergencies", last), Emergency, "id")

    def alerts(self, last: int = 10) -> pd.DataFrame:
        """The last alerts of twins, and alarms of the city's own places (router, store, broker, actors)."""
        of_twins = self._call("aggregator", "alerts", last)
        of_places = self._call("controller", "alarms", last)
        events = sorted([*of_twins, *of_places], key=lambda event: event.at_s)[-last:] if last > 0 else []
        return _records(events, AlertEvent, None)

    def dead_letters(self, last: int = 10, *, reason: str = "", state: str | None = None) -> pd.DataFrame:
        """The last messages that could not be used, by ``id``: topic, why, bytes, and what was done about them.

        ``reason`` and ``state`` ("waiting", "replayed", "discarded") choose among them.
        """
        wanted = None if state is None else LetterState(state)
        answers = self._ask_routers("dead_letters", last, wanted, reason)
        return _records(merged_letters(answers, last), DeadLetter, "id")

    def dead_letter(self, number: int) -> DeadLetter:
        """One by its id, with the whole explanation. Raises KeyError."""
        letter: DeadLetter = self._call(self._plan.main_router, "dead_letter", number)
        return letter

    def replay_dead_letter(self, number: int, *, payload: bytes | str | None = None, topic: str = "") -> None:
        """Take a dead letter in again, mended where ``payload`` or ``topic`` say so; it is received once more.

        Raises KeyError, and ValueError for one that has been replayed already.
        """
        mended = payload.encode() if isinstance(payload, str) else payload
        letter = self.dead_letter(number)
        self._call(
            self._router_for(topic or letter.topic, letter.share), "replay_letter", number, mended, topic, again=False
        )

    def _router_for(self, topic: str, share: str) -> str:
        """The router of the entity that a topic names; of other topics, the one that has the letter."""
        fleet = FleetTopics(self.scenario.fleets).match(topic)
        parsed = Topics(self.scenario.root).parse(topic)
        entity = fleet.entity if fleet else parsed[0] if parsed else ""
        if entity in self._number:
            return self._plan.router_of[self._number[entity]]
        return share if share in self._plan.routers else self._plan.main_router

    def discard_dead_letter(self, number: int) -> None:
        """Note that nothing more will be done about it. Raises KeyError."""
        self._call(self._plan.main_router, "discard_letter", number)

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

    def ticks(self, last: int = 10) -> pd.DataFrame:
        """The last ticks that had to leave something out: ``late`` twin actors with the age in s of what the view has
        of them, policies ``left_out`` with the number of ticks in a row, and the wall seconds that it took."""
        return _records(self._call("aggregator", "ticks", last), TickNote, "tick")

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


def _records(records: Sequence[Any], of: type, index: str | None) -> pd.DataFrame:
    import pandas as pd

    names = [field.name for field in fields(of)]
    frame = pd.DataFrame([[getattr(record, name) for name in names] for record in records], columns=names)
    return frame.set_index(index) if index else frame
