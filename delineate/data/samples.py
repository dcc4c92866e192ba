"""What every data set is to the floors above, whether it lies on disk or is composed on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from delineate.structures.taxonomy import Taxonomy


class Samples(Protocol):
    """Images with label maps: ``samples[i]`` is ``(tv_tensors.Image, target)``.

    The target holds "semantic_mask" (``tv_tensors.Mask``, ``(H, W)``), "image_id" and "stem", and what else the data
    knows ("boxes", "masks", "labels", "tags").
    """

    taxonomy: Taxonomy

    @property
    def name(self) -> str:
        """What the data set is called in messages."""
        ...

    @property
    def skipped(self) -> Sequence[str]:
        """Files that were left out because they cannot be used."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]: ...

    def stem(self, index: int) -> str:
        """The name of one sample."""
        ...

    def files(self, index: int) -> str:
        """Where one sample came from, for messages."""
        ...

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``(H, W, C)`` uint8 and labels ``(H, W)`` of one sample."""
        ...
