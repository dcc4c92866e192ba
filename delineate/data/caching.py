"""Decoded images kept in memory when they fit, so that every epoch after the first reads nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from delineate.data.samples import AnySamples

# the share of free memory that "auto" may fill
SHARE = 0.25


class CachedSamples(Dataset[Any]):
    """A data set without randomness whose samples are read once and kept.

    All are read when it is made, on two threads, so that worker processes started later share them.

    Args:
        samples: the data set; its samples must not depend on when they are read.
        progress: called with (samples read, samples in all).
    """

    def __init__(self, samples: AnySamples, *, progress: Callable[[int, int], None] | None = None) -> None:
        self.samples = samples
        self._kept: list[Any] = []
        with ThreadPoolExecutor(2) as readers:
            for sample in readers.map(samples.__getitem__, range(len(samples))):
                self._kept.append(sample)
                if progress is not None:
                    progress(len(self._kept), len(samples))

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Any:
        image, target = self._kept[index]
        return image, dict(target)  # a transform may add to it or take away

    def __getattr__(self, name: str) -> Any:
        # "samples" is not there yet while being unpickled; special methods of the data set (__getitems__) would read
        if name == "samples" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.samples, name)


def cached(samples: AnySamples, policy: str, *, progress: Callable[[int, int], None] | None = None) -> AnySamples:
    """``samples``, kept in memory when ``policy`` says so.

    Args:
        samples: a data set without randomness.
        policy: "memory" always, "none" never, "auto" when the whole (estimated from its first, middle and last sample)
            takes at most a quarter of the free memory.
        progress: called with (samples read, samples in all) while they are read to be kept.
    """
    count = len(samples)
    if policy == "none" or count == 0:
        return samples
    if policy == "auto":
        probes = {0, count // 2, count - 1}
        size = max(_bytes(samples[index]) for index in probes) * count
        if size > SHARE * _free_memory():
            return samples
    return CachedSamples(samples, progress=progress)


def _bytes(sample: Any) -> int:
    image, target = sample
    tensors = [image, *(value for value in target.values() if hasattr(value, "numel"))]
    return sum(int(tensor.numel()) * int(tensor.element_size()) for tensor in tensors)


def _free_memory() -> int:
    """Bytes that can be had without swapping; what the disk cache holds can."""
    information = Path("/proc/meminfo")
    if information.is_file():
        for line in information.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not a POSIX system
        return 2**31
