"""Fair timing: the two sides in turn, the median of several runs, and the ratio pair by pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds of ours and of the peer, and how many times faster ours is (the median over pairs)."""

    ours: float
    peer: float
    ratio: float

    def row(self, work: str, peer: str, goal: float) -> list[str]:
        """A line of the printed table."""
        return [
            work,
            peer,
            f"{self.peer * 1e3:.1f} ms",
            f"{self.ours * 1e3:.1f} ms",
            f"{self.ratio:.1f}x",
            f"{goal:g}x",
        ]


def compare(ours: Callable[[], object], peer: Callable[[], object], *, runs: int = 5, warmup: int = 1) -> Comparison:
    """Time two functions that do the same work, in turn."""
    for _ in range(warmup):
        ours()
        peer()
    pairs = [(seconds(ours), seconds(peer)) for _ in range(runs)]
    return Comparison(
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(b / a for a, b in pairs),
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
