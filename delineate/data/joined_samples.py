"""Several data sets one after another, whatever their samples are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

from torch.utils.data import Dataset

from delineate.checks import require
from delineate.data.samples import AnySamples

Part = TypeVar("Part", bound=AnySamples)


class JoinedSamples(Dataset[Any], Generic[Part]):
    """What mixtures share: the parts, and which of them a sample is of.

    Args:
        parts: data sets, in their own order.

    Raises:
        ArgumentError: without any part.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        require(len(parts) > 0, "parts", "hold at least one data set", "none")
        self.parts = tuple(parts)
        self._ends = list(accumulate(len(part) for part in parts))

    @property
    def name(self) -> str:
        """The parts' names, joined."""
        return "+".join(part.name for part in self.parts)

    @property
    def split(self) -> str | None:
        """Of the parts."""
        return getattr(self.parts[0], "split", None)

    @property
    def skipped(self) -> Sequence[str]:
        """Of all parts."""
        return [file for part in self.parts for file in part.skipped]

    def __len__(self) -> int:
        return self._ends[-1]

    def stem(self, index: int) -> str:
        """The sample's name, behind that of its part where there are several, which may have samples of one name."""
        part, place = self.place(index)
        own = self.parts[part].stem(place)
        return own if len(self.parts) == 1 else f"{self.parts[part].name}-{own}"

    def files(self, index: int) -> str:
        """Of the sample's part."""
        part, place = self.place(index)
        return self.parts[part].files(place)

    def place(self, index: int) -> tuple[int, int]:
        """The part of a sample, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        return part, index - (self._ends[part - 1] if part else 0)
