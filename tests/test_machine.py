"""Settings of a process: what they do, and that what the environment decides stays."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from delineate.machine import keep_memory, processor_name, spin_briefly

TWICE = """
import resource, sys
import numpy as np
from delineate.machine import keep_memory
if sys.argv[1] == "keep":
    assert keep_memory()
faults = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    array = np.empty(64 << 20, np.uint8)
    array[::4096] = 1
    del array
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


def faults(setting: str, **variables: str) -> list[int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment.pop("LD_PRELOAD", None)
    done = subprocess.run(
        [sys.executable, "-c", TWICE, setting],
        env=environment | {"NUMPY_MADVISE_HUGEPAGE": "0"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_kept_memory_is_not_asked_for_again() -> None:
    pages = (64 << 20) // os.sysconf("SC_PAGE_SIZE")
    kept, given_back = faults("keep"), faults("leave")
    assert kept[0] > 0.9 * pages > 10 * max(kept[1:])
    assert min(given_back) > 0.9 * pages


@pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_the_environment_says_of_memory_stays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1000000")
    assert keep_memory() is False


def test_threads_wait_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    spin_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    spin_briefly()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    spin_briefly()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_the_processor_has_a_name() -> None:
    assert processor_name().strip()
