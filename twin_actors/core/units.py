"""Units: the vocabulary of declared fields, and linear conversion between units of one dimension."""

from __future__ import annotations

# unit -> (dimension, factor, offset): value in the dimension's base = value × factor + offset.
# Concentrations by mass and by volume stay apart: between them stand the gas, temperature and pressure.
_UNITS: dict[str, tuple[str, float, float]] = {
    "1": ("ratio", 1.0, 0.0),
    "%": ("ratio", 0.01, 0.0),
    "s": ("time", 1.0, 0.0),
    "ms": ("time", 1e-3, 0.0),
    "min": ("time", 60.0, 0.0),
    "h": ("time", 3600.0, 0.0),
    "d": ("time", 86_400.0, 0.0),
    "m": ("length", 1.0, 0.0),
    "km": ("length", 1000.0, 0.0),
    "ft": ("length", 0.3048, 0.0),
    "mi": ("length", 1609.344, 0.0),
    "m2": ("area", 1.0, 0.0),
    "m3": ("volume", 1.0, 0.0),
    "l": ("volume", 1e-3, 0.0),
    "m3/s": ("volume flow", 1.0, 0.0),
    "m3/h": ("volume flow", 1 / 3600, 0.0),
    "l/s": ("volume flow", 1e-3, 0.0),
    "kg": ("mass", 1.0, 0.0),
    "t": ("mass", 1000.0, 0.0),
    "m/s": ("speed", 1.0, 0.0),
    "km/h": ("speed", 1 / 3.6, 0.0),
    "mph": ("speed", 0.44704, 0.0),
    "degC": ("temperature", 1.0, 0.0),
    "degF": ("temperature", 5 / 9, -160 / 9),
    "K": ("temperature difference", 1.0, 0.0),
    "W": ("power", 1e-6, 0.0),
    "kW": ("power", 1e-3, 0.0),
    "MW": ("power", 1.0, 0.0),
    "MVA": ("apparent power", 1.0, 0.0),
    "kVA": ("apparent power", 1e-3, 0.0),
    "MVAr": ("reactive power", 1.0, 0.0),
    "kWh": ("energy", 1e-3, 0.0),
    "MWh": ("energy", 1.0, 0.0),
    "V": ("voltage", 1.0, 0.0),
    "kV": ("voltage", 1000.0, 0.0),
    "A": ("current", 1.0, 0.0),
    "pu": ("per unit", 1.0, 0.0),
    "Pa": ("pressure", 1.0, 0.0),
    "hPa": ("pressure", 100.0, 0.0),
    "bar": ("pressure", 1e5, 0.0),
    "mm": ("length", 1e-3, 0.0),
    "mm/h": ("rain rate", 1.0, 0.0),
    "deg": ("angle", 1.0, 0.0),
    "ug/m3": ("mass concentration", 1.0, 0.0),
    "mg/m3": ("mass concentration", 1000.0, 0.0),
    "ppb": ("volume fraction", 1e-3, 0.0),
    "ppm": ("volume fraction", 1.0, 0.0),
    "ug/m3/h": ("concentration rate", 1.0, 0.0),
    "veh": ("vehicles", 1.0, 0.0),
    "veh/s": ("vehicle flow", 3600.0, 0.0),
    "veh/min": ("vehicle flow", 60.0, 0.0),
    "veh/h": ("vehicle flow", 1.0, 0.0),
    "veh/km": ("vehicle density", 1.0, 0.0),
    "s/veh": ("delay", 1.0, 0.0),
    "persons": ("persons", 1.0, 0.0),
    "persons/s": ("person flow", 60.0, 0.0),
    "persons/min": ("person flow", 1.0, 0.0),
    "persons/h": ("person flow", 1 / 60, 0.0),
    "persons/m2": ("person density", 1.0, 0.0),
    "persons/m/s": ("specific person flow", 1.0, 0.0),
    "dB": ("level", 1.0, 0.0),
}


def known_unit(unit: str) -> bool:
    return unit in _UNITS


def register_unit(unit: str, dimension: str, factor: float = 1.0, offset: float = 0.0) -> None:
    """Add a unit for a domain of your own: value in the dimension's base = value × factor + offset."""
    spoken_for = _UNITS.get(unit)
    if spoken_for is not None and spoken_for != (dimension, factor, offset):
        raise ValueError(f"unit {unit!r} already means {spoken_for}; choose another name")
    _UNITS[unit] = (dimension, factor, offset)


def conversion(from_unit: str, to_unit: str) -> tuple[float, float]:
    """The ``(factor, offset)`` with ``value_to = value_from × factor + offset``.

    Raises ValueError when a unit is unknown or the two measure different things.
    """
    for unit in (from_unit, to_unit):
        if unit not in _UNITS:
            raise ValueError(f"unknown unit {unit!r}; known units: {', '.join(sorted(_UNITS))}")
    from_dimension, from_factor, from_offset = _UNITS[from_unit]
    to_dimension, to_factor, to_offset = _UNITS[to_unit]
    if from_dimension != to_dimension:
        raise ValueError(f"cannot convert {from_unit!r} ({from_dimension}) to {to_unit!r} ({to_dimension})")
    return from_factor / to_factor, (from_offset - to_offset) / to_factor


def convert(value: float, from_unit: str, to_unit: str) -> float:
    """Convert one number, e.g. ``convert(50, "degF", "degC") == 10``."""
    factor, offset = conversion(from_unit, to_unit)
    return value * factor + offset
