"""Stage *clean*: judge every value of a reading by itself, then convert what is kept.

Order of judgement, per field: duplicate, late, range, rate of change, stuck. Order of conversion: rounding of
counts, running total to level, normalisation y = (x − min)/(max − min), exponential filter
y[n] = αx[n] + (1 − α)y[n−1]. Units are converted at the edge, when a reading is decoded.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from twin_actors.core.columns import Column, Reading, Role
from twin_actors.core.places import Places, place_of

NO_KEY = int(np.iinfo(np.int64).max)
"""The identity of a reading that carries neither a device time nor a sequence number."""

REMEMBERED = 16
"""How many identities of recent readings each twin keeps to recognise a redelivery."""


class Quality(enum.IntEnum):
    """What became of the last value said for a field."""

    UNSAID = 0
    GOOD = 1
    STUCK = 2
    OUT_OF_RANGE = 3
    RATE = 4
    DUPLICATE = 5
    LATE = 6


class Fate(enum.IntEnum):
    """The one fate of a reading; the ledger counts these."""

    APPLIED = 0
    DUPLICATE = 1
    LATE = 2
    REJECTED = 3


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """The declared limits of a Reading record as ``(rows, 1)`` columns."""

    minimum: Column
    maximum: Column
    max_rate: Column
    stuck_after_s: Column
    smooth: Column
    integer: NDArray[np.bool_]
    normalise: NDArray[np.bool_]
    total: NDArray[np.bool_]
    resets: NDArray[np.bool_]
    bit: NDArray[np.uint64]
    converts: bool
    counts: bool  # any row is a whole number
    hurries: bool  # any row has a largest rate
    sticks: bool  # any row can be stuck by declaration

    @classmethod
    def of(cls, reading: type[Reading]) -> Self:
        layout = reading.layout
        names = layout.field_of_row()
        per_field = len(names) > 64
        order = list(layout.fields)
        places = [order.index(name) % 64 if per_field else row for row, name in enumerate(names)]
        rows = (len(names), 1)

        def flags(test: list[bool]) -> NDArray[np.bool_]:
            return np.array(test, dtype=np.bool_).reshape(rows)

        declared = [layout.fields[name] for name in names]
        smooth = layout.per_row("smooth")
        normalise = flags([field.normalise for field in declared])
        integer = flags([field.integer for field in declared])
        max_rate, stuck_after_s = layout.per_row("max_rate"), layout.per_row("stuck_after_s")
        total = flags([field.role is Role.RUNNING_TOTAL for field in declared])
        return cls(
            minimum=layout.per_row("minimum"),
            maximum=layout.per_row("maximum"),
            max_rate=max_rate,
            stuck_after_s=stuck_after_s,
            smooth=smooth,
            integer=integer,
            normalise=normalise,
            total=total,
            resets=flags([field.resets == "detect" for field in declared]) & total,
            bit=(np.uint64(1) << np.array(places, dtype=np.uint64)).reshape(rows),
            converts=bool(normalise.any() or total.any() or (smooth < 1).any()),
            counts=bool(integer.any()),
            hurries=bool(np.isfinite(max_rate).any()),
            sticks=bool(np.isfinite(stuck_after_s).any()),
        )


@dataclass(slots=True)
class CleaningMemory:
    """What cleaning must remember, ``(rows, n)`` per field and ``(REMEMBERED, n)`` identities per twin.

    What no field of the reading has a use for has no rows: ``changed_at_s`` without ``stuck_after_s``, ``offset`` and
    ``smoothed`` without conversion.
    """

    value: Column  # last accepted value as it was said, NaN: never
    at_s: Column  # its device time, -inf: never
    changed_at_s: Column  # since when it has been that value
    quality: NDArray[np.uint8]
    offset: Column  # what earlier lives of a counter add to its level
    smoothed: Column
    keys: NDArray[np.int64]
    masks: NDArray[np.uint64]
    next_key: NDArray[np.uint8]

    @classmethod
    def empty(cls, rows: int, n: int, rules: CleaningRules | None = None) -> Self:
        """No memory of anything; with ``rules`` without room for what they never use."""
        changing = rows if rules is None or rules.sticks else 0
        converted = rows if rules is None or rules.converts else 0
        return cls(
            value=np.full((rows, n), np.nan),
            at_s=np.full((rows, n), -np.inf),
            changed_at_s=np.full((changing, n), -np.inf),
            quality=np.zeros((rows, n), np.uint8),
            offset=np.zeros((converted, n)),
            smoothed=np.full((converted, n), np.nan),
            keys=np.full((REMEMBERED, n), NO_KEY, np.int64),
            masks=np.zeros((REMEMBERED, n), np.uint64),
            next_key=np.zeros((1, n), np.uint8),
        )

    def gather(self, place: Places) -> Self:
        """The memory of some twins: views where they lie side by side, to be read before it is overwritten."""
        return type(self)(*[getattr(self, name)[:, place] for name in _MEMORY])

    def keep(self, twins: NDArray[np.intp], cleaned: Cleaned, key: NDArray[np.int64]) -> None:
        """Take over what cleaning one reading each of these twins has left."""
        place = place_of(twins)
        for name in _VALUES:
            getattr(self, name)[:, place] = getattr(cleaned, name)
        self.keys[cleaned.slot, twins] = key
        self.masks[cleaned.slot, twins] = cleaned.mask
        self.next_key[0, twins] = cleaned.next_key


_MEMORY = tuple(field.name for field in fields(CleaningMemory))
_VALUES = ("value", "at_s", "changed_at_s", "quality", "offset", "smoothed")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """``values (rows, b)`` ready for the estimate (NaN where nothing is usable), and one fate per reading.

    ``refused`` are values out of range or too fast; what follows them is the memory after this reading, the identity
    of which goes with ``mask`` into ``slot (b,)`` of the twin's ring.
    """

    values: Column
    usable: NDArray[np.bool_]
    accepted: NDArray[np.bool_]
    refused: NDArray[np.bool_]
    duplicate: NDArray[np.bool_]
    late: NDArray[np.bool_]
    fate: NDArray[np.uint8]
    value: Column
    at_s: Column
    changed_at_s: Column
    quality: NDArray[np.uint8]
    offset: Column
    smoothed: Column
    slot: NDArray[np.intp]
    mask: NDArray[np.uint64]
    next_key: NDArray[np.uint8]

    @property
    def verdict(self) -> NDArray[np.uint8]:
        """What was said of each value of this reading, as a Quality (UNSAID where nothing was said)."""
        verdict = np.where(self.accepted | self.refused, self.quality, np.uint8(Quality.UNSAID))
        verdict[self.late] = Quality.LATE
        verdict[self.duplicate] = Quality.DUPLICATE
        return verdict


def clean(
    rules: CleaningRules,
    memory: CleaningMemory,
    values: Column,
    observed_at_s: Column,
    key: NDArray[np.int64],
) -> Cleaned:
    """Judge and convert one reading each of ``b`` different twins.

    ``values (rows, b)`` with NaN for what was not said, ``observed_at_s (b,)``, ``key (b,)`` identities. A stuck
    value is recorded but kept from the estimate, so that its uncertainty grows instead of its error.
    """
    said = ~np.isnan(values)
    value = np.where(rules.integer, np.rint(values), values) if rules.counts else values
    nothing = np.zeros((1, 1), np.bool_)

    # A mask that is empty, as most are, costs its test and no more.
    same = (memory.keys == key) & (key != NO_KEY)
    duplicate = late = np.broadcast_to(nothing, values.shape)
    new = said
    if same.any():
        seen = np.bitwise_or.reduce(np.where(same, memory.masks, np.uint64(0)), axis=0)
        duplicate = said & ((seen & rules.bit) != 0)
        new = new & ~duplicate
    earlier = observed_at_s < memory.at_s
    if earlier.any():
        late = new & earlier
        new = new & ~late
    out_of_range = refused = new & ((value < rules.minimum) | (value > rules.maximum) | np.isinf(value))
    too_fast = stuck = nothing
    if rules.hurries:
        elapsed_s = observed_at_s - memory.at_s
        with np.errstate(invalid="ignore"):
            moved = np.abs(value - memory.value)
            too_fast = new & ~out_of_range & (elapsed_s > 0) & (moved > rules.max_rate * elapsed_s)
        refused = out_of_range | too_fast
    accepted = new & ~refused
    everything = bool(accepted.all())

    changed_at_s = memory.changed_at_s
    usable = accepted
    if len(changed_at_s):
        changed_at_s = np.where(accepted & (value != memory.value), observed_at_s, changed_at_s)
        with np.errstate(invalid="ignore"):
            stuck = accepted & (observed_at_s - changed_at_s >= rules.stuck_after_s)
        usable = accepted & ~stuck

    quality = np.where(accepted, np.uint8(Quality.GOOD), memory.quality)
    for judged, verdict in ((stuck, Quality.STUCK), (out_of_range, Quality.OUT_OF_RANGE), (too_fast, Quality.RATE)):
        if judged.any():
            quality[judged] = verdict

    converted, offset, smoothed = _convert(rules, memory, value, accepted, usable)
    slot, mask, next_key = _remember(rules, memory, said, key, same)
    fate = np.full(len(key), Fate.REJECTED, np.uint8)
    for judged, which in ((duplicate, Fate.DUPLICATE), (late, Fate.LATE), (refused, Fate.REJECTED)):
        if judged.any():
            fate[judged.any(axis=0)] = which
    fate[accepted.any(axis=0)] = Fate.APPLIED
    return Cleaned(
        values=converted if everything and usable is accepted else np.where(usable, converted, np.nan),
        usable=usable,
        accepted=accepted,
        refused=refused,
        duplicate=duplicate,
        late=late,
        fate=fate,
        value=value if everything else np.where(accepted, value, memory.value),
        at_s=np.broadcast_to(observed_at_s, value.shape)
        if everything
        else np.where(accepted, observed_at_s, memory.at_s),
        changed_at_s=changed_at_s,
        quality=quality,
        offset=offset,
        smoothed=smoothed,
        slot=slot,
        mask=mask,
        next_key=next_key,
    )


def normalise(values: Column, minimum: Column, maximum: Column) -> Column:
    """Min-max normalisation y = (x − min)/(max − min)."""
    return (values - minimum) / (maximum - minimum)


def smooth(values: Column, before: Column, alpha: Column) -> Column:
    """Exponential filter y[n] = αx[n] + (1 − α)y[n−1]; the first value passes as it is."""
    return np.where(np.isnan(before), values, alpha * values + (1 - alpha) * before)


def level(total: Column, last_total: Column, offset: Column, resets: NDArray[np.bool_]) -> tuple[Column, Column]:
    """The level of a running total and the new offset: a total below the last one means the counter restarted."""
    with np.errstate(invalid="ignore"):
        restarted = resets & (total < last_total)
    offset = np.where(restarted, offset + last_total, offset)
    return total + offset, offset


def _convert(
    rules: CleaningRules,
    memory: CleaningMemory,
    value: Column,
    accepted: NDArray[np.bool_],
    usable: NDArray[np.bool_],
) -> tuple[Column, Column, Column]:
    if not rules.converts:
        return value, memory.offset, memory.smoothed
    raised, offset = level(value, memory.value, memory.offset, rules.resets & accepted)
    out = np.where(rules.total, raised, value)
    with np.errstate(invalid="ignore"):
        out = np.where(rules.normalise, normalise(out, rules.minimum, rules.maximum), out)
    out = smooth(out, np.where(rules.smooth < 1, memory.smoothed, np.nan), rules.smooth)
    return out, offset, np.where(usable & (rules.smooth < 1), out, memory.smoothed)


def _remember(
    rules: CleaningRules,
    memory: CleaningMemory,
    said: NDArray[np.bool_],
    key: NDArray[np.int64],
    same: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint8]]:
    """Where in its ring each identity goes, with the fields it has spoken for, and the slot after it.

    An identity that is there already is extended. A reading without one (NO_KEY) blanks the oldest slot and does not
    move on, so that any number of them costs a single remembered identity.
    """
    known = same.any(axis=0)
    fresh = ~known & (key != NO_KEY)
    following = memory.next_key[0]
    slot = np.where(known, same.argmax(axis=0), following)
    own = np.bitwise_or.reduce(np.where(said, rules.bit, np.uint64(0)), axis=0)
    before = np.where(known, memory.masks[slot, np.arange(len(key))], np.uint64(0))
    return slot, own | before, np.where(fresh, (following + 1) % REMEMBERED, following).astype(np.uint8)
