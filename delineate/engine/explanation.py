"""Why precision is lost, and what scores are worth: what ``delineate score --errors`` adds, all of one overlap."""

from __future__ import annotations

from typing import Any

import numpy as np

from delineate.metrics.calibration import best_f1_thresholds, calibration_scores
from delineate.metrics.confusion import detection_confusion
from delineate.metrics.error_analysis import detection_errors
from delineate.ops.matching import Matches, Overlaps, match_objects
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

ERRORS_IOU = 0.5
"""The overlap of all figures here, whatever thresholds average precision was asked for."""


def explained_scores(
    truth: Annotations,
    predictions: Objects,
    overlaps: Overlaps,
    *,
    max_detections: int,
    matches: Matches | None = None,
    area_range: tuple[float | int, float | int] = (0.0, float("inf")),
) -> dict[str, Any]:
    """Errors, calibration and best thresholds at an overlap of 0.5, over objects of all areas.

    Args:
        truth: images, classes and true objects.
        predictions: with scores of any range.
        overlaps: how two objects are compared.
        max_detections: how many of each image and class are looked at.
        matches: of the same objects and limit, taken where they have the overlap 0.5 and all areas.
        area_range: the first of ``matches``.

    Returns:
        ``errors``, with the ``confusion`` matrix in it; ``calibration``, NaN with a ``note`` where scores leave 0 .. 1;
        ``best_f1``: for each name ``threshold``, ``f1``, ``precision`` and ``recall``. Each with its ``iou_threshold``.
    """
    at = {"iou_threshold": ERRORS_IOU}
    if matches is None or ERRORS_IOU not in matches.thresholds or not _holds_all(area_range, truth, predictions):
        matches = match_objects(
            truth,
            predictions,
            overlaps,
            iou_thresholds=[ERRORS_IOU],
            area_ranges={"all": (0.0, float("inf"))},
            max_detections=max_detections,
        )
    states = matches.states[0, matches.thresholds.index(ERRORS_IOU)]
    errors = detection_errors(
        truth, predictions, overlaps, foreground_threshold=ERRORS_IOU, max_detections=max_detections
    )
    confusion = detection_confusion(truth, predictions, overlaps, iou_threshold=ERRORS_IOU)
    best = best_f1_thresholds(matches.scores, states, matches.labels, matches.positives[:, 0])
    return {
        "errors": {
            **at,
            **errors,
            "confusion": {"classes": [*truth.classes, "background"], "matrix": confusion.tolist()},
        },
        "calibration": {**at, **_calibration(matches.scores, states)},
        "best_f1": {
            name: {**at, **{key: float(values[k]) for key, values in best.items()}}
            for k, name in enumerate(truth.classes)
        },
    }


def _holds_all(area_range: tuple[float | int, float | int], truth: Annotations, predictions: Objects) -> bool:
    """Whether no object lies outside the range."""
    areas = np.concatenate([truth.objects.areas, predictions.areas])
    return bool(((areas >= area_range[0]) & (areas <= area_range[1])).all())


def _calibration(scores: np.ndarray, states: np.ndarray) -> dict[str, Any]:
    """Calibration of detections; undefined, with the reason, where scores are no probabilities."""
    outside = scores[(scores < 0) | (scores > 1)]
    if len(outside) == 0:
        return calibration_scores(scores, states)
    note = f"scores must lie in 0 .. 1 to be calibrated; got {outside[0]:g}"
    return {**calibration_scores(outside[:0], states[:0]), "note": note}
