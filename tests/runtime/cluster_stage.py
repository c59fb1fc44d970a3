"""A cluster of real nodes with a broker and a database for one test, and the city and the load that stand on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.leg import Leg
from tests.chaos.load import scenario_text
from tests.chaos.nodes import WORKER_MEMORY, NetworkBroker, Nodes
from tests.chaos.publisher import Load
from twin_actors.runtime.city import City
from twin_actors.runtime.plan import Reach
from twin_actors.scenario import load_scenario
from twin_actors.testing.live import eventually
from twin_actors.testing.postgres import postgres_server

RATE = 60.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Nodes without a city, and where its store and its broker are."""

    folder: Path
    name: str
    nodes: Nodes
    store: str
    reach: Reach

    @property
    def broker(self) -> str:
        return f"mqtt://{self.reach.host}:{self.reach.port}"

    def text(self, *, twins: int, per_actor: int) -> str:
        """A scenario of three kinds for this stage."""
        return scenario_text(
            self.name, twins=twins, per_actor=per_actor, policies=False, store=self.store, cluster=self.nodes.address,
            broker=self.broker,
        )  # fmt: skip

    def layer(self) -> Path:
        """The three lines by which a scenario for one machine becomes one for this stage."""
        path = self.folder / "cluster.yaml"
        path.write_text(
            f"broker: {{url: '{self.broker}'}}\n"
            f"store: {{url: '{self.store}'}}\n"
            f"cluster: {{address: '{self.nodes.address}'}}\n"
        )  # fmt: skip
        return path

    def write(self, text: str) -> Path:
        path = self.folder / f"{self.name}.yaml"
        path.write_text(text)
        return path


@contextlib.contextmanager
def stage(
    folder: Path, name: str, *, apart: bool = False, memory: int = WORKER_MEMORY, hidden: Path | None = None
) -> Iterator[Stage]:
    """``apart``: one more node behind a network link of its own, from which broker and store are reached; ``hidden``: a
    folder that the workers see empty."""
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(Nodes(apart=apart, memory=memory, hidden=hidden))
        server = stack.enter_context(postgres_server())
        if nodes.link is not None:
            Leg._open_to_others(server, nodes.link)
        broker = stack.enter_context(NetworkBroker(folder / "broker", nodes.link.host if nodes.link else ""))
        yield Stage(folder, name, nodes, server.url(name), Reach(host=nodes.host, port=broker.port))


@contextlib.contextmanager
def launched(files: Sequence[Path]) -> Iterator[City]:
    """A city that is ended with the block; whoever watches it in threads must have stopped by then."""
    city = City.launch(load_scenario(list(files)))
    try:
        yield city
    finally:
        city.down()


@contextlib.contextmanager
def load_on(city: City, file: Path, *, seed: int) -> Iterator[Load]:
    """A steady load, noted in a file; the block begins when it arrives."""
    load = Load(
        file, reach=city.plan.broker, root=city.scenario.root, entities=city.ids, rate=RATE, seed=seed
    )  # fmt: skip
    try:
        eventually(lambda: city.ledger().applied > 100, within_s=30)
        yield load
    finally:
        load.kill()


def by_node(city: City) -> dict[str, int]:
    """How many twin actors each node holds, by its address."""
    return {row["address"]: int(row["actors"]) for _, row in city.nodes().iterrows()}


def all_up(city: City, addresses: set[str]) -> bool:
    """Whether every twin actor is up and caught up, and stands on one of these nodes.

    Not yet, while nobody can say: the controller may have stood on a node that is gone, and be under way itself.
    """
    try:
        actors: Any = city.actors()
    except TimeoutError:
        return False
    whole = (actors["standing"] == "up").all() and actors["caught_up"].all()
    return bool(whole) and set(actors["address"]) <= addresses
