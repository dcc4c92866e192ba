"""Parallel folders of pictures and masks: ``images/`` and ``masks/``, by split or not, with lists of names or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delineate.data.class_lists import find_class_list
from delineate.data.formats.layout import Layout, Record, missing_mask_problems, split_name
from delineate.data.formats.mask_ids import interpreted
from delineate.data.formats.pairing import Pairs, paired, pictures_under
from delineate.data.formats.split_lists import find_lists, splits_by_lists
from delineate.data.image_io import read_ids
from delineate.errors import DataError

LOOKED_FOR = (
    "images/ beside masks/ (or labels/, annotations/), alone, inside train/ and val/, or with train/ and val/ inside; "
    "train/ beside trainannot/; or pictures beside pictures called *_mask"
)
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "frames", "rgb", "inputs", "photos")
MASK_FOLDERS: tuple[str, ...] = (
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "annots",
    "annot",
    "gt",
)
MASK_FOLDERS += ("groundtruth", "ground_truth", "segmentation", "segmentations", "segmentationclass", "labelmaps")
MASK_FOLDERS += ("targets",)
_HALF = 128


@dataclass(frozen=True)
class MaskFiles:
    """Reads the ids of mask files.

    Args:
        colours: the id of each colour ``red << 16 | green << 8 | blue``, for masks that are colour pictures.
        black_and_white: whether grey values are rounded to 0 and 255, as lossy files need.
    """

    colours: Mapping[int, int] | None = None
    black_and_white: bool = False

    def __call__(self, record: Record) -> np.ndarray:
        """The ids of the record's mask."""
        if record.mask is None:
            raise DataError(f"mask must exist for every image; got none for {record.image}.")
        ids = read_ids(record.mask, colours=self.colours)
        return np.where(ids >= _HALF, np.uint8(255), np.uint8(0)) if self.black_and_white else ids


def read(root: Path) -> Layout | str:
    """The layout of parallel folders; a text that says what was found instead when it is not one.

    Masks hold one id a pixel: the line of ``classes.txt``, or what :mod:`~delineate.data.class_lists` says; 255 and the
    class "void" are ignored. Where masks hold nothing but 0 and 255, 255 is the second class. Without a class list
    the ids of up to 200 masks, evenly spread, are looked at and numbered.

    Splits come from folders, from lists such as ``train.txt``, or are one split "all".

    Raises:
        DataError: on a class list that cannot be understood, or masks whose ids mean nothing without one.
    """
    pools = [pairs for pairs in (paired(*found) for found in _folders(root)) if pairs.records]
    if not any(pool.matched for pool in pools):
        if beside := _side_by_side(root):
            pools = beside
        elif pools:
            record = pools[0].records[0]
            mask = next(iter(pools[0].problems), None)
            other = f" or {Path(mask.file).name}" if mask else ""
            return f"{pools[0].folder.name}/ and masks, but no name in both, such as {record.image.name}{other}"
        else:
            return "no such pair of folders"
    problems = [problem for pool in pools for problem in pool.problems]
    lists = find_lists(root)
    if lists:
        splits, found = splits_by_lists(root, pools, lists)
        # with lists, only what they name matters
        problems = [problem for problem in problems if problem.kind != "missing-image"] + found
    else:
        splits = _merged(pools)
    problems += missing_mask_problems(splits)
    masks = sorted({record.mask for records in splits.values() for record in records if record.mask is not None})
    meaning = interpreted(masks, find_class_list(root, *(pool.folder.parent for pool in pools if pool.folder != root)))
    return Layout(
        root=root,
        format="mask-folders",
        taxonomy=meaning.taxonomy,
        splits=splits,
        problems=(*problems, *meaning.problems),
        reader=MaskFiles(meaning.id_of_colour, meaning.black_and_white),
        label_of_id=meaning.label_of_id,
        other_label=meaning.other_label,
    )


def _folders(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """(split, folder of pictures, folder of masks), of the first arrangement that is there."""
    children = _children(root)
    found = list(_roles(children))
    for images, masks in found:
        inner_masks = {split_name(name): path for name, path in _children(masks).items() if split_name(name)}
        inner = [(name, path) for name, path in _children(images).items() if split_name(name) in inner_masks]
        if inner:
            return (
                yield from ((split_name(name) or name, path, inner_masks[split_name(name)]) for name, path in inner)
            )
    by_split = [(name, path) for name, path in children.items() if split_name(name)]
    nested = [(name, *pair) for name, path in by_split for pair in _roles(_children(path))]
    if not found and nested:
        return (yield from ((split_name(name) or name, images, masks) for name, images, masks in nested))
    if not found:
        roles: dict[str, dict[str, Path]] = {}
        for name, path in children.items():
            if parsed := _split_and_role(name):
                roles.setdefault(parsed[0], {}).setdefault(parsed[1], path)
        found_by_name = [(split, pair["image"], pair["mask"]) for split, pair in roles.items() if len(pair) == 2]
        return (yield from found_by_name)
    return (yield from (("all", images, masks) for images, masks in found))


def _children(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}


def _roles(children: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """The folder of pictures and the folder of masks among these, if both are there and hold files."""
    lower = {name.lower(): path for name, path in children.items()}
    images = next((lower[name] for name in IMAGE_FOLDERS if name in lower), None)
    masks = next((lower[name] for name in MASK_FOLDERS if name in lower and pictures_under(lower[name])), None)
    if images is not None and masks is not None:
        yield images, masks


def _split_and_role(folder: str) -> tuple[str, str] | None:
    """The split and "image" or "mask" of one name for both: train (image), trainannot, train_labels, masks-val ..."""
    name = folder.lower()
    if split := split_name(name):
        return split, "image"
    for role, words in (("mask", MASK_FOLDERS), ("image", IMAGE_FOLDERS)):
        for word in sorted(words, key=len, reverse=True):
            for rest in (name.removesuffix(word), name.removeprefix(word)):
                if rest != name and (split := split_name(rest.strip("_- "))):
                    return split, role
    return None


def _side_by_side(root: Path) -> list[Pairs]:
    """Pictures and masks in one folder, told apart by words such as "_mask"."""
    children = {name: path for name, path in _children(root).items() if split_name(name)}
    places = [(split_name(name) or name, path) for name, path in children.items()] or [("all", root)]
    pools = [paired(split, path, path) for split, path in places]
    return [pool for pool in pools if pool.matched]


def _merged(pools: list[Pairs]) -> dict[str, tuple[Record, ...]]:
    splits: dict[str, tuple[Record, ...]] = {}
    for pool in pools:
        splits[pool.split] = (*splits.get(pool.split, ()), *pool.records)
    return splits
