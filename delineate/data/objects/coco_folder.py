"""A COCO folder as objects: one JSON file a split, and the pictures that they name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate.data.formats.coco import json_files, picture_of
from delineate.data.formats.layout import Problem
from delineate.data.formats.pairing import pictures_under
from delineate.data.formats.split_lists import without_union
from delineate.data.objects.coco_json import Columns
from delineate.data.objects.coco_records import read_records
from delineate.data.objects.found import Found
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

LOOKED_FOR = "annotations/*.json, annotations.json, _annotations.coco.json beside its images, or one JSON file"


@dataclass
class _Part:
    """One JSON file."""

    path: Path
    annotations: Annotations
    columns: tuple[Columns, ...]


def read(path: Path, columns: Sequence[Columns] | None = None) -> Found | str:
    """The objects of a COCO folder, or of one of its JSON files; a text that says why it is none.

    A split is named after its file: ``instances_train2017.json`` is "train". A single file that is given is "all".
    Pictures are looked for in ``images/<split>``, ``<split>``, ``images``, beside the file, and by name everywhere
    below. A picture that two files list belongs to both splits, with the objects that the first one gives it.

    Args:
        path: the folder or the file.
        columns: what to read besides boxes; with "keypoints" ``person_keypoints_*.json`` comes before
            ``instances_*.json``. What all files have when left out.

    Raises:
        DataError: as :func:`~delineate.data.objects.coco_records.read_records`; on categories that differ.
    """
    root, files = _files(path, columns)
    if not files:
        return "no such file"
    pictures = {picture.relative_to(root).as_posix(): picture for picture in pictures_under(root)}
    by_name: dict[str, list[Path]] = {}
    for below in pictures.values():
        by_name.setdefault(below.name, []).append(below)
    problems: list[Problem] = []
    parts: list[_Part] = []
    splits: dict[str, list[int]] = {}
    found: dict[Path, int] = {}  # the index of each picture
    sizes, sources, image_ids = [], [], []
    tables: list[Objects] = []
    for split, file in files.items():
        noted: list[Problem] = []
        annotations, held = read_records(file, noted, columns=columns)
        parts.append(_Part(file, annotations, held))
        place = np.full(annotations.num_images, -1, np.int64)
        here: list[int] = []
        for image, name in enumerate(annotations.image_files):
            picture = picture_of(name, file, root, pictures, by_name)
            told = f"image {annotations.image_ids[image]} is {name[:80]}, which is"
            if picture is None:
                noted.append(Problem("error", "missing-image", str(file), f"{told} not below {root}"))
            elif picture in found and found[picture] in here:
                noted.append(Problem("error", "duplicate-image", str(file), f"{told} listed before"))
            elif picture in found:
                noted.append(Problem("warning", "duplicate-image", str(file), f"{told} in another split too"))
                here.append(found[picture])
            else:
                place[image] = found[picture] = len(found)
                here.append(found[picture])
                sizes.append(annotations.image_sizes[image])
                sources.append(str(file))
                image_ids.append(int(annotations.image_ids[image]))
        objects = annotations.objects.select(place[annotations.objects.images] >= 0)
        tables.append(replace(objects, images=place[objects.images]))
        problems += [replace(problem, split=split if split != "all" else "") for problem in noted]
        splits[split] = here
    if not found:
        return f"{next(iter(files.values())).name}, but none of its images below the folder"
    categories = _categories(parts)
    held = _common_columns(parts)
    points = {len(part.annotations.keypoint_names) for part in parts} if "keypoints" in held else {0}
    widths = {table.keypoints.shape[1] for table in tables if table.keypoints is not None and len(table)}
    if "keypoints" in held and len(widths) > 1:
        raise DataError(
            f"keypoints must be as many in every file of {root}; got {', '.join(map(str, sorted(widths)))}."
        )
    return Found(
        images=list(found),
        objects=_joined(parts, tables, held, sorted(categories), max(widths | points)),
        classes=tuple(categories[value] for value in sorted(categories)),
        splits={name: rows for name, rows in without_union(splits).items() if rows},  # type: ignore[arg-type]
        problems=problems,
        files=sources,
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        record="annotation",
        columns=held,
        image_ids=image_ids,
        class_ids=tuple(sorted(categories)),
        keypoint_names=next((p.annotations.keypoint_names for p in parts if p.annotations.keypoint_names), ())
        if "keypoints" in held
        else (),
    )


def home_of(path: Path) -> Path:
    """The data set's folder of a path: a folder itself, else what a JSON file lies in, but for ``annotations``.

    Example:
        >>> home_of(Path("/data/coco/annotations/instances_val2017.json")).as_posix()
        '/data/coco'
    """
    if path.is_dir():
        return path
    folder = path.absolute().parent
    return folder.parent if folder.name == "annotations" else folder


def _files(path: Path, columns: Sequence[Columns] | None) -> tuple[Path, dict[str, Path]]:
    """The data set's folder, and the JSON file of each split."""
    if path.is_file():
        return home_of(path), {"all": path.absolute()}
    if columns is not None and "keypoints" in columns:
        persons = [file for file in sorted(path.glob("annotations/person_keypoints_*.json")) if "test" not in file.stem]
        names = [re.sub(r"^person_keypoints_|\d+$", "", file.stem) or "all" for file in persons]
        if persons and len(set(names)) == len(names):
            return path, dict(zip(names, persons, strict=True))
    return path, json_files(path)


def _categories(parts: Sequence[_Part]) -> dict[int, str]:
    """The name of each category id of any file."""
    categories: dict[int, str] = {}
    for part in parts:
        for value, name in zip(part.annotations.class_ids, part.annotations.classes, strict=True):
            if categories.setdefault(value, name) != name:
                got = f"{value} is '{name}' in {part.path} and '{categories[value]}' before"
                raise DataError(f"categories must be the same in every file; got: {got}.")
    return categories


def _common_columns(parts: Sequence[_Part]) -> tuple[Columns, ...]:
    """What every file with objects has."""
    filled = [part for part in parts if len(part.annotations.objects)] or list(parts)
    return tuple(column for column in filled[0].columns if all(column in part.columns for part in filled))


def _joined(
    parts: Sequence[_Part], tables: Sequence[Objects], columns: Sequence[Columns], class_ids: list[int], points: int
) -> Objects:
    """The objects of all files, with labels of all classes."""
    joined = []
    for part, table in zip(parts, tables, strict=True):
        labels = np.searchsorted(class_ids, part.annotations.class_ids).astype(np.int64)
        keypoints = table.keypoints if len(table) else np.zeros((0, points, 3))
        joined.append(
            replace(
                table,
                labels=labels[table.labels],
                masks=table.masks if "masks" in columns else None,
                keypoints=keypoints if "keypoints" in columns else None,
            )
        )
    filled = [table for table in joined if len(table)]
    return Objects.concatenate(filled) if filled else joined[0]
