"""Twin Actors: digital twins of whole cities, held in Ray actors, fed and commanded over MQTT.

Importing this package starts nothing and opens nothing; Ray, pandas and the rest load when first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["City", "__version__"]

if TYPE_CHECKING:
    from twin_actors.runtime.city import City


def __getattr__(name: str) -> Any:
    if name == "City":
        from twin_actors.runtime.city import City

        return City
    raise AttributeError(f"module 'twin_actors' has no attribute {name!r}")
