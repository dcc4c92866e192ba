"""Pictures of which only the class is known, beside those with boxes: a target has an "image_label" and no objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.dataset import OnError
from delineate.data.formats.class_folders import ClassFolders
from delineate.data.image_io import MAX_PIXELS, read_image
from delineate.data.object_dataset import object_target, object_taxonomy
from delineate.data.trying import tried
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

NOTHING = Objects.of([], [], [])


class LabelledImages(Dataset[tuple[Any, dict[str, Any]]]):
    """The pictures of a split of :class:`~delineate.data.formats.class_folders.ClassFolders`.

    An item is that of :class:`~delineate.data.object_dataset.ObjectDataset` without any object, and with
    ``image_label``, an int64 scalar: what the picture shows somewhere. How many there are, and what else, is unknown.

    Args:
        folders: what lies on disk.
        split: one of its splits; None for every picture.
        transform: a torchvision v2 transform on ``(image, target)``.
        on_error: "raise" when a picture that is read cannot be; "skip" tries every one once and goes on without.
        channels: 1, 3 or 4.
        max_pixels: the largest picture that is decoded; None for no limit.

    Raises:
        UnknownNameError: on an unknown split.
        DataError: when no picture is left.
    """

    columns = ("boxes",)
    keypoint_names: tuple[str, ...] = ()

    def __init__(
        self,
        folders: ClassFolders,
        split: str | None = None,
        *,
        transform: Callable[..., Any] | None = None,
        on_error: OnError = "raise",
        channels: int = 3,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        require(on_error in ("raise", "skip"), "on_error", 'be "raise" or "skip"', f'"{on_error}"')
        self.folders = folders
        self.split = split
        self.transform = transform
        self.channels = channels
        self.max_pixels = max_pixels
        self.taxonomy = object_taxonomy(folders.classes)
        self.name = folders.root.resolve().name
        self.images = folders.images(split)
        self.skipped: list[str] = []
        if on_error == "skip":
            usable = np.array(tried(self._can_be_read, self.images.tolist()), bool)
            self.skipped = [str(self._path(image)) for image in self.images[~usable].tolist()]
            self.images = self.images[usable]
        if not len(self.images):
            raise DataError(f"data set must hold at least one image; got none that can be read in {folders.root}.")

    def __len__(self) -> int:
        return len(self.images)

    def stem(self, index: int) -> str:
        """The picture's path below the folder as one word, "train-terrier-1"."""
        return "-".join(Path(self.folders.files[self.images[index]]).with_suffix("").parts)

    def files(self, index: int) -> str:
        """The picture's path, for messages."""
        return str(self._path(int(self.images[index])))

    def label(self, index: int) -> int:
        """The class of a picture."""
        return int(self.folders.labels[self.images[index]])

    def read(self, index: int) -> tuple[np.ndarray, Objects]:
        """The picture (H, W, C) uint8, and no object.

        Raises:
            DataError: naming the file, when it cannot be read.
        """
        return self._pixels(int(self.images[index])), NOTHING

    def counts(self) -> np.ndarray:
        """No object in any picture: (I,) int64 zeros."""
        return np.zeros(len(self), np.int64)

    def truth(self) -> Annotations:
        """The pictures, of unknown sizes (reading them would take as long as training), and no object."""
        files = [self.folders.files[image] for image in self.images]
        return Annotations.of(range(len(self)), self.taxonomy.names, NOTHING, image_files=files)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        pixels, objects = self.read(index)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        target = object_target(objects, (pixels.shape[0], pixels.shape[1]), self.columns)
        target |= {"image_label": torch.tensor(self.label(index)), "image_id": int(index), "stem": self.stem(index)}
        return (image, target) if self.transform is None else self.transform(image, target)

    def _path(self, image: int) -> Path:
        return self.folders.root / self.folders.files[image]

    def _pixels(self, image: int) -> np.ndarray:
        return read_image(self._path(image), channels=self.channels, max_pixels=self.max_pixels)

    def _can_be_read(self, image: int) -> bool:
        try:
            self._pixels(image)
        except DataError:
            return False
        return True
