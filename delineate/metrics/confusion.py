"""Which class is taken for which: the confusion matrix of detections, with a row and a column for the background."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from delineate.checks import require
from delineate.kernels.error_analysis import taken_pairs
from delineate.metrics.error_analysis import image_blocks
from delineate.ops.matching import Overlaps, box_overlaps
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def detection_confusion(
    truth: Annotations,
    predictions: Objects,
    overlaps: Overlaps = box_overlaps,
    *,
    iou_threshold: float | int = 0.5,
    score_threshold: float | int = 0.25,
) -> Int64[np.ndarray, "K1 K1"]:
    """How often each true class was detected as each class, the background last.

    In each image, pairs of a detection and a truth whose overlap reaches the threshold are taken from the largest
    overlap down, whatever their classes, each detection and each truth once; of pairs of equal overlap that with the
    higher score goes first, then that of the earlier detection, then of the earlier truth. A truth left over is found
    as background; a detection left over was background, unless it reaches the threshold on an ignored truth or a crowd
    of its class: then it is not counted.

    Source: the confusion matrix of detections as in YOLOv5 and Ultralytics, which also goes by overlap, not by score
    as the COCO API does for average precision: a misclassified object shall meet the detection that lies best on it.
    Differs: a detection whose best truth is taken may take another (there it is background at once); thresholds are
    reached by equal values; crowds and ignored truths are not counted; rows are truths and columns detections.

    Args:
        truth: images, classes and true objects.
        predictions: with scores.
        overlaps: how two objects are compared; also asked for objects of different classes.
        iou_threshold: least overlap, above 0.
        score_threshold: least score; detections below it are left out.

    Returns:
        ``(K + 1, K + 1)``: row k the truths of class k, column k the detections of class k; the last row detections on
        background, the last column truths that were not found; the last cell is 0.

    Raises:
        ArgumentError: on predictions without scores or of images and classes that do not exist, and on an overlap
            outside 0 .. 1.

    Example:
        >>> objects = Objects.of(images=[0, 0], labels=[0, 1], boxes=[[0, 0, 10, 10], [20, 0, 10, 10]])
        >>> truth = Annotations.of((1,), ("cat", "dog"), objects)
        >>> found = Objects.of([0, 0], [1, 1], [[0, 0, 10, 9], [50, 0, 9, 9]], scores=[0.9, 0.8])
        >>> detection_confusion(truth, found).tolist()
        [[0, 1, 0], [0, 0, 1], [0, 1, 0]]
    """
    require_threshold(iou_threshold)
    require(predictions.scores is not None, "predictions", "have scores", "none")
    for name, limit in (("images", truth.num_images), ("labels", truth.num_classes)):
        column = getattr(predictions, name)
        most = int(column.max()) if len(column) else -1
        require(most < limit, f"predictions.{name}", f"be below {limit}, as the annotations have them", most)
    objects, size = truth.objects, truth.num_classes + 1
    silent = objects.crowd | objects.ignored
    confident = np.asarray(predictions.scores >= score_threshold)  # type: ignore[operator]
    counted = confident.copy()
    rows = np.flatnonzero(confident)
    firsts, seconds, ious = [rows[:0]], [rows[:0]], [np.zeros(0)]
    for groups in image_blocks(objects, predictions, rows):
        flat = overlaps(predictions, objects, groups)
        pairs = np.flatnonzero(flat >= iou_threshold)
        image = np.searchsorted(groups.block_starts, pairs, side="right") - 1
        place, wide = pairs - groups.block_starts[image], np.diff(groups.truth_starts)[image]
        firsts.append(groups.detections[groups.detection_starts[image] + place // wide])
        seconds.append(groups.truths[groups.truth_starts[image] + place % wide])
        ious.append(flat[pairs])
    first, second, iou = (np.concatenate(parts) for parts in (firsts, seconds, ious))
    open_pair = ~silent[second]
    falling = np.lexsort((second, first, -predictions.scores[first], -iou))  # type: ignore[index]
    falling = falling[open_pair[falling]]
    truth_of, detection_of = taken_pairs(first[falling], second[falling], len(predictions), len(objects))

    excused = ~open_pair & (predictions.labels[first] == objects.labels[second]) & (truth_of[first] < 0)
    counted[first[excused]] = False
    matrix = np.zeros((size, size), np.int64)
    known = np.append(objects.labels, size - 1)  # -1, no truth, reads the background
    np.add.at(matrix, (known[truth_of[counted]], predictions.labels[counted]), 1)
    matrix[:, -1] += np.bincount(objects.labels[~silent & (detection_of < 0)], minlength=size)
    return matrix


def require_threshold(iou_threshold: float | int) -> None:
    """Raise ArgumentError unless this is an overlap that two objects can have."""
    require(0 < iou_threshold <= 1, "iou_threshold", "lie above 0 and at most at 1", iou_threshold)
