"""What people ask of a city's past: history as a DataFrame, and the city as it was at a moment."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from twin_actors.core.kind import Kind
from twin_actors.runtime import past
from twin_actors.runtime.card import TwinCard
from twin_actors.runtime.plan import CityPlan
from twin_actors.scenario.words import duration_s, instant_s
from twin_actors.store import Store
from twin_actors.store.history import Resolution

if TYPE_CHECKING:
    import pandas as pd


def moment_s(said: float | str) -> float:
    """Seconds since the epoch of a number of them or of ISO 8601 text. Raises ValueError with what to write."""
    return float(said) if isinstance(said, int | float) else _read(instant_s, said)


def length_s(said: float | str) -> float:
    """Seconds of a duration: a number of them, or text such as "6h". Raises ValueError with what to write."""
    return _read(duration_s, said)


def _read(read: Callable[[Any], Any], said: float | str) -> float:
    try:
        return float(read(said))
    except PydanticCustomError as error:
        raise ValueError(error.message()) from None


def stretch_s(
    now_s: float, last: float | str | None, since: float | str | None, until: float | str | None
) -> tuple[float, float]:
    """(since, until) in seconds since the epoch of "the last 6h", or of two moments. Raises ValueError."""
    if last is not None and since is not None:
        raise ValueError("say either last=… or since=…, not both")
    until_s = now_s if until is None else moment_s(until)
    if since is not None:
        since_s = moment_s(since)
    else:
        since_s = until_s - _read(duration_s, "1h" if last is None else last)
    if since_s >= until_s:
        raise ValueError(f"nothing lies between {since_s:.0f} and {until_s:.0f}: 'since' must be before 'until'")
    return since_s, until_s


def history(
    plan: CityPlan,
    store: Store,
    entity: str,
    field: str,
    *,
    since_s: float,
    until_s: float,
    now_s: float,
    resolution: str,
) -> pd.DataFrame:
    """See ``City.history``."""
    number = number_of(plan, entity)
    kind = plan.catalogue.kinds[plan.scenario.entities[number].kind]
    layout = kind.reading.layout
    rows = rows_of(kind, entity, field)
    unit = layout.fields[layout.field_of_row()[rows[0]]].unit
    labels = [layout.labels[row] for row in rows]
    if resolution == "raw":
        frame = _raw(past.readings(plan, store, number, since_s=since_s, until_s=until_s), rows, labels)
    else:
        frame = _rolled(plan, store, number, labels, resolution, since_s, until_s, now_s)
    frame.attrs.update(units={"value": unit}, entity=entity, field=field)
    return frame


def rows_of(kind: Kind, entity: str, field: str) -> list[int]:
    """The rows of a reading field, or the one of ``field[component]``. Raises KeyError with the nearest name."""
    layout = kind.reading.layout
    rows = [row for row, (label, name) in enumerate(zip(layout.labels, layout.field_of_row(), strict=True))
            if field in (label, name)]  # fmt: skip
    if not rows:
        near = difflib.get_close_matches(field, [*layout.fields, *layout.labels], n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise KeyError(f"{entity} sends no {field!r}{hint}; its readings: {', '.join(layout.fields)}")
    return rows


def number_of(plan: CityPlan, entity: str) -> int:
    """The entity's number. Raises KeyError with the nearest id."""
    ids = [each.id for each in plan.scenario.entities]
    if entity not in ids:
        near = difflib.get_close_matches(entity, ids, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise KeyError(f"{plan.scenario.city} has no entity {entity!r}{hint}")
    return ids.index(entity)


def _raw(found: past.Readings, rows: Sequence[int], labels: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for row, label in zip(rows, labels, strict=True):
        said = found.quality[row] > 0
        part = pd.DataFrame(
            {
                "value": found.values[row][said],
                "quality": past.quality_words(found.quality[row][said]),
                "source": "measured",
                "received_at": pd.to_datetime(found.received_at_s[said], unit="s", utc=True),
            },
            index=pd.DatetimeIndex(pd.to_datetime(found.observed_at_s[said], unit="s", utc=True), name="observed_at"),
        )
        if len(rows) > 1:
            part.insert(0, "component", label)
        parts.append(part)
    return pd.concat(parts)


def _rolled(
    plan: CityPlan,
    store: Store,
    number: int,
    labels: Sequence[str],
    resolution: str,
    since_s: float,
    until_s: float,
    now_s: float,
) -> pd.DataFrame:
    import pandas as pd

    names = [each.value for each in Resolution]
    if resolution not in names:
        raise ValueError(f"resolution is 'raw', {' or '.join(map(repr, names))}, not {resolution!r}")
    width = Resolution(resolution)
    parts = []
    found_of = [
        (label, found)
        for label in labels
        for found in past.rolled(plan, store, number, label, width, since_s=since_s, until_s=until_s, now_s=now_s)
    ]
    for label, found in found_of:
        part = pd.DataFrame(
            {
                "count": found.count,
                "min": found.minimum,
                "mean": found.mean,
                "max": found.maximum,
                "last": found.last,
                "source": "measured",
            },
            index=pd.DatetimeIndex(pd.to_datetime(found.at_s, unit="s", utc=True), name="begins_at"),
        )
        if len(labels) > 1:
            part.insert(0, "component", label)
        parts.append(part)
    return pd.concat(parts)


class PastCity:
    """The city as it was at a moment: ``city.at("2026-11-20T12:00Z")["air_station/dongsi"]`` is a card."""

    def __init__(self, plan: CityPlan, store: Store, at_s: float) -> None:
        self._plan, self._store, self.at_s = plan, store, at_s

    def __getitem__(self, entity: str) -> TwinCard:
        """Raises KeyError for an unknown entity, LookupError where history does not reach back so far."""
        number = number_of(self._plan, entity)
        shown, column, reported = past.shown_at(self._plan, self._store, number, self.at_s)
        described = self._plan.scenario.entities[number]
        return TwinCard(self._plan.catalogue.kinds[described.kind], described, shown, column, reported)

    def _ipython_key_completions_(self) -> list[str]:
        return [entity.id for entity in self._plan.scenario.entities]

    def __repr__(self) -> str:
        import datetime

        at = datetime.datetime.fromtimestamp(self.at_s, datetime.UTC).isoformat(timespec="seconds")
        return f"<City {self._plan.scenario.city} as of {at}>"


def check_moment(plan: CityPlan, at_s: float, now_s: float) -> Any:
    """Raises ValueError for a moment that cannot be shown."""
    if plan.clock.mode == "events":
        raise ValueError(
            "a city whose clock is 'events' receives readings of any past at once, so the log knows no moment to show"
        )
    if not math.isfinite(at_s) or at_s > now_s:
        raise ValueError("that moment has not come yet: city.at(…) shows the past, city[…] the present")
