"""Detections as lines of text: the results files of the Pascal VOC devkit, and one file an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64

from delineate.checks import require
from delineate.data.objects.class_names import (
    AMBIGUOUS,
    class_index_beside,
    image_index,
    images_of_files,
    text_files,
)
from delineate.data.objects.plausible import require_pixels
from delineate.data.objects.text_rows import pixel_boxes, read_rows, sizes_of_rows
from delineate.errors import DataError
from delineate.registry import nearest_name
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

BoxFormat = Literal["xyxy", "xywh", "cxcywh_relative"]
BOX_FORMATS: tuple[BoxFormat, ...] = ("xyxy", "xywh", "cxcywh_relative")
RESULT_LAYOUT = "image score xmin ymin xmax ymax"
_COLUMNS: dict[BoxFormat, str] = {
    "xyxy": "class score left top right bottom",
    "xywh": "class score left top width height",
    "cxcywh_relative": "class score centre_x centre_y width height",
}


def read_predictions(path: str | Path, truth: Annotations) -> Objects:
    """The detections in a folder of VOC results: a file for each class, ``<prefix>_det_<split>_<class>.txt``.

    A line is ``image score xmin ymin xmax ymax``; a file may also be called ``<class>.txt``, and may be empty. A class
    without a file has no detections. The corners are kept as they are written: x = xmin, width = xmax - xmin. VOC's
    pixels count from 1 and include the last one; a measure that wants xmax - xmin + 1 adds the 1 itself.

    Source: Everingham and Winn, "The PASCAL Visual Object Classes Challenge 2012 Development Kit", section 8.2.
    Differs: nothing.

    Args:
        path: the folder.
        truth: the images and classes that the detections refer to, by id or by file name.

    Raises:
        DataError: naming file and line, on an unknown image or class, a line of another form, numbers that are not
            finite, corners the wrong way round, boxes that are all relative, or two files of one class.
    """
    files = text_files(path, "predictions")
    label_of_file = _labels_of_files(files, truth)
    rows = read_rows(files, lambda widths: widths == 6, RESULT_LAYOUT, image_index(truth))
    numbers = rows.numbers.reshape(-1, 5)
    boxes = numbers[:, 1:].copy()
    boxes[:, 2:] -= boxes[:, :2]
    rows.refuse(boxes[:, 2:].min(axis=1) < 0, "corners must be xmin ymin xmax ymax, the smaller first")
    require_pixels(boxes, truth.image_sizes[rows.codes], path)
    return Objects.of(
        images=rows.codes,
        labels=np.repeat(label_of_file, rows.counts),
        boxes=boxes,
        scores=numbers[:, 0].copy(),
    )


def read_predictions_by_image(path: str | Path, truth: Annotations, *, box_format: BoxFormat) -> Objects:
    """The detections in a folder with a file for each image, ``<image>.txt``, lines of ``class score`` and a box.

    Args:
        path: the folder; an image without a file has no detections.
        truth: the images and classes that the detections refer to. A file is called after an image's id or file; a
            class is written as its name (without blanks) or as a number: its place, from 0, in ``data.yaml``,
            ``classes.txt`` or a ``.names`` file in the folder or the one above it; without such a list its id.
        box_format: "xyxy" for left top right bottom and "xywh" for left top width height, in pixels;
            "cxcywh_relative" for centre and size as fractions of the image. Four numbers do not tell which they are,
            so it must be said.

    Raises:
        DataError: naming file and line, on an unknown image or class, a line of another form, numbers that are not
            finite, negative widths, boxes that are not relative or should not be, an image whose size is needed and
            not known, or a number without a list where the truth numbers no classes (VOC XML).
        ArgumentError: on another ``box_format``.
    """
    require(box_format in BOX_FORMATS, "box_format", f"be one of {', '.join(BOX_FORMATS)}", f"'{box_format}'")
    files = text_files(path, "predictions")
    image_of_file = images_of_files(files, truth)
    rows = read_rows(files, lambda widths: widths == 6, _COLUMNS[box_format], class_index_beside(truth, Path(path)))
    images = np.repeat(image_of_file, rows.counts)
    numbers = rows.numbers.reshape(-1, 5)
    boxes = numbers[:, 1:].copy()
    if box_format == "xyxy":
        boxes[:, 2:] -= boxes[:, :2]
    rows.refuse(boxes[:, 2:].min(axis=1) < 0, f"boxes must have no negative size; lines are {_COLUMNS[box_format]}")
    if box_format == "cxcywh_relative":
        boxes = pixel_boxes(boxes, sizes_of_rows(truth, images, rows), rows)
    else:
        require_pixels(boxes, truth.image_sizes[images], path)
    return Objects.of(images=images, labels=rows.codes, boxes=boxes, scores=numbers[:, 0].copy())


def split_of_results(path: str | Path) -> str | None:
    """The split that the files of a folder of VOC results are of: ``<prefix>_det_<split>_<class>.txt``.

    Returns:
        One word; None when it is no folder, has no such files, or not all of them name the same split.
    """
    files = text_files(path, "predictions") if any(Path(path).glob("*.txt")) else []
    splits = {file.stem.partition("_det_")[2].partition("_") for file in files}
    named = {split for split, _, label in splits if label}
    return named.pop() if len(named) == 1 and all(label for _, _, label in splits) else None


def _labels_of_files(files: Sequence[Path], truth: Annotations) -> Int64[np.ndarray, " F"]:
    labels = []
    seen: dict[int, Path] = {}
    for path in files:
        label = _label_of_stem(path.stem, truth.classes)
        if label is None:
            if image_index(truth).indices.get(path.stem, AMBIGUOUS) >= 0:
                advice = (
                    "Files called after images are read by read_predictions_by_image, which asks for the box format."
                )
                raise DataError(f"predictions must have a file for each class; got {path}. {advice}")
            name = path.stem.split("_det_", 1)[-1].split("_", 1)[-1]
            near = nearest_name(name, truth.classes) or ", ".join(truth.classes[:3])
            hint = f"Files are called <prefix>_det_<split>_<class>.txt; classes are such as {near}."
            raise DataError(f"predictions must be of the true classes; got {path}. {hint}")
        if label in seen:
            raise DataError(f"predictions must have one file a class; got {seen[label].name} and {path}.")
        seen[label] = path
        labels.append(label)
    return np.array(labels, np.int64)


def _label_of_stem(stem: str, classes: Sequence[str]) -> int | None:
    """The class that a results file is called after; of several the longest, as a split is one word."""
    if stem in classes:
        return list(classes).index(stem)
    _, det, rest = stem.partition("_det_")
    fitting = [label for label, name in enumerate(classes) if det and rest.endswith(f"_{name}")]
    return max(fitting, key=lambda label: len(classes[label]), default=None)
