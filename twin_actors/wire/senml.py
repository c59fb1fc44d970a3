"""SenML JSON packs (RFC 8428): base fields, relative times, units; each record with a value is one reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from twin_actors.core.units import conversion, known_unit
from twin_actors.wire.elements import CANNOT_DECODE, carries_value
from twin_actors.wire.reasons import Reason

RELATIVE_BELOW_S: Final = 2.0**28
"""Times below this are relative to now, the others seconds since 1970 (RFC 8428, section 4.5.3)."""


class _Record(msgspec.Struct, gc=False):
    bn: str | UnsetType = UNSET
    bt: float | UnsetType = UNSET
    bu: str | UnsetType = UNSET
    bv: float | UnsetType = UNSET
    bver: int | UnsetType = UNSET
    n: str = ""
    t: float | UnsetType = UNSET
    u: str | UnsetType = UNSET
    v: float | UnsetType = UNSET
    vs: Raw | UnsetType = UNSET
    vb: Raw | UnsetType = UNSET
    vd: Raw | UnsetType = UNSET
    s: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Record).decode

# SenML name -> (unit of the core, factor, offset), where the names differ or mean something else (RFC 8428, table 1;
# RFC 8798, table 1): value in the core's unit = value × factor + offset.
_SENML_UNITS: Final[dict[str, tuple[str, float, float]]] = {
    "Cel": ("degC", 1.0, 0.0),
    "/": ("1", 1.0, 0.0),
    "%RH": ("%", 1.0, 0.0),
    "%EL": ("%", 1.0, 0.0),
    "g": ("kg", 1e-3, 0.0),
    "J": ("kWh", 1 / 3.6e6, 0.0),
    "Wh": ("kWh", 1e-3, 0.0),
    "VA": ("kVA", 1e-3, 0.0),
    "var": ("MVAr", 1e-6, 0.0),
    "kvar": ("MVAr", 1e-3, 0.0),
    "mV": ("V", 1e-3, 0.0),
    "mA": ("A", 1e-3, 0.0),
    "cm": ("m", 0.01, 0.0),
    "dm": ("m", 0.1, 0.0),
    "kg/m3": ("mg/m3", 1e6, 0.0),
    "rad": ("deg", 180 / math.pi, 0.0),
}
_KELVIN_AT_0_DEGC: Final = 273.15
_COUNTED: Final = frozenset({"1", "veh", "persons"})


class UnknownUnit(ValueError):
    """A unit that is unknown or measures something else than the field."""


def unit_conversion(senml_unit: str, field_unit: str) -> tuple[float, float]:
    """The ``(factor, offset)`` from a SenML unit (or one of the core's) to a field's; raises UnknownUnit."""
    if senml_unit == field_unit:
        return 1.0, 0.0
    if senml_unit == "K" and field_unit in ("degC", "degF"):
        factor, offset = conversion("degC", field_unit)
        return factor, offset - _KELVIN_AT_0_DEGC * factor
    if senml_unit == "count" and field_unit in _COUNTED:
        return 1.0, 0.0
    unit, to_unit, to_offset = _SENML_UNITS.get(senml_unit, (senml_unit, 1.0, 0.0))
    if not known_unit(unit):
        raise UnknownUnit(f"unit {senml_unit!r} is not known; the field is in {field_unit!r}")
    try:
        factor, offset = conversion(unit, field_unit)
    except ValueError:
        raise UnknownUnit(f"unit {senml_unit!r} does not convert to {field_unit!r}, the unit of the field") from None
    return to_unit * factor, to_offset * factor + offset


@dataclass(frozen=True, slots=True)
class SenmlValue:
    """One resolved record with a number: ``time_s`` is absolute, ``fixed`` False where it hangs on our clock."""

    element: int
    name: str
    value: float
    unit: str
    time_s: float
    fixed: bool


@dataclass(frozen=True, slots=True)
class SenmlFault:
    """One record with a value that cannot be used."""

    element: int
    reason: Reason
    detail: str


def resolve(
    raws: list[Raw], now_s: float, explain: Callable[[bytes, Exception], tuple[Reason, str]]
) -> Iterator[SenmlValue | SenmlFault]:
    """The records of a pack that are readings, resolved (RFC 8428, section 4.6), in order.

    ``now_s`` is when the pack was received; ``explain`` turns a decoding error into a reason. A base field that
    cannot be read spoils the records after it as well, because they would be resolved wrongly.
    """
    base_name, base_time, base_unit, base_value = "", 0.0, "", 0.0
    spoilt = ""
    for element, raw in enumerate(raws):
        reading = carries_value(raw)
        try:
            record = _decode(raw)
        except CANNOT_DECODE as error:
            reason, detail = explain(bytes(raw), error)
            spoilt = spoilt or f"record {element} of the pack cannot be read, and its base fields may concern this one"
            if reading:
                yield SenmlFault(element, reason, detail)
            continue
        base_name = record.bn if record.bn is not UNSET else base_name
        base_time = record.bt if record.bt is not UNSET else base_time
        base_unit = record.bu if record.bu is not UNSET else base_unit
        base_value = record.bv if record.bv is not UNSET else base_value
        if not reading:
            continue
        name = base_name + record.n
        if spoilt:
            yield SenmlFault(element, Reason.WRONG_TYPE, spoilt)
        elif record.v is UNSET:
            what = "a sum (s)" if record.s is not UNSET else "a text, truth or data value (vs, vb, vd)"
            yield SenmlFault(element, Reason.WRONG_TYPE, f"record {name!r} holds {what}; send a number in v")
        else:
            time_s = base_time + (record.t if record.t is not UNSET else 0.0)
            fixed = time_s >= RELATIVE_BELOW_S
            yield SenmlValue(
                element,
                name,
                base_value + record.v,
                record.u if record.u is not UNSET else base_unit,
                time_s if fixed else now_s + time_s,
                fixed,
            )
