"""What a recognised folder holds: which picture goes with which mask, in which split, and what ids in masks mean."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from delineate.checks import require
from delineate.data.image_io import SIDEWAYS, image_header, turned
from delineate.errors import DataError
from delineate.registry import unknown_name
from delineate.structures.taxonomy import Taxonomy


@dataclass(frozen=True)
class Record:
    """A picture and what describes it.

    Args:
        stem: a short name, unique within the split.
        image: the picture's file.
        mask: the file its labels come from (for COCO the JSON file); None when there is none.
    """

    stem: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set.

    Args:
        severity: an error would break training; a warning would not.
        kind: a short kebab-case name, such as "missing-mask".
        file: the file it is about.
        message: one line for a person.
        split: the split it is about; empty when it concerns all of them.
    """

    severity: Literal["error", "warning"]
    kind: str
    file: str
    message: str
    split: str = ""


IdReader = Callable[[Record], np.ndarray]


@dataclass(frozen=True)
class Layout:
    """A data set on disk, recognised but not yet read.

    Args:
        root: its folder.
        format: "mask-folders", "voc", "cityscapes" or "coco".
        taxonomy: its classes.
        splits: the records of each split, in a fixed order; "all" when the folder names none.
        problems: what is wrong with the files as a whole; single files are only read later.
        reader: the raw ids of a record; picklable.
        label_of_id: the label (or the ignored label) of each raw id.
        other_label: the label of every id that is not in ``label_of_id``; None when such an id is a mistake.
    """

    root: Path
    format: str
    taxonomy: Taxonomy
    splits: dict[str, tuple[Record, ...]]
    problems: tuple[Problem, ...]
    reader: IdReader
    label_of_id: Mapping[int, int]
    other_label: int | None = field(default=None)

    def records(self, split: str | None = None) -> tuple[Record, ...]:
        """The records of a split; with None those of every split, each picture once.

        Raises:
            UnknownNameError: when there is no such split.
        """
        if split is None:
            once = {record.image: record for records in self.splits.values() for record in records}
            return tuple(once.values())
        if split not in self.splits:
            raise unknown_name("split", split, self.splits)
        return self.splits[split]

    def read_ids(self, record: Record) -> np.ndarray:
        """The ids ``(H, W)`` as the record's file has them, turned with the picture.

        A mask drawn on the stored, unturned picture is recognised by its size; a square one counts as upright.

        Raises:
            DataError: naming the file, when there is no mask or it cannot be read.
        """
        if record.mask is None:
            raise DataError(f"mask must exist for every image; got none for {record.image}. Add it or leave both out.")
        ids = self.reader(record)
        size, orientation = image_header(record.image)
        if orientation in SIDEWAYS and ids.shape != size and ids.shape == size[::-1]:
            ids = np.ascontiguousarray(turned(ids, orientation))
        return ids

    def labels_of(self, ids: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
        """The labels of raw ids, and what was not known among them.

        Returns:
            Labels of the same shape (uint8; int32 above 255 classes), unknown ids as the ignored label; and the number
            of pixels of each unknown id.
        """
        absent = -1
        fill = absent if self.other_label is None else self.other_label
        low, high = (0, 255) if ids.dtype == np.uint8 else (int(ids.min()), int(ids.max()))
        if high - low < 1 << 20:
            table = np.full(high - low + 1, fill, np.int32)
            for value, label in self.label_of_id.items():
                if low <= value <= high:
                    table[value - low] = label
            labels = table[ids if low == 0 else ids.astype(np.int64) - low]
        else:
            present, places = np.unique(ids, return_inverse=True)
            known = [self.label_of_id.get(int(value), fill) for value in present]
            labels = np.array(known, np.int32)[places.reshape(ids.shape)]
        unknown: dict[int, int] = {}
        if labels.size and labels.min() == absent:
            strange = labels == absent
            values, counts = np.unique(ids[strange], return_counts=True)
            unknown = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
            labels[strange] = self.taxonomy.ignore_index
        return labels.astype(np.uint8 if self.taxonomy.num_classes <= 255 else np.int32, copy=False), unknown

    def with_validation(self, fraction: float = 0.2) -> Layout:
        """The same data with a "val" split, taken from "train" (or from "all") where there is none.

        The records whose stems have the lowest SHA-256 hash go to "val": the choice is the same on every machine and in
        every order of files, and a new picture moves at most one of the old ones. Neighbouring frames of one video are
        not kept together; such data needs lists of its own.

        Args:
            fraction: this share goes to "val", rounded, at least one record and not all; a single record stays.
        """
        require(0 < fraction < 1, "fraction", "lie between 0 and 1", fraction)
        source = "train" if "train" in self.splits else "all"
        if "val" in self.splits or len(self.splits.get(source, ())) < 2:
            return self
        records = self.splits[source]
        chosen = held_back([record.stem for record in records], fraction)
        held = {record.image for record, holds in zip(records, chosen, strict=True) if holds}
        splits = {
            "train": tuple(record for record in records if record.image not in held),
            "val": tuple(record for record in records if record.image in held),
            **{name: rest for name, rest in self.splits.items() if name not in ("all", "train")},
        }
        problems = tuple(
            replace(problem, split="") if problem.split == source else problem for problem in self.problems
        )
        return replace(self, splits=splits, problems=problems)


def held_back(stems: Sequence[str], fraction: float = 0.2) -> list[bool]:
    """Which of these pictures go to a "val" split that no list names: see :meth:`Layout.with_validation`.

    Example:
        >>> held_back(["a", "b", "c", "d"], 0.5)
        [False, False, True, True]
    """
    require(0 < fraction < 1, "fraction", "lie between 0 and 1", fraction)
    if len(stems) < 2:
        return [False] * len(stems)
    ranked = sorted(range(len(stems)), key=lambda i: (_hash(stems[i]), stems[i]))
    held = set(ranked[: min(max(round(fraction * len(stems)), 1), len(stems) - 1)])
    return [i in held for i in range(len(stems))]


def describe_id(value: int) -> str:
    """A raw id in words: a number, or the colour that :func:`~delineate.data.image_io.read_ids` did not know.

    Example:
        >>> describe_id(7), describe_id(-2 - 0x808000)
        ('id 7', 'colour (128, 128, 0)')
    """
    if value > -2:
        return f"id {value}"
    colour = -2 - value
    return f"colour {(colour >> 16, colour >> 8 & 255, colour & 255)}"


def split_name(folder: str) -> str | None:
    """The usual name ("train", "val", "test", "trainval") of a split that a folder or list is called after, if any.

    Example:
        >>> split_name("Training"), split_name("val2017"), split_name("masks")
        ('train', 'val', None)
    """
    return _SPLITS.get(folder.lower().rstrip("0123456789").rstrip("_-"))


_SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
    "trainval": "trainval",
}


def with_unique_stems(records: Sequence[Record], folder: Path) -> tuple[Record, ...]:
    """The records, those that share a stem renamed after their path below ``folder``: "a/1" to "a-1"."""
    times = Counter(record.stem for record in records)
    return tuple(
        record if times[record.stem] == 1 else replace(record, stem="-".join(_below(record.image, folder).parts))
        for record in records
    )


def missing_mask_problems(splits: Mapping[str, Sequence[Record]]) -> list[Problem]:
    """An error for each picture without a mask; one warning for a split in which no picture has one."""
    problems = []
    for split, records in splits.items():
        bare = [record for record in records if record.mask is None]
        if bare and len(bare) == len(records):
            message = f"none of the {len(records)} images of split '{split}' has a mask; it can only be predicted"
            problems.append(Problem("warning", "unlabelled-split", str(bare[0].image.parent), message, split))
            continue
        for record in bare:
            message = f"image {record.image.name} has no mask"
            problems.append(Problem("error", "missing-mask", str(record.image), message, split))
    return problems


def _below(path: Path, folder: Path) -> Path:
    return path.relative_to(folder).with_suffix("") if path.is_relative_to(folder) else Path(path.stem)


def _hash(stem: str) -> str:
    return hashlib.sha256(stem.encode("utf-8", "surrogateescape")).hexdigest()
