"""Rolling values up into buckets of count, minimum, mean, maximum and last, and merging buckets; columns only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin_actors.store.history import Floats, Resolution, Rolled, Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Buckets of many field rows and entities: all arrays (m,), sorted by entity, field and time, each key once."""

    labels: tuple[str, ...]
    """What the field codes stand for, in order of the alphabet."""
    entities: NDArray[np.int32]
    fields: NDArray[np.int32]
    at_s: NDArray[np.int64]
    count: NDArray[np.int64]
    minimum: Floats
    maximum: Floats
    total: Floats
    last: Floats
    last_at_s: Floats

    def __len__(self) -> int:
        return len(self.entities)

    def of(self, entity: int, field: str) -> Rolled:
        """The buckets of one field row of one entity."""
        code = self.labels.index(field) if field in self.labels else -1
        chosen = (self.entities == entity) & (self.fields == code)
        return Rolled(
            at_s=self.at_s[chosen].astype(np.float64),
            count=self.count[chosen],
            minimum=self.minimum[chosen],
            mean=self.total[chosen] / self.count[chosen],
            maximum=self.maximum[chosen],
            last=self.last[chosen],
        )


def roll(values: Iterable[Values], resolution: Resolution) -> Buckets:
    """Buckets of values as a decoder gives them; what is not finite is left out."""
    parts = [each for each in values if len(each.values)]
    labels = tuple(sorted({each.field for each in parts}))
    code = {label: number for number, label in enumerate(labels)}
    lengths = [len(each.values) for each in parts]
    at_s = np.concatenate([each.at_s for each in parts]) if parts else np.empty(0)
    numbers = np.concatenate([each.values for each in parts]) if parts else np.empty(0)
    entities = np.repeat(np.array([each.entity for each in parts], np.int32), lengths)
    fields = np.repeat(np.array([code[each.field] for each in parts], np.int32), lengths)
    said = np.isfinite(numbers) & np.isfinite(at_s)
    at_s, numbers = at_s[said].astype(np.float64), numbers[said].astype(np.float64)
    return _grouped(
        Buckets(
            labels=labels,
            entities=entities[said],
            fields=fields[said],
            at_s=_begin(at_s, resolution),
            count=np.ones(len(numbers), np.int64),
            minimum=numbers,
            maximum=numbers,
            total=numbers,
            last=numbers,
            last_at_s=at_s,
        )
    )


def coarser(buckets: Buckets, resolution: Resolution) -> Buckets:
    """The same in wider buckets, exactly as if rolled up from the values themselves (but for rounding of totals)."""
    return _grouped(replace(buckets, at_s=_begin(buckets.at_s, resolution)))


def merge(parts: Sequence[Buckets]) -> Buckets:
    """One of several, earlier log offsets first; a bucket that several have is summed up."""
    labels = tuple(sorted({label for part in parts for label in part.labels}))
    code = {label: number for number, label in enumerate(labels)}

    def column(name: str, dtype: type) -> NDArray[np.generic]:
        arrays = [getattr(part, name) for part in parts]
        return np.concatenate(arrays).astype(dtype, copy=False) if arrays else np.empty(0, dtype)

    recoded = [np.array([code[label] for label in part.labels], np.int32)[part.fields] for part in parts if len(part)]
    return _grouped(
        Buckets(
            labels=labels,
            entities=column("entities", np.int32),  # type: ignore[arg-type]
            fields=np.concatenate(recoded) if recoded else np.empty(0, np.int32),
            at_s=column("at_s", np.int64),  # type: ignore[arg-type]
            count=column("count", np.int64),  # type: ignore[arg-type]
            **{name: column(name, np.float64) for name in ("minimum", "maximum", "total", "last", "last_at_s")},  # type: ignore[arg-type]
        )
    )


def _begin(at_s: NDArray[np.float64] | NDArray[np.int64], resolution: Resolution) -> NDArray[np.int64]:
    width_s = resolution.width_s
    return (np.floor_divide(at_s, width_s) * width_s).astype(np.int64)


def _grouped(rows: Buckets) -> Buckets:
    """Sort rows by their key and make one of those that share it; of equal last times the later row wins."""
    if not len(rows):
        return rows
    # lexsort is stable: what is equal in all keys keeps its order, which is that of the log
    order = np.lexsort((rows.last_at_s, rows.at_s, rows.fields, rows.entities))
    entities, fields, at_s = rows.entities[order], rows.fields[order], rows.at_s[order]
    new = np.ones(len(order), bool)
    new[1:] = (entities[1:] != entities[:-1]) | (fields[1:] != fields[:-1]) | (at_s[1:] != at_s[:-1])
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], len(order)) - 1
    return Buckets(
        labels=rows.labels,
        entities=entities[starts],
        fields=fields[starts],
        at_s=at_s[starts],
        count=np.add.reduceat(rows.count[order], starts),
        minimum=np.minimum.reduceat(rows.minimum[order], starts),
        maximum=np.maximum.reduceat(rows.maximum[order], starts),
        total=np.add.reduceat(rows.total[order], starts),
        last=rows.last[order][ends],
        last_at_s=rows.last_at_s[order][ends],
    )
