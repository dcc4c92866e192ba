"""COCO's JSON: instances and person keypoints as truth, results as predictions.

The two sides of an evaluation, read as columns: typed decoding passes over what is not needed (a box score never looks
at an outline), and half a million results take a fraction of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from delineate.checks import require
from delineate.data.json_files import decoded_json, json_bytes, many_objects
from delineate.data.objects.defects import RecordError
from delineate.data.objects.plausible import require_pixels
from delineate.data.objects.segmentations import Segmentation, Whole, segmentation_masks
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

Columns = Literal["boxes", "masks", "keypoints"]
Box = tuple[float, float, float, float]
_STREAM = "Write JSON Lines, which is streamed."
_FARTHEST = 1e15  # pixels: what lies beyond has no area that can be computed with


class Image(msgspec.Struct, gc=False):
    """An entry of "images"."""

    id: Whole
    file_name: str = ""
    height: Whole = 0
    width: Whole = 0


class Category(msgspec.Struct, gc=False):
    """An entry of "categories"."""

    id: Whole
    name: str
    keypoints: list[str] = []


class BoxAnnotation(msgspec.Struct, gc=False):
    """An entry of "annotations" as far as boxes need it."""

    image_id: Whole
    category_id: Whole
    bbox: Box
    id: Whole = -1
    area: float | None = None
    iscrowd: Whole | bool = 0


class MaskAnnotation(msgspec.Struct, gc=False):
    """An entry of "annotations" with its outline."""

    image_id: Whole
    category_id: Whole
    segmentation: Segmentation | None = None
    id: Whole = -1
    area: float | None = None
    iscrowd: Whole | bool = 0


class KeypointAnnotation(msgspec.Struct, gc=False):
    """An entry of "annotations" with its keypoints."""

    image_id: Whole
    category_id: Whole
    keypoints: list[float]
    bbox: Box
    id: Whole = -1
    area: float | None = None
    iscrowd: Whole | bool = 0
    num_keypoints: Whole | None = None


class BoxResult(msgspec.Struct, gc=False):
    """A predicted box."""

    image_id: int
    category_id: int
    bbox: Box
    score: float


class MaskResult(msgspec.Struct, gc=False):
    """A predicted mask."""

    image_id: int
    category_id: int
    segmentation: Segmentation | None
    score: float


class KeypointResult(msgspec.Struct, gc=False):
    """A predicted person."""

    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


ANNOTATIONS: dict[Columns, type] = {"boxes": BoxAnnotation, "masks": MaskAnnotation, "keypoints": KeypointAnnotation}
RESULTS: dict[Columns, type] = {"boxes": BoxResult, "masks": MaskResult, "keypoints": KeypointResult}


def read_truth(path: str | Path, *, columns: Columns = "boxes") -> Annotations:
    """Images, categories and true objects of a COCO file.

    Categories become classes in order of their ids. The area is what the file states, that of the box or mask where it
    does not. An image without height and width has the size of its masks, if these are read. For keypoints, a person
    without a labelled one is ignored.

    Args:
        path: ``instances_*.json`` or ``person_keypoints_*.json``.
        columns: what to read besides the boxes.

    Raises:
        DataError: naming file and record, on JSON of another shape, repeated ids, unknown images or categories, a box
            of another length, a mask that is damaged or of another size than its image.
        ArgumentError: on other ``columns``.
    """
    require(columns in ANNOTATIONS, "columns", f"be one of {', '.join(ANNOTATIONS)}", f"'{columns}'")
    path = Path(path)
    kind: Any = msgspec.defstruct(
        "CocoTruth",
        [("images", list[Image]), ("annotations", list[ANNOTATIONS[columns]]), ("categories", list[Category])],
        gc=False,
    )
    with many_objects():
        content = decoded_json(json_bytes(path, advice=_STREAM), kind, path, "annotations must be COCO JSON")
        images, records = content.images, content.annotations
        categories = sorted(content.categories, key=lambda category: category.id)
        require_unique("image", [image.id for image in images], path)
        require_unique("category", [category.id for category in categories], path)
        if not categories:
            raise DataError(f"categories must name at least one class; got none in {path}.")
        images.sort(key=lambda image: image.id)
        count = len(records)
        image_rows = _rows(records, "image_id", [image.id for image in images], path, "$.annotations")
        labels = _rows(records, "category_id", [category.id for category in categories], path, "$.annotations")
        ids = np.fromiter(map(attrgetter("id"), records), np.int64, count)
        if (ids == -1).all():
            ids = np.arange(count, dtype=np.int64)
        require_unique("annotation", ids, path)
        sizes = np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2)
        crowd = np.fromiter(map(attrgetter("iscrowd"), records), np.int64, count) != 0
        stated = np.array([record.area for record in records], np.float64)  # None becomes NaN

        def place(i: int) -> str:
            return f"{path}, $.annotations[{i}] (id {ids[i]})"

        masks = keypoints = ignored = None
        if columns == "masks":
            masks = segmentation_masks(
                [record.segmentation for record in records], sizes[image_rows], place, path.parent
            )
            boxes = masks.boxes()
            areas = masks.areas().astype(np.float64)
            sizes = sizes_of_masks(sizes, image_rows, masks.sizes.astype(np.int64), place)
        else:
            boxes = box_columns(records, place)
            areas = boxes[:, 2] * boxes[:, 3]
        points = next((tuple(c.keypoints) for c in categories if c.keypoints), ())
        if columns == "keypoints":
            keypoints = keypoint_columns(records, place, None if records else len(points))
            labelled = (keypoints[:, :, 2] > 0).sum(axis=1)
            told = [record.num_keypoints for record in records]
            ignored = np.array([n if t is None else t for n, t in zip(labelled, told, strict=True)], np.int64) == 0
        names = distinct_names([category.name for category in categories], [category.id for category in categories])
        return Annotations.of(
            [image.id for image in images],
            names,
            Objects.of(
                image_rows,
                labels,
                boxes,
                areas=np.where(np.isnan(stated), areas, stated),
                crowd=crowd,
                ignored=ignored,
                masks=masks,
                keypoints=keypoints,
                ids=ids,
            ),
            image_sizes=sizes,
            image_files=[image.file_name for image in images],
            class_ids=[category.id for category in categories],
            keypoint_names=points,
        )


def read_predictions(path: str | Path, truth: Annotations, *, columns: Columns = "boxes") -> Objects:
    """Predicted objects of a COCO results file: a list of records, or an object that has them as "annotations".

    Args:
        path: the JSON file.
        truth: what the records refer to.
        columns: what is to be compared.

    Raises:
        DataError: naming file and record, on JSON of another shape, an image or category that ``truth`` does not
            have, a box of another length, a score that is no finite number, a damaged mask or one of another size.
        ArgumentError: on other ``columns``.
    """
    require(columns in RESULTS, "columns", f"be one of {', '.join(RESULTS)}", f"'{columns}'")
    path = Path(path)
    content = json_bytes(path, advice=_STREAM)
    with many_objects():
        record = RESULTS[columns]
        wrong = "predictions must be COCO results JSON, a list of records"
        if content.lstrip()[:1] == b"{":
            kind: Any = msgspec.defstruct("CocoResults", [("annotations", list[record])], gc=False)
            records, prefix = decoded_json(content, kind, path, wrong).annotations, "$.annotations"
        else:
            records, prefix = decoded_json(content, list[record], path, wrong), "$"
        del content
        found = prediction_columns(
            records, truth, columns=columns, place=lambda i: f"{path}, {prefix}[{i}]", folder=path.parent
        )
        if columns == "boxes":
            require_pixels(found.boxes, truth.image_sizes[found.images], path)
        return found


def prediction_columns(
    records: Sequence[Any],
    truth: Annotations,
    *,
    columns: Columns,
    place: Callable[[int], str],
    folder: Path | None = None,
) -> Objects:
    """Records of one of :data:`RESULTS` as columns.

    Raises:
        DataError: naming the place of the first record that does not fit ``truth``.
    """
    count = len(records)
    images = known_rows(records, "image_id", truth.image_ids, "image", place)
    labels = known_rows(records, "category_id", truth.class_ids, "category", place)
    scores = np.fromiter(map(attrgetter("score"), records), np.float64, count)
    masks = keypoints = areas = None
    if columns == "boxes":
        boxes = box_columns(records, place)
    elif columns == "masks":
        masks = segmentation_masks(
            [record.segmentation for record in records], truth.image_sizes[images], place, folder
        )
        boxes, areas = masks.boxes(), masks.areas().astype(np.float64)
    else:
        points = truth.objects.keypoints.shape[1] if truth.objects.keypoints is not None else 0
        keypoints = keypoint_columns(records, place, points if len(truth.objects) else None)
        x, y = keypoints[:, :, 0], keypoints[:, :, 1]
        boxes = np.zeros((count, 4))
        if keypoints.size:
            left, top = x.min(axis=1), y.min(axis=1)
            boxes = np.stack([left, top, x.max(axis=1) - left, y.max(axis=1) - top], axis=1)
    return Objects.of(images, labels, boxes, scores=scores, areas=areas, masks=masks, keypoints=keypoints)


def box_columns(records: Sequence[Any], place: Callable[[int], str]) -> np.ndarray:
    """The boxes of records as rows x, y, width, height; RecordError where one lies absurdly far away."""
    flat = chain.from_iterable(map(attrgetter("bbox"), records))
    return _near(np.fromiter(flat, np.float64, 4 * len(records)).reshape(-1, 4), "bbox", place)


def _near(places: np.ndarray, what: str, place: Callable[[int], str]) -> np.ndarray:
    far = np.abs(places).max(axis=tuple(range(1, places.ndim)), initial=0) > _FARTHEST
    if far.any():
        wrong = f"{what} must lie within {_FARTHEST:g} pixels; got"
        raise RecordError(
            np.flatnonzero(far), lambda i: f"{wrong} {np.abs(places[i]).max():g} in {place(i)}.", "far-away"
        )
    return places


def sizes_of_masks(sizes: np.ndarray, images: np.ndarray, masks: np.ndarray, place: Callable[[int], str]) -> np.ndarray:
    """The sizes of images, those that the file does not say taken from their masks, which must agree."""
    unknown = np.asarray((sizes <= 0).any(axis=1))
    listed, first = np.unique(images, return_index=True)
    known = sizes.copy()
    known[listed] = np.where(unknown[listed, None], masks[first], sizes[listed])
    wrong = np.flatnonzero((masks != known[images]).any(axis=1))
    if len(wrong):

        def described(i: int) -> str:
            wanted = tuple(known[images[i]].tolist())
            return f"size must be {wanted}, as other masks' of the image; got {masks[i].tolist()} in {place(i)}."

        raise RecordError(wrong, described, "mask-size")
    return known


def keypoint_columns(records: Sequence[Any], place: Callable[[int], str], points: int | None = None) -> np.ndarray:
    """The keypoints of records ``(N, P, 3)``; RecordError where one has not ``points``, or the first's number."""
    lengths = np.fromiter((len(record.keypoints) for record in records), np.int64, len(records))
    wanted = 3 * points if points is not None else (int(lengths[0]) if len(lengths) else 0)
    wrong = np.flatnonzero((lengths != wanted) | (lengths % 3 != 0))
    if len(wrong):
        text = f"keypoints must be {wanted // 3} times x, y, visibility; got"
        raise RecordError(wrong, lambda i: f"{text} {lengths[i]} numbers in {place(i)}.", "keypoints")
    flat = chain.from_iterable(map(attrgetter("keypoints"), records))
    columns = np.fromiter(flat, np.float64, int(lengths.sum())).reshape(len(records), wanted // 3, 3)
    return _near(columns, "keypoints", place)


def _rows(records: Sequence[Any], key: str, ids: Sequence[int], path: Path, prefix: str) -> np.ndarray:
    what = "image" if key == "image_id" else "category"
    return known_rows(records, key, ids, what, lambda i: f"{path}, {prefix}[{i}]")


def known_rows(
    records: Sequence[Any], key: str, ids: Sequence[int] | Sequence[str], what: str, place: Callable[[int], str]
) -> np.ndarray:
    """The index of each record's id among ``ids``."""
    wrong = f"{key} must be the id of a listed {what}"
    try:
        values = np.fromiter(map(attrgetter(key), records), np.int64, len(records))
    except OverflowError:
        i = next(i for i, record in enumerate(records) if not -(1 << 63) <= getattr(record, key) < 1 << 63)
        raise DataError(f"{wrong}; got {getattr(records[i], key)} in {place(i)}.") from None
    if len(values) == 0:
        return values
    listed = np.array([value for value in ids if isinstance(value, int)], np.int64)
    if len(ids) and not len(listed):
        advice = "Write JSON Lines (.jsonl), whose records may name their images."
        raise DataError(f"{key} must be a name as '{ids[0]}', by which the truth calls it; got {values[0]}. {advice}")
    order = np.argsort(listed, kind="stable")
    places = np.minimum(np.searchsorted(listed[order], values), max(len(listed) - 1, 0))
    unknown = np.flatnonzero(listed[order][places] != values) if len(listed) else np.arange(len(values))
    if len(unknown):
        raise RecordError(unknown, lambda i: f"{wrong}; got {values[i]} in {place(i)}.", f"unknown-{what}")
    return order[places]


def require_unique(what: str, ids: Sequence[int] | np.ndarray, path: Path) -> None:
    """DataError where an id is given more than once."""
    values, counts = np.unique(np.asarray(ids), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{what} ids must not repeat; got {values[np.argmax(counts > 1)]} more than once in {path}.")


def distinct_names(names: list[str], ids: list[int]) -> list[str]:
    """Names that differ: one that occurs again carries its id; should that be another's name, all do."""
    times, numbered = Counter(names), [f"{name} ({i})" for name, i in zip(names, ids, strict=True)]
    distinct = [new if times[name] > 1 else name for name, new in zip(names, numbered, strict=True)]
    return distinct if len(set(distinct)) == len(names) else numbered
