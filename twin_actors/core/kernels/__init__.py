"""Compiled loops for what numpy does in dozens of passes over memory, with the very same results.

They are built when the project is installed (``hatch_build.py``) and loaded with the first batch. Where they are
missing, or ``TWIN_ACTORS_KERNELS=off``, numpy does the same work: slower, and to the bit the same.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
VARIABLE = "TWIN_ACTORS_KERNELS"
"""Environment variable: ``off`` leaves everything to numpy."""

_INT, _POINTER, _DOUBLE, _FLOAT = ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_double, ctypes.c_float
_ROWS = (_POINTER, _INT)  # a matrix whose rows are so many elements apart


class WrongArray(Exception):
    """A kernel would misread an array that it is given: a mistake in the program, never a model's or a reading's."""


@dataclass(frozen=True)
class Kernels:
    """The compiled loops, or none: ``says`` is in words which it is and why."""

    loops: ctypes.CDLL | None
    says: str


@cache
def kernels() -> Kernels:
    """The compiled loops of this process, loaded once."""
    return load(FOLDER) if os.environ.get(VARIABLE, "on") != "off" else Kernels(None, f"numpy, by {VARIABLE}=off")


def load(folder: Path) -> Kernels:
    """The library in ``folder`` for this processor, if it was built from the source beside it."""
    plain = folder / "kernels.so"
    if not plain.exists():
        return Kernels(None, "numpy: the compiled kernels are not built, install the project anew")
    try:
        library, level = ctypes.CDLL(str(plain)), ""
        faster = folder / "kernels_v3.so"
        if faster.exists() and library.has_avx2():
            library, level = ctypes.CDLL(str(faster)), ", AVX2"
        library.fingerprint.restype = ctypes.c_uint64
        built_from = f"{library.fingerprint():016x}"
    except (OSError, AttributeError) as error:  # of another machine, or cut off
        return Kernels(None, f"numpy: the compiled kernels cannot be loaded, install the project anew: {error}")
    if built_from != fingerprint(folder):
        return Kernels(None, "numpy: the compiled kernels are of another version, install the project anew")
    declare(library)
    return Kernels(library, f"compiled{level}")


def fingerprint(folder: Path) -> str:
    """What tells one version of the source from another: as ``hatch_build.py`` works it out."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def declare(library: ctypes.CDLL) -> None:
    """Tell ctypes what the functions take, in the order of their source."""
    twins = (_POINTER, _INT, _INT, _INT, _POINTER, ctypes.c_int)  # limits, rows, n, b, twins, dense
    noise = (_POINTER, _INT, _INT)
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "detect_scale": (ctypes.c_int64, (*twins, *(_POINTER,) * 2, *_ROWS, _POINTER)),
        "detect_score": (
            ctypes.c_int64,
            (*twins, *(_POINTER,) * 6, *_ROWS, _POINTER, *_ROWS, *_ROWS, *(_POINTER,) * 3),
        ),
        "advance": (ctypes.c_int, (_INT, _INT, *_ROWS, *_ROWS, *_ROWS, *noise, *(_POINTER,) * 4)),
        "fold_diagonal": (
            None,
            (*(_INT,) * 3, *(_POINTER,) * 2, *_ROWS * 4, *noise, *(_POINTER,) * 2, _DOUBLE, *(_POINTER,) * 2),
        ),
        "spread_points": (
            None,
            (*(_INT,) * 5, *(_POINTER,) * 2, *_ROWS, _POINTER, _DOUBLE, *(_POINTER,) * 2),
        ),
        "cholesky": (None, (*(_INT,) * 3, *_ROWS, _POINTER)),
        "record_fidelity": (None, (_INT, _INT, *_ROWS * 4, *(_FLOAT,) * 3)),
        "fold_joint": (None, (*(_INT,) * 4, _POINTER, *_ROWS * 4, *noise, _DOUBLE, *(_POINTER,) * 2)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def dense_rows(array: NDArray[Any], dtype: type) -> NDArray[Any]:
    """The same ``(…, b)`` with numbers of this type side by side on its last axis, copied only if they are not."""
    if array.dtype == dtype and (array.shape[-1] < 2 or array.strides[-1] == array.itemsize):
        return array
    return np.ascontiguousarray(array, dtype)


def pointer(array: NDArray[Any]) -> int:
    """Where its numbers begin. The caller keeps the array alive. Raises WrongArray for one with gaps in it."""
    if not array.flags.c_contiguous:
        raise WrongArray(f"an array {array.shape} does not lie in one piece: {array.strides} bytes apart")
    return _address(array)


def rows(array: NDArray[Any]) -> tuple[int, int]:
    """Where a matrix of dense rows begins, and how many elements apart its rows are.

    Raises WrongArray where the numbers of a row are not side by side: a kernel would read and write elsewhere.
    """
    if array.shape[-1] > 1 and array.strides[-1] not in (0, array.itemsize):
        raise WrongArray(f"rows of {array.shape} are not dense: {array.strides} bytes apart")
    return _address(array), array.strides[-2] // array.itemsize


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
