"""Scores of weak localisation: guessed boxes of labelled images, or a score map for each class of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from delineate.checks import require
from delineate.data.formats.pairing import pictures_under
from delineate.data.image_io import read_map
from delineate.data.objects.class_names import class_index, image_index
from delineate.data.objects.opening import open_predictions, open_truth
from delineate.errors import DataError
from delineate.kernels.grouping import grouped_order
from delineate.metrics.localisation import max_box_accuracy, topk_localisation_error
from delineate.metrics.pointing import point_localisation
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

Progress = Callable[[int, int], None]
_GUESSES = 5


def measure_localisation(
    ground_truth: Path,
    predictions: Path,
    progress: Progress,
    *,
    truth_format: str = "auto",
    prediction_format: str = "auto",
    tolerance: float | int = 18,
) -> tuple[dict[str, Any], None]:
    """Localisation figures against true boxes.

    Predicted boxes give the top-1 and top-5 error: the guesses of an image are its most confident classes, each with
    its most confident box. A folder of score maps ``<class>/<image>.npy`` (or ``.png``) gives MaxBoxAcc over the
    classes that an image holds, and point localisation over all classes.

    Args:
        ground_truth: true boxes, in a format of the task boxes.
        predictions: predicted boxes, or a folder of maps of the images' sizes.
        progress: called with (steps done, steps in all).
        truth_format: as for boxes.
        prediction_format: as for boxes.
        tolerance: pixels around a true box in which a map's peak is a hit.

    Raises:
        DataError: naming the file, when something cannot be read or does not fit.
        ArgumentError: on a negative tolerance.
    """
    require(tolerance >= 0, "tolerance", "be at least 0 pixels", tolerance)
    progress(0, 3)
    truth = open_truth(ground_truth, format=truth_format)
    progress(1, 3)
    maps = pictures_under(predictions) if predictions.is_dir() and prediction_format == "auto" else []
    if maps:
        scores = _map_scores(truth, predictions, maps, tolerance)
    else:
        scores = _box_scores(truth, open_predictions(predictions, truth, format=prediction_format))
    progress(3, 3)
    return scores, None


def _box_scores(truth: Annotations, found: Objects) -> dict[str, Any]:
    assert found.scores is not None  # readers of predictions give them
    order = grouped_order(np.zeros_like(found.images), found.images, found.scores)
    labels = np.full((truth.num_images, _GUESSES), -1, np.int64)
    boxes = np.zeros((truth.num_images, _GUESSES, 4))
    known = np.full((truth.num_images, 4), np.nan)
    held = np.zeros((truth.num_images, truth.num_classes), bool)
    held[truth.objects.images, truth.objects.labels] = True
    images, classes = found.images[order], found.labels[order]
    corners = np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], axis=1)[order]
    keys = images * truth.num_classes + classes
    _, best = np.unique(keys, return_index=True)  # the first of each class of an image is the most confident
    best = np.sort(best)
    places = np.arange(len(best)) - np.searchsorted(images[best], images[best])
    inside = places < _GUESSES
    labels[images[best][inside], places[inside]] = classes[best][inside]
    boxes[images[best][inside], places[inside]] = corners[best][inside]
    of_true_class = np.flatnonzero(held[images, classes])
    known_images, first = np.unique(images[of_true_class], return_index=True)
    known[known_images] = corners[of_true_class[first]]
    return topk_localisation_error(labels, boxes, truth, known_boxes=known, ks=(1, _GUESSES))


def _map_scores(truth: Annotations, folder: Path, files: list[Path], tolerance: float | int) -> dict[str, Any]:
    found = _files_of(truth, folder, files)
    objects = truth.objects
    pairs = sorted(set(zip(objects.images.tolist(), objects.labels.tolist(), strict=True)))
    missing = next((pair for pair in pairs if pair not in found), None)
    if missing is not None:
        wanted = f"{truth.classes[missing[1]]}/{truth.image_ids[missing[0]]}"
        raise DataError(
            f"maps must cover every class of every image; got none called {wanted} (.npy, .png) in {folder}."
        )
    rows = {pair: row for row, pair in enumerate(pairs)}
    own = [rows[pair] for pair in zip(objects.images.tolist(), objects.labels.tolist(), strict=True)]
    each = Annotations.of(range(len(pairs)), ("object",), Objects.of(own, np.zeros(len(own), np.int64), objects.boxes))
    points = np.full((truth.num_images, truth.num_classes, 2), np.nan)
    peaks = np.full((truth.num_images, truth.num_classes), np.nan)
    for (image, label), path in found.items():
        values = _read_map(path, truth.image_sizes[image])
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        points[image, label], peaks[image, label] = (column + 0.5, row + 0.5), values[row, column]
    lowest = np.nanmin(peaks) if len(found) else 0.0
    maps = _Maps([found[pair] for pair in pairs], [truth.image_sizes[image] for image, _ in pairs])
    scores = max_box_accuracy(maps, each) | {"images": len({image for image, _ in pairs}), "maps": len(pairs)}
    scores["point_localisation"] = point_localisation(
        points, np.where(np.isnan(peaks), lowest - 1, peaks), truth, tolerance=tolerance
    )
    return scores


def _files_of(truth: Annotations, folder: Path, files: list[Path]) -> dict[tuple[int, int], Path]:
    """The map of each (image, class); one folder a class, or none where there is only one class."""
    images, classes = image_index(truth), class_index(truth)
    found: dict[tuple[int, int], Path] = {}
    for path in files:
        parts = path.relative_to(folder).with_suffix("").parts
        named = parts[0] if len(parts) > 1 else (truth.classes[0] if truth.num_classes == 1 else "")
        label = int(classes.find([named])[0])
        image = int(images.find(["/".join(parts[1:] or parts)])[0])
        if label < 0 or image < 0:
            what = f"class '{named}'" if label < 0 else f"image '{parts[-1]}'"
            raise DataError(f"maps must be called <class>/<image>.npy; got {path}, whose {what} is not in the truth.")
        if found.setdefault((image, label), path) != path:
            raise DataError(f"maps must be one for each class and image; got {found[image, label]} and {path}.")
    return found


def _read_map(path: Path, size: np.ndarray) -> np.ndarray:
    values = read_map(path)
    if size.all() and values.shape != tuple(size):
        wanted = f"{size[0]} x {size[1]}"
        raise DataError(f"map must be {wanted}, as its image; got {values.shape[0]} x {values.shape[1]} in {path}.")
    return values.astype(np.float64)


class _Maps(Sequence[np.ndarray]):
    """Maps that are read when they are asked for, so that memory holds a few."""

    def __init__(self, paths: list[Path], sizes: list[np.ndarray]) -> None:
        self.paths, self.sizes = paths, sizes

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return _Maps(self.paths[index], self.sizes[index])
        return _read_map(self.paths[index], self.sizes[index])
