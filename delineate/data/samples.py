"""What every data set is to the floors above, whether it lies on disk or is composed on the fly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.taxonomy import Taxonomy


class AnySamples(Protocol):
    """Images with what is true of them: ``samples[i]`` is ``(tv_tensors.Image, target)``."""

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

    def read(self, index: int) -> tuple[np.ndarray, Any]:
        """Pixels ``(H, W, C)`` uint8 of one sample, and what is true of them as the data have it."""
        ...


class Samples(AnySamples, Protocol):
    """Images with label maps.

    The target holds "semantic_mask" (``tv_tensors.Mask``, ``(H, W)``), "image_id" and "stem", and what else the data
    knows ("boxes", "masks", "labels", "tags").
    """

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``(H, W, C)`` uint8 and labels ``(H, W)`` of one sample."""
        ...


class ObjectSamples(AnySamples, Protocol):
    """Images with objects.

    The target holds "boxes" (``tv_tensors.BoundingBoxes``, ``(N, 4)`` xyxy), "labels", "area", "iscrowd", "image_id"
    and "stem", and, as ``columns`` say, "masks", "keypoints" and "visibility".
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the target: "boxes", and "masks" and "keypoints" as far as they are there."""
        ...

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """One a joint; none without keypoints."""
        ...

    def read(self, index: int) -> tuple[np.ndarray, Objects]:
        """Pixels ``(H, W, C)`` uint8 and the objects of one sample."""
        ...

    def counts(self) -> np.ndarray:
        """How many objects each sample has, ``(I,)`` int64."""
        ...

    def truth(self) -> Annotations:
        """All samples and their objects, to score predictions against: image ``i`` is sample ``i``."""
        ...


class SelectedTargets(Dataset[Any]):
    """A data set whose targets keep only what a task learns from, so that nothing else is augmented, cached or sent.

    Args:
        samples: the whole data set.
        keys: of the target; those that a sample does not have are left out.
    """

    def __init__(self, samples: AnySamples, keys: Sequence[str]) -> None:
        self.samples = samples
        self.keys = tuple(keys)
        self.taxonomy = samples.taxonomy

    @property
    def name(self) -> str:
        """Of the whole data set."""
        return self.samples.name

    @property
    def skipped(self) -> Sequence[str]:
        """Of the whole data set."""
        return self.samples.skipped

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image, target = self.samples[index]
        return image, {key: target[key] for key in self.keys if key in target}

    def stem(self, index: int) -> str:
        """Of the whole data set."""
        return self.samples.stem(index)

    def files(self, index: int) -> str:
        """Of the whole data set."""
        return self.samples.files(index)

    def read(self, index: int) -> tuple[np.ndarray, Any]:
        """Of the whole data set."""
        return self.samples.read(index)


class TransformedSamples(Dataset[Any]):
    """A data set whose samples pass through a transform without randomness, as for validation.

    Args:
        samples: the whole data set.
        transform: of ``(image, target)``.
    """

    def __init__(self, samples: AnySamples, transform: Callable[..., Any]) -> None:
        self.samples = samples
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        image, target = self.transform(*self.samples[index])
        return image, target
