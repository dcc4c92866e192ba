"""Single records that cannot be used: a reader for scoring stops at the first, one for training goes on without them.

A score must be that of all that was annotated, so its reader refuses a file with a bad record. Training can do without
a record, but must say so. The same checks serve both: they raise a :class:`RecordError`, which knows every record that
is wrong in this way; :func:`without_bad_records` takes these out, notes them, and reads the rest once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from delineate.data.formats.layout import Problem
from delineate.errors import DataError
from delineate.structures.annotations import Annotations

Read = TypeVar("Read")
SMALLEST_SIDE = 0.01  # pixels: a box that has less left inside its image has no logarithm to be learned
_MOST = 0.5  # of an area


class RecordError(DataError):
    """Some records cannot be used; the message is about the first of them.

    Args:
        rows: which of the records that were read, ascending, at least one.
        describe: what is wrong with one of them, naming its file and place.
        kind: a short kebab-case name.
        file: the file of a record; that of all of them when it is a text.

    Example:
        >>> error = RecordError([2, 5], "box must be finite; got NaN in record {}".format, "not-finite", "a.json")
        >>> str(error), [problem.message for problem in error.problems()]
        ('box must be finite; got NaN in record 2', [...in record 2', ...in record 5'])
    """

    def __init__(
        self, rows: Iterable[int], describe: Callable[[int], str], kind: str, file: Callable[[int], str] | str = ""
    ) -> None:
        self.rows = [int(row) for row in rows]
        self.describe = describe
        self.kind = kind
        self.file = file
        super().__init__(describe(self.rows[0]))

    def __reduce__(self) -> tuple[type[DataError], tuple[str]]:
        """Between processes it is the DataError that it says."""
        return DataError, (str(self),)

    def problems(self, file: str = "") -> list[Problem]:
        """An error for each of the records; ``file`` is theirs where the error does not know better."""
        named = self.file
        return [
            Problem("error", self.kind, (named(row) if callable(named) else named) or file, self.describe(row))
            for row in self.rows
        ]


def without_bad_records(
    read: Callable[[Int64[np.ndarray, " N"]], Read], count: int, problems: list[Problem], file: str = ""
) -> tuple[Read, Int64[np.ndarray, " N"]]:
    """What ``read`` makes of those records that it does not refuse, and which these are.

    Args:
        read: takes the numbers of the records that are left. The rows of the errors that it raises count these.
        count: how many records there are.
        problems: receives an error for each record that is left out.
        file: what the records are from, where an error does not say.
    """
    left = np.arange(count, dtype=np.int64)
    while True:
        try:
            return read(left), left
        except RecordError as error:
            problems += error.problems(file)
            left = np.delete(left, error.rows)


def object_problems(
    annotations: Annotations, files: Sequence[str], record: str
) -> tuple[Bool[np.ndarray, " N"], list[Problem]]:
    """Which objects can be trained on, and what is wrong with the others.

    Errors, whose objects cannot be used: a box without area, also once it is cut to its image; a box that lies outside
    its image for the most part; a mask without a pixel; a visibility other than 0, 1 or 2. Warnings, whose objects
    stay: a box that leaves its image by a pixel or more, a mask away from its box, a labelled keypoint outside the
    image, and the same box of the same class once more. Crowds are judged alike.

    Args:
        annotations: upright, with the size of every image.
        files: the annotation file of each image.
        record: what such a file calls an object, which ``objects.ids`` number.
    """
    objects = annotations.objects
    images, boxes = objects.images, objects.boxes
    problems: list[Problem] = []
    usable = np.ones(len(objects), bool)

    def note(wrong: np.ndarray, kind: str, text: Callable[[int], str], *, error: bool = True) -> None:
        """Each object is said to be unusable once, for the first reason found."""
        for row in np.flatnonzero(wrong & usable).tolist():
            file = files[images[row]]
            message = f"{record} {objects.ids[row]} of {annotations.image_ids[images[row]]} {text(row)}"
            problems.append(Problem("error" if error else "warning", kind, file, message))
        if error:
            usable[wrong] = False

    def size(row: int) -> str:
        height, width = annotations.image_sizes[images[row]].tolist()
        return f"{width} x {height} image"

    heights, widths = annotations.image_sizes[images].astype(np.float64).T
    left, top = boxes[:, 0], boxes[:, 1]
    right, bottom = left + boxes[:, 2], top + boxes[:, 3]
    if objects.masks is not None:
        note(objects.masks.areas() == 0, "empty-mask", lambda row: "has a mask without a pixel")
    negative = (boxes[:, 2] < 0) | (boxes[:, 3] < 0)
    note(negative, "swapped-corners", lambda row: f"has a box of negative size, {_shown(boxes[row])}")
    empty = (boxes[:, 2] == 0) | (boxes[:, 3] == 0)
    note(empty, "zero-area", lambda row: f"has a box without area, {_shown(boxes[row])}")
    outside = (left >= widths) | (top >= heights) | (right <= 0) | (bottom <= 0)
    corners = _like_corners(annotations, files) if record == "annotation" else {}

    def advice(row: int) -> str:
        return corners.get(files[images[row]], "")

    note(outside, "outside", lambda row: f"lies outside the {size(row)}, {_shown(boxes[row])}{advice(row)}")
    cut = corners_inside(boxes, annotations.image_sizes[images])
    sides = cut[:, 2:] - cut[:, :2]
    sliver = sides.min(axis=1, initial=np.inf) < SMALLEST_SIDE
    note(sliver, "zero-area", lambda row: f"has a box without area inside the {size(row)}, {_shown(boxes[row])}")
    away = sides.prod(axis=1, dtype=np.float64) < _MOST * boxes[:, 2] * boxes[:, 3]
    text = "lies outside the {} for the most part, {}{}"
    note(away, "mostly-outside", lambda row: text.format(size(row), _shown(boxes[row]), advice(row)))
    keypoints = objects.keypoints
    if keypoints is not None:
        strange = np.asarray((~np.isin(keypoints[:, :, 2], (0, 1, 2))).any(axis=1))
        note(strange, "visibility", lambda row: f"has a visibility that is not 0, 1 or 2, {_strange(keypoints[row])}")
        x, y, labelled = keypoints[:, :, 0], keypoints[:, :, 1], keypoints[:, :, 2] > 0
        away = (x < 0) | (y < 0) | (x > widths[:, None]) | (y > heights[:, None])
        beyond = (labelled & away).any(axis=1)
        note(beyond, "keypoint-outside", lambda row: f"has a keypoint outside the {size(row)}", error=False)
    leaving = (left <= -1) | (top <= -1) | (right >= widths + 1) | (bottom >= heights + 1)
    leaves = "leaves the {}, {}{}"
    note(leaving, "leaves-image", lambda row: leaves.format(size(row), _shown(boxes[row]), advice(row)), error=False)
    if objects.masks is not None:
        drawn = objects.masks.boxes()
        apart = _shared_areas(drawn, boxes) < _MOST * drawn[:, 2] * drawn[:, 3]
        far = "has a mask at {}, away from its box, {}"
        note(apart, "mask-off-box", lambda row: far.format(_shown(drawn[row]), _shown(boxes[row])), error=False)
    note(_repeated(annotations), "duplicate", lambda row: f"repeats a box, {_shown(boxes[row])}", error=False)
    return usable, problems


def corners_inside(boxes: Float64[np.ndarray, "N 4"], sizes: Int64[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N 4"]:
    """Boxes x, y, width, height as training has them: x0, y0, x1, y1 in single precision, cut to their images.

    Args:
        boxes: x, y, width, height.
        sizes: (height, width) of each box's image.

    Example:
        >>> corners_inside(np.array([[-2.0, 3, 14, 8]]), np.array([[9, 30]]))
        array([[ 0.,  3., 12.,  9.]], dtype=float32)
    """
    farthest = np.concatenate([sizes, sizes], axis=1)[:, [1, 0, 1, 0]].astype(np.float64)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return np.minimum(np.maximum(corners, 0), farthest).astype(np.float32)


def _like_corners(annotations: Annotations, files: Sequence[str]) -> dict[str, str]:
    """What to say of files whose boxes mostly leave their images, where as x0, y0, x1, y1 they would all fit.

    COCO's records state width and height, and files with corners in their place break no rule of the format.
    """
    objects = annotations.objects
    boxes = objects.boxes
    sizes = annotations.image_sizes[objects.images][:, ::-1].astype(np.float64)
    leaving = (boxes[:, :2] + boxes[:, 2:] > sizes + 1).any(axis=1)
    fits = ((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= sizes + 1)).all(axis=1)
    names = list(dict.fromkeys(files))
    number = {name: i for i, name in enumerate(names)}
    of_row = np.array([number[file] for file in files], np.int64)[objects.images]
    counts, left, fitting = (np.bincount(of_row, weights, len(names)) for weights in (None, leaving, fits))
    told = ". Most boxes of the file leave their images, but would fit as x0, y0, x1, y1: write x, y, width, height"
    return {names[i]: told for i in np.flatnonzero((left > _MOST * counts) & (fitting == counts))}


def _shared_areas(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What each box x, y, width, height has in common with the other of its row."""
    low = np.maximum(one[:, :2], other[:, :2])
    high = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    return np.maximum(high - low, 0).prod(axis=1)


def _repeated(annotations: Annotations) -> Bool[np.ndarray, " N"]:
    """Objects whose image, class and box are those of an earlier one."""
    objects = annotations.objects
    rows = np.column_stack([objects.images, objects.labels, objects.boxes])
    repeated = np.ones(len(rows), bool)
    repeated[np.unique(rows, axis=0, return_index=True)[1]] = False
    return repeated


def _shown(box: np.ndarray) -> str:
    x, y, width, height = box.tolist()
    return f"x {x:g}, y {y:g}, width {width:g}, height {height:g}"


def _strange(points: np.ndarray) -> str:
    visibility = points[:, 2]
    return f"{visibility[~np.isin(visibility, (0, 1, 2))][0]:g}"
