"""COCO's JSON for training: boxes, outlines and keypoints of every record at once, and bad records noted.

:mod:`~delineate.data.objects.coco_json` reads for scoring: one kind of column, and the first bad record ends it. Here
the same checks take a record out and go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from delineate.data.formats.layout import Problem
from delineate.data.json_files import decoded_json, json_bytes, many_objects
from delineate.data.objects.coco_json import (
    Box,
    Category,
    Columns,
    Image,
    box_columns,
    distinct_names,
    keypoint_columns,
    known_rows,
    require_unique,
    sizes_of_masks,
)
from delineate.data.objects.defects import RecordError, without_bad_records
from delineate.data.objects.segmentations import Segmentation, Whole, segmentation_masks
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

_WRONG = "annotations must be COCO JSON"
_STRING_OR_LITERAL = re.compile(rb'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)')
_BACKGROUND_NAMES = ("background", "_background_")


class Record(msgspec.Struct, gc=False):
    """An entry of "annotations" with all that training can use; what is missing is None."""

    image_id: Whole
    category_id: Whole
    bbox: Box | None = None
    segmentation: Segmentation | None = None
    keypoints: list[float] | None = None
    id: Whole = -1
    area: float | None = None
    iscrowd: Whole | bool = 0


class _File(msgspec.Struct, gc=False):
    images: list[Image]
    annotations: list[Record]
    categories: list[Category]


class _RawFile(msgspec.Struct, gc=False):
    images: list[Image]
    annotations: list[msgspec.Raw]
    categories: list[Category]


def read_records(
    path: Path, problems: list[Problem], *, columns: Sequence[Columns] | None = None
) -> tuple[Annotations, tuple[Columns, ...]]:
    """Images, classes and the usable objects of a COCO file, and the columns that they have.

    Boxes are those of the records, of the mask where a record has none; areas those that are stated, if above 0. A
    record without keypoints beside others that have them has none that is labelled. A category called background that
    no record has is no class.

    Args:
        path: the JSON file.
        problems: receives an error for each record that is left out: of another shape, with numbers that are not
            finite, of an unknown image or category, with a broken outline, a wrong number of keypoints.
        columns: what to read besides boxes; when left out, masks where at least half of the records have an outline,
            and keypoints where any has.

    Raises:
        DataError: on a file that is not COCO JSON, or most of whose records are not; on a repeated image or category;
            where no category is named.
    """
    with many_objects():
        images, records, places, categories = _decoded(path, problems)
        require_unique("image", [image.id for image in images], path)
        require_unique("category", [category.id for category in categories], path)
        used = {record.category_id for record in records}
        categories = [c for c in categories if c.id in used or c.name.strip().lower() not in _BACKGROUND_NAMES]
        if not categories:
            raise DataError(f"categories must name at least one class; got none in {path}.")
        categories.sort(key=lambda category: category.id)
        images.sort(key=lambda image: image.id)
        held = _columns(records, categories) if columns is None else with_boxes(columns)
        points = next((tuple(category.keypoints) for category in categories if category.keypoints), ())
        width = max((len(record.keypoints or ()) for record in records), default=0)
        empty = [0.0] * (3 * len(points) if points else width)

        def read(left: np.ndarray) -> tuple[Objects, np.ndarray]:
            kept = [records[i] for i in left]
            return _objects(kept, images, categories, held, empty, lambda i: places(int(left[i])), path.parent)

        (objects, sizes), _ = without_bad_records(read, len(records), problems, str(path))
        names = distinct_names([c.name for c in categories], [c.id for c in categories])
        annotations = Annotations.of(
            [image.id for image in images],
            names,
            objects,
            image_sizes=sizes,
            image_files=[image.file_name for image in images],
            class_ids=[category.id for category in categories],
            keypoint_names=points if "keypoints" in held else (),
        )
    return annotations, held


def _decoded(
    path: Path, problems: list[Problem]
) -> tuple[list[Image], list[Record], Callable[[int], str], list[Category]]:
    """The file's entries, and what to call a record; those of another shape are noted and left out."""
    content = json_bytes(path)
    try:
        whole = decoded_json(content, _File, path, _WRONG)
    except DataError:
        return _decoded_singly(content, path, problems)
    records = whole.annotations
    return whole.images, records, lambda i: f"{path}, $.annotations[{i}] (id {records[i].id})", whole.categories


def _decoded_singly(
    content: bytes, path: Path, problems: list[Problem]
) -> tuple[list[Image], list[Record], Callable[[int], str], list[Category]]:
    replaced = False

    def without_literal(found: re.Match[bytes]) -> bytes:
        nonlocal replaced
        text = found.group()
        replaced = replaced or not text.startswith(b'"')
        return text if text.startswith(b'"') else b"null"

    # NaN and Infinity are no JSON; as null they spoil their record only
    plain = _STRING_OR_LITERAL.sub(without_literal, content)
    raw = decoded_json(plain, _RawFile, path, _WRONG)
    decoder = msgspec.json.Decoder(Record)
    records, numbers = [], []
    bad: list[Problem] = []
    for number, text in enumerate(raw.annotations):
        place = f"{path}, $.annotations[{number}]"
        try:
            records.append(decoder.decode(text))
            numbers.append(number)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            infinite = replaced and "`null`" in str(error)
            kind = "not-finite" if infinite else "malformed"
            wrong = "numbers must be finite; got NaN or infinity" if infinite else f"annotation must be COCO's; {error}"
            bad.append(Problem("error", kind, str(path), f"{wrong}, in {place}."))
    if 2 * len(bad) > len(raw.annotations):  # no slips: the file is written in another way, and little would be left
        got = f"{len(bad)} of {len(raw.annotations)} others in {path}, the first: {bad[0].message}"
        raise DataError(f"annotations must be COCO's for the most part; got {got}")
    problems += bad
    return raw.images, records, lambda i: f"{path}, $.annotations[{numbers[i]}] (id {records[i].id})", raw.categories


def with_boxes(columns: Sequence[Columns]) -> tuple[Columns, ...]:
    """The columns, boxes first, which everything has."""
    return ("boxes", *(column for column in columns if column != "boxes"))


def _columns(records: Sequence[Record], categories: Sequence[Category]) -> tuple[Columns, ...]:
    """What the records have."""
    columns: list[Columns] = ["boxes"]
    if records and 2 * sum(bool(record.segmentation) for record in records) >= len(records):
        columns.append("masks")
    if any(record.keypoints for record in records) or (not records and any(c.keypoints for c in categories)):
        columns.append("keypoints")
    return tuple(columns)


def _objects(
    records: Sequence[Record],
    images: Sequence[Image],
    categories: Sequence[Category],
    columns: Sequence[Columns],
    no_keypoints: list[float],
    place: Callable[[int], str],
    folder: Path,
) -> tuple[Objects, np.ndarray]:
    """The columns of records that are all sound, and the sizes of the images."""
    count = len(records)
    image_rows = known_rows(records, "image_id", [image.id for image in images], "image", place)
    labels = known_rows(records, "category_id", [category.id for category in categories], "category", place)
    sizes = np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2)
    masks = keypoints = None
    if "masks" in columns:
        masks = segmentation_masks([record.segmentation for record in records], sizes[image_rows], place, folder)
        sizes = sizes_of_masks(sizes, image_rows, masks.sizes.astype(np.int64), place)
    without = [i for i, record in enumerate(records) if record.bbox is None]
    bare = [i for i in without if not records[i].segmentation]
    if bare and masks is None:
        raise RecordError(bare, lambda i: f"annotation must have a bbox; got none in {place(i)}.", "no-box")
    stated = [record for record in records if record.bbox is not None]
    boxes = np.zeros((count, 4)) if masks is None else masks.boxes().copy()
    if without and masks is None:
        boxes[without] = _boxes_of_outlines(records, without, sizes[image_rows], place, folder)
    rows = [i for i, record in enumerate(records) if record.bbox is not None]
    boxes[rows] = box_columns(stated, lambda i: place(rows[i]))
    if "keypoints" in columns:
        filled: list[Any] = [_Points(record.keypoints or no_keypoints) for record in records]
        keypoints = keypoint_columns(filled, place, len(no_keypoints) // 3)
    areas = boxes[:, 2] * boxes[:, 3] if masks is None else masks.areas().astype(np.float64)
    told = np.array([record.area for record in records], np.float64)  # None becomes NaN, which is not above 0
    objects = Objects.of(
        image_rows,
        labels,
        boxes,
        areas=np.where(told > 0, told, areas),
        crowd=np.fromiter(map(attrgetter("iscrowd"), records), np.int64, count) != 0,
        masks=masks,
        keypoints=keypoints,
        ids=np.fromiter(map(attrgetter("id"), records), np.int64, count),
    )
    return objects, sizes


def _boxes_of_outlines(
    records: Sequence[Record], rows: list[int], sizes: np.ndarray, place: Callable[[int], str], folder: Path
) -> np.ndarray:
    """The boxes of the masks of some records, whose masks are not wanted themselves."""
    outlines = [records[i].segmentation for i in rows]
    try:
        return segmentation_masks(outlines, sizes[rows], lambda i: place(rows[i]), folder).boxes()
    except RecordError as error:
        described = error.describe
        numbers = {rows[row]: row for row in error.rows}
        raise RecordError(numbers, lambda i: described(numbers[i]), error.kind) from None


class _Points(msgspec.Struct, gc=False):
    keypoints: list[float]
