"""The doctor for folders of objects: what would go wrong in training, found before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from delineate.data.doctor import CheckReport
from delineate.data.duplicates import FilePrint, duplicate_problems, near_duplicate_problems, read_fingerprint
from delineate.data.formats.layout import Problem
from delineate.data.image_io import read_image
from delineate.data.objects.class_names import few_names
from delineate.data.objects.coco_json import Columns
from delineate.data.objects.folder import ObjectFolder, read_objects
from delineate.data.opening import BUILT_IN
from delineate.data.read_ahead import read_ahead
from delineate.errors import DataError
from delineate.kernels.boxes import box_ious
from delineate.structures.objects import Objects

SAME_OBJECT = 0.95  # IoU above which two boxes of an image are one thing drawn twice
TINY = 2  # pixels: the shorter side of what hardly shows in the image, and not at all once it is scaled down
FEW = 10  # objects of a class, below which there is little to learn it from


def check_objects(
    path: str | Path,
    format: str = "auto",
    *,
    columns: Sequence[Columns] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Everything that is wrong with a data set of objects, by reading all of it once.

    Errors: what :func:`~delineate.data.objects.folder.read_objects` would leave out (records that are malformed, boxes
    without area or outside their image, NaN, outlines that enclose nothing, unknown categories, pictures that are
    missing or of another size), pictures that cannot be read to their end, the same picture in two splits, and a split
    to train on without any object. Warnings: boxes that leave their image, that repeat, or that nearly do; things with
    two classes; tiny ones; crowds alone on a picture; keypoints that are marked as not labelled and yet have a place;
    classes that a split lacks or hardly has; pictures copied within a split, or alike in two.

    Args:
        path: the folder, a COCO JSON file, or "digits", which has no files to check.
        format: as for :func:`~delineate.data.objects.folder.read_objects`.
        columns: what is going to be used besides boxes; all that the data have when left out.
        progress: called with (images done, images in all).

    Raises:
        DataError: as :func:`~delineate.data.objects.folder.read_objects`.

    Example:
        >>> check_objects("digits").ok
        True
    """
    if path == BUILT_IN:
        return CheckReport(BUILT_IN, BUILT_IN, (), {}, ())
    folder = read_objects(path, format, columns=columns)
    prints, unreadable = _fingerprints(folder, progress)
    of_splits = {split: [prints[image] for image in images.tolist()] for split, images in folder.splits.items()}
    alike, pairs = near_duplicate_problems(of_splits)
    problems = [
        *folder.problems,
        *unreadable,
        *duplicate_problems(of_splits),
        *alike,
        *box_problems(folder),
        *keypoint_problems(folder),
        *balance_problems(folder),
    ]
    return CheckReport(
        path=str(path),
        format=folder.format,
        classes=folder.annotations.classes,
        images={split: len(images) for split, images in folder.splits.items()},
        problems=tuple(dict.fromkeys(sorted(problems, key=lambda problem: problem.severity != "error"))),
        near_duplicates=tuple(pairs),
    )


def box_problems(folder: ObjectFolder) -> list[Problem]:
    """Warnings about usable boxes: nearly the same twice, one thing with two classes, and very small ones."""
    objects = folder.annotations.objects
    problems = []
    for start, end in _rows_of_images(objects):
        for row, other, iou in _pairs(objects.select(np.arange(start, end))):
            one, two = (folder.annotations.classes[objects.labels[start + i]] for i in (row, other))
            ids = f"{objects.ids[start + row]} and {objects.ids[start + other]} of {_name(folder, start)}"
            if one != two:
                text = f"objects {ids} are a {one} and a {two} in one place (IoU {iou:.2f})"
                problems.append(Problem("warning", "two-classes", _file(folder, start), text))
            elif not np.array_equal(objects.boxes[start + row], objects.boxes[start + other]):
                text = f"objects {ids}, each a {one}, are almost the same box (IoU {iou:.2f})"
                problems.append(Problem("warning", "near-duplicate-box", _file(folder, start), text))
    sides = objects.boxes[:, 2:].min(axis=1, initial=np.inf)
    small = np.flatnonzero((sides < TINY) & ~objects.crowd)
    if len(small):
        row = int(small[0])
        width, height = objects.boxes[row, 2:].tolist()
        first = f"{width:g} x {height:g} in {_name(folder, row)}"
        text = f"{len(small)} of {len(objects)} boxes have a side below {TINY} pixels, such as {first}"
        problems.append(Problem("warning", "tiny-object", _file(folder, row), text))
    return problems


def keypoint_problems(folder: ObjectFolder) -> list[Problem]:
    """Warnings about keypoints that nobody labelled: those with a place all the same, and names without any."""
    keypoints = folder.annotations.objects.keypoints
    if keypoints is None or not len(keypoints):
        return []
    problems = []
    labelled = keypoints[:, :, 2] > 0
    placed = ~labelled & (keypoints[:, :, :2] != 0).any(axis=2)
    if placed.any():
        row = int(np.argmax(placed.any(axis=1)))
        text = (
            f"{int(placed.sum())} keypoints have a place, but visibility 0, which means not labelled; they are not "
            f"learned. The first is of object {folder.annotations.objects.ids[row]} of {_name(folder, row)}"
        )
        problems.append(Problem("warning", "unlabelled-keypoint", _file(folder, row), text))
    counts = labelled.sum(axis=0).tolist()
    never = [name for name, count in zip(folder.annotations.keypoint_names, counts, strict=False) if not count]
    if never and labelled.any():
        text = f"no object has the {'keypoints' if len(never) > 1 else 'keypoint'} {few_names(never)} labelled"
        problems.append(Problem("warning", "unused-keypoint", str(folder.root), text))
    return problems


def balance_problems(folder: ObjectFolder) -> list[Problem]:
    """What splits lack: an error where there is nothing to learn, warnings for classes and for crowds alone."""
    objects, classes = folder.annotations.objects, folder.annotations.classes
    real = ~(objects.crowd | objects.ignored)
    used = np.bincount(objects.labels, minlength=len(classes)) > 0
    problems = []
    for split, images in folder.splits.items():
        within = np.isin(objects.images, images)
        counts = np.bincount(objects.labels[within & real], minlength=len(classes))
        trained = split in ("train", "all", "trainval")
        if not counts.sum():
            severity, what = ("error", "there is nothing to learn") if trained else ("warning", "nothing can be scored")
            text = f"no image of split '{split}' has an object that counts; {what}"
            problems.append(Problem(severity, "no-objects", str(folder.root), text, split))  # type: ignore[arg-type]
            continue
        if split == "test":
            continue
        absent = [name for name, count, some in zip(classes, counts, used, strict=True) if some and not count]
        if absent:
            text = f"{few_names(absent)} never {'occur' if len(absent) > 1 else 'occurs'} in split '{split}'"
            problems.append(Problem("warning", "class-balance", str(folder.root), text, split))
        rare = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if 0 < count < FEW]
        if rare and trained:
            have = "have" if len(rare) > 1 else "has"
            text = f"{few_names(rare)} {have} fewer than {FEW} objects in split '{split}'"
            problems.append(Problem("warning", "class-balance", str(folder.root), text, split))
        alone = np.setdiff1d(objects.images[within & ~real], objects.images[real])
        if len(alone):
            first = folder.annotations.image_files[int(alone[0])]
            some = f"{len(alone)} images of split '{split}' have"
            some = some if len(alone) > 1 else f"1 image of split '{split}' has"
            text = f"{some} crowds or difficult objects and nothing else, such as {first}; nothing is learned there"
            problems.append(Problem("warning", "crowd-only", str(folder.path(int(alone[0]))), text, split))
    return problems


def _fingerprints(
    folder: ObjectFolder, progress: Callable[[int, int], None] | None
) -> tuple[dict[int, FilePrint], list[Problem]]:
    """The fingerprint of every picture of a split, and an error for each that cannot be read to its end."""
    images = folder.images().tolist()
    split_of = {image: split for split in reversed(folder.splits) for image in folder.splits[split].tolist()}
    prints, problems = {}, []
    for done, (image, read) in enumerate(
        zip(images, read_ahead(_fingerprint, map(folder.path, images)), strict=True), 1
    ):
        if isinstance(read, str):
            file = str(folder.path(image))
            problems.append(Problem("error", "unreadable", file, read, split_of[image]))
            read = FilePrint(file)
        prints[image] = read
        if progress is not None:
            progress(done, len(images))
    return prints, problems


def _fingerprint(path: Path) -> FilePrint | str:
    try:
        return read_fingerprint(path, read_image(path))
    except DataError as error:
        return str(error)


def _rows_of_images(objects: Objects) -> list[tuple[int, int]]:
    """Where the rows of each image with several objects begin and end."""
    starts = np.flatnonzero(np.diff(objects.images, prepend=-1))
    ends = np.append(starts[1:], len(objects))
    return [(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if end - start > 1]


def _pairs(objects: Objects) -> list[tuple[int, int, float]]:
    """The rows of boxes in one place, crowds left out."""
    corners = np.concatenate([objects.boxes[:, :2], objects.boxes[:, :2] + objects.boxes[:, 2:]], axis=1)
    ious = np.triu(box_ious(corners, corners), 1)
    ious[objects.crowd] = 0
    ious[:, objects.crowd] = 0
    rows, others = np.nonzero(ious >= SAME_OBJECT)
    return [(row, other, float(ious[row, other])) for row, other in zip(rows.tolist(), others.tolist(), strict=True)]


def _name(folder: ObjectFolder, row: int) -> str:
    return folder.annotations.image_files[int(folder.annotations.objects.images[row])]


def _file(folder: ObjectFolder, row: int) -> str:
    return str(folder.path(int(folder.annotations.objects.images[row])))
