"""LabelMe's JSON: a file an image, beside it, with polygons, rectangles and circles.

Source: Wada et al., labelme 5, ``labelme/label_file.py`` and the examples that ship with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from delineate.data.formats.layout import Problem
from delineate.data.formats.pairing import pictures_under
from delineate.data.image_io import image_size
from delineate.data.json_files import decoded_json, json_bytes
from delineate.data.objects.coco_json import Columns
from delineate.data.objects.defects import RecordError, without_bad_records
from delineate.data.objects.found import Found, splits_of
from delineate.data.objects.segmentations import segmentation_masks
from delineate.errors import DataError
from delineate.structures.objects import Objects

LOOKED_FOR = "LabelMe JSON files beside their images"
CIRCLE_CORNERS = 64
_MOST_SNIFFED = 20
_CORNERS = {"rectangle": 2, "circle": 2}  # points that a shape is given by; a polygon has three or more
_NO_CLASSES = ("__ignore__", "_background_")  # LabelMe's own names for what is not to be learned
_OUTLINES = ("polygon", "oriented_rectangle", "quadrilateral")


class Shape(msgspec.Struct, gc=False):
    """An entry of "shapes"."""

    label: str
    points: list[tuple[float, float]]
    group_id: int | None = None
    shape_type: str = "polygon"


class LabelFile(msgspec.Struct, gc=False):
    """The whole file; the picture that it may carry in ``imageData`` is never decoded."""

    shapes: list[msgspec.Raw] | None = None
    imagePath: str | None = None
    imageHeight: int | None = None
    imageWidth: int | None = None


class _Sniffed(msgspec.Struct):
    shapes: list[msgspec.Raw]


@dataclass
class _Thing:
    """An object: one shape, or all shapes of one label and group."""

    image: int
    number: int  # of its first shape, from 1
    label: str
    polygons: list[list[float]]


def read(root: Path, columns: Sequence[Columns] | None = None) -> Found | str:
    """The objects of a folder of LabelMe files; a text that says why it is none.

    A polygon is a mask, and its box is what its corners span. A rectangle is a box (and its corners are a mask where
    other shapes have one), a circle is a polygon of 64 corners. Shapes with the same label and ``group_id`` are parts
    of one object. Lines, points and painted masks are no objects here: they are left out with a warning, and so is
    what is called ``__ignore__`` or ``_background_``. Classes are the labels that occur, in alphabetical order.

    A picture is the one that ``imagePath`` names, or the one called like the JSON file; pictures without a file are
    not labelled, and are left out with one warning.
    """
    files = [
        path
        for path in sorted(root.rglob("*.json"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not any(map(_is_labelme, files[:_MOST_SNIFFED])):
        return "no such file"
    pictures = pictures_under(root)
    beside = {path.with_suffix(""): path for path in reversed(pictures)}
    problems: list[Problem] = []
    images: dict[Path, Path] = {}  # the file of each picture
    sizes: list[tuple[int, int]] = []
    things: list[_Thing] = []
    only_boxes = True
    for file in files:
        try:
            content = decoded_json(json_bytes(file), LabelFile, file, "annotations must be LabelMe JSON")
            if content.shapes is None:
                problems.append(Problem("warning", "other-file", str(file), f"{file.name} is no LabelMe file"))
                continue
            picture = _picture(content, file, root, beside)
            size = (content.imageHeight or 0, content.imageWidth or 0)
            size = size if min(size) > 0 else image_size(picture)
        except DataError as error:
            problems.append(Problem("error", "unreadable", str(file), str(error)))
            continue
        if picture in images:
            message = f"annotations must be one file an image; got a second one of {picture.name}, {file.name}"
            problems.append(Problem("error", "duplicate-image", str(file), message))
            continue
        found, shaped = _things(content, file, len(images), problems)
        only_boxes &= not shaped
        things += found
        images[picture] = file
        sizes.append(size)
    if not images:
        return f"{files[0].name}, which cannot be read: {problems[0].message}"
    kept = list(images.values())
    bare = sorted(set(pictures) - set(images))
    if bare:
        message = f"{len(bare)} images have no file and are left out, such as {bare[0].name}"
        problems.append(Problem("warning", "unlabelled", str(bare[0].parent), message))
    classes = tuple(sorted({thing.label for thing in things}))
    without_masks = only_boxes if columns is None else "masks" not in columns
    held: tuple[Columns, ...] = ("boxes",) if without_masks else ("boxes", "masks")
    label = {name: i for i, name in enumerate(classes)}
    table = np.array(sizes, np.int64)

    def objects(left: np.ndarray) -> Objects:
        rows = [things[i] for i in left]

        def place(i: int) -> str:
            return f"{kept[rows[i].image]}, shape {rows[i].number}"

        at = np.array([thing.image for thing in rows], np.int64)
        masks = None
        if "masks" in held:
            try:
                masks = segmentation_masks([thing.polygons for thing in rows], table[at], place)
            except RecordError as error:
                raise RecordError(error.rows, error.describe, error.kind, lambda i: str(kept[rows[i].image])) from None
        return Objects.of(
            at,
            [label[thing.label] for thing in rows],
            [_box(thing.polygons) for thing in rows],
            masks=masks,
            ids=[thing.number for thing in rows],
        )

    columned, _ = without_bad_records(objects, len(things), problems)
    splits = splits_of(root, list(images), problems)
    return Found(list(images), columned, classes, splits, problems, [str(file) for file in kept], table, "shape", held)


def _is_labelme(path: Path) -> bool:
    """Whether a JSON file is LabelMe's by its keys."""
    try:
        msgspec.json.decode(path.read_bytes(), type=_Sniffed)
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _picture(content: LabelFile, file: Path, root: Path, beside: Mapping[Path, Path]) -> Path:
    """The picture that a file is about, below the root."""
    named = PurePosixPath((content.imagePath or "").replace("\\", "/"))
    if named.name:
        for path in (file.parent / named, file.parent / named.name):
            if path.is_file() and path.resolve().is_relative_to(root.resolve()):
                return Path(root, path.resolve().relative_to(root.resolve()))
    alike = beside.get(file.with_suffix(""))
    if alike is None:
        raise DataError(f"annotations must have an image; got none for {file}, whose imagePath is '{str(named)[:80]}'.")
    return alike


def _things(content: LabelFile, file: Path, image: int, problems: list[Problem]) -> tuple[list[_Thing], bool]:
    """The objects of a file, and whether any is more than a rectangle."""
    things: list[_Thing] = []
    groups: dict[tuple[str, int], _Thing] = {}
    shaped = False
    for number, raw in enumerate(content.shapes or [], 1):
        place = f"in {file}, shape {number}"
        try:
            shape = msgspec.json.decode(raw, type=Shape)
            kind = shape.shape_type or "polygon"
            if kind not in (*_OUTLINES, *_CORNERS):
                problems.append(
                    Problem("warning", "no-outline", str(file), f"shape is a {kind[:40]}, no object, {place}")
                )
                continue
            if shape.label.strip().lower() in _NO_CLASSES:
                message = f"shape is called {shape.label.strip()}, which is no class, {place}"
                problems.append(Problem("warning", "no-class", str(file), message))
                continue
            outline = _outline(shape, kind, place)
        except (msgspec.MsgspecError, RecursionError) as error:
            problems.append(
                Problem("error", "malformed", str(file), f"shape must be LabelMe's; got: {error}, {place}.")
            )
            continue
        except DataError as error:
            problems.append(Problem("error", "bad-outline", str(file), str(error)))
            continue
        shaped |= kind != "rectangle" or shape.group_id is not None
        key = (shape.label, shape.group_id if shape.group_id is not None else -number)
        if shape.group_id is not None and key in groups:
            groups[key].polygons.append(outline)
            continue
        thing = _Thing(image, number, shape.label, [outline])
        things.append(thing)
        if shape.group_id is not None:
            groups[key] = thing
    return things, shaped


def _outline(shape: Shape, kind: str, place: str) -> list[float]:
    """x, y, x, y ... of a shape's corners."""
    points = shape.points
    wanted = 4 if kind == "rectangle" and len(points) == 4 else _CORNERS.get(kind, max(len(points), 3))
    if len(points) != wanted:
        got = f"{len(points)} for a {kind}"
        raise DataError(f"points must be {'at least ' if kind in _OUTLINES else ''}{wanted}; got {got}, {place}.")
    if not shape.label.strip():
        raise DataError(f"label must be a name; got an empty one, {place}.")
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        angles = [2 * math.pi * i / CIRCLE_CORNERS for i in range(CIRCLE_CORNERS)]
        points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    elif kind == "rectangle":
        (left, *_, right), (top, *_, bottom) = sorted(x for x, _ in points), sorted(y for _, y in points)
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return [value for point in points for value in point]


def _box(polygons: list[list[float]]) -> list[float]:
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
