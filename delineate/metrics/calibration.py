"""Whether scores mean what they say: calibration of detections, and the score threshold that serves each class best."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from delineate.checks import require
from delineate.kernels.matching import FALSE, IGNORED, TRUE


def calibration_scores(
    scores: Float64[np.ndarray, " N"],
    states: Integer[np.ndarray, " N"] | Bool[np.ndarray, " N"],
    *,
    num_bins: int = 15,
    score_threshold: float | int = 0.0,
) -> dict[str, Any]:
    """How far the scores of detections are from the precision that they promise.

    Source: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, eqs. 3 and 5: bins
    of equal width, open at the lower end; for detections Kuppers, Kronenberger, Shantia, Haselhoff, "Multivariate
    Confidence Calibration for Object Detection", CVPR workshops 2020: precision in place of accuracy, in the form that
    depends on the confidence alone.
    Differs: the first bin holds a score of 0 as well.

    Args:
        scores: in 0 .. 1.
        states: 0 false positive, 1 true positive, 2 ignored, which does not count.
        num_bins: bins of equal width.
        score_threshold: detections below it do not count. Most detections of a full list have scores near 0 and would
            outweigh the others.

    Returns:
        ``expected_calibration_error``, the mean distance of score and precision over all detections, bin by bin;
        ``max_calibration_error``, the largest of any bin; ``bins``: for each from the lowest ``lower`` and ``upper``
        end, ``count``, ``mean_score`` and ``precision``. Fractions of 1; NaN for bins without detections, and for both
        errors when nothing is counted.

    Raises:
        ArgumentError: on scores outside 0 .. 1, columns of different lengths, unknown states, or no bins.

    Example:
        >>> scores = calibration_scores(np.array([0.9, 0.7, 0.4, 0.1]), np.array([1, 0, 1, 0]), num_bins=2)
        >>> round(scores["expected_calibration_error"], 6), round(scores["max_calibration_error"], 6)
        (0.275, 0.3)
    """
    require_bins(num_bins)
    return calibration_of_sums(*bin_sums(scores, states, num_bins, score_threshold))


def best_f1_thresholds(
    scores: Float64[np.ndarray, " N"],
    states: Integer[np.ndarray, " N"] | Bool[np.ndarray, " N"],
    labels: Integer[np.ndarray, " N"],
    positives: Integer[np.ndarray, " K"],
) -> dict[str, Float64[np.ndarray, " K"]]:
    """For each class the score threshold, reached by equal scores, at which F1 is largest.

    Source: van Rijsbergen, "Information Retrieval", 2nd edition, 1979, chapter 7, with equal weights.
    Differs: nothing.

    Args:
        scores: of any range.
        states: 0 false positive, 1 true positive, 2 ignored, which does not count.
        labels: class of each detection.
        positives: how many truths there are, for each class.

    Returns:
        ``threshold``, ``f1``, ``precision`` and ``recall`` at it, each ``(K,)``. Of thresholds with the same F1 the
        highest. NaN for a class without truths; with truths but no detections F1 and recall are 0, the rest NaN.

    Raises:
        ArgumentError: on columns of different lengths, unknown states, or labels outside the classes.

    Example:
        >>> best = best_f1_thresholds(
        ...     np.array([0.9, 0.8, 0.6, 0.5]), np.array([1, 0, 1, 0]), np.zeros(4, int), np.array([2])
        ... )
        >>> best["threshold"].tolist(), best["f1"].tolist()
        ([0.6], [0.8])
    """
    _require_columns(scores, states)
    require(len(labels) == len(scores), "labels", f"hold one class for each of {len(scores)} scores", len(labels))
    classes = len(positives)
    outside = labels[(labels < 0) | (labels >= classes)]
    require(len(outside) == 0, "labels", f"lie in 0 .. {classes - 1}, the classes of positives", outside[:1].sum())
    counted = np.flatnonzero(states != IGNORED)
    order = counted[np.lexsort((-scores[counted], labels[counted]))]
    score, label, hit = scores[order], labels[order], states[order] == TRUE
    starts = np.searchsorted(label, np.arange(classes + 1))
    total = np.concatenate([[0], np.cumsum(hit)])
    hits = total[1:] - total[starts[label]]
    chosen = np.arange(1, len(order) + 1) - starts[label]
    last = np.ones(len(order), bool)  # detections of one score come together
    last[:-1] = (score[1:] != score[:-1]) | (label[1:] != label[:-1])
    f1 = np.where(last, 2 * hits / np.maximum(chosen + positives[label], 1), -1.0)

    best = {name: np.full(classes, np.nan) for name in ("threshold", "f1", "precision", "recall")}
    for k in np.flatnonzero(np.asarray(positives) > 0):
        first, behind = starts[k], starts[k + 1]
        best["f1"][k] = best["recall"][k] = 0.0
        if first < behind:
            top = first + int(np.argmax(f1[first:behind]))
            best["threshold"][k], best["f1"][k] = score[top], f1[top]
            best["precision"][k], best["recall"][k] = hits[top] / chosen[top], hits[top] / positives[k]
    return best


def bin_sums(
    scores: Float64[np.ndarray, " N"],
    states: Integer[np.ndarray, " N"] | Bool[np.ndarray, " N"],
    num_bins: int,
    score_threshold: float | int,
) -> tuple[Int64[np.ndarray, " B"], Float64[np.ndarray, " B"], Int64[np.ndarray, " B"]]:
    """Of each bin the detections, the sum of their scores, and the true positives."""
    _require_columns(scores, states)
    outside = scores[~((scores >= 0) & (scores <= 1))]  # NaN among them
    require(len(outside) == 0, "scores", "lie in 0 .. 1", outside[:1].sum(), "If they are logits, pass their sigmoid.")
    counted = (states != IGNORED) & (scores >= score_threshold)
    scores, states = scores[counted], states[counted]
    bins = np.searchsorted(_edges(num_bins)[1:-1], scores, side="left")  # an edge belongs to the bin below it
    return (
        np.bincount(bins, minlength=num_bins).astype(np.int64),
        np.bincount(bins, weights=scores, minlength=num_bins).astype(np.float64),
        np.bincount(bins[states == TRUE], minlength=num_bins).astype(np.int64),
    )


def calibration_of_sums(
    counts: Int64[np.ndarray, " B"], score_sums: Float64[np.ndarray, " B"], hits: Int64[np.ndarray, " B"]
) -> dict[str, Any]:
    """The figures of :func:`calibration_scores` from the sums of :func:`bin_sums`."""
    filled, edges = counts > 0, _edges(len(counts))
    undefined = np.full(len(counts), np.nan)
    mean_score = np.divide(score_sums, counts, out=undefined.copy(), where=filled)
    precision = np.divide(hits, counts, out=undefined, where=filled)
    gaps = np.abs(mean_score - precision)[filled]
    return {
        "expected_calibration_error": float((gaps * counts[filled]).sum() / counts.sum())
        if len(gaps)
        else float("nan"),
        "max_calibration_error": float(gaps.max()) if len(gaps) else float("nan"),
        "bins": [
            {
                "lower": float(edges[i]),
                "upper": float(edges[i + 1]),
                "count": int(counts[i]),
                "mean_score": float(mean_score[i]),
                "precision": float(precision[i]),
            }
            for i in range(len(counts))
        ],
    }


def _edges(num_bins: int) -> Float64[np.ndarray, " E"]:
    return np.linspace(0.0, 1.0, num_bins + 1)


def require_bins(num_bins: int) -> None:
    """Raise ArgumentError unless there is a bin."""
    require(num_bins > 0, "num_bins", "be at least 1", num_bins)


def _require_columns(
    scores: Float64[np.ndarray, " N"], states: Integer[np.ndarray, " M"] | Bool[np.ndarray, " M"]
) -> None:
    require(scores.ndim == 1, "scores", "be one column (N,)", f"shape {scores.shape}")
    require(states.shape == scores.shape, "states", f"hold one state for each of {len(scores)} scores", states.shape)
    strange = states[(states < FALSE) | (states > IGNORED)]
    require(len(strange) == 0, "states", "be 0 false positive, 1 true positive or 2 ignored", strange[:1].sum())
