"""Average precision of ranked detections: right, wrong or ignored, in order of falling score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from delineate.kernels.grouping import grouped_order
from delineate.kernels.matching import IGNORED, TRUE
from delineate.metrics.averages import defined_mean

_LEVELS = 0.1 * np.arange(11)


def average_precision_all_point(precision: Float64[np.ndarray, " N"], recall: Float64[np.ndarray, " N"]) -> float:
    """The area under the curve of precision over recall, made to fall: VOC's figure since 2010.

    Source: Everingham et al., "The Pascal Visual Object Classes Challenge: A Retrospective", IJCV 2015, section 3.2;
    the challenge's development kit of 2012, ``VOCap.m``.
    Differs: nothing.

    Args:
        precision: after each detection, in order of falling score.
        recall: likewise, so that it never falls; NaN for a class without true objects.

    Returns:
        0 to 1; 0 without detections, NaN when the recall is undefined.

    Example:
        >>> round(average_precision_all_point(np.array([1, 0.5, 2 / 3]), np.array([0.25, 0.25, 0.5])), 6)
        0.416667
    """
    if np.isnan(recall).any():
        return float("nan")
    return float((np.diff(recall, prepend=0.0) * _falling(precision)).sum())


def average_precision_11_point(precision: Float64[np.ndarray, " N"], recall: Float64[np.ndarray, " N"]) -> float:
    """The mean of the best precision at a recall of at least 0, 0.1 .. 1: VOC's figure until 2009.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, eqs. 1 and 2.
    Differs: nothing. As in the evaluations that published it, the levels are multiples of 0.1 in floating point, so
    that a recall of 3/10 falls short of the level 0.30000000000000004, 6/10 and 7/10 of theirs.

    Args:
        precision: after each detection, in order of falling score.
        recall: likewise, so that it never falls; NaN for a class without true objects.

    Returns:
        0 to 1; 0 without detections, NaN when the recall is undefined.

    Example:
        >>> round(average_precision_11_point(np.array([1, 0.5, 2 / 3]), np.array([0.25, 0.25, 0.5])), 6)
        0.454545
    """
    if np.isnan(recall).any():
        return float("nan")
    best = np.append(_falling(precision), 0.0)
    return float(best[np.searchsorted(recall, _LEVELS)].mean())


def ranked_scores(
    labels: Int64[np.ndarray, " N"],
    scores: Float64[np.ndarray, " N"],
    outcomes: UInt8[np.ndarray, "N T"],
    positives: Int64[np.ndarray, " K"],
    class_names: Sequence[str],
    thresholds: Sequence[float | int],
    *,
    curves: bool = False,
) -> dict[str, Any]:
    """The figures of :func:`~delineate.metrics.voc.voc_scores` from what became of every detection.

    Args:
        labels: the class of each detection.
        scores: its confidence.
        outcomes: 0 wrong, 1 right, 2 ignored, at each threshold.
        positives: how many truths of each class count.
        class_names: one a class.
        thresholds: one a column of ``outcomes``; they name the parts of the result.
        curves: also give precision and recall after each detection.
    """
    order = grouped_order(labels, np.zeros_like(labels), scores)
    starts = np.searchsorted(labels[order], np.arange(len(positives) + 1))
    columns, ranked = outcomes[order].T, scores[order]
    figures: dict[str, Any] = {"ap": np.full((len(positives), len(thresholds)), np.nan)}
    figures["ap_11_point"] = figures["ap"].copy()
    per_class: dict[str, Any] = {}
    drawn: dict[str, Any] = {}
    for k, name in enumerate(class_names):
        rows, per_threshold = slice(int(starts[k]), int(starts[k + 1])), {}
        for t, threshold in enumerate(thresholds):
            counted = columns[t, rows] != IGNORED
            right = np.cumsum(columns[t, rows][counted] == TRUE)
            precision = right / np.arange(1, len(right) + 1)
            recall = right / positives[k] if positives[k] else np.full(len(right), np.nan)
            if positives[k]:
                figures["ap"][k, t] = average_precision_all_point(precision, recall)
                figures["ap_11_point"][k, t] = average_precision_11_point(precision, recall)
            hits = int(right[-1]) if len(right) else 0
            per_threshold[f"{threshold:g}"] = {
                **{key: float(values[k, t]) for key, values in figures.items()},
                "true_positives": hits,
                "false_positives": len(right) - hits,
                "recall": hits / int(positives[k]) if positives[k] else float("nan"),
            }
            if curves:
                lists = {"scores": ranked[rows][counted], "precision": precision, "recall": recall}
                drawn.setdefault(name, {})[f"{threshold:g}"] = {key: values.tolist() for key, values in lists.items()}
        per_class[name] = {
            **{key: defined_mean(values[k]) for key, values in figures.items()},
            "truths": int(positives[k]),
            "detections": rows.stop - rows.start,
            "per_threshold": per_threshold,
        }
    return {
        **{f"m{key}": defined_mean(values) for key, values in figures.items()},
        "per_threshold": {
            f"{threshold:g}": {f"m{key}": defined_mean(values[:, t]) for key, values in figures.items()}
            for t, threshold in enumerate(thresholds)
        },
        "per_class": per_class,
        "truths": int(positives.sum()),
        "detections": len(labels),
        **({"curves": drawn} if curves else {}),
    }


def _falling(precision: np.ndarray) -> np.ndarray:
    """The best precision at each place or later."""
    return np.maximum.accumulate(precision[::-1])[::-1]
