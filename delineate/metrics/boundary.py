"""Boundary F1: how well the outlines of the classes are met, which areas hardly show."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Integer

from delineate.checks import require
from delineate.kernels.boundary import boundary_counts

DIAGONAL_SHARE = 0.0075


def boundary_tolerance(height: int, width: int) -> float:
    """The usual tolerance: 0.75 % of the image's diagonal, in pixels, not rounded.

    Example:
        >>> boundary_tolerance(360, 480)
        4.5
    """
    return DIAGONAL_SHARE * math.hypot(height, width)


def boundary_f1(
    prediction: Integer[np.ndarray, "H W"],
    target: Integer[np.ndarray, "H W"],
    *,
    num_classes: int,
    ignore_index: int = 255,
    tolerance: float | int | None = None,
) -> Float64[np.ndarray, " K"]:
    """The boundary F1 score of each class in one image; over images, average each class where it is defined.

    A pixel is on the boundary of its class when one of its four neighbours has another class; the image's frame is no
    boundary. Precision is the share of predicted boundary pixels with a target boundary pixel of the class within the
    tolerance (Euclidean, inclusive), recall the share of target boundary pixels met by the prediction.

    Source: Csurka, Larlus, Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC 2013.
    Differs: the paper has no word on pixels without a label. Here the truth has no boundary with them, and a predicted
    boundary pixel within the tolerance of one is left out of the precision, since what it would match may lie there;
    if that leaves none, the score is the recall.

    Args:
        prediction: labels of one image; a label outside the classes is no class.
        target: true labels; outside the classes, or ``ignore_index``: unknown.
        num_classes: length of the result.
        ignore_index: the target label to look away from.
        tolerance: in pixels; :func:`boundary_tolerance` of the image when None.

    Returns:
        0 to 1 for each class, NaN where neither map has a boundary of the class that counts.

    Raises:
        ArgumentError: on shapes that differ or a negative tolerance.

    Example:
        >>> target = np.zeros((8, 8), int)
        >>> target[:, 4:] = 1
        >>> boundary_f1(np.roll(target, 1, axis=1), target, num_classes=3, tolerance=1)
        array([0.66666667, 0.66666667,        nan])
    """
    require(
        prediction.ndim == 2 and prediction.shape == target.shape,
        "prediction",
        f"be labels (H, W) of the target's shape {target.shape}",
        prediction.shape,
    )
    if tolerance is None:
        tolerance = boundary_tolerance(*target.shape)
    require(tolerance >= 0, "tolerance", "be at least 0 pixels", tolerance)
    counts = boundary_counts(target, prediction, num_classes, ignore_index, tolerance)
    scores = np.full(num_classes, np.nan)
    for k, (truth, truth_met, predicted, predicted_met) in enumerate(counts.tolist()):
        if truth and predicted:
            precision, recall = predicted_met / predicted, truth_met / truth
            scores[k] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        elif truth:
            scores[k] = truth_met / truth
        elif predicted:
            scores[k] = 0.0
    return scores
