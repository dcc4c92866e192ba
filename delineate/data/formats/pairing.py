"""Which mask belongs to which picture, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from delineate.data.formats.layout import Problem, Record, with_unique_stems
from delineate.data.image_io import IMAGE_SUFFIXES

_MASK_WORDS = "masks?|labels?|label_?ids|gt|ground_?truth|seg|segm|segmentation|annot?|annotation|target|manual1|1stho"
_MASK_PREFIX = re.compile(rf"^(?:{_MASK_WORDS})[_\-. ](?=.)", re.IGNORECASE)
_MASK_SUFFIX = re.compile(rf"(?<=.)[_\-. ](?:{_MASK_WORDS}|l)$", re.IGNORECASE)
_IMAGE_PREFIX = re.compile(r"^(?:images?|img|frame|sat)[_\-. ](?=.)", re.IGNORECASE)
_IMAGE_SUFFIX = re.compile(r"(?<=.)[_\-. ](?:images?|img|sat|rgb|training|0000)$", re.IGNORECASE)


@dataclass
class Pairs:
    """Pictures of one folder with their masks of another.

    Args:
        split: the split that the folders are named after, or "all".
        folder: where the pictures are.
        records: one a picture, in order of their paths; the mask is None where none was found.
        problems: masks without a picture, and names used twice.
    """

    split: str
    folder: Path
    records: list[Record] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def matched(self) -> int:
        """How many pictures have a mask."""
        return sum(record.mask is not None for record in self.records)


def pictures_under(folder: Path) -> list[Path]:
    """The files below a folder that are pictures by their suffix, sorted; hidden ones are left out."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(place, name)
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return found


def mask_core(stem: str) -> str:
    """A mask's stem without the words that say it is one.

    Example:
        >>> mask_core("0001_mask"), mask_core("gt_0001"), mask_core("0001_L"), mask_core("mask")
        ('0001', '0001', '0001', 'mask')
    """
    return _MASK_SUFFIX.sub("", _MASK_PREFIX.sub("", stem))


def image_core(stem: str) -> str:
    """A picture's stem without the words that say it is one: "0001_sat" becomes "0001"."""
    return _IMAGE_SUFFIX.sub("", _IMAGE_PREFIX.sub("", stem))


def paired(split: str, images: Path, masks: Path) -> Pairs:
    """The pictures below ``images`` with the masks below ``masks``.

    A mask goes to the picture of the same path and stem; failing that, to the one whose stem is left when words such as
    "_mask", "_label", "_gt" or "_L" are taken off. Both folders may be the same one: then those words tell a mask.
    """
    image_files = pictures_under(images)
    mask_files = pictures_under(masks)
    if images == masks:
        stems = {_key(path, images) for path in image_files}
        stems |= {_key(path, images, image_core) for path in image_files if image_core(path.stem) != path.stem}
        mask_files = [
            path for path in image_files if mask_core(path.stem) != path.stem and _key(path, images, mask_core) in stems
        ]
        both = set(mask_files)
        image_files = [path for path in image_files if path not in both]
    pairs = Pairs(split, images)
    by_key: dict[str, Path] = {}
    for path in image_files:
        key = _key(path, images)
        if by_key.setdefault(key, path) != path:
            message = f"image {path.name} has the same stem as {by_key[key].name}; their masks cannot be told apart"
            pairs.problems.append(Problem("error", "duplicate-stem", str(path), message, split))
    by_core = {_key(path, images, image_core): key for key, path in by_key.items()}
    mask_of: dict[str, Path] = {}
    rest = []
    for path in mask_files:
        key = _key(path, masks)
        if key in by_key and key not in mask_of:
            mask_of[key] = path
        else:
            rest.append(path)
    for path in rest:
        core = _key(path, masks, mask_core)
        key = core if core in by_key else by_core.get(core, by_core.get(_key(path, masks), ""))
        if key not in by_key:
            message = f"mask {path.name} has no image"
            pairs.problems.append(Problem("error", "missing-image", str(path), message, split))
        elif mask_of.setdefault(key, path) != path:
            message = f"mask {path.name} is not used: {by_key[key].name} has {mask_of[key].name}"
            pairs.problems.append(Problem("warning", "extra-mask", str(path), message, split))
    records = [Record(path.stem, path, mask_of.get(key)) for key, path in by_key.items()]
    pairs.records = list(with_unique_stems(records, images))
    return pairs


def _key(path: Path, folder: Path, core: Callable[[str], str] = str) -> str:
    return (path.relative_to(folder).parent / core(path.stem)).as_posix()
