"""The embedded data: scenes of real handwritten digits on real photos, made on the fly, with exact annotation.

Nothing is read from or written to disk but what scikit-learn ships, so that demos, tests and tutorials of every task
run offline. It is not a benchmark: the scenes are easy, and no published number refers to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.digits_scene import LUMA, SPLITS, Scene, composed_scene
from delineate.data.transforms import boxes_of_masks
from delineate.registry import unknown_name
from delineate.structures.taxonomy import Taxonomy

LENGTHS = {"train": 7500, "val": 150, "test": 150}
SINGLE = "-single"  # behind a split's name: one digit a scene, for models that answer with one object an image
SINGLE_SPLITS = tuple(split + SINGLE for split in SPLITS)

DIGITS = Taxonomy(
    names=("background", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    colours=(
        (0, 0, 0),
        (230, 25, 75),
        (60, 180, 75),
        (255, 225, 25),
        (0, 130, 200),
        (245, 130, 48),
        (145, 30, 180),
        (70, 240, 240),
        (240, 50, 230),
        (170, 110, 40),
        (170, 255, 195),
    ),
    background=0,
)


class DigitScenes(Dataset[tuple[Any, dict[str, Any]]]):
    """Two to five overlapping digits a scene on a crop of a photo; a pure function of (seed, split, index).

    Handwritten digits of 8x8 pixels are enlarged to a quarter to a half of the scene's shorter side, turned by up to 10
    degrees, tinted lighter or darker than what they cover, and painted one over the other; each keeps about two thirds
    of its pixels in sight, or more. About 2 % of the scenes are empty. The splits share neither a digit sample nor a
    part of a photo. A scene of "train-single", "val-single" or "test-single" has exactly one digit, the rearmost of the
    same scene of "train", "val" or "test" where that is not empty.

    An item is ``(image, target)``: a uint8 ``tv_tensors.Image`` (C, H, W), and a dictionary of

    - ``semantic_mask``: Mask (H, W) uint8, 0 background, 1 + digit elsewhere;
    - ``masks``: Mask (N, H, W) uint8, the visible part of each digit, the rearmost first;
    - ``boxes``: BoundingBoxes (N, 4) float32 xyxy, the outer edges of the visible parts;
    - ``labels``: (N,) int64, the digits 0..9 (one less than in the semantic mask);
    - ``area``: (N,) float32, the pixels of each mask; ``iscrowd``: (N,) bool, never true;
    - ``tags``: (10,) float32, 1 for each digit that is there;
    - ``image_id`` and ``stem``.

    Args:
        split: train, val or test; or train-single, val-single or test-single.
        length: the number of scenes; 7500, 150 and 150 when left out. A longer set begins with the shorter one's.
        size: (height, width), each at least 32.
        seed: another seed, other scenes of the same digits and photos.
        channels: 3 for RGB, 1 for greyscale.
        transform: a torchvision v2 transform on ``(image, target)``.

    Raises:
        UnknownNameError: on an unknown split.
        ArgumentError: on a length, size, seed or number of channels that cannot be.

    Example:
        >>> scenes = DigitScenes("val", size=(64, 64))
        >>> image, target = scenes[3]
        >>> len(scenes), tuple(image.shape), len(target["labels"]) == len(target["boxes"])
        (150, (3, 64, 64), True)
    """

    name = "digits"
    taxonomy = DIGITS

    def __init__(
        self,
        split: str = "train",
        *,
        length: int | None = None,
        size: tuple[int, int] = (96, 96),
        seed: int = 0,
        channels: int = 3,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        known = (*SPLITS, *SINGLE_SPLITS)
        if split not in known:
            raise unknown_name("split", split, known)
        require(length is None or length >= 0, "length", "be 0 or more", length)
        require(len(size) == 2 and min(size) >= 32, "size", "be (height, width), each at least 32", size)
        require(seed >= 0, "seed", "be 0 or more", seed)
        require(channels in (1, 3), "channels", "be 1 or 3", channels)
        self.split = split
        self.material = split.removesuffix(SINGLE)  # whose digits and photos
        self.length = LENGTHS[self.material] if length is None else length
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self.channels = channels
        self.transform = transform
        self.skipped: list[str] = []

    def __len__(self) -> int:
        return self.length

    def stem(self, index: int) -> str:
        """A name for the scene that can be a file's: "train-00012"."""
        return f"{self.split}-{self._checked(index):05d}"

    def files(self, index: int) -> str:
        """What messages call the scene: "digits/train/12"; there is no such file."""
        return f"digits/{self.split}/{self._checked(index)}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image (H, W, C) uint8 and the labels (H, W) uint8, before any transform."""
        scene = self.scene(index)
        return self.pixels(scene), scene.labels

    def scene(self, index: int) -> Scene:
        """The composed scene with its instances, always in colour."""
        key = [self.seed, SPLITS.index(self.material), self._checked(index)]
        rng = np.random.default_rng(np.random.SeedSequence(key))
        return composed_scene(self.material, self.size, rng, digits=1 if self.split in SINGLE_SPLITS else None)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        scene = self.scene(index)
        masks = torch.from_numpy(scene.masks.astype(np.uint8))
        tags = torch.zeros(10)
        tags[torch.from_numpy(scene.classes)] = 1
        image = tv_tensors.Image(torch.from_numpy(self.pixels(scene)).permute(2, 0, 1))
        target: dict[str, Any] = {
            "semantic_mask": tv_tensors.Mask(torch.from_numpy(scene.labels)),
            "image_id": self._checked(index),
            "stem": self.stem(index),
            "boxes": tv_tensors.BoundingBoxes(boxes_of_masks(masks), format="XYXY", canvas_size=self.size),
            "masks": tv_tensors.Mask(masks),
            "labels": torch.from_numpy(scene.classes),
            "area": masks.flatten(1).sum(dim=1).float(),
            "iscrowd": torch.zeros(len(masks), dtype=torch.bool),
            "tags": tags,
        }
        return (image, target) if self.transform is None else self.transform(image, target)

    def pixels(self, scene: Scene) -> np.ndarray:
        """The image (H, W, C) uint8 of a scene in the channels that were asked for."""
        if self.channels == 3:
            return scene.image
        return (scene.image @ LUMA + 0.5).astype(np.uint8)[..., None]

    def _checked(self, index: int) -> int:
        """The index from 0; IndexError past the end, so that a plain loop over the set ends."""
        if not -self.length <= index < self.length:
            raise IndexError(f"index must lie below {self.length}, the number of scenes; got {index}")
        return int(index) % self.length
