"""Recordings in files: CSV or Parquet in, columns of readings in the order of time out.

**Time.** Local times are converted with the time zone's rules as of PEP 495 with ``fold=0``: a time that occurs twice
(clocks put back) is its first occurrence, one that does not occur (clocks put forward) is counted on with the offset
before the change. A time that carries its own offset needs no zone.

**Names.** A name in a file becomes an entity's name by putting ``-`` in the place of what names cannot have, blanks
above all: ``Flinders Street`` is ``Flinders-Street``.

**Lines.** A value that is no number is left out, a row without a readable time or name is left out as a whole; both are
counted and shown with their line (CSV; exact as long as no quoted cell spans lines) or row (Parquet).
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column
from twin_actors.scenario.model import FieldMap, Replay, TimeColumns
from twin_actors.scenario.names import entity_name
from twin_actors.scenario.words import name_fault
from twin_actors.wire.identity import LATEST_S

if TYPE_CHECKING:
    import pandas as pd

SHOWN: Final = 100
"""How many bad rows a recording keeps to show; all are counted."""

_NO_TIME: Final = np.iinfo(np.int64).min  # what NaT is as a number
_OWN_OFFSET: Final = r"[Tt ]\d\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)\s*$"


class RecordingError(ValueError):
    """A file that cannot be replayed as the scenario says; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A place in a file that could not be used: its line (Parquet: row, from 1) and what is wrong there."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """``m`` readings in the order of time, equal times in the order of the file.

    ``entity (m,)`` are ids, ``at_s (m,)`` seconds since the epoch as a twin will read them from the payload, ``values
    (fields, m)`` numbers in the units of the reading rows named by ``fields``, NaN: not said. ``bad`` shows the first
    of ``bad_rows``; ``empty`` counts rows without any value, ``strangers`` readings of entities nobody asked for.
    """

    file: str
    kind: str
    fields: tuple[str, ...]
    entity: NDArray[np.object_]
    at_s: Column
    values: Column
    bad: tuple[BadRow, ...] = ()
    bad_rows: int = 0
    empty: int = 0
    strangers: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.at_s)

    def __iter__(self) -> Iterator[tuple[str, float, dict[str, Any]]]:
        """``(entity id, observed_at_s, values)`` as a device would say them; components as label: number."""
        places = [_place(label) for label in self.fields]
        for first in range(0, len(self), 4096):
            part = slice(first, first + 4096)
            columns = zip(
                self.entity[part].tolist(), self.at_s[part].tolist(), self.values[:, part].T.tolist(), strict=True
            )
            for entity, at_s, numbers in columns:
                said: dict[str, Any] = {}
                for (name, component), number in zip(places, numbers, strict=True):
                    if number != number:
                        continue
                    if component:
                        said.setdefault(name, {})[component] = number
                    else:
                        said[name] = number
                yield entity, at_s, said


def _place(label: str) -> tuple[str, str]:
    """A row label ``field[component]`` as field and component; no component for a plain field."""
    name, _, rest = label.partition("[")
    return name, rest.removesuffix("]")


def load_replay(replay: Replay, entities: Collection[str] | None = None) -> Recording:
    """Read the whole recording of a replay, from ``start_s`` (included) to ``end_s`` (not included).

    With ``entities`` (ids) only their readings are kept. Raises RecordingError when the file is missing, is no
    CSV or Parquet, or lacks a column that the scenario names.
    """
    table = _read(replay)
    faults = _Faults(table.lines, dict(table.bad))
    at_us = _times(table.frame, replay.time, faults)
    if replay.wide is not None:
        fields: tuple[str, ...] = (replay.wide.field,)
        names, at_us, values = _wide(table.frame, replay.wide, _time_columns(replay.time), at_us, faults)
    else:
        fields = tuple(each.field for each in replay.fields)
        names = _names(table.frame, replay, faults)
        scaled = [_scaled(table.frame[each.source], each, each.source, faults) for each in replay.fields]
        values = np.stack(scaled) if scaled else np.zeros((0, len(at_us)))
    at_s = at_us / 1e6
    usable = np.array([name != "" for name in names], dtype=np.bool_) & (at_us != _NO_TIME)
    if replay.start_s is not None:
        usable &= at_s >= replay.start_s
    if replay.end_s is not None:
        usable &= at_s < replay.end_s
    says = ~np.isnan(values).all(axis=0)
    empty = int((usable & ~says).sum())
    ids = np.array([f"{replay.kind}/{name}" if name else "" for name in names], dtype=object)
    if replay.entity is not None:
        ids[:] = replay.entity
    chosen = usable & says
    strangers: Mapping[str, int] = {}
    if entities is not None:
        known = np.fromiter((one in entities for one in ids), np.bool_, len(ids))
        strangers = dict(Counter(ids[chosen & ~known].tolist()))
        chosen &= known
    kept = np.flatnonzero(chosen)
    order = kept[np.argsort(at_us[kept], kind="stable")]
    return Recording(
        file=replay.file,
        kind=replay.kind,
        fields=fields,
        entity=ids[order],
        at_s=as_sent_s(at_us[order]),
        values=np.ascontiguousarray(values[:, order]),
        bad=faults.shown(),
        bad_rows=len(faults.reasons),
        empty=empty,
        strangers=strangers,
    )


def as_sent_s(at_us: NDArray[np.int64]) -> Column:
    """Times in µs as they come back from a payload's milliseconds."""
    return np.asarray((at_us / 1e3) / 1e3)


@dataclass(slots=True)
class _Faults:
    """What is wrong, by row; the first fault of a row is kept."""

    lines: NDArray[np.int64]
    reasons: dict[int, str] = field(default_factory=dict)

    def add(self, rows: NDArray[np.intp], what: str, cells: Sequence[object]) -> None:
        for row, cell in zip(rows.tolist(), cells, strict=True):
            self.reasons.setdefault(int(self.lines[row]), f"{what}: {str(cell)[:60]!r}")

    def shown(self) -> tuple[BadRow, ...]:
        return tuple(BadRow(line, self.reasons[line]) for line in sorted(self.reasons)[:SHOWN])


# -- files ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    frame: pd.DataFrame
    lines: NDArray[np.int64]  # where each row stands in its file
    bad: dict[int, str] = field(default_factory=dict)  # lines that are no rows, and why


def _time_columns(time: TimeColumns) -> list[str]:
    return [time.column] if time.column is not None else list(time.parts.values())


def _read(replay: Replay) -> _Table:
    path = Path(replay.file)
    texts = [replay.entity_column] if replay.entity_column is not None else []
    if replay.time.column is not None and not replay.time.format.startswith("epoch_"):
        texts.append(replay.time.column)
    needed = [*_time_columns(replay.time), *texts, *(each.source for each in replay.fields)]
    try:
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, replay.missing, texts)
    except FileNotFoundError:
        raise RecordingError(f"{path} does not exist: correct 'file' of the replay") from None
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise RecordingError(f"{path} cannot be read: {error}") from error
    for name in needed:
        if name not in table.frame.columns:
            has = ", ".join(map(str, table.frame.columns[:20]))
            raise RecordingError(f"{path} has no column {name!r}; it has {has}")
    return table


def _read_parquet(path: Path) -> _Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RecordingError(
            f"{path}: Parquet is read with pyarrow, which is not installed: pip install 'twin-actors[history]'"
        ) from None
    try:
        frame = pyarrow.parquet.read_table(path).to_pandas(ignore_metadata=True)
    except pyarrow.ArrowInvalid as error:
        raise RecordingError(f"{path} is no Parquet file: {error}") from error
    return _Table(frame, np.arange(1, len(frame) + 1))


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _read_csv(path: Path, missing: Sequence[str], texts: Sequence[str]) -> _Table:
    import pandas as pd

    with _opened(path) as text:
        rows = csv.reader(text)
        header, first = next(rows, []), next(filter(None, rows), [])
    if len(first) > len(header):  # pandas would cut such rows, or take their first cell for an index
        return _read_ragged_csv(path, missing)
    try:
        frame = pd.read_csv(
            path,
            dtype=dict.fromkeys(texts, str),
            na_values=[*missing, ""],
            keep_default_na=False,
            low_memory=False,
            skip_blank_lines=False,
            skipinitialspace=True,
            index_col=False,
            encoding="utf-8-sig",
            on_bad_lines="error",
        )
    except pd.errors.EmptyDataError:
        raise RecordingError(f"{path} is empty: a recording starts with a line of column names") from None
    except pd.errors.ParserError:
        return _read_ragged_csv(path, missing)
    blank = frame.isna().all(axis=1).to_numpy()
    lines = np.arange(2, len(frame) + 2)
    return _Table(frame.loc[~blank].reset_index(drop=True), lines[~blank])


def _read_ragged_csv(path: Path, missing: Sequence[str]) -> _Table:
    """A file with rows of more cells than there are columns: bad, unless what is too much is empty."""
    import pandas as pd

    unsaid = {*missing, ""}
    rows: list[list[str | None]] = []
    lines: list[int] = []
    bad: dict[int, str] = {}
    with _opened(path) as text:
        reader = csv.reader(text, skipinitialspace=True)
        header = next(reader, [])
        for cells in reader:
            if any(cells[len(header) :]):
                bad[reader.line_num] = f"{len(cells)} cells for {len(header)} columns"
                continue
            said = [None if cell in unsaid else cell for cell in cells[: len(header)]]
            if not any(said):
                continue
            rows.append(said + [None] * (len(header) - len(said)))
            lines.append(reader.line_num)
    return _Table(pd.DataFrame(rows, columns=header, dtype=object), np.array(lines, dtype=np.int64), bad)


# -- columns -------------------------------------------------------------------------------------------------------


def _numbers(column: pd.Series[Any]) -> tuple[Column, NDArray[np.intp]]:
    """A column as float64, NaN where nothing or nothing usable is said, and the rows of what is not usable."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    numbers = np.array(numbers, dtype=np.float64)
    bad = np.flatnonzero(column.notna().to_numpy() & ~np.isfinite(numbers))
    numbers[bad] = np.nan
    return numbers, bad


def _scaled(column: pd.Series[Any], mapped: FieldMap, name: str, faults: _Faults) -> Column:
    numbers, bad = _numbers(column)
    if len(bad):
        faults.add(bad, f"{name} is not a number", column.iloc[bad].tolist())
    return np.asarray(numbers * mapped.factor + mapped.offset)


def _names(frame: pd.DataFrame, replay: Replay, faults: _Faults) -> Sequence[str]:
    """The entity's name in every row, empty where there is none."""
    if replay.entity_column is None:
        return [(replay.entity or "").partition("/")[2]] * len(frame)
    column = frame[replay.entity_column]
    codes, texts = column.factorize(use_na_sentinel=True)
    names = [entity_name(str(text), lower=replay.lower) for text in texts]
    names = ["" if name_fault(name) else name for name in names]
    found = [names[code] if code >= 0 else "" for code in codes.tolist()]
    bad = np.array([row for row, name in enumerate(found) if not name], dtype=np.intp)
    if len(bad):
        faults.add(bad, f"{replay.entity_column} names no entity", column.iloc[bad].tolist())
    return found


def _wide(
    frame: pd.DataFrame, mapped: FieldMap, times: Collection[str], at_us: NDArray[np.int64], faults: _Faults
) -> tuple[Sequence[str], NDArray[np.int64], Column]:
    """Every column but the time as the readings of one entity: names, times and values ``(1, m)``, row by row."""
    sources = [name for name in frame.columns if name not in times]
    names = [entity_name(str(source)) for source in sources]
    for source, name in zip(sources, names, strict=True):
        if name_fault(name):
            raise RecordingError(f"column {source!r} cannot name an entity: {name_fault(name)}; rename it")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecordingError(f"two columns name the entity {twice[0]!r}: rename one of them")
    if not sources:
        raise RecordingError("the recording has no column beside its time: with 'wide' every other one is an entity")
    cells = np.stack([_scaled(frame[source], mapped, str(source), faults) for source in sources], axis=1)
    return names * len(frame), np.repeat(at_us, len(sources)), cells.reshape(1, -1)


# -- time ----------------------------------------------------------------------------------------------------------


def _times(frame: pd.DataFrame, time: TimeColumns, faults: _Faults) -> NDArray[np.int64]:
    """Microseconds since the epoch, UTC, by row; _NO_TIME where there is no time that can be read."""
    import pandas as pd

    if time.column is None:
        parts = pd.DataFrame({part: _numbers(frame[name])[0] for part, name in time.parts.items()})
        at_us = _to_utc(_microseconds(pd.to_datetime(parts, errors="coerce")), time.zone)
        cells = ["-".join(map(str, row)) for row in frame[list(time.parts.values())].itertuples(index=False)]
    else:
        column = frame[time.column]
        at_us = _column_times(column, time)
        cells = column.tolist()
    at_us = np.where((at_us < 0) | (at_us >= LATEST_S * 1e6), _NO_TIME, at_us)
    bad = np.flatnonzero(at_us == _NO_TIME)
    if len(bad):
        faults.add(bad, "the time cannot be read (1970 to 2112)", [cells[row] for row in bad.tolist()])
    return at_us


def _column_times(column: pd.Series[Any], time: TimeColumns) -> NDArray[np.int64]:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):  # Parquet knows times
        if isinstance(column.dtype, pd.DatetimeTZDtype):
            return _microseconds(column.dt.tz_convert("UTC").dt.tz_localize(None))
        return _to_utc(_microseconds(column), time.zone)
    if time.format in ("epoch_s", "epoch_ms"):
        numbers, _ = _numbers(column)
        micros = numbers * (1e6 if time.format == "epoch_s" else 1e3)
        good = np.abs(micros) < 2.0**62  # beyond that int64 ends; NaN is not good either
        return np.where(good, np.rint(np.where(good, micros, 0.0)), _NO_TIME).astype(np.int64)
    text = column.astype("string")
    pattern = time.format or "ISO8601"
    own = text.str.contains(_OWN_OFFSET, na=False).to_numpy(dtype=np.bool_)
    if time.format:
        own = np.full(len(text), "%z" in time.format.replace("%%", ""))
    at_us = np.full(len(text), _NO_TIME)
    if not own.all():
        local = pd.to_datetime(text[~own], format=pattern, errors="coerce")
        at_us[~own] = _to_utc(_microseconds(local), time.zone)
    if own.any():
        absolute = pd.to_datetime(text[own], format=pattern, errors="coerce", utc=True)
        at_us[own] = _microseconds(absolute.dt.tz_localize(None))
    return at_us


def _microseconds(times: pd.Series[Any]) -> NDArray[np.int64]:
    """Naive times as microseconds since 1970 of the clock they were read from; NaT becomes _NO_TIME."""
    return np.asarray(times.to_numpy(dtype="datetime64[us]").astype(np.int64))


def _to_utc(local_us: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    """Local clock readings as UTC. Offsets change at full minutes, so each minute that occurs is looked up once."""
    if zone == "UTC" or not len(local_us):
        return local_us
    rules = ZoneInfo(zone)
    said = local_us != _NO_TIME
    minutes, place = np.unique(np.where(said, local_us, 0) // 60_000_000, return_inverse=True)
    epoch = datetime(1970, 1, 1)
    offsets = [(epoch + timedelta(minutes=minute)).replace(tzinfo=rules).utcoffset() for minute in minutes.tolist()]
    offset_us = np.array([0 if one is None else one // timedelta(microseconds=1) for one in offsets], np.int64)
    return np.where(said, local_us - offset_us[place], _NO_TIME)


def shown_time(at_s: float) -> str:
    """A time for people and status files: ISO 8601, UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
