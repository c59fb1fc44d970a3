"""Memory that a process with many twins no longer needs goes back to the system, where the C library can do that."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of mallopt(3)
KEPT_BYTES = 8_000_000
"""Free memory at the end of the heap beyond which it is given back."""
MAPPED_FROM_BYTES = 32_000_000
"""Blocks from this size on are mapped one by one. Left alone, glibc raises both bounds by what a process frees, until
tens of megabytes stay with it for good."""


def bound_heap() -> None:
    """Keep little free memory from now on."""
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
        mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


def give_back() -> None:
    """Free what nothing refers to, and return what is free."""
    gc.collect()
    malloc_trim = _of_libc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _of_libc(name: str) -> Callable[..., Any] | None:
    """A function of glibc; other C libraries have none of them."""
    return getattr(ctypes.CDLL(None), name, None)
