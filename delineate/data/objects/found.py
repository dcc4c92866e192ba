"""What a reader of one format finds in a folder of objects, before it is put in order and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from delineate.data.formats.layout import Problem, Record, split_name
from delineate.data.formats.pairing import Pairs
from delineate.data.formats.split_lists import find_lists, splits_by_lists
from delineate.data.objects.coco_json import Columns
from delineate.structures.objects import Objects


@dataclass
class Found:
    """Pictures, their objects, and their splits, in any order.

    Args:
        images: the pictures, each once.
        objects: ``images`` and ``labels`` refer to the above and below; ``ids`` are what messages count.
        classes: the names.
        splits: the indices of each split's pictures; "all" where there is only one.
        problems: records and files that are left out, and other things to know.
        files: the annotation file of each picture.
        sizes: (height, width) that the file states of each, zeros where it does not.
        record: what a file calls an object.
        columns: what the objects have.
        image_ids: the numbers of the pictures, where the format numbers them.
        class_ids: the numbers of the classes, where the format has its own.
        keypoint_names: of the keypoints.
        unusable: pictures whose objects are not known, as a problem says.
    """

    images: list[Path]
    objects: Objects
    classes: tuple[str, ...]
    splits: dict[str, list[int]]
    problems: list[Problem]
    files: list[str]
    sizes: np.ndarray
    record: str
    columns: tuple[Columns, ...]
    image_ids: list[int] | None = None
    class_ids: tuple[int, ...] | None = None
    keypoint_names: tuple[str, ...] = ()
    unusable: set[int] = field(default_factory=set)


def splits_of(
    root: Path, images: Sequence[Path], problems: list[Problem], lists: dict[str, Path] | None = None
) -> dict[str, list[int]]:
    """The pictures of each split: as the lists in ``root`` name them, else by folders that are called after splits.

    Args:
        root: the data set's folder.
        images: all pictures, below it.
        problems: receives lines of lists that name none of them, and pictures that are in no list.
        lists: the list file of each split; those of the folder when left out.
    """
    index = {path: i for i, path in enumerate(images)}
    pools: dict[str, Pairs] = {}
    for path in images:
        parts = path.relative_to(root).parent.parts
        split = next((split for part in parts if (split := split_name(part)) is not None), "all")
        pools.setdefault(split, Pairs(split, path.parent)).records.append(Record(path.stem, path, None))
    lists = find_lists(root) if lists is None else lists
    if not lists and set(pools) <= {"all"}:
        return {"all": list(range(len(images)))}
    records, found = splits_by_lists(root, list(pools.values()), lists)
    problems += found
    return {split: [index[record.image] for record in chosen] for split, chosen in records.items()}


def pictures_by_stem(pictures: Sequence[Path], problems: list[Problem]) -> dict[str, Path]:
    """Pictures of one folder by their names without suffix; the second one of a name is left out and noted."""
    by_stem: dict[str, Path] = {}
    for path in pictures:
        if by_stem.setdefault(path.stem, path) != path:
            message = f"image {path.name} has the same stem as {by_stem[path.stem].name}; it is left out"
            problems.append(Problem("error", "duplicate-stem", str(path), message))
    return by_stem
