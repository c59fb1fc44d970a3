"""The account of a run: one flat mapping that scripts and tests rely on, built from what the city said at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

    from twin_actors.core.ledger import Ledger


def summarise(
    *, city: str, twins: int, launch_s: float, ran_s: float, ledger: Ledger, status: Mapping[str, Any]
) -> dict[str, Any]:
    """``launch_s`` until every twin had answered, ``ran_s`` from the first reading on, both wall seconds.

    ``ledger`` and ``status`` are what `City.ledger` and `City.status` returned, taken one right after the other.
    """
    council, router = status["aggregator"], status["router"]
    kinds = {
        name: {"twins": each["twins"], "stale": each["stale"], "silent": each["silent"], "alerts": each["alerts"]}
        for name, each in council["kinds"].items()
    }
    return {
        "city": city,
        "twins": twins,
        "actors": status["controller"]["total"],
        "launch_s": round(launch_s, 3),
        "ran_s": round(ran_s, 3),
        "ticks": council["tick"],
        "failed_ticks": council["failed_ticks"],
        "readings_received": ledger.received,
        "readings_applied": ledger.applied,
        "dead_lettered": ledger.dead_lettered,
        "duplicates": ledger.duplicate,
        "late": ledger.late,
        "shed": ledger.shed,
        "in_flight": ledger.in_flight,
        "ledger_balanced": ledger.balanced,
        "unexplained": ledger.unexplained,
        "rejected_fields": router["rejected_fields"],
        "missing_upstream": router["missing_upstream"],
        "dead_letter_reasons": dict(router["dead_letter_reasons"]),
        "alerts": council["alerts_raised"],
        "alerts_active": council["alerts_active"],
        "decisions": council["decisions"],
        "allocations": council["allocations"],
        "commands_sent": council["commands_sent"],
        "commands_acknowledged": council["commands_acknowledged"],
        "commands_rejected": council["commands_rejected"],
        "commands_expired": council["commands_expired"],
        "emergencies": council["emergencies"],
        "emergencies_open": council["emergencies_open"],
        "kinds": kinds,
        "errors": [*council["errors"], *_router_errors(router)],
    }


def _router_errors(router: Mapping[str, Any]) -> list[str]:
    broker = [f"broker: {router['broker_error']}"] if router["broker_error"] and not router["connected"] else []
    return broker + [f"{name}: {each['last_error']}" for name, each in router["actors"].items() if each["last_error"]]


def shown(said: Mapping[str, Any]) -> list[RenderableType]:
    """A summary as people read it."""
    from twin_actors.cli.voice import span, table

    def count(number: int, one: str, many: str = "") -> str:
        return f"{number:,} {one if number == 1 else many or one + 's'}"

    balance = "balanced" if said["ledger_balanced"] else f"{said['unexplained']:+,} UNEXPLAINED"
    rate = said["readings_received"] / said["ran_s"] if said["ran_s"] else 0.0
    lines: list[RenderableType] = [
        f"{said['city']}: {count(said['twins'], 'twin')} in {count(said['actors'], 'twin actor')}, launched in "
        f"{span(said['launch_s'])}, ran {span(said['ran_s'])}, {count(said['ticks'], 'tick')}",
        f"readings: {said['readings_received']:,} received ({rate:,.0f}/s) = {said['readings_applied']:,} applied + "
        f"{said['duplicates']:,} duplicate + {said['late']:,} late + {said['dead_lettered']:,} dead-lettered + "
        f"{said['shed']:,} shed + {said['in_flight']:,} in flight  [{balance}]",
        f"decided: {count(said['decisions'], 'decision')}, {count(said['allocations'], 'allocation')}; commands: "
        f"{said['commands_sent']:,} sent, {said['commands_acknowledged']:,} acknowledged, "
        f"{said['commands_rejected']:,} rejected, {said['commands_expired']:,} expired",
        f"alerts: {said['alerts']:,} raised, {said['alerts_active']:,} active; emergencies: {said['emergencies']:,}, "
        f"{said['emergencies_open']:,} open",
        table([{"kind": name, **each} for name, each in said["kinds"].items()]),
    ]
    lines += [f"error: {error}" for error in said["errors"]]
    return lines
