"""Lists of names (``train.txt``, ``val.txt`` ...) that say which picture is in which split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.data.formats.layout import Problem, Record, split_name
from delineate.data.formats.pairing import Pairs
from delineate.data.image_io import IMAGE_SUFFIXES
from delineate.errors import DataError

LIST_FOLDERS = ("", "splits", "lists", "list", "ImageSets", "ImageSets/Segmentation")
_EXTRA_WORDS = re.compile(r"[_-]?(list|files|ids|split|set|images|pairs)$")
_MOST_NAMED = 50  # of the lines that name nothing


def find_lists(root: Path) -> dict[str, Path]:
    """The list file of each split, from the first of ``LIST_FOLDERS`` that has any."""
    for name in LIST_FOLDERS:
        folder = root / name
        if not folder.is_dir():
            continue
        lists = {
            split: path for path in sorted(folder.glob("*.txt")) if (split := _listed_split(path.stem)) is not None
        }
        if lists:
            return lists
    return {}


def splits_by_lists(
    root: Path, pools: Sequence[Pairs], lists: dict[str, Path]
) -> tuple[dict[str, tuple[Record, ...]], list[Problem]]:
    """The records of each split as the lists name them, and those of folders that are splits without a list.

    A line is a stem, or a path (of the picture, or of picture and mask), from the data set's folder or from anywhere
    above it. Only files below ``root`` are ever named by it.
    """
    splits: dict[str, tuple[Record, ...]] = {}
    problems: list[Problem] = []
    index = _Index(root, pools)
    for split, path in lists.items():
        records, found = _resolved(split, path, index)
        problems += found
        if records:
            splits[split] = tuple(records)
    listed = {record.image for records in splits.values() for record in records}
    for pool in pools:
        if pool.split != "all" and pool.split not in lists:
            splits[pool.split] = tuple(pool.records)
        elif unlisted := [record for record in pool.records if record.image not in listed]:
            message = f"{len(unlisted)} of {len(pool.records)} images are in no list, such as {unlisted[0].image.name}"
            problems.append(Problem("warning", "unlisted", str(pool.folder), message, pool.split))
    return without_union(splits), problems


def without_union(splits: dict[str, tuple[Record, ...]]) -> dict[str, tuple[Record, ...]]:
    """The splits without "trainval" where "train" and "val" exist; it is "train" where neither does."""
    if "trainval" in splits and "train" not in splits and "val" not in splits:
        return {("train" if split == "trainval" else split): records for split, records in splits.items()}
    if "train" in splits and "val" in splits:
        return {split: records for split, records in splits.items() if split != "trainval"}
    return splits


@dataclass(frozen=True)
class _Place:
    record: Record
    split: str


class _Index:
    """Records by their path below the root, by the path within their folder, and by stem."""

    def __init__(self, root: Path, pools: Sequence[Pairs]) -> None:
        self.by_path: dict[str, _Place] = {}
        self.by_stem: dict[str, list[_Place]] = {}
        self.masks: dict[str, Path] = {}
        for pool in pools:
            for record in pool.records:
                place = _Place(record, pool.split)
                self.by_path[record.image.relative_to(root).with_suffix("").as_posix()] = place
                for stem in {record.stem, record.image.stem}:
                    self.by_stem.setdefault(stem, []).append(place)
                if record.mask is not None:
                    self.masks[record.mask.stem] = record.mask

    def find(self, name: str, split: str) -> Record | None:
        """The record that a line names; a bare stem prefers the split's own folder."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return None
        if "." in parts[-1] and f".{parts[-1].rsplit('.', 1)[1].lower()}" in IMAGE_SUFFIXES:
            parts[-1] = parts[-1].rsplit(".", 1)[0]
        for start in range(len(parts)):
            if place := self.by_path.get("/".join(parts[start:])):
                return place.record
        places = self.by_stem.get("-".join(parts)) or self.by_stem.get(parts[-1], [])
        own = [place for place in places if place.split == split] or places
        return own[0].record if len(own) == 1 else None


def _resolved(split: str, path: Path, index: _Index) -> tuple[list[Record], list[Problem]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"split list must be UTF-8 text; got {path} ({error}).") from None
    records: dict[Path, Record] = {}
    missing: list[Problem] = []
    problems: list[Problem] = []
    named = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in named:
        first, *others = re.split(r"[\s,;]+", line)
        record = index.find(line, split) or index.find(first, split)
        if record is None:
            message = f"line {number} names '{line[:80]}', and there is no such image"
            missing.append(Problem("error", "missing-image", str(path), message, split))
            continue
        if others and record.mask is None:
            record = replace(record, mask=index.masks.get(Path(others[0]).stem))
        if record.image in records:
            message = f"line {number} names {record.image.name} again"
            problems.append(Problem("warning", "duplicate-line", str(path), message, split))
        records[record.image] = record
    if named and not records:
        message = f"none of the {len(named)} lines names an image, such as '{named[0][1][:80]}'"
        return [], [Problem("error", "missing-image", str(path), message, split)]
    if len(missing) > _MOST_NAMED:
        rest = f"{len(missing) - _MOST_NAMED} more lines name images that do not exist"
        missing = [*missing[:_MOST_NAMED], Problem("error", "missing-image", str(path), rest, split)]
    return list(records.values()), problems + missing


def _listed_split(stem: str) -> str | None:
    return split_name(_EXTRA_WORDS.sub("", stem.lower()))
