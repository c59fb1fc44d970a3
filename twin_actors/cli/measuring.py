"""``metrics``: what a running city measures of itself, as Prometheus text, JSON, or a file for a collector."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from twin_actors.cli.cities import CityName, connected
from twin_actors.cli.voice import AsJson, Voice


def metrics(
    city: CityName = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write this file at once instead, for a textfile collector.")
    ] = None,
    targets: Annotated[
        bool, typer.Option("--targets", help="Where Ray's endpoints are, as JSON for Prometheus' file discovery.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print the city's metrics in Prometheus' text format; a part that does not answer is said in them."""
    from twin_actors.runtime.metrics import exposition

    voice = Voice(as_json)
    value: Any
    with connected(city) as there:
        if targets:
            value = there.metrics_targets()
            text = json.dumps(value) + "\n"
        else:
            found = there.metrics()
            rows = [{"name": each.metric.name, "labels": each.labels, "value": each.value} for each in found]
            value, text = {"city": there.name, "samples": rows}, exposition(found)
    if output is not None:
        write_at_once(output, text)
    if as_json:
        voice.result(value)
    elif output is None:
        print(text, end="")  # as it is: a console would wrap and colour it


def write_at_once(path: Path, text: str) -> None:
    """Replace a file in one step: whoever reads it meanwhile sees the old or the new one, never half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
