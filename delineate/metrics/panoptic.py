"""Panoptic quality: one number for things and stuff, and its two factors.

A predicted and a true segment of one class match when their IoU is above 0.5, which at most one pair can. Then
PQ = sum of IoU / (TP + FP/2 + FN/2), SQ = sum of IoU / TP (how well), RQ = TP / (TP + FP/2 + FN/2) (how many).
The definitions are those of panopticapi's ``evaluation.py``, which the field's tables use:

* what a prediction has on void counts neither in its area nor against it: the union is without it;
* a true crowd segment is neither matched nor missed;
* a prediction without a match is no false positive when more than half of it lies on void, or on void and a crowd
  segment of its class; where an image has several of that class, on the last one listed;
* a class that neither the truth nor the predictions contain is undefined: NaN, and left out of means;
* a class without a match has an SQ of 0, which counts in the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from delineate.checks import require
from delineate.kernels.panoptic import pair_counts
from delineate.structures.panoptic import PanopticMap


@dataclass(frozen=True, eq=False)
class PanopticCounts:
    """What adds up to panoptic quality, a number each class.

    Args:
        iou_sum: the sum of the IoU of matched pairs.
        tp: matched pairs.
        fp: predicted segments without a match.
        fn: true segments without a match.
    """

    iou_sum: Float64[np.ndarray, " K"]
    tp: Int64[np.ndarray, " K"]
    fp: Int64[np.ndarray, " K"]
    fn: Int64[np.ndarray, " K"]


def panoptic_counts(prediction: PanopticMap, target: PanopticMap, *, num_classes: int) -> PanopticCounts:
    """The matches and mistakes of one image.

    Source: Kirillov, He, Girshick, Rother, Dollar, "Panoptic Segmentation", CVPR 2019, section 4, as counted by
    panopticapi's ``evaluation.py``.
    Differs: a true segment's area is that of its pixels; the original believes the file.

    Args:
        prediction: found segments; which of them are crowd does not matter.
        target: true segments; 0 is void, where nothing is known.
        num_classes: labels lie below it.

    Raises:
        ArgumentError: on maps of different sizes or a label that is no class.

    Example:
        >>> from delineate.structures.panoptic import PanopticSegments
        >>> target = PanopticMap(np.array([[1, 1, 1, 2]]), PanopticSegments.of(ids=[1, 2], labels=[0, 1]))
        >>> prediction = PanopticMap(np.array([[9, 9, 8, 8]]), PanopticSegments.of(ids=[8, 9], labels=[1, 0]))
        >>> counts = panoptic_counts(prediction, target, num_classes=2)
        >>> counts.iou_sum.round(6).tolist(), counts.fp.tolist()
        ([0.666667, 0.0], [0, 1])
    """
    require(prediction.size == target.size, "prediction", f"be {target.size} as the target", prediction.size)
    for name, segments in (("prediction", prediction.segments), ("target", target.segments)):
        most = int(segments.labels.max()) if len(segments) else 0
        require(most < num_classes, name, f"have labels 0 to {num_classes - 1}", most)
    true_ids, found_ids, pixels = pair_counts(target.ids, prediction.ids)
    true, found = target.segments.rows(true_ids), prediction.segments.rows(found_ids)
    true_labels, found_labels = target.segments.labels, prediction.segments.labels

    on_void = np.zeros(len(prediction.segments), np.int64)
    void = (true < 0) & (found >= 0)
    on_void[found[void]] = pixels[void]  # a pair occurs once, so that nothing is overwritten

    both = (true >= 0) & (found >= 0)
    true, found, pixels = true[both], found[both], pixels[both]
    same = true_labels[true] == found_labels[found]
    union = prediction.areas[found] + target.areas[true] - pixels - on_void[found]
    matches = same & ~target.segments.crowd[true] & (2 * pixels > union)
    matched_true, matched_found = np.zeros(len(true_labels), bool), np.zeros(len(found_labels), bool)
    matched_true[true[matches]] = matched_found[found[matches]] = True

    crowd_of = np.full(num_classes, -1, np.int64)
    crowds = np.flatnonzero(target.segments.crowd)
    crowd_of[true_labels[crowds]] = crowds  # of several the last one stays
    on_crowd = true == crowd_of[found_labels[found]]
    excused = on_void
    excused[found[on_crowd]] += pixels[on_crowd]

    def per_class(labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        return np.bincount(labels, weights, minlength=num_classes)

    matched_labels = true_labels[true[matches]]
    return PanopticCounts(
        iou_sum=per_class(matched_labels, pixels[matches] / union[matches]).astype(np.float64),
        tp=per_class(matched_labels),
        fp=per_class(found_labels[~matched_found & (2 * excused <= prediction.areas)]),
        fn=per_class(true_labels[~matched_true & ~target.segments.crowd]),
    )


def panoptic_scores(
    counts: PanopticCounts, *, class_names: Sequence[str], things: Sequence[bool], images: int
) -> dict[str, Any]:
    """Panoptic quality of everything counted.

    Source: Kirillov, He, Girshick, Rother, Dollar, "Panoptic Segmentation", CVPR 2019, section 4.
    Differs: without any class to count, scores are NaN; panopticapi divides by zero.

    Args:
        counts: sums over images.
        class_names: one a class, all different.
        things: which classes are things.
        images: how many images were counted, to be reported.

    Returns:
        ``all``, ``things``, ``stuff``: ``pq``, ``sq``, ``rq``, the means over the ``classes`` (a number) that occur;
        ``per_class``: for each name ``pq``, ``sq``, ``rq``, ``tp``, ``fp``, ``fn``, ``iou_sum``; ``images``. Fractions
        of 1; NaN where no class occurs, and for a class that does not.

    Raises:
        ArgumentError: when the numbers of names, flags and counts differ, or a name repeats.

    Example:
        >>> counts = PanopticCounts(np.array([1.5]), np.array([2]), np.array([1]), np.array([1]))
        >>> panoptic_scores(counts, class_names=["cell"], things=[True], images=1)["all"]
        {'pq': 0.5, 'sq': 0.75, 'rq': 0.6666666666666666, 'classes': 1}
    """
    num_classes = len(counts.tp)
    require_classes(class_names, things)
    require(len(class_names) == num_classes, "class_names", f"name the {num_classes} classes counted", len(class_names))
    whole = counts.tp + (counts.fp + counts.fn) / 2
    occurs = whole > 0
    pq, rq = (_ratio(part, whole, occurs) for part in (counts.iou_sum, counts.tp))
    sq = _ratio(counts.iou_sum, np.maximum(counts.tp, 1), occurs)  # 0 without a match
    are_things = np.asarray(things, bool)
    scores: dict[str, Any] = {}
    for group, members in (("all", occurs), ("things", occurs & are_things), ("stuff", occurs & ~are_things)):
        count = int(members.sum())
        scores[group] = {
            name: float(values[members].mean()) if count else float("nan")
            for name, values in (("pq", pq), ("sq", sq), ("rq", rq))
        }
        scores[group]["classes"] = count
    scores["per_class"] = {
        name: {
            "pq": float(pq[k]),
            "sq": float(sq[k]),
            "rq": float(rq[k]),
            "tp": int(counts.tp[k]),
            "fp": int(counts.fp[k]),
            "fn": int(counts.fn[k]),
            "iou_sum": float(counts.iou_sum[k]),
        }
        for k, name in enumerate(class_names)
    }
    scores["images"] = images
    return scores


def _ratio(part: np.ndarray, whole: np.ndarray, defined: Bool[np.ndarray, " K"]) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=defined)


def require_classes(class_names: Sequence[str], things: Sequence[bool]) -> None:
    """Raise ArgumentError unless the names differ and each has a flag."""
    count = len(class_names)
    require(count > 0, "class_names", "name at least one class", "none")
    require(len(set(class_names)) == count, "class_names", "all differ", ", ".join(class_names))
    require(len(things) == count, "things", f"hold {count} flags, one a class", len(things))
