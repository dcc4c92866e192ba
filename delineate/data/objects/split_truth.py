"""One split of a data set of objects, as columns, for whatever counts and measures without looking at images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delineate.data.objects.coco_json import Columns
from delineate.data.objects.folder import read_objects
from delineate.data.opening import BUILT_IN
from delineate.structures.annotations import Annotations


@dataclass(frozen=True, eq=False)
class SplitTruth:
    """The images and objects of a split.

    Args:
        name: what the data set is called.
        annotations: those that can be used.
        left_out: how many records, or pictures with all of theirs, cannot.
        columns: what the objects have.
    """

    name: str
    annotations: Annotations
    left_out: int
    columns: tuple[Columns, ...]


def split_truth(path: str | Path, split: str = "train", format: str = "auto") -> SplitTruth:
    """A split by its path; where there is no "val", "train" is what training has of it.

    Args:
        path: the folder, a COCO JSON file, or "digits".
        split: such as "train".
        format: as for :func:`~delineate.data.objects.folder.read_objects`.

    Raises:
        DataError: as :func:`~delineate.data.objects.folder.read_objects`.
        UnknownNameError: on a split that there is not.
    """
    if path == BUILT_IN:
        from delineate.data.digits_objects import DigitObjects

        digits = DigitObjects(split)
        return SplitTruth(digits.name, digits.truth(), 0, digits.columns)
    folder = read_objects(path, format)
    if split in ("train", "val"):
        folder = folder.with_validation()
    return SplitTruth(folder.root.resolve().name, folder.truth(split), len(folder.errors(split)), folder.columns)
