"""When a reading was observed, and what tells it from every other: the same of a redelivery, so that it is no news.

``key`` is a signed 64-bit number in three families that cannot collide:

- from the sequence number, where the device sends one: ``(crc32(boot) << 31 | seq mod 2**31) − 2**63``, always
  negative (``boot`` counts as empty text where it is not sent);
- else from the device's time: ``source << 52 | µs since 1970``, never negative, for sources up to 2,046 and times up
  to the year 2112;
- ``NO_IDENTITY`` (2**63 − 1) where the device sends neither, or only a time relative to our clock. Such readings are
  delivered at least once: a redelivery cannot be told from a new reading.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final, TypeAlias
from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

NO_IDENTITY: Final = 2**63 - 1
LATEST_S: Final = 2**52 / 1e6  # the microseconds of a key end on 2112-09-17
MOST_SOURCES: Final = 2**11 - 1
_SEQ_BITS: Final = 31
_TIME_BITS: Final = 52
_INT64_MIN: Final = -(2**63)
NEAR_S: Final = 30 * 86_400.0  # a ts this near to our clock in seconds was not meant in milliseconds

SequenceNumber = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Boot = Annotated[int, msgspec.Meta(ge=_INT64_MIN, le=2**63 - 1)]


@lru_cache(maxsize=4096)
def boot_number(boot: str | int) -> int:
    """What stands for a boot in an identity: its CRC-32."""
    return crc32(str(boot).encode())


def sequence_key(boot: str | int | None, seq: int) -> int:
    """The identity of a reading with a sequence number; see the module's text."""
    return ((0 if boot is None else boot_number(boot)) << _SEQ_BITS | seq & (2**_SEQ_BITS - 1)) + _INT64_MIN


def time_key(source: int, observed_at_s: float) -> int:
    """The identity of a reading without a sequence number but with the device's time."""
    return source << _TIME_BITS | round(observed_at_s * 1e6)


def times(
    ts: Floats, received: Floats, source: Integers
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.bool_], Integers]:
    """When readings were observed, which say so, which times can be read, and identities by time."""
    timed = ts == ts
    observed = np.where(timed, ts / 1000.0, received)
    readable = (observed >= 0.0) & (observed < LATEST_S) & ~(timed & (np.abs(ts - received) < NEAR_S))
    micros = np.rint(np.where(readable, observed, 0.0) * 1e6).astype(np.int64)
    return observed, timed, readable, np.where(timed, source << _TIME_BITS | micros, NO_IDENTITY)


def number(key: Integers, seq: Integers, boot: Integers) -> None:
    """Put identities by sequence number in place of those by time."""
    numbered = seq >= 0
    if numbered.any():
        family = (np.maximum(boot, 0) << _SEQ_BITS | seq & (2**_SEQ_BITS - 1)) + _INT64_MIN
        np.copyto(key, family, where=numbered)


def time_fault(ts: float, received_at_s: float) -> str:
    """What is wrong with a time in ms that cannot be read."""
    if abs(ts - received_at_s) < NEAR_S:
        return f"ts {ts:.0f} is in seconds: multiply it by 1,000"
    for unit, per_ms in (("microseconds", 1e3), ("nanoseconds", 1e6)):
        if abs(ts / per_ms / 1000.0 - received_at_s) < NEAR_S:
            return f"ts {ts:.0f} is in {unit}: divide it by {per_ms:,.0f}"
    return f"ts {ts:g} ms is before 1970 or after 2112"
