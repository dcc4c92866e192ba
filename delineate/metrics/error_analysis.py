"""Why average precision is lost: every error of a detector by its kind, and what each kind costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer, UInt8

from delineate.checks import require
from delineate.kernels.average_precision import accumulate
from delineate.kernels.error_analysis import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    LOCALISATION,
    explain_false_positives,
)
from delineate.kernels.grouping import grouped_order, merged_groups, work_pieces
from delineate.kernels.matching import FALSE, IGNORED, TRUE
from delineate.metrics.averages import defined_mean
from delineate.metrics.detection import RECALL_THRESHOLDS
from delineate.ops.matching import COCO_MAX_DETECTIONS, Groups, Overlaps, box_overlaps, match_objects
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

ERRORS = {
    "classification": CLASSIFICATION,
    "localisation": LOCALISATION,
    "both": BOTH,
    "duplicate": DUPLICATE,
    "background": BACKGROUND,
}
LEFT_OUT = 255  # beyond the limit of an image and class
_MOST_PAIRS = 1 << 24  # overlaps held at once: 128 MiB


@dataclass(frozen=True, eq=False)
class DetectionErrors:
    """What became of every detection and of every truth.

    Args:
        kinds: for each prediction 1 true positive, 2 ignored, a value of :data:`ERRORS`, or :data:`LEFT_OUT`.
        targets: row of the truth that each prediction found or aimed at, -1 where there is none.
        repairs: for each truth the most confident prediction that would find it if its class or its place were right;
            -1 where there is none, and where the truth is found.
        found: truths that a true positive found.
        missed: truths that count, are not found, and that no prediction would find if its class or place were right.
        positives: how many truths count, for each class.
    """

    kinds: UInt8[np.ndarray, " N"]
    targets: Int64[np.ndarray, " N"]
    repairs: Int64[np.ndarray, " T"]
    found: Bool[np.ndarray, " T"]
    missed: Bool[np.ndarray, " T"]
    positives: Int64[np.ndarray, " K"]


def classified_errors(
    truth: Annotations,
    predictions: Objects,
    overlaps: Overlaps = box_overlaps,
    *,
    foreground_threshold: float | int = 0.5,
    background_threshold: float | int = 0.1,
    max_detections: int = COCO_MAX_DETECTIONS[-1],
) -> DetectionErrors:
    """The kind of every false positive, and the truths that were missed.

    True positives are those of :func:`~delineate.ops.matching.match_objects`. Of a false positive, let ``same`` be its
    largest overlap with a truth of its class, ``other`` that with a truth of another; tf and tb are the thresholds. It
    is the first that applies:

    * ignored: it reaches tf on an ignored truth or a crowd of its class;
    * localisation: tb <= same <= tf;
    * classification: other >= tf;
    * duplicate: same > tf, on a truth that another detection found;
    * background: neither is above tb;
    * both: what is left, tb < other < tf.

    Source: Bolya, Foley, Hays, Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
    section 2; the order of the tests is that of the authors' tool, tidecv 1.0.1.
    Differs: detections on ignored truths and crowds are no errors (the tool sorts them among the errors as well); an
    overlap of exactly tf lies on a crowd; between truths of equal overlap the later one is found, and the limit of
    detections is one of each image and class, both as in the COCO API (the tool: the earlier one; of each image).

    Args:
        truth: images, classes and true objects.
        predictions: with scores.
        overlaps: how two objects are compared; also asked for objects of different classes.
        foreground_threshold: tf, the overlap from which an object is found.
        background_threshold: tb, the overlap up to which a detection is on nothing.
        max_detections: how many of each image and class are looked at.

    Returns:
        The kind of every prediction and the fate of every truth.

    Raises:
        ArgumentError: on thresholds out of order, and on what
            :func:`~delineate.ops.matching.match_objects` refuses.
    """
    require(
        0 < background_threshold < foreground_threshold <= 1,
        "background_threshold",
        "lie above 0 and below foreground_threshold, which is at most 1",
        f"{background_threshold} and {foreground_threshold}",
    )
    matches = match_objects(
        truth,
        predictions,
        overlaps,
        iou_thresholds=[float(foreground_threshold)],
        area_ranges={"all": (0.0, float("inf"))},
        max_detections=max_detections,
    )
    objects, rows = truth.objects, matches.detections
    silent = objects.crowd | objects.ignored
    kinds, targets = np.full(len(predictions), LEFT_OUT, np.uint8), np.full(len(predictions), -1, np.int64)
    kinds[rows], targets[rows] = matches.states[0, 0], matches.matched[0]
    found, repairs = np.zeros(len(objects), bool), np.full(len(objects), -1, np.int64)
    found[targets[kinds == TRUE]] = True
    for groups in image_blocks(objects, predictions, rows):
        detections, truths = groups.detections, groups.truths
        explained, aims, best = explain_false_positives(
            overlaps(predictions, objects, groups),
            groups.block_starts,
            groups.detection_starts,
            groups.truth_starts,
            predictions.labels[detections],
            objects.labels[truths],
            silent[truths],
            found[truths],
            kinds[detections],
            foreground=foreground_threshold,
            background=background_threshold,
        )
        wrong = kinds[detections] == FALSE
        kinds[detections] = explained
        aimed = wrong & (aims >= 0)
        targets[detections[aimed]] = truths[aims[aimed]]
        mended = best >= 0
        repairs[truths[mended]] = detections[best[mended]]
    return DetectionErrors(
        kinds=kinds,
        targets=targets,
        repairs=repairs,
        found=found,
        missed=~silent & ~found & (repairs < 0),
        positives=matches.positives[:, 0],
    )


def detection_errors(
    truth: Annotations,
    predictions: Objects,
    overlaps: Overlaps = box_overlaps,
    *,
    foreground_threshold: float | int = 0.5,
    background_threshold: float | int = 0.1,
    max_detections: int = COCO_MAX_DETECTIONS[-1],
) -> dict[str, Any]:
    """What each kind of error costs: the gain of average precision if that kind alone were repaired.

    Repairs: a classification error takes the class of the truth it aimed at and a localisation error its place, and
    both become true positives; where the truth is found already, or a more confident classification or localisation
    error aims at it, the detection is dropped. Detections of the kinds both, duplicate and background are dropped.
    Missed truths are taken out of the count. ``false_positives`` drops every false positive, ``false_negatives`` takes
    every truth that is not found out of the count.

    Source: Bolya et al. (see :func:`classified_errors`), section 2.
    Differs: classes without truths are left out of the mean (the authors' tool counts them as 0 if they have
    detections); a class whose truths are all taken out has an average precision of 1 if no false positive is left in
    it, else 0 (the tool leaves the former out); detections of equal score keep their order when one is repaired; a gain
    is not cut off at 0; fractions of 1, not of 100. Precision is read at COCO's 101 recalls.

    Args:
        truth: images, classes and true objects.
        predictions: with scores.
        overlaps: how two objects are compared; also asked for objects of different classes.
        foreground_threshold: the overlap from which an object is found.
        background_threshold: the overlap up to which a detection is on nothing.
        max_detections: how many of each image and class are looked at.

    Returns:
        ``ap`` at the foreground threshold; ``delta_ap``: the gain for ``classification``, ``localisation``, ``both``,
        ``duplicate``, ``background``, ``missed``, ``false_positives`` and ``false_negatives``; ``counts`` of the first
        six and of ``true_positives``, ``ignored`` and ``left_out`` detections; ``per_class``: for each name the same
        three, and ``positives``, its truths. A classification error is counted, and costs, where it was predicted; its
        repair also gains in the class of the truth. NaN for a class without truths, and all NaN without any truth.

    Raises:
        ArgumentError: see :func:`classified_errors`.

    Example:
        >>> objects = Objects.of(images=[0, 0], labels=[0, 1], boxes=[[0, 0, 10, 10], [20, 0, 10, 10]])
        >>> truth = Annotations.of((1,), ("cat", "dog"), objects)
        >>> found = Objects.of([0, 0], [0, 1], [[0, 0, 10, 10], [20, 0, 10, 4]], scores=[0.9, 0.8])
        >>> errors = detection_errors(truth, found)
        >>> round(errors["ap"], 6), round(errors["delta_ap"]["localisation"], 6), errors["counts"]["localisation"]
        (0.5, 0.5, 1)
    """
    errors = classified_errors(
        truth,
        predictions,
        overlaps,
        foreground_threshold=foreground_threshold,
        background_threshold=background_threshold,
        max_detections=max_detections,
    )
    precisions = _repaired_precisions(truth.objects, predictions, errors)
    base = precisions.pop("base")
    labels, classes = truth.objects.labels, truth.num_classes

    def per_class(rows: Bool[np.ndarray, " N"], of: Integer[np.ndarray, " N"]) -> list[int]:
        return np.bincount(of[rows], minlength=classes).tolist()

    kinds = {**ERRORS, "true_positives": TRUE, "ignored": IGNORED, "left_out": LEFT_OUT}
    counts = {name: per_class(errors.kinds == kind, predictions.labels) for name, kind in kinds.items()}
    counts = {**{name: counts[name] for name in ERRORS}, "missed": per_class(errors.missed, labels), **counts}
    ap = defined_mean(base)
    return {
        "ap": ap,
        "delta_ap": {name: defined_mean(repaired) - ap for name, repaired in precisions.items()},
        "counts": {name: sum(column) for name, column in counts.items()},
        "per_class": {
            name: {
                "ap": float(base[k]),
                "delta_ap": {kind: float(repaired[k] - base[k]) for kind, repaired in precisions.items()},
                "counts": {kind: column[k] for kind, column in counts.items()},
                "positives": int(errors.positives[k]),
            }
            for k, name in enumerate(truth.classes)
        },
    }


def _repaired_precisions(
    truths: Objects, predictions: Objects, errors: DetectionErrors
) -> dict[str, Float64[np.ndarray, " K"]]:
    """The average precision of each class, as it is (``base``) and with each kind of error repaired."""
    rows = np.flatnonzero((errors.kinds != LEFT_OUT) & (errors.kinds != IGNORED))
    kinds, positives = errors.kinds[rows], errors.positives
    aims = errors.targets[rows]
    repairing = np.isin(kinds, (CLASSIFICATION, LOCALISATION))
    repairing[repairing] = errors.repairs[aims[repairing]] == rows[repairing]
    base = np.where(kinds == TRUE, TRUE, FALSE).astype(np.uint8)
    states = {"base": base}
    for name, kind in ERRORS.items():
        states[name] = np.where(kinds == kind, np.where(repairing, TRUE, IGNORED), base).astype(np.uint8)
    states["false_positives"] = np.where(base == TRUE, TRUE, IGNORED).astype(np.uint8)
    moved = states.pop("classification")
    relabelled = predictions.labels[rows].copy()
    change = repairing & (kinds == CLASSIFICATION)
    relabelled[change] = truths.labels[aims[change]]

    images, scores, labels = predictions.images[rows], predictions.scores[rows], predictions.labels[rows]  # type: ignore[index]
    order, moved_order = grouped_order(labels, images, scores), grouped_order(relabelled, images, scores)
    ranked = (labels[order], scores[order])
    as_they_are = np.stack(list(states.values()))[:, order]
    found = dict(zip(states, _precisions(*ranked, as_they_are, positives), strict=True))
    moved_ranked = (relabelled[moved_order], scores[moved_order])
    found["classification"] = _precisions(*moved_ranked, moved[None, moved_order], positives)[0]
    unmatched = ~errors.found & ~truths.crowd & ~truths.ignored
    for name, unseen in (("missed", errors.missed), ("false_negatives", unmatched)):
        seen = positives - np.bincount(truths.labels[unseen], minlength=len(positives))
        precision = _precisions(*ranked, base[None, order], seen)[0]
        emptied = (positives > 0) & (seen == 0)
        precision[emptied] = np.bincount(labels, minlength=len(positives))[emptied] == 0
        found[name] = precision
    return {name: found[name] for name in ("base", *ERRORS, "missed", "false_positives", "false_negatives")}


def _precisions(
    labels: Int64[np.ndarray, " M"],
    scores: Float64[np.ndarray, " M"],
    states: UInt8[np.ndarray, "V M"],
    positives: Int64[np.ndarray, " K"],
) -> Float64[np.ndarray, "V K"]:
    """The average precision of each class under each variant of the states, NaN for a class without truths.

    Rows are in order of (class, image, falling score).
    """
    starts = np.searchsorted(labels, np.arange(len(positives) + 1)).astype(np.int64)
    precision, _, _ = accumulate(
        starts,
        scores,
        np.zeros(len(labels), np.int64),  # the limit of an image and class is applied already
        np.ascontiguousarray(states[None]),
        positives[:, None].astype(np.int64),
        np.asarray(RECALL_THRESHOLDS),
        np.ones(1, np.int64),
    )
    return precision[0].mean(axis=2)


def image_blocks(truths: Objects, predictions: Objects, rows: Int64[np.ndarray, " M"]) -> Iterator[Groups]:
    """Detections and truths of each image, whatever their classes, in blocks of bounded memory.

    Args:
        truths: true objects.
        predictions: with scores.
        rows: which predictions, each once.

    Returns:
        Groups, one an image, whose detections have falling scores; of equal scores the earlier row goes first.
    """
    rows = np.sort(rows)
    images = predictions.images[rows]
    detections = rows[grouped_order(np.zeros_like(images), images, predictions.scores[rows])]  # type: ignore[index]
    order = grouped_order(np.zeros_like(truths.images), truths.images)
    _, detection_starts, truth_starts = merged_groups(predictions.images[detections], truths.images[order])
    blocks = np.concatenate([[0], np.cumsum(np.diff(detection_starts) * np.diff(truth_starts))]).astype(np.int64)
    for first, last in work_pieces(blocks, 1 + int(blocks[-1]) // _MOST_PAIRS):
        d, t, b = (starts[first : last + 1] for starts in (detection_starts, truth_starts, blocks))
        yield Groups(
            detections=detections[d[0] : d[-1]],
            ranks=np.arange(d[0], d[-1]) - np.repeat(d[:-1], np.diff(d)),
            truths=order[t[0] : t[-1]],
            detection_starts=d - d[0],
            truth_starts=t - t[0],
            block_starts=b - b[0],
        )
