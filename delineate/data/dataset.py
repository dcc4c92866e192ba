"""A recognised folder as a torch data set of images and label maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.formats.layout import Layout, Problem, Record, describe_id
from delineate.data.image_io import MAX_PIXELS, read_image
from delineate.data.trying import refuse, tried
from delineate.errors import DataError

OnError = Literal["raise", "skip"]


class SemanticDataset(Dataset[tuple[Any, dict[str, Any]]]):
    """The images of a split with their label maps.

    An item is ``(image, target)``: a uint8 ``tv_tensors.Image`` (C, H, W), and a dictionary of

    - ``semantic_mask``: ``tv_tensors.Mask`` (H, W) of labels, uint8 (int32 above 255 classes);
    - ``image_id``: the item's index; ``stem``: its name.

    Holds names and tables only, so that it can be pickled and forked; files are read item by item.

    Args:
        layout: the folder, from :func:`~delineate.data.opening.read_layout`.
        split: one of the layout's splits; None for every labelled image of every split, once.
        transform: a torchvision v2 transform on ``(image, target)``.
        on_error: "raise" to stop at the first bad record: when the set is made for what the layout already knows
            (a missing mask), when the record is read for the rest. "skip" to read every file once when the set is made,
            and to leave out those that fail; they are named in ``skipped``, and so are masks that have no image.
        channels: 1, 3 or 4; any number that ``.npy`` images hold.
        max_pixels: the largest image that is decoded; None for no limit.

    Raises:
        DataError: naming the file, on a bad record with ``on_error="raise"``, or when no record is left.
        UnknownNameError: on an unknown split.
    """

    def __init__(
        self,
        layout: Layout,
        split: str | None = None,
        *,
        transform: Callable[..., Any] | None = None,
        on_error: OnError = "raise",
        channels: int = 3,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        require(on_error in ("raise", "skip"), "on_error", 'be "raise" or "skip"', f'"{on_error}"')
        require(channels >= 1, "channels", "be at least 1", channels)
        self.layout = layout
        self.split = split
        self.transform = transform
        self.channels = channels
        self.max_pixels = max_pixels
        self.taxonomy = layout.taxonomy
        self.name = layout.root.resolve().name
        self.records = layout.records(split)
        self.skipped: list[str] = []
        self.skipped_because: dict[str, str] = {}
        if on_error == "raise":
            self._refuse_known_errors()
        else:
            self._leave_out_errors()
        if not self.records:
            where = f"split '{split}' of {layout.root}" if split else str(layout.root)
            left_out = f" ({len(self.skipped)} were left out: {self.skipped[0]}, ...)" if self.skipped else ""
            raise DataError(f"data set must hold at least one labelled image; got none in {where}{left_out}.")

    def __len__(self) -> int:
        return len(self.records)

    def stem(self, index: int) -> str:
        """The record's name, usable for a file."""
        return self.records[index].stem

    def files(self, index: int) -> str:
        """The image's path, for messages."""
        return str(self.records[index].image)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image (H, W, C) uint8 and its labels (H, W), before any transform.

        Raises:
            DataError: naming the file, when one of them cannot be read, their sizes differ, or an id is unknown.
        """
        return self._read(self.records[index])

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        pixels, labels = self.read(index)
        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        target: dict[str, Any] = {
            "semantic_mask": tv_tensors.Mask(torch.from_numpy(labels)),
            "image_id": int(index),
            "stem": self.stem(index),
        }
        return (image, target) if self.transform is None else self.transform(image, target)

    def _read(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(record.image, channels=self.channels, max_pixels=self.max_pixels)
        labels, unknown = self.layout.labels_of(self.layout.read_ids(record))
        if image.shape[:2] != labels.shape:
            sizes = f"{_size(labels)} in {record.mask} for {_size(image)} in {record.image}"
            raise DataError(f"mask must have the size of its image; got {sizes}. Fix the mask or leave both out.")
        if unknown:
            found = ", ".join(f"{describe_id(value)} ({count} pixels)" for value, count in list(unknown.items())[:5])
            advice = "Add the class to the class list, or mark the pixels 255 to ignore them."
            raise DataError(f"mask must hold known ids; got {found} in {record.mask} for {record.image.name}. {advice}")
        return image, labels

    def _known_errors(self) -> list[Problem]:
        return [
            problem
            for problem in self.layout.problems
            if problem.severity == "error" and (self.split is None or problem.split in ("", self.split))
        ]

    def _refuse_known_errors(self) -> None:
        refuse(self._known_errors(), "Run `delineate data check` on the folder")
        bare = next((record for record in self.records if record.mask is None), None)
        if bare is not None and self.split is not None:
            raise DataError(f"mask must exist for every image; got none for {bare.image}, split '{self.split}'.")
        self.records = tuple(record for record in self.records if record.mask is not None)

    def _leave_out_errors(self) -> None:
        reasons = tried(self._failure, self.records)
        pairs = list(zip(self.records, reasons, strict=True))
        self.skipped_because = {str(record.image): reason for record, reason in pairs if reason}
        for problem in self._known_errors():
            self.skipped_because.setdefault(problem.file, problem.message)
        self.skipped = list(self.skipped_because)
        self.records = tuple(record for record, reason in pairs if not reason)

    def _failure(self, record: Record) -> str:
        try:
            self._read(record)
        except DataError as error:
            return str(error)
        return ""


def _size(array: np.ndarray) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"
