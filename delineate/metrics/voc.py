"""Average precision of boxes as Pascal VOC defines it.

Detections of a class are taken in order of falling score, equal scores in the order given. Each looks at the true box
of its image that it overlaps most. If they overlap by at least the threshold, it is right, or a duplicate (wrong) when
that box was found before; on a difficult box it does not count. The devkit of the challenge asks for an IoU of at least
the threshold, some of its translations for more than it; here the devkit is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from delineate.checks import require
from delineate.kernels.grouping import grouped_order, merged_groups
from delineate.kernels.voc import match_voc
from delineate.metrics.ranking import ranked_scores
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def voc_scores(
    truth: Annotations,
    predictions: Objects,
    *,
    iou_thresholds: Sequence[float | int] = (0.5,),
    inclusive_pixels: bool = True,
    curves: bool = False,
) -> dict[str, Any]:
    """Pascal VOC's average precision of boxes, of both definitions.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2; the
    challenge's development kit, ``VOCevaldet.m``.
    Differs: nothing; several thresholds at once, and their mean, are additions.

    Args:
        truth: difficult objects are ``ignored``; a crowd is taken for one.
        predictions: with scores.
        iou_thresholds: the least IoU of a detection that is right, above 0.
        inclusive_pixels: corners name the first and the last pixel of a box, as in VOC's files, so that its width is
            xmax - xmin + 1; False for boxes whose corners are edges.
        curves: also give precision and recall after each detection.

    Returns:
        ``map`` and ``map_11_point``, means over classes and thresholds; ``per_threshold``: the same for each threshold
        ("0.5"); ``per_class``: for each name ``ap``, ``ap_11_point``, ``truths`` (those that count), ``detections`` and
        ``per_threshold``: ``ap``, ``ap_11_point``, ``true_positives``, ``false_positives``, ``recall``; ``truths`` and
        ``detections`` of all; with ``curves``, ``curves``: for each name and threshold ``scores``, ``precision``,
        ``recall``. Fractions of 1; a class without truths that count is NaN and left out of means.

    Raises:
        ArgumentError: on predictions without scores or of an unknown image or class; on thresholds outside 0 .. 1 or
            given twice.

    Example:
        >>> truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [[0, 0, 9, 9]]))
        >>> found = Objects.of([0, 0], [0, 0], [[0, 0, 9, 8], [50, 50, 4, 4]], scores=[0.8, 0.9])
        >>> scores = voc_scores(truth, found)
        >>> scores["map"], scores["map_11_point"]
        (0.5, 0.5)
    """
    thresholds = checked_thresholds(iou_thresholds)
    scores = predictions.scores
    require(scores is not None, "predictions", "have scores", "none")
    assert scores is not None
    for name, limit in (("images", truth.num_images), ("labels", truth.num_classes)):
        column = getattr(predictions, name)
        most = int(column.max()) if len(column) else -1
        require(most < limit, f"predictions.{name}", f"be below {limit}, as in truth", most)
    objects = truth.objects
    difficult = objects.ignored | objects.crowd
    outcomes = match_columns(
        BoxColumns(predictions.images, predictions.labels, corners(predictions.boxes), scores, None),
        BoxColumns(objects.images, objects.labels, corners(objects.boxes), None, difficult),
        thresholds,
        inclusive_pixels,
    )
    positives = np.bincount(objects.labels[~difficult], minlength=truth.num_classes)
    return ranked_scores(predictions.labels, scores, outcomes, positives, truth.classes, thresholds, curves=curves)


@dataclass(frozen=True)
class BoxColumns:
    """Boxes of several images as columns; scores of predicted ones, difficulty of true ones."""

    images: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    corners: Float64[np.ndarray, "N 4"]
    scores: Float64[np.ndarray, " N"] | None
    difficult: Bool[np.ndarray, " N"] | None


def corners(boxes: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, "N 4"]:
    """The xyxy corners of x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def checked_thresholds(thresholds: Sequence[float | int]) -> tuple[float, ...]:
    """IoU thresholds, all different, above 0 and at most 1; raises ArgumentError otherwise."""
    values = tuple(float(threshold) for threshold in thresholds)
    sound = len(set(values)) == len(values) > 0 and all(0 < value <= 1 for value in values)
    require(sound, "iou_thresholds", "be different numbers above 0 and at most 1", values)
    return values


def match_columns(
    found: BoxColumns, truth: BoxColumns, thresholds: Sequence[float], inclusive_pixels: bool
) -> UInt8[np.ndarray, "N T"]:
    """What became of every detection at every threshold."""
    most = 1 + max(int(images.max(initial=0)) for images in (found.images, truth.images))
    order, truth_order = (grouped_order(side.labels, side.images, side.scores) for side in (found, truth))
    keys = (side.labels[rows] * most + side.images[rows] for side, rows in ((found, order), (truth, truth_order)))
    _, starts, truth_starts = merged_groups(*keys)
    assert truth.difficult is not None
    return match_voc(
        found.corners,
        truth.corners,
        truth.difficult,
        order,
        starts,
        truth_order,
        truth_starts,
        np.asarray(thresholds),
        1.0 if inclusive_pixels else 0.0,
    )
