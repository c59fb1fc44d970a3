"""What a process with many twins frees goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twin_actors.runtime import memory

GLIBC = memory._of_libc("malloc_trim") is not None
pytestmark = pytest.mark.skipif(not GLIBC, reason="needs glibc: other C libraries keep what they like")


def told(program: str) -> list[float]:
    """Megabytes that a process of its own prints."""
    head = "import psutil\nfrom twin_actors.runtime.memory import *\n"
    head += "uss = lambda: psutil.Process().memory_full_info().uss / 1e6\n"
    done = subprocess.run(
        [sys.executable, "-c", head + program], capture_output=True, text=True, timeout=60, check=True
    )
    return [float(word) for word in done.stdout.split()]


def test_what_is_free_between_things_in_use_is_given_back() -> None:
    before, after = told(
        "held = [bytes(1_000) for _ in range(100_000)]\n"
        "del held[:-1]\n"  # the one that stays holds the end of the heap where it is
        "print(uss()); give_back(); print(uss())"
    )
    assert after < before - 80


def test_a_bounded_heap_keeps_little_of_what_a_large_answer_took() -> None:
    """Left alone, glibc would keep up to twice the largest block that was ever freed."""
    program = (
        "import numpy as np\n"
        "start = uss()\n"
        "first = np.ones(3_500_000)\n"  # 28 MB: below the size from which blocks are mapped one by one
        "del first\n"
        "arrays = [np.ones(2_000_000) for _ in range(3)]\n"
        "del arrays\n"
        "print(uss() - start)"
    )
    (alone,) = told(program)
    (bounded,) = told("bound_heap()\n" + program)
    assert bounded < 12
    assert bounded < alone
