"""Scores of saliency maps against object masks: MAE, F-, weighted F-, structure and enhanced-alignment measure.

The numbers are those of PySODMetrics, which the field's tables use. Its conventions, where papers leave a choice:

* a map is first stretched so that its smallest value is 0 and its largest 1, unless it is constant;
* thresholds are the 256 levels of the stretched map times 255, rounded down; curves are averaged over images first, and
  ``max_f`` and ``max_e`` are the maxima of these mean curves, not means of maxima;
* the adaptive threshold is twice the map's mean, at most 1;
* an image without an object counts like any other: precision, recall, F and weighted F are 0 whatever is predicted, the
  structure measure is 1 - mean of the map, and the E-measure the share of pixels below the threshold. Other tools leave
  such images out of the F-measures; on data with many of them compare only numbers from one tool;
* an image that is all object: the structure measure is the mean of the map, and the E-measure the share of pixels at or
  above the threshold;
* the structure measure is 0 where it has nothing to compute a variance of: one pixel of object, one of background, or a
  quadrant about the object's centroid with fewer than two pixels (as when the centroid lies in the last column);
* a quadrant in which both the map and the mask are constant is a perfect match, unless the map's mean differs from its
  values by rounding, which makes it none;
* the E-measure is divided by the number of pixels less one, so a perfect map has a little more than 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from delineate.checks import require
from delineate.kernels.saliency import line_counts, passing_counts, quadrant_moments, unit_range, weighted_errors

BETA_SQUARED = 0.3
"""The weight of precision against recall in the F-measure, by convention since Achanta et al., CVPR 2009."""

THRESHOLDS = tuple(range(255, -1, -1))
"""The levels of the curves: a pixel is object where its stretched value times 255, rounded down, is at least that."""

_TINY = float(np.spacing(1.0))  # added to denominators, as in the reference


@dataclass(frozen=True)
class ImageSaliency:
    """The saliency measures of one image; fractions of 1, curves in the order of :data:`THRESHOLDS`."""

    mae: float
    adaptive_f: float
    weighted_f: float
    s_measure: float
    adaptive_e: float
    precision: Float64[np.ndarray, " 256"]
    recall: Float64[np.ndarray, " 256"]
    f_curve: Float64[np.ndarray, " 256"]
    e_curve: Float64[np.ndarray, " 256"]


_Moments: TypeAlias = tuple[float, float, float]  # the number of values, their mean, their squared differences from it
NUMBERS = ("mae", "adaptive_f", "weighted_f", "s_measure", "adaptive_e")
CURVES = ("precision", "recall", "f_curve", "e_curve")


def image_saliency(
    prediction: Float[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"], target: Bool[np.ndarray, "H W"]
) -> ImageSaliency:
    """Every saliency measure of one map.

    Source: MAE: Perazzi et al., "Saliency Filters", CVPR 2012. F-measure: Achanta et al., "Frequency-tuned Salient
    Region Detection", CVPR 2009. Weighted F: Margolin, Zelnik-Manor, Tal, "How to Evaluate Foreground Maps?", CVPR
    2014, with beta 1. S-measure: Fan et al., "Structure-measure", ICCV 2017, with alpha 0.5. E-measure: Fan et al.,
    "Enhanced-alignment Measure for Binary Foreground Map Evaluation", IJCAI 2018.
    Differs: nothing from PySODMetrics 1.3.0 and later; the module says what it decides.

    Args:
        prediction: saliency from 0 to 1, or bytes from 0 to 255. Floats are used as they are: for the numbers of map
            files, which are rounded to bytes, pass the bytes.
        target: the object.

    Returns:
        The numbers and curves of this image; none is NaN, see the module for images without an object.

    Raises:
        ArgumentError: on shapes that differ, fewer than 2 pixels, or values outside 0 to 1.

    Example:
        >>> target = np.zeros((6, 8), bool)
        >>> target[1:4, 2:6] = True
        >>> scores = image_saliency(np.roll(target, 1, axis=1) * 0.8, target)
        >>> round(scores.mae, 6), round(scores.adaptive_f, 6), round(scores.s_measure, 6)
        (0.125, 0.75, 0.726739)
    """
    require(
        target.ndim == 2 and target.size > 1 and prediction.shape == target.shape,
        "prediction",
        f"be one map (H, W) of the target's shape {target.shape}, of at least 2 pixels",
        prediction.shape,
    )
    require(target.dtype == np.bool_, "target", "be bool", target.dtype, "Pass mask > 128 for a grey mask.")
    if prediction.dtype != np.uint8:
        require_fractions(prediction.min(), prediction.max())
    values = unit_range(prediction)
    threshold = min(2 * values.mean(), 1.0)  # NumPy's mean: a pixel may lie on the threshold
    counts = passing_counts(values, target, threshold)
    precision, recall, f_measure = _precision_recall(counts)
    e_measure = _enhanced_alignment(counts)
    row_counts, column_counts = line_counts(target)
    pixels = int(row_counts.sum())
    # the reference adds 1 to the rounded centroid, whose row and column belong to the upper left quadrant
    row, column = (
        round(int(lines @ np.arange(len(lines))) / max(pixels, 1)) + 1 for lines in (row_counts, column_counts)
    )
    moments = quadrant_moments(values, target, (row, column))
    sums = moments[..., 0] * moments[..., 1]
    error = sums[..., 0].sum() + pixels - sums[..., 1].sum()
    return ImageSaliency(
        mae=float(error / target.size),
        adaptive_f=float(f_measure[-1]),
        weighted_f=_weighted_f(values, target, pixels),
        s_measure=_structure(moments, values, (row, column)),
        adaptive_e=float(e_measure[-1]),
        precision=precision[:-1],
        recall=recall[:-1],
        f_curve=f_measure[:-1],
        e_curve=e_measure[:-1],
    )


def _precision_recall(counts: Int64[np.ndarray, "2 T"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F-measure at each threshold; 0 where nothing is predicted or nothing is there."""
    passed, correct = counts.sum(axis=0), counts[1]
    precision = correct / np.maximum(passed, 1)
    recall = correct / max(int(correct[255]), 1)  # at level 0 every pixel passes
    numerator = (1 + BETA_SQUARED) * precision * recall
    return precision, recall, numerator / np.where(numerator == 0, 1, BETA_SQUARED * precision + recall)


def _enhanced_alignment(counts: Int64[np.ndarray, "2 T"]) -> Float64[np.ndarray, " T"]:
    """The E-measure at each threshold, from the four kinds of pixels: (predicted, true), each yes or no."""
    (background, pixels), passed = counts[:, 255], counts.sum(axis=0)
    total = background + pixels
    if pixels == 0:
        return (total - passed) / (total - 1 + _TINY)
    if background == 0:
        return passed / (total - 1 + _TINY)
    kinds = np.stack([counts[1], counts[0], pixels - counts[1], background - counts[0]])
    predicted = np.array([[1], [1], [0], [0]]) - passed / total
    true = np.array([[1], [0], [1], [0]]) - pixels / total
    alignment = 2 * predicted * true / (predicted**2 + true**2 + _TINY)
    return ((alignment + 1) ** 2 / 4 * kinds).sum(axis=0) / (total - 1 + _TINY)


def _weighted_f(values: np.ndarray, target: np.ndarray, pixels: int) -> float:
    if pixels == 0:
        return 0.0
    background, missed = weighted_errors(values, target)
    correct = pixels - missed
    recall, precision = 1 - missed / pixels, correct / (correct + background + _TINY)
    return float(2 * recall * precision / (recall + precision + _TINY))


def _structure(moments: np.ndarray, values: np.ndarray, corner: tuple[int, int]) -> float:
    """The S-measure, alpha 0.5, from :func:`~delineate.kernels.saliency.quadrant_moments`."""
    quadrants = [[tuple(region) for region in quadrant] for quadrant in moments.reshape(4, 2, 3).tolist()]
    background, background_mean, background_scatter = _merged([quadrant[0] for quadrant in quadrants])
    pixels, pixels_mean, pixels_scatter = _merged([quadrant[1] for quadrant in quadrants])
    if pixels == 0:
        return 1 - background_mean
    if background == 0:
        return pixels_mean
    sizes = [quadrant[0][0] + quadrant[1][0] for quadrant in quadrants]
    if min(pixels, background, *sizes) < 2:
        return 0.0
    score = pixels * _contrast(pixels, pixels_mean, pixels_scatter)
    score += background * _contrast(background, 1 - background_mean, background_scatter)
    for index, quadrant in enumerate(quadrants):
        rows = slice(corner[0], None) if index // 2 else slice(None, corner[0])
        columns = slice(corner[1], None) if index % 2 else slice(None, corner[1])
        score += sizes[index] * _similarity(quadrant, values[rows, columns])
    return max(0.0, 0.5 * score / (pixels + background))


def _merged(parts: list[_Moments]) -> _Moments:
    """Count, mean and scatter of disjoint parts together; a mean of 0 where nothing is in them."""
    count, origin, _ = max(parts)  # about a mean that occurs, so that parts which are all alike keep it exactly
    if count == 0:
        return 0.0, 0.0, 0.0
    count = sum(part[0] for part in parts)
    mean = origin + sum(size * (average - origin) for size, average, _ in parts if size) / count
    return count, mean, sum(scatter + size * (average - mean) ** 2 for size, average, scatter in parts if size)


def _contrast(count: float, mean: float, scatter: float) -> float:
    """How near to 1 the values of one region are, and how alike."""
    return 2 * mean / (mean**2 + 1 + math.sqrt(max(scatter, 0.0) / (count - 1)) + _TINY)


def _similarity(quadrant: list[_Moments], values: np.ndarray) -> float:
    """SSIM of the map and the mask in one quadrant."""
    (background, _, _), (pixels, pixels_mean, _) = quadrant
    count, mean, scatter = _merged(quadrant)
    if background == 0 or pixels == 0:  # the mask is constant: a match only of a constant map
        return float(scatter == 0 and values.mean() == values[0, 0])
    share = pixels / count
    variances = (max(scatter, 0.0) + pixels * background / count) / (count - 1)
    covariance = pixels * (pixels_mean - mean) / (count - 1)
    return 4 * mean * share * covariance / ((mean**2 + share**2) * variances + _TINY)


def saliency_scores(images: Iterable[ImageSaliency]) -> dict[str, Any]:
    """The measures of a data set: means over its images.

    Args:
        images: results of :func:`image_saliency`.

    Returns:
        ``mae``; ``max_f``, ``mean_f`` and ``adaptive_f``; ``weighted_f``; ``s_measure``; ``max_e``, ``mean_e`` and
        ``adaptive_e``; ``precision``, ``recall``, ``f_curve`` and ``e_curve``, lists of 256 in the order of
        ``thresholds`` (255 to 0); ``images``, their number. Fractions of 1; NaN when there is no image.

    Example:
        >>> target = np.eye(4, dtype=bool)
        >>> scores = saliency_scores([image_saliency(target * 0.5, target), image_saliency(target * 0.0, target)])
        >>> scores["mae"], scores["max_f"]
        (0.125, 0.5)
    """
    numbers, curves, count = np.zeros(len(NUMBERS)), np.zeros((len(CURVES), len(THRESHOLDS))), 0
    for image in images:
        numbers += [getattr(image, name) for name in NUMBERS]
        curves += [getattr(image, name) for name in CURVES]
        count += 1
    return averages_of_sums(numbers, curves, count)


def averages_of_sums(numbers: np.ndarray, curves: np.ndarray, images: int) -> dict[str, Any]:
    """The dictionary of :func:`saliency_scores` from sums over images."""
    share = 1 / images if images else float("nan")
    mean = dict(zip(NUMBERS, (numbers * share).tolist(), strict=True))
    curve = dict(zip(CURVES, curves * share, strict=True))
    return {
        "mae": mean["mae"],
        "max_f": float(curve["f_curve"].max()),
        "mean_f": float(curve["f_curve"].mean()),
        "adaptive_f": mean["adaptive_f"],
        "weighted_f": mean["weighted_f"],
        "s_measure": mean["s_measure"],
        "max_e": float(curve["e_curve"].max()),
        "mean_e": float(curve["e_curve"].mean()),
        "adaptive_e": mean["adaptive_e"],
        **{name: values.tolist() for name, values in curve.items()},
        "thresholds": list(THRESHOLDS),
        "images": images,
    }


def require_fractions(low: Any, high: Any) -> None:
    """Raise ArgumentError unless the least and the largest value lie in 0 .. 1."""
    wrong = high if 0 <= low <= 1 else low
    advice = "Pass logits.sigmoid() rather than logits, and maps of 0 to 255 as uint8."
    require(bool(low >= 0 and high <= 1), "prediction", "hold values from 0 to 1, or be uint8", wrong, advice)
