"""What the machine is, and how a process makes use of it. Loads nothing heavy: it runs before torch does."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

# of glibc's malloc.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4

_ALLOCATOR_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def processor_name() -> str:
    """What the processor calls itself."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def prepare_process() -> None:
    """Let this process's threads and memory suit networks: called by the command line before it does anything else.

    What the environment already decides stays decided.
    """
    spin_briefly()
    keep_memory()


def spin_briefly() -> None:
    """Let OpenMP's threads wait awake for some ten microseconds; torch has to be loaded after it.

    Their default of milliseconds takes the core from the processes that read images: with another busy process on two
    cores, training steps took up to three times longer. Not to wait awake at all makes small networks wait for each
    wake-up: 1.45 times slower.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, and take the next from it; whether that could be set.

    glibc gives every large array's memory back when it is freed and asks for it anew, and the system then clears it,
    page by page: in training all activations, each step, which took half of its time where it was measured. Kept, they
    cost that once; the process stays as large as it ever was. Only glibc has the setting; where the environment or a
    preloaded allocator decides, it stays as it is.
    """
    if (
        sys.platform != "linux"
        or os.environ.get("LD_PRELOAD")
        or any(name in os.environ for name in _ALLOCATOR_VARIABLES)
    ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
