"""Average precision and recall of boxes, masks and keypoints, as COCO defines them.

The numbers equal pycocotools'. What is undefined there (-1) is NaN here: the figures of a class without true objects,
of an area range in which no truth lies, and of a threshold that was not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64

from delineate.checks import require
from delineate.kernels.average_precision import accumulate
from delineate.metrics.averages import defined_mean
from delineate.ops.matching import (
    COCO_IOU_THRESHOLDS,
    COCO_MAX_DETECTIONS,
    COCO_SIGMAS,
    Matches,
    Overlaps,
    boundary_overlaps,
    box_overlaps,
    keypoint_overlaps,
    mask_overlaps,
    match_objects,
)
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

KEYPOINT_MAX_DETECTIONS = (20,)
KEYPOINT_AREA_RANGES = {"all": (0.0, 1e10), "medium": (1024.0, 9216.0), "large": (9216.0, 1e10)}
RECALL_THRESHOLDS = tuple(np.linspace(0.0, 1.0, 101).tolist())


@dataclass(frozen=True, eq=False)
class AveragePrecision:
    """Interpolated precision and recall of every class, area range and threshold.

    Args:
        precision: the best precision at each recall or beyond, NaN for a class without truths.
        scores: the confidence at which that recall is reached, 0 where it is not.
        recall: of all detections, for each limit of detections.
        max_detections: those limits, per image and class, ascending.
        recall_thresholds: the recalls of ``precision``.
        matches: what it was computed from.
    """

    precision: Float64[np.ndarray, "A T K R"]
    scores: Float64[np.ndarray, "A T K R"]
    recall: Float64[np.ndarray, "A T K D"]
    max_detections: tuple[int, ...]
    recall_thresholds: tuple[float, ...]
    matches: Matches


def average_precision(
    matches: Matches,
    *,
    max_detections: Sequence[int] = COCO_MAX_DETECTIONS,
    recall_thresholds: Sequence[float | int] = RECALL_THRESHOLDS,
) -> AveragePrecision:
    """Precision and recall of matched detections.

    Source: the COCO API, ``COCOeval.accumulate``.
    Differs: precision only for the largest limit of detections, the one its figures use; NaN for -1; the score at
    recall 0 is that of the first true positive, there of the first detection.

    Args:
        matches: from :func:`delineate.ops.matching.match_objects`.
        max_detections: limits per image and class for which recall is computed.
        recall_thresholds: ascending, from 0 to 1.

    Raises:
        ArgumentError: on limits that are not positive or recalls that do not ascend.
    """
    limits = tuple(sorted({int(limit) for limit in max_detections}))
    require(bool(limits) and limits[0] > 0, "max_detections", "be at least 1", max_detections)
    recalls = np.asarray(recall_thresholds, np.float64)
    require(bool((np.diff(recalls) >= 0).all()), "recall_thresholds", "ascend", recall_thresholds)
    precision, scores, recall = accumulate(
        matches.class_starts,
        matches.scores,
        matches.ranks,
        matches.states,
        matches.positives,
        recalls,
        np.asarray(limits, np.int64),
    )
    return AveragePrecision(precision, scores, recall, limits, tuple(recalls.tolist()), matches)


def detection_scores(
    truth: Annotations,
    predictions: Objects,
    overlaps: Overlaps = box_overlaps,
    *,
    iou_thresholds: Sequence[float | int] = COCO_IOU_THRESHOLDS,
    area_ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
    max_detections: Sequence[int] = COCO_MAX_DETECTIONS,
    recall_thresholds: Sequence[float | int] = RECALL_THRESHOLDS,
) -> dict[str, Any]:
    """COCO's figures for any way to compare two objects; see :func:`box_scores` for their names.

    Raises:
        ArgumentError: as :func:`delineate.ops.matching.match_objects` does.
    """
    matches = match_objects(
        truth,
        predictions,
        overlaps,
        iou_thresholds=iou_thresholds,
        area_ranges=area_ranges,
        max_detections=max(max_detections, default=0),
    )
    return summarise(
        average_precision(matches, max_detections=max_detections, recall_thresholds=recall_thresholds),
        truth.classes,
        truth.num_images,
    )


def summarise(result: AveragePrecision, class_names: Sequence[str], images: int) -> dict[str, Any]:
    """Every figure of an :class:`AveragePrecision`, by name; see :func:`box_scores`."""
    matches = result.matches
    detections = np.bincount(matches.labels, minlength=len(class_names))
    scores = _figures(result, slice(None))
    scores["per_class"] = {
        name: {
            **_figures(result, slice(k, k + 1)),
            "truths": int(matches.positives[k, 0]),
            "detections": int(detections[k]),
        }
        for k, name in enumerate(class_names)
    }
    scores["images"] = images
    scores["truths"] = int(matches.positives[:, 0].sum())
    scores["detections"] = len(matches.detections)
    scores["iou_thresholds"] = list(matches.thresholds)
    scores["max_detections"] = list(result.max_detections)
    return scores


def precision_curves(result: AveragePrecision, class_names: Sequence[str]) -> dict[str, Any]:
    """Precision at each recall, in the first area range.

    Returns:
        ``recalls``; ``precision``: for each threshold ("0.5") the mean over classes; ``per_class``: for each name the
        mean over thresholds. NaN for classes without truths.
    """
    precision = result.precision[0]  # (T, K, R)
    defined = ~np.isnan(precision[0, :, 0])
    nothing = np.full(precision.shape[2], np.nan)
    return {
        "recalls": list(result.recall_thresholds),
        "precision": {
            f"{threshold:g}": (precision[t, defined].mean(axis=0) if defined.any() else nothing).tolist()
            for t, threshold in enumerate(result.matches.thresholds)
        },
        "per_class": {name: precision[:, k].mean(axis=0).tolist() for k, name in enumerate(class_names)},
    }


def box_scores(truth: Annotations, predictions: Objects, **options: Any) -> dict[str, Any]:
    """COCO's figures for boxes.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; the COCO API, ``COCOeval``.
    Differs: nothing in the figures. pycocotools never matches the true object whose id is 0; here it is one like any.

    Args:
        truth: images, classes and true objects.
        predictions: with scores.
        options: ``iou_thresholds``, ``area_ranges``, ``max_detections`` and ``recall_thresholds``; COCO's by default.

    Returns:
        ``ap``, the mean over thresholds and classes; ``ap50`` and ``ap75`` at one threshold; ``ap_small`` .. for each
        area range; ``ar1`` .. ``ar100``, the recall with at most so many detections of an image and class;
        ``ar_iou50`` and ``ar_iou75``, with the most of them at one threshold; ``ar_small`` ..; ``per_class``: the same
        for each name, with the numbers of ``truths`` and ``detections``; ``images``, ``truths``, ``detections``.
        Fractions of 1, NaN where there is no truth.

    Raises:
        ArgumentError: as :func:`delineate.ops.matching.match_objects` does.

    Example:
        >>> truth = Annotations.of((1,), ("cell",), Objects.of([0], [0], [[0, 0, 10, 10]]))
        >>> found = Objects.of([0, 0], [0, 0], [[0, 0, 10, 9], [50, 50, 4, 4]], scores=[0.8, 0.9])
        >>> scores = box_scores(truth, found)
        >>> round(scores["ap"], 6), round(scores["ap50"], 6), scores["ar1"], scores["ap_large"]
        (0.45, 0.5, 0.0, nan)
    """
    return detection_scores(truth, predictions, box_overlaps, **options)


def mask_scores(truth: Annotations, predictions: Objects, **options: Any) -> dict[str, Any]:
    """COCO's figures for masks, named as in :func:`box_scores`.

    Source: as :func:`box_scores`.
    Differs: the area of a prediction is always that of its mask; pycocotools takes its box where a result has both.

    Args:
        truth: with masks.
        predictions: with masks and scores.
        options: as :func:`box_scores`.

    Returns:
        The figures.

    Raises:
        ArgumentError: also when there are no masks.
    """
    return detection_scores(truth, predictions, mask_overlaps, **options)


def boundary_scores(
    truth: Annotations, predictions: Objects, *, ratio: float | int = 0.02, **options: Any
) -> dict[str, Any]:
    """Boundary AP: COCO's figures where a mask must also match along its outline, named as in :func:`box_scores`.

    Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.
    Differs: nothing; the overlap is the smaller of the IoU of the masks and that of their boundaries.

    Args:
        truth: with masks.
        predictions: with masks and scores.
        ratio: width of the boundary as a share of the image's diagonal.
        options: as :func:`box_scores`.

    Returns:
        The figures.

    Raises:
        ArgumentError: also when there are no masks.
    """
    return detection_scores(truth, predictions, partial(boundary_overlaps, ratio=ratio), **options)


def keypoint_scores(
    truth: Annotations, predictions: Objects, *, sigmas: Sequence[float | int] = COCO_SIGMAS, **options: Any
) -> dict[str, Any]:
    """COCO's figures for keypoints, named as in :func:`box_scores`.

    At most 20 persons an image count, and there are no small ones (COCO does not label their keypoints).

    Source: the COCO API, ``COCOeval.computeOks``.
    Differs: the area of a prediction is always that of the box around its keypoints; pycocotools takes its box where a
    result has both.

    Args:
        truth: with keypoints.
        predictions: with keypoints and scores.
        sigmas: the annotators' deviation for each keypoint; COCO's 17 by default.
        options: as :func:`box_scores`.

    Returns:
        The figures; overlap is object keypoint similarity.

    Raises:
        ArgumentError: also when the numbers of keypoints and sigmas differ.
    """
    options = {"area_ranges": KEYPOINT_AREA_RANGES, "max_detections": KEYPOINT_MAX_DETECTIONS, **options}
    return detection_scores(truth, predictions, keypoint_overlaps(sigmas), **options)


def _figures(result: AveragePrecision, classes: slice) -> dict[str, Any]:
    matches = result.matches
    precision, recall = result.precision[:, :, classes], result.recall[:, :, classes]
    near = {
        round(100 * threshold): np.flatnonzero(np.abs(np.subtract(matches.thresholds, threshold)) < 1e-9)
        for threshold in (0.5, 0.75)
    }
    figures: dict[str, Any] = {"ap": defined_mean(precision[0])}
    for percent, places in near.items():
        figures[f"ap{percent}"] = defined_mean(precision[0, places])
    for a, name in enumerate(matches.areas[1:], start=1):
        figures[f"ap_{name}"] = defined_mean(precision[a])
    for m, limit in enumerate(result.max_detections):
        figures[f"ar{limit}"] = defined_mean(recall[0, :, :, m])
    for percent, places in near.items():
        figures[f"ar_iou{percent}"] = defined_mean(recall[0, places, :, -1])
    for a, name in enumerate(matches.areas[1:], start=1):
        figures[f"ar_{name}"] = defined_mean(recall[a, :, :, -1])
    return figures
