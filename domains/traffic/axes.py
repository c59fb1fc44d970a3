"""The components of an intersection's vector fields: its movements and its signal phases."""

from __future__ import annotations

from twin_actors.core.columns import Axis

MOVEMENT = Axis("movement", ("nl", "nt", "el", "et", "sl", "st", "wl", "wt"))
"""Approach (north, east, south, west) and turn (left; through with right)."""

PHASE = Axis("phase", ("ns_left", "ns_through", "ew_left", "ew_through"))
