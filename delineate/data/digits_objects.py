"""The embedded scenes as a data set of objects: digits with boxes, masks and keypoints, and no background class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from delineate.data.digits import DIGITS, DigitScenes
from delineate.data.digits_scene import EXTREMES, Scene
from delineate.data.object_dataset import checked_columns, object_target
from delineate.data.objects.coco_json import Columns
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks
from delineate.structures.taxonomy import Taxonomy

DIGIT_OBJECTS = Taxonomy(DIGITS.names[1:], colours=DIGITS.colours[1:])
HELD: tuple[Columns, ...] = ("boxes", "masks", "keypoints")


class DigitObjects(Dataset[tuple[Any, dict[str, Any]]]):
    """The scenes of :class:`~delineate.data.digits.DigitScenes`, told object by object.

    An item is that of :class:`~delineate.data.object_dataset.ObjectDataset`: label ``d`` is the digit ``d``, the
    rearmost digit comes first, boxes and masks are of the visible part. The four keypoints of a digit are the outermost
    pixels of the whole digit at its top, right, bottom and left; one that another digit covers has visibility 1.

    Args:
        split: as of :class:`~delineate.data.digits.DigitScenes`.
        transform: a torchvision v2 transform on ``(image, target)``.
        columns: "masks" and "keypoints" only as far as they are wanted; both when left out.
        options: ``length``, ``size``, ``seed`` and ``channels`` of :class:`~delineate.data.digits.DigitScenes`.

    Raises:
        UnknownNameError: on an unknown split or column.
        ArgumentError: as for :class:`~delineate.data.digits.DigitScenes`.

    Example:
        >>> digits = DigitObjects("val", size=(64, 64))
        >>> image, target = digits[3]
        >>> digits.taxonomy.names[2], tuple(target["keypoints"].shape)
        ('two', (4, 4, 2))
    """

    name = "digits"
    taxonomy = DIGIT_OBJECTS

    def __init__(
        self,
        split: str = "train",
        *,
        transform: Callable[..., Any] | None = None,
        columns: Sequence[Columns] | None = None,
        **options: Any,
    ) -> None:
        self.scenes = DigitScenes(split, **options)
        self.split = split
        self.transform = transform
        self.columns = checked_columns(HELD, columns, "digits")
        self.keypoint_names: tuple[str, ...] = EXTREMES if "keypoints" in self.columns else ()
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return len(self.scenes)

    def stem(self, index: int) -> str:
        """A name for the scene that can be a file's: "train-00012"."""
        return self.scenes.stem(index)

    def files(self, index: int) -> str:
        """What messages call the scene: "digits/train/12"; there is no such file."""
        return self.scenes.files(index)

    def read(self, index: int) -> tuple[np.ndarray, Objects]:
        """The image (H, W, C) uint8 and its digits, before any transform."""
        scene = self.scenes.scene(index)
        return self.scenes.pixels(scene), _objects([scene])

    def counts(self) -> np.ndarray:
        """How many digits each scene has, (I,) int64; every scene is composed for it."""
        return np.array([len(self.scenes.scene(index).classes) for index in range(len(self))], np.int64)

    def truth(self) -> Annotations:
        """All scenes and their digits, to score predictions against; every scene is composed for it."""
        count = len(self)
        return Annotations.of(
            range(count),
            self.taxonomy.names,
            _objects([self.scenes.scene(index) for index in range(count)]),
            image_sizes=[self.scenes.size] * count,
            image_files=[self.files(index) for index in range(count)],
            keypoint_names=EXTREMES,
        )

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        pixels, objects = self.read(index)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        target = object_target(objects, self.scenes.size, self.columns)
        target |= {"image_id": int(index) % len(self), "stem": self.stem(index)}
        return (image, target) if self.transform is None else self.transform(image, target)


def _objects(scenes: Sequence[Scene]) -> Objects:
    """The digits of some scenes as columns."""
    masks = RLEMasks.from_rles([RLE.encode(mask) for scene in scenes for mask in scene.masks])
    keypoints = [np.zeros((0, len(EXTREMES), 3)), *(scene.keypoints for scene in scenes)]
    return Objects.of(
        np.repeat(np.arange(len(scenes)), [len(scene.classes) for scene in scenes]),
        np.concatenate([np.zeros(0, np.int64), *(scene.classes for scene in scenes)]),
        masks.boxes(),
        masks=masks,
        keypoints=np.concatenate(keypoints),
    )
