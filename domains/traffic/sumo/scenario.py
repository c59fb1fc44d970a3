"""Write the scenario file of a SUMO network: one twin per signal, and who feeds whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from domains.traffic.sumo.mapping import attributes_of, entity_id
from domains.traffic.sumo.network import Network

HEAD = """\
# {count} signals of {source}; written by `python -m domains.traffic.sumo scenario`.
# The connector plays the devices: `python -m domains.traffic.sumo run CONFIG --broker URL --root {city}`.
city: {city}
# "now" is what the connector's clock says, so the twins keep up with a simulation of any speed
clock: {{mode: events}}
tick_s: {tick_s}
placement: {{entities_per_actor: auto}}
"""


def scenario_text(
    network: Network, city: str, *, source: str = "a SUMO network", rule: str = "look_ahead", tick_s: float = 0.01
) -> str:
    """The YAML of a city whose twins are the network's signals, controlled by ``signal_stages``.

    Raises NetworkError where a signal has more lanes or stages than a twin holds.
    """
    lines = [HEAD.format(count=len(network.signals), source=source, city=city, tick_s=tick_s), "entities:"]
    for signal in network.signals.values():
        name = entity_id(signal.id).split("/", 1)[1]
        entity: dict[str, Any] = {"kind": "signal", "name": name}
        position = network.position(signal)
        if position is not None:
            entity["at"] = [round(position[0], 6), round(position[1], 6)]
        entity["attributes"] = attributes_of(network, signal)
        lines.append(f"  - {json.dumps(entity)}")  # JSON is YAML, one entity a line
    lines.extend(_relations(network))
    lines += [
        "policies:",
        f"  - {{use: signal_stages, mode: act, with: {{rule: {rule}, answer_all: true, fresh_s: 0.5}}}}",
    ]
    return "\n".join(lines) + "\n"


def _relations(network: Network) -> Iterator[str]:
    if not network.feeds:
        return
    outgoing: dict[str, int] = {}
    for feed in network.feeds:
        outgoing[feed.source] = outgoing.get(feed.source, 0) + 1
    yield "relations:"
    for feed in network.feeds:
        relation = {
            "name": "feeds",
            "from": entity_id(feed.source),
            "to": entity_id(feed.target),
            "share": round(1.0 / outgoing[feed.source], 3),
            "delay": round(feed.travel_s, 1),
        }
        yield f"  - {json.dumps(relation)}"
