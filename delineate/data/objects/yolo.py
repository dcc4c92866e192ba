"""YOLO's text files: one file an image, a line an object, coordinates as fractions of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from delineate.checks import require
from delineate.data.formats.layout import Problem, split_name
from delineate.data.formats.pairing import pictures_under
from delineate.data.image_io import image_size
from delineate.data.objects.class_names import (
    HOW_TO_NUMBER,
    UNKNOWN,
    class_list_beside,
    existing_folder,
    few_names,
    find_class_names,
    images_of_files,
    is_numbered,
    numbered_names,
    read_class_names,
    text_files,
)
from delineate.data.objects.defects import without_bad_records
from delineate.data.objects.text_rows import (
    TextRows,
    pixel_boxes,
    read_rows,
    read_sound_rows,
    require_relative,
    sizes_of_rows,
)
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle_masks import DamagedMaskError, RLEMasks

TRUTH_LAYOUT = "class centre_x centre_y width height, or class x1 y1 x2 y2 x3 y3 ..."
PREDICTION_LAYOUT = "class centre_x centre_y width height score, or class x1 y1 x2 y2 x3 y3 ... score"
Columns = Literal["boxes", "masks"]
_MOST_CLASSES = 100_000
_SCORE_BOXES = "; score the boxes."
_SLACK = 0.05  # of an image: outlines may leave it by that much
_FEWEST = 10  # lines: fewer may agree by chance


def read_truth(path: str | Path, *, classes: Sequence[str] | None = None, columns: Columns = "boxes") -> Annotations:
    """The annotations in a folder of YOLO labels, with the images they belong to.

    A line is ``class centre_x centre_y width height`` or a polygon, ``class x1 y1 x2 y2 ...``, all as fractions of the
    image. A file may be empty or missing: the image has no objects. The box of a polygon is what its corners span, that
    of a mask is the mask's own. Image sizes are read from the headers of the images.

    Args:
        path: the labels of one split (``labels/val``, whose images are in ``images/val``, or beside them), or a folder
            with ``labels`` and ``images``.
        classes: names in order of their numbers; when left out those of ``data.yaml``, ``classes.txt`` or a ``.names``
            file in the folder or above it, else "class 0", "class 1" ...
        columns: what to read: "boxes", or "masks", for which every line must be a polygon.

    Returns:
        Annotations whose image ids are the images' names without suffix.

    Raises:
        DataError: naming file and line, on a line of another form, coordinates that are no fractions, negative sizes,
            a class without a name, a box where masks are read; on labels without an image, or two images of one name.
    """
    folder = _label_folder(Path(path))
    pictures = _pictures(folder)
    stems = sorted(pictures)
    sizes = [image_size(pictures[stem]) for stem in stems]
    files = text_files(folder, "labels")
    image_of_stem = {stem: image for image, stem in enumerate(stems)}
    for file in files:
        if file.stem not in image_of_stem:
            raise DataError(f"labels must have an image; got {file} without one. Its size is needed.")
    names = tuple(classes) if classes is not None else find_class_names(_places(folder))
    rows = read_rows(files, _is_truth, TRUTH_LAYOUT)
    numbers = _classes(rows)
    if names is None:
        names = numbered_names(int(numbers.max(initial=-1)) + 1)
    image_of_file = np.array([image_of_stem[file.stem] for file in files], np.int64)
    return Annotations.of(
        stems,
        names,
        _true_objects(rows, image_of_file, np.array(sizes, np.int64), names, columns),
        image_sizes=sizes,
        image_files=[pictures[stem].name for stem in stems],
    )


def read_files(
    labels: Sequence[Path],
    images: Int64[np.ndarray, " F"],
    sizes: Int64[np.ndarray, "I 2"],
    problems: list[Problem],
    *,
    classes: Sequence[str] | None = None,
    columns: Columns | None = None,
) -> tuple[Objects, tuple[str, ...], Columns]:
    """The objects of label files that can be used, their classes, and whether they have masks.

    Args:
        labels: text files, as :func:`read_truth` describes them.
        images: the index of each one's image.
        sizes: (height, width) of all images.
        problems: receives an error for each line, and each file, that is left out as it cannot be used.
        classes: names in order of their numbers; when left out "class 0", "class 1" ...
        columns: "masks", for which every line must be a polygon, or "boxes"; when left out, masks where at least half
            of the lines are polygons.

    Returns:
        Objects whose ids count the lines of their file from 1, blank ones left out; names; and the columns.

    Raises:
        DataError: when most lines are boxes with more numbers after them, as trackers and poses have.
    """
    rows = read_sound_rows(labels, _is_truth, TRUTH_LAYOUT, problems)
    _, left = without_bad_records(lambda left: _classes(rows.select(left)), len(rows.lengths), problems)
    rows = rows.select(left)
    strange: list[Problem] = []
    _, left = without_bad_records(lambda left: _sound_polygons(rows.select(left)), len(rows.lengths), strange)
    if 2 * len(strange) > len(rows.lengths):  # no slips: the labels are for another task, and little would be left
        got = f"{len(strange)} of {len(rows.lengths)} others, the first: {strange[0].message}"
        raise DataError(f"labels must be boxes or outlines for the most part; got {got}")
    problems += strange
    rows = rows.select(left)
    polygons = int((rows.lengths > 5).sum())
    held: Columns = columns or ("masks" if polygons and 2 * polygons >= len(rows.lengths) else "boxes")
    names = tuple(classes) if classes is not None else numbered_names(int(_classes(rows).max(initial=-1)) + 1)

    def read(left: Int64[np.ndarray, " N"]) -> Objects:
        kept = rows.select(left)
        objects = _true_objects(kept, images, sizes, names, held, '; draw it, or read columns=["boxes"].')
        return replace(objects, ids=kept.rank_of_row() + 1)

    objects, _ = without_bad_records(read, len(rows.lengths), problems)
    return objects, names, held


def _sound_polygons(rows: TextRows) -> None:
    """RecordError for lines that are outlines by their length alone, and read as a box with more numbers after it.

    Such are what a tracker writes (box, score, number of the track) and poses (box, keypoints, perhaps their
    visibility). One line can be known by numbers beyond the image or by whole ones where a visibility or a track's
    number stands. All lines of a set are poses where every one is as long as the others and its points lie in its box.
    """
    long = np.flatnonzero(rows.lengths > 5)
    if not len(long):
        return
    starts = (np.cumsum(rows.lengths) - rows.lengths + 1)[long]
    x, y, width, height = rows.numbers[starts[:, None] + np.arange(4)].T
    is_box = (width > 0) & (height > 0)
    for centre, side in ((x, width), (y, height)):
        is_box &= np.abs(centre - 0.5) + side / 2 <= 0.5 + _SLACK
    counts = rows.lengths[long] - 5
    first = np.cumsum(counts) - counts
    ranks = np.arange(int(counts.sum())) - np.repeat(first, counts)
    after = rows.numbers[np.repeat(starts + 4, counts) + ranks]
    whole = after == np.floor(after)
    beyond = np.maximum.reduceat(np.abs(after - 0.5), first) > 0.5 + _SLACK
    track = (counts == 2) & whole[first + counts - 1]
    visible = (counts % 3 == 0) & np.logical_and.reduceat(whole | (ranks % 3 != 2), first)
    wrong = np.zeros(len(rows.lengths), bool)
    wrong[long] = is_box & (beyond | track | visible)
    middles, sides = np.stack([x, y], axis=1), np.stack([width, height], axis=1)
    of_after = np.repeat(np.arange(len(long)), counts), ranks % 2
    inside = (np.abs(after - middles[of_after]) <= sides[of_after] / 2 + 1e-3) | (after == 0)
    if len(long) >= _FEWEST and len(np.unique(counts)) == 1 and is_box.all() and inside.all():
        wrong[long] = True
    text = "outline must not read as a box with a track or keypoints after it"
    rows.refuse(wrong, text, "Write class centre_x centre_y width height, or the corners of the outline.", "ambiguous")


def _true_objects(
    rows: TextRows,
    image_of_file: Int64[np.ndarray, " F"],
    sizes: Int64[np.ndarray, "I 2"],
    names: Sequence[str],
    columns: Columns,
    advice: str = _SCORE_BOXES,
) -> Objects:
    numbers = _classes(rows)
    text = f"class must be one of the {len(names)} named ones, from 0"
    rows.refuse(numbers >= len(names), text, kind="unknown-category")
    images = np.repeat(image_of_file, rows.counts)
    of_rows = sizes.reshape(-1, 2)[:, ::-1].astype(np.float64)[images]
    boxes, masks = _outlines(rows, of_rows, 0, columns, advice)
    areas = None if masks is None else masks.areas()
    return Objects.of(images=images, labels=numbers, boxes=boxes, areas=areas, masks=masks)


def read_predictions(path: str | Path, truth: Annotations, *, columns: Columns = "boxes") -> Objects:
    """The detections in a folder of YOLO text files with a score at the end of each line.

    A line is ``class centre_x centre_y width height score`` or a polygon with a score, as Ultralytics writes them with
    ``save_txt=True, save_conf=True``.

    Args:
        path: the folder; an image without a file has no detections.
        truth: the images and classes that the detections refer to. A file is called after an image's id or file. A
            class is a place, from 0, in ``data.yaml``, ``classes.txt`` or a ``.names`` file in the folder or the one
            above it; without such a list in ``truth.classes``, whatever ``truth.class_ids`` are.
        columns: what to read, as for :func:`read_truth`.

    Raises:
        DataError: naming file and line, as :func:`read_truth`; on an image that is unknown or whose size is; on a class
            that the truth does not have; without a list, where the order of the truth's classes is only the alphabet's
            (VOC XML).
    """
    folder = existing_folder(path, "predictions")
    if (folder / "labels").is_dir():
        folder = folder / "labels"
    files = text_files(folder, "predictions")
    image_of_file = images_of_files(files, truth)
    rows = read_rows(files, _is_prediction, PREDICTION_LAYOUT)
    numbers = _classes(rows)
    labels = _labels(numbers, rows, truth, folder)
    images = np.repeat(image_of_file, rows.counts)
    boxes, masks = _outlines(rows, sizes_of_rows(truth, images, rows), 1, columns)
    return Objects.of(
        images=images,
        labels=labels,
        boxes=boxes,
        scores=rows.numbers[np.cumsum(rows.lengths) - 1],
        areas=None if masks is None else masks.areas(),
        masks=masks,
    )


def _is_truth(widths: Int64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    return (widths >= 5) & (widths % 2 == 1)


def _is_prediction(widths: Int64[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    return (widths >= 6) & (widths % 2 == 0)


def _classes(rows: TextRows) -> Int64[np.ndarray, " N"]:
    """The class number of each row."""
    numbers = rows.numbers[np.cumsum(rows.lengths) - rows.lengths]
    wrong = (numbers < 0) | (numbers > _MOST_CLASSES) | (numbers != np.floor(numbers))
    rows.refuse(wrong, "class must be a whole number from 0")
    return numbers.astype(np.int64)


def _labels(
    numbers: Int64[np.ndarray, " N"], rows: TextRows, truth: Annotations, folder: Path
) -> Int64[np.ndarray, " N"]:
    """The true class of each predicted number."""
    path = class_list_beside(folder, truth)
    if path is None:
        rows.refuse(numbers >= truth.num_classes, f"class must be one of the {truth.num_classes} true ones, from 0")
        nameless = np.full(len(numbers), not is_numbered(truth))
        advice = f"The truth does not number its classes; {HOW_TO_NUMBER}."
        rows.refuse(nameless, f"class must be a number known to stand for one of {few_names(truth.classes)}", advice)
        return numbers
    listed = read_class_names(path)
    rows.refuse(numbers >= len(listed), f"class must be one of the {len(listed)} in {path}, from 0")
    label_of_name = {name: label for label, name in enumerate(truth.classes)}
    labels = np.array([label_of_name.get(name, UNKNOWN) for name in listed], np.int64)[numbers]
    if (labels == UNKNOWN).any():
        number = int(numbers[np.argmax(labels == UNKNOWN)])
        advice = f"{number} is '{listed[number]}' in {path}; the truth has {few_names(truth.classes)}."
        rows.refuse(labels == UNKNOWN, "class must be one of the true ones", advice)
    return labels


def _outlines(
    rows: TextRows, sizes: Float64[np.ndarray, "N 2"], after: int, columns: Columns, advice: str = _SCORE_BOXES
) -> tuple[Float64[np.ndarray, "N 4"], RLEMasks | None]:
    """Boxes in pixels, and masks if wanted.

    Args:
        rows: a class, coordinates, and ``after`` more numbers each.
        sizes: (width, height) of each row's image.
        after: how many numbers follow the coordinates.
        columns: what is wanted.
        advice: what to do about a box where masks are wanted.
    """
    require(columns in ("boxes", "masks"), "columns", "be boxes or masks", f"'{columns}'")
    corners = (rows.lengths - 1 - after) // 2
    starts = np.cumsum(rows.lengths) - rows.lengths + 1
    is_box = corners == 2
    relative = np.zeros((len(starts), 4))
    relative[is_box] = rows.numbers[starts[is_box, None] + np.arange(4)]
    rows.refuse(relative[:, 2:].min(axis=1) < 0, "width and height must be at least 0", kind="swapped-corners")
    boxes = pixel_boxes(relative, sizes, rows)
    if columns == "masks":
        rows.refuse(is_box, "line must be a polygon", f"Masks cannot be made of boxes{advice}", "no-outline")
    corners = corners[~is_box]
    first = np.cumsum(corners) - corners  # of each polygon, among all corners
    at = np.repeat(starts[~is_box] - 2 * first, corners) + 2 * np.arange(int(corners.sum()))
    points = np.stack([rows.numbers[at], rows.numbers[at + 1]], axis=1)
    if len(corners):
        farthest = np.zeros(len(starts))
        farthest[~is_box] = np.maximum.reduceat(np.abs(points).max(axis=1), first)
        require_relative(farthest, rows)
        points *= np.repeat(sizes[~is_box], corners, axis=0)
        low, high = np.minimum.reduceat(points, first, axis=0), np.maximum.reduceat(points, first, axis=0)
        boxes[~is_box] = np.concatenate([low, high - low], axis=1)
    if columns == "boxes":
        return boxes, None
    ends = np.append(first, len(points))
    try:
        masks = RLEMasks.from_polygons(
            points.reshape(-1), 2 * ends, np.arange(len(ends)), sizes[:, ::-1].astype(np.int64)
        )
    except DamagedMaskError as error:
        text = f"polygon must be one that can be drawn ({error.reason})"
        rows.refuse(np.arange(len(starts)) == error.index, text, kind="bad-outline")
        raise
    return masks.boxes(), masks


def _label_folder(path: Path) -> Path:
    folder = existing_folder(path, "labels")
    if (folder / "labels").is_dir():
        folder = folder / "labels"
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if inside and not any(folder.glob("*.txt")):
        raise DataError(
            f"labels must be those of one split; got {folder} with {', '.join(inside[:5])}. Pass one of them."
        )
    return folder


def _pictures(folder: Path) -> dict[str, Path]:
    """The images of a label folder by name: ``images`` in place of ``labels`` in its path, else the folder itself."""
    parts = list(folder.absolute().parts)
    if "labels" in parts:
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
    usual = Path(*parts)
    place = usual if usual.is_dir() else folder
    pictures: dict[str, Path] = {}
    for picture in pictures_under(place):
        if picture.parent != place:
            continue
        if pictures.setdefault(picture.stem, picture) != picture:
            raise DataError(f"images must have different names; got {pictures[picture.stem].name} and {picture}.")
    if not pictures:
        raise DataError(f"labels must have images, in {usual} or beside them; got none. Their sizes are needed.")
    return pictures


def _places(folder: Path) -> list[Path]:
    """Where class names may lie: the folder, and those above it as long as it is the labels' or a split's."""
    places = [folder.absolute()]
    while len(places) < 3 and (places[-1].name == "labels" or split_name(places[-1].name)):
        places.append(places[-1].parent)
    return places
