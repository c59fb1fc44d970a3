"""``validate`` and ``schema``: what a scenario file says, or all that is wrong with it, without starting anything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twin_actors.cli.cities import Files, Layered, read_scenario
from twin_actors.cli.faults import ExitCode, explained
from twin_actors.cli.voice import AsJson, Voice, plain, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twin_actors.scenario.model import Scenario


def validate(files: Files = None, layered: Layered = None, as_json: AsJson = False) -> None:
    """Check scenario files against the installed domains, and print what they make or every problem at once."""
    from twin_actors.scenario import CatalogueError, ScenarioError

    voice = Voice(as_json)
    try:
        scenario = read_scenario(files, layered)
    except (ScenarioError, CatalogueError) as error:
        if not as_json:
            raise
        problems = plain(error.problems) if isinstance(error, ScenarioError) else [{"message": str(error)}]
        voice.result({"valid": False, "problems": problems})
        voice.warn(explained(error)[0])
        raise typer.Exit(ExitCode.BAD_SCENARIO) from error
    said = summary(scenario)
    voice.result({"valid": True, **said}, *_shown(scenario, said))


def schema(
    output: Annotated[str, typer.Option("--output", "-o", help="Write it to this file instead of stdout.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema of scenario files, for editors that check and complete while people type."""
    import json
    from pathlib import Path

    from twin_actors.scenario import schema as scenario_schema

    made = scenario_schema()
    if output:
        Path(output).write_text(json.dumps(made, indent=2) + "\n")
        Voice(as_json).result({"file": output}, f"{output} written; YAML editors take it as a schema of *.yaml files")
    else:
        print(json.dumps(made, indent=None if as_json else 2))


def summary(scenario: Scenario) -> dict[str, Any]:
    """What a scenario would launch, as plain values."""
    from twin_actors.runtime.placement import ACTOR_BYTES, RESERVED_BYTES, free_memory_bytes, plan_actors
    from twin_actors.scenario import load_catalogue

    catalogue = load_catalogue()
    actors = plan_actors(scenario)
    domains = {kind.name: domain.name for domain in catalogue.domains.values() for kind in domain.kinds}
    twins = Counter(entity.kind for entity in scenario.entities)
    actors_of = Counter(kind for plan in actors for kind in {scenario.entities[n].kind for n in plan.entities})
    broker = scenario.broker
    needed = len(actors) * ACTOR_BYTES + RESERVED_BYTES
    return {
        "city": scenario.city,
        "files": list(scenario.files),
        "twins": len(scenario.entities),
        "actors": len(actors),
        "kinds": {
            kind: {"twins": count, "domain": domains.get(kind, ""), "actors": actors_of[kind]}
            for kind, count in sorted(twins.items())
        },
        "relations": dict(Counter(relation.name for relation in scenario.relations)),
        "resources": {pool.name: pool.count for pool in scenario.resources},
        "policies": {use.name: use.mode for use in scenario.policies},
        "sources": {
            "simulated": sum(len(each.entities) for each in scenario.simulations),
            "story_steps": sum(len(each.story) for each in scenario.simulations),
            "replays": [{"file": each.file, "kind": each.kind, "speed": each.speed} for each in scenario.replays],
            "fleets": [each.topic for each in scenario.fleets],
        },
        "broker": f"{broker.host}:{broker.port}" if broker.embedded is None else f"embedded ({broker.embedded})",
        "cluster": scenario.cluster,
        "clock": {"mode": scenario.clock.mode, "speed": scenario.clock.speed},
        "memory_needed_bytes": needed,
        "fits_here": scenario.cluster is not None or needed <= free_memory_bytes(),
    }


def _shown(scenario: Scenario, said: dict[str, Any]) -> list[RenderableType]:
    kinds = [
        {"kind": kind, "twins": each["twins"], "actors": each["actors"], "domain": each["domain"]}
        for kind, each in said["kinds"].items()
    ]
    sources = said["sources"]
    lines: list[RenderableType] = [
        f"{scenario.city}: {said['twins']:,} twins of {len(kinds)} kinds in {said['actors']:,} twin actors "
        f"(about {said['memory_needed_bytes'] / 1e9:.1f} GB), broker {said['broker']}, "
        f"{said['clock']['mode']} clock"
        + (f" at {said['clock']['speed']:g}x" if said["clock"]["mode"] == "scaled" else ""),
        table(kinds, ("kind", "twins", "actors", "domain")),
    ]
    for name, shown in (
        ("relations", [f"{key} × {count}" for key, count in said["relations"].items()]),
        ("resources", [f"{key} × {count}" for key, count in said["resources"].items()]),
        ("policies", [f"{key} ({mode})" for key, mode in said["policies"].items()]),
        (
            "sources",
            ([f"{sources['simulated']:,} simulated devices"] if sources["simulated"] else [])
            + ([f"{sources['story_steps']} story steps"] if sources["story_steps"] else [])
            + [f"replay of {each['file']} ({each['kind']})" for each in sources["replays"]]
            + [f"fleet {topic}" for topic in sources["fleets"]],
        ),
    ):
        lines.append(f"{name}: {', '.join(shown) or 'none'}")
    if not said["fits_here"]:
        lines.append("this machine has not enough free memory for so many actors: set placement.entities_per_actor")
    return lines
