"""When a process began, so that a process id that is used again is never taken for the one that had it before."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

SAME_S = 0.001
"""Two looks at one process read the same number of clock ticks, of 10 ms."""


def began_s(pid: int) -> float:
    """Seconds from the start of the machine to that of the process, by Linux' ``/proc/PID/stat`` (proc(5), starttime).

    psutil's ``create_time`` is a time of day: it moves with every correction of the clock, such as after the sleep of a
    laptop or of a virtual machine, and nobody would be recognised any more. Raises psutil.NoSuchProcess.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    after_name = stat.rpartition(b")")[2].split()  # from the third field on; a name may hold anything
    return int(after_name[19]) / os.sysconf("SC_CLK_TCK")
