"""Names of entities: what may be one, and the name that a heading in somebody's file stands for."""

from __future__ import annotations

import re
from typing import Final

REFUSED: Final = r"/+#$*?\[\]{}\x00-\x20\x7f\s"
"""Characters that have a meaning in topics or patterns, as the inside of a character class."""

_RUNS: Final = re.compile(f"[{REFUSED}]+")


def entity_name(text: str, *, lower: bool = False) -> str:
    """The entity's name that a heading stands for: refused characters become ``-``; empty where nothing is left."""
    name = _RUNS.sub("-", text.strip())
    return name.lower() if lower else name
