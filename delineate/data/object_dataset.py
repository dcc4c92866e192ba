"""A folder of objects as a torch data set of images with boxes, masks and keypoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.dataset import OnError
from delineate.data.formats.layout import Problem
from delineate.data.image_io import MAX_PIXELS, read_image
from delineate.data.objects.coco_json import ANNOTATIONS, Columns
from delineate.data.objects.coco_records import with_boxes
from delineate.data.objects.defects import corners_inside
from delineate.data.objects.folder import ObjectFolder
from delineate.data.trying import refuse, tried
from delineate.errors import DataError
from delineate.registry import unknown_name
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.taxonomy import Taxonomy


class ObjectDataset(Dataset[tuple[Any, dict[str, Any]]]):
    """The images of a split with their objects.

    An item is ``(image, target)``: a uint8 ``tv_tensors.Image`` (C, H, W), and a dictionary of

    - ``boxes``: ``tv_tensors.BoundingBoxes`` (N, 4) float32, xyxy in pixels, cut to the image;
    - ``labels``: (N,) int64 from 0; there is no background class;
    - ``masks``: ``tv_tensors.Mask`` (N, H, W) uint8, where the data have masks and they are wanted;
    - ``keypoints``: ``tv_tensors.KeyPoints`` (N, P, 2) float32, and ``visibility`` (N, P) int64 (0 not labelled, 1
      hidden, 2 visible), where the data have them and they are wanted. Outside the image counts as not labelled;
    - ``area``: (N,) float32, what the file states, else that of mask or box;
    - ``iscrowd``: (N,) bool, what is neither to be found nor counted as missed: crowds, and difficult objects of VOC;
    - ``image_id``: the item's index; ``stem``: its name.

    An image without objects is an item like any other, with 0 rows. Holds columns of the folder only, so that it can be
    pickled and forked; images are read, and masks decoded, item by item.

    Args:
        folder: from :func:`~delineate.data.objects.folder.read_objects`.
        split: one of the folder's splits; None for every image of every split, once.
        transform: a torchvision v2 transform on ``(image, target)``.
        on_error: "raise" to stop at the first bad record: when the set is made for what the folder already knows,
            when the image is read for the rest. "skip" to go on without: bad objects are named in ``dropped``, images
            that are missing or cannot be decoded (every one is tried once) in ``skipped``.
        channels: 1, 3 or 4; any number that ``.npy`` images hold.
        columns: "masks" and "keypoints" only as far as they are wanted here; all that the folder has when left out.
        max_pixels: the largest image that is decoded; None for no limit.

    Raises:
        DataError: naming file and record, on a bad one with ``on_error="raise"``; when no image is left; on columns
            that the folder does not have.
        UnknownNameError: on an unknown split or column.
    """

    def __init__(
        self,
        folder: ObjectFolder,
        split: str | None = None,
        *,
        transform: Callable[..., Any] | None = None,
        on_error: OnError = "raise",
        channels: int = 3,
        columns: Sequence[Columns] | None = None,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        require(on_error in ("raise", "skip"), "on_error", 'be "raise" or "skip"', f'"{on_error}"')
        require(channels >= 1, "channels", "be at least 1", channels)
        self.folder = folder
        self.split = split
        self.transform = transform
        self.channels = channels
        self.max_pixels = max_pixels
        self.columns = checked_columns(folder.columns, columns, folder.root)
        self.taxonomy = object_taxonomy(folder.annotations.classes)
        self.keypoint_names = folder.annotations.keypoint_names if "keypoints" in self.columns else ()
        self.name = folder.root.resolve().name
        self.images = folder.images(split)
        self.skipped: list[str] = []
        self.skipped_because: dict[str, str] = {}
        self.dropped: tuple[Problem, ...] = ()
        bounds = np.searchsorted(folder.annotations.objects.images, np.arange(folder.annotations.num_images + 1))
        self._starts = bounds.astype(np.int64)
        if on_error == "raise":
            refuse(self.folder.errors(self.split), "Mend the record, as `delineate data check` lists it")
        else:
            self._leave_out_errors()
        if not len(self.images):
            where = f"split '{split}' of {folder.root}" if split else str(folder.root)
            left_out = f" ({len(self.skipped)} were left out: {self.skipped[0]}, ...)" if self.skipped else ""
            raise DataError(f"data set must hold at least one image; got none in {where}{left_out}.")

    def __len__(self) -> int:
        return len(self.images)

    def stem(self, index: int) -> str:
        """The image's name, usable for a file."""
        return self.folder.stems[self.images[index]]

    def files(self, index: int) -> str:
        """The image's path, for messages."""
        return str(self.folder.path(self.images[index]))

    def read(self, index: int) -> tuple[np.ndarray, Objects]:
        """The image (H, W, C) uint8 and its objects as the folder has them, before any transform.

        Raises:
            DataError: naming the file, when it cannot be read or has another size than when the folder was opened.
        """
        return self._pixels(int(self.images[index])), self._objects(int(self.images[index]))

    def counts(self) -> np.ndarray:
        """How many objects each item has, (I,) int64, without reading an image."""
        return self._starts[self.images + 1] - self._starts[self.images]

    def truth(self) -> Annotations:
        """The items and their objects, to score predictions against: image ``i`` is item ``i``."""
        whole = self.folder.annotations
        rows = [np.arange(self._starts[image], self._starts[image + 1]) for image in self.images]
        objects = whole.objects.select(np.concatenate([np.zeros(0, np.int64), *rows]))
        return replace(
            whole,
            image_ids=tuple(range(len(self))),
            image_sizes=whole.image_sizes[self.images],
            image_files=tuple(whole.image_files[image] for image in self.images),
            objects=replace(objects, images=np.repeat(np.arange(len(self)), self.counts())),
        )

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        pixels, objects = self.read(index)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        target = object_target(objects, (pixels.shape[0], pixels.shape[1]), self.columns)
        target |= {"image_id": int(index), "stem": self.stem(index)}
        return (image, target) if self.transform is None else self.transform(image, target)

    def _objects(self, image: int) -> Objects:
        return self.folder.annotations.objects.select(np.arange(self._starts[image], self._starts[image + 1]))

    def _pixels(self, image: int) -> np.ndarray:
        path = self.folder.path(image)
        pixels = read_image(path, channels=self.channels, max_pixels=self.max_pixels)
        known = tuple(self.folder.annotations.image_sizes[image].tolist())
        if pixels.shape[:2] != known:
            got = f"{pixels.shape[0]} x {pixels.shape[1]} after {known[0]} x {known[1]} for {path}"
            raise DataError(f"image must keep its size while the data set is open; got {got}. Open the folder again.")
        return pixels

    def _leave_out_errors(self) -> None:
        reasons = tried(self._failure, self.images.tolist())
        pairs = list(zip(self.images.tolist(), reasons, strict=True))
        self.skipped_because = {str(self.folder.path(image)): reason for image, reason in pairs if reason}
        known = self.folder.errors(self.split)
        for problem in known:
            if problem.kind in WHOLE_IMAGE:
                self.skipped_because.setdefault(problem.file, problem.message)
        self.dropped = tuple(problem for problem in known if problem.kind not in WHOLE_IMAGE)
        self.skipped = list(self.skipped_because)
        self.images = np.array([image for image, reason in pairs if not reason], np.int64)

    def _failure(self, image: int) -> str:
        try:
            self._pixels(image)
        except DataError as error:
            return str(error)
        return ""


# kinds of problems that leave out an image, or a file, and not a single object
WHOLE_IMAGE = frozenset(("missing-image", "missing-mask", "missing-annotation", "unreadable", "size-mismatch"))
WHOLE_IMAGE |= frozenset(("duplicate-image", "duplicate-stem"))


def object_target(
    objects: Objects, size: tuple[int, int], columns: Sequence[str] = ("boxes", "masks", "keypoints")
) -> dict[str, Any]:
    """The target of one image: its objects as tensors; see :class:`ObjectDataset` for the keys.

    Args:
        objects: of this image.
        size: its (height, width).
        columns: which of "masks" and "keypoints" to take where the objects have them.

    Example:
        >>> target = object_target(Objects.of([0], [2], [[1, 2, 3, 4]]), (5, 6))
        >>> target["boxes"].tolist(), target["labels"].tolist(), target["area"].tolist()
        ([[1.0, 2.0, 4.0, 5.0]], [2], [12.0])
    """
    height, width = size
    boxes = torch.from_numpy(corners_inside(objects.boxes, np.full((len(objects), 2), size, np.int64)))
    target: dict[str, Any] = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": torch.from_numpy(objects.labels.copy()),
    }
    if "masks" in columns and objects.masks is not None:
        drawn = np.zeros((len(objects), height, width), np.uint8)
        for row, mask in enumerate(objects.masks):
            drawn[row] = mask.decode()
        target["masks"] = tv_tensors.Mask(torch.from_numpy(drawn))
    if "keypoints" in columns and objects.keypoints is not None:
        x, y = objects.keypoints[:, :, 0], objects.keypoints[:, :, 1]
        inside = (x >= 0) & (y >= 0) & (x <= width) & (y <= height)
        points: Tensor = torch.from_numpy(objects.keypoints[:, :, :2].astype(np.float32))
        target["keypoints"] = tv_tensors.KeyPoints(points, canvas_size=size)
        target["visibility"] = torch.from_numpy(np.where(inside, objects.keypoints[:, :, 2], 0).astype(np.int64))
    target["area"] = torch.from_numpy(objects.areas.astype(np.float32))
    target["iscrowd"] = torch.from_numpy(objects.crowd | objects.ignored)
    return target


def object_taxonomy(classes: Sequence[str]) -> Taxonomy:
    """The taxonomy of object classes: no background, and an ignored label that is none of them."""
    return Taxonomy(tuple(classes), ignore_index=255 if len(classes) <= 255 else 65535)


def checked_columns(held: Sequence[Columns], columns: Sequence[Columns] | None, where: object) -> tuple[Columns, ...]:
    """The columns that are wanted, boxes always among them; all that are held when left out.

    Args:
        held: what the data have.
        columns: what is wanted.
        where: what to call the data.

    Raises:
        UnknownNameError: on a word that is no column.
        DataError: on a column that the data do not have.
    """
    for column in columns or ():
        if column not in ANNOTATIONS:
            raise unknown_name("column", column, ANNOTATIONS)
        if column not in held:
            raise DataError(
                f"columns must be some of {', '.join(held)}; got {column} for {where}. Annotate them first."
            )
    return tuple(held) if columns is None else with_boxes(columns)
