"""The components of vector fields: movements and phases of an intersection, lanes and stages of a signal."""

from __future__ import annotations

from twin_actors.core.columns import Axis

MOVEMENT = Axis("movement", ("nl", "nt", "el", "et", "sl", "st", "wl", "wt"))
"""Approach (north, east, south, west) and turn (left; through with right)."""

PHASE = Axis("phase", ("ns_left", "ns_through", "ew_left", "ew_through"))

LANE = Axis("lane", tuple(f"l{number:02d}" for number in range(1, 17)))
"""Inbound lanes of a signal, in the order of its controller."""

STAGE = Axis("stage", tuple(f"s{number}" for number in range(1, 9)))
"""Stages of a signal: what has green at the same time."""
