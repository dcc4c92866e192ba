"""Figures of localisation learnt from image labels: boxes of score maps, and guesses of class and box.

Points are scored in :mod:`delineate.metrics.pointing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from delineate.checks import require
from delineate.kernels.components import largest_component_box, threshold_box_ious
from delineate.kernels.threads import run_pieces, thread_count
from delineate.metrics.voc import BoxColumns, corners
from delineate.structures.annotations import Annotations

MAP_THRESHOLDS = tuple(np.linspace(0, 1, 101).tolist())
MAP_IOU_THRESHOLDS = (0.3, 0.5, 0.7)
_V1 = MAP_IOU_THRESHOLDS.index(0.5)


def cam_box(score_map: Float[np.ndarray, "H W"], *, share: float | int = 0.2) -> Float64[np.ndarray, " 4"]:
    """The box of the largest component of a score map above a share of its maximum.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, section 3.2.
    Differs: nothing; pixels that touch at a corner are connected, and the largest component has the most pixels.

    Args:
        score_map: of one class, at the size of the image.
        share: of the maximum, which the pixels of the object exceed.

    Returns:
        xyxy, edges of pixels; NaN where no score is above 0.

    Raises:
        ArgumentError: on a share outside 0 .. 1.

    Example:
        >>> cam_box(np.array([[0, 0.1, 0], [0, 0.9, 0.4], [0.3, 0, 0]]))
        array([0., 1., 3., 3.])
    """
    require(0 <= share < 1, "share", "be at least 0 and below 1", share)
    peak = score_map.max(initial=0)
    box = largest_component_box(score_map > share * peak) if peak > 0 else None
    return np.full(4, np.nan) if box is None else box


def max_box_accuracy(score_maps: Sequence[Float[np.ndarray, "_ _"]], truth: Annotations) -> dict[str, Any]:
    """How often the box of a score map meets a true box, at the best threshold for the whole data set.

    Each map is scaled to 0 .. 1 and cut at 0, 0.01 .. 1.

    Source: Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, section 3.2
    (MaxBoxAcc: the largest component, IoU 0.5); Choe et al., "Evaluation for Weakly Supervised Object Localization:
    Protocol, Metrics, and Datasets", TPAMI 2022 (MaxBoxAccV2: any component, mean over IoU 0.3, 0.5 and 0.7).
    Differs: the definition on real numbers. The authors' code rounds maps to 256 levels, cuts at steps of 0.001 and
    asks for more than the threshold, calls that component the largest whose outline encloses most, and adds a pixel to
    every width and height.

    Args:
        score_maps: one an image, of the class in question and at the size of the image.
        truth: the boxes of each image, whatever their class; images without are left out.

    Returns:
        ``max_box_accuracy``, ``max_box_accuracy_v2``; ``per_threshold``: for each IoU ("0.3") ``largest`` and ``any``
        (component) with ``largest_threshold`` and ``any_threshold``, the lowest at which they are reached; ``images``.
        Fractions of 1; NaN without images.

    Raises:
        ArgumentError: when the numbers of maps and images differ, or a score is not finite.

    Example:
        >>> from delineate.structures.objects import Objects
        >>> truth = Annotations.of((1,), ("bird",), Objects.of([0], [0], [[0, 0, 2, 2]]))
        >>> scores = max_box_accuracy([np.array([[0.9, 0.8, 0.1], [0.7, 0.2, 0.0], [0.1, 0.0, 0.0]])], truth)
        >>> scores["max_box_accuracy"], scores["per_threshold"]["0.7"]["any_threshold"]
        (1.0, 0.12)
    """
    hits, images = map_hits(score_maps, "score_maps", truth.num_images, _true_columns(truth))
    return box_accuracies(hits, images)


def topk_localisation_error(
    guess_labels: Integer[np.ndarray, "I G"],
    guess_boxes: Float64[np.ndarray, "I G 4"],
    truth: Annotations,
    *,
    known_boxes: Float64[np.ndarray, "I 4"] | None = None,
    ks: Sequence[int] = (1, 5),
    iou_threshold: float | int = 0.5,
    inclusive_pixels: bool = False,
) -> dict[str, float]:
    """The share of images where none of the first k guesses has a true class and meets a box of it.

    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, section 4.2.
    Differs: corners of boxes are edges of pixels. The challenge's development kit takes them for the first and the last
    pixel and adds 1 to widths and heights: ``inclusive_pixels``.

    Args:
        guess_labels: classes, the most confident first; -1 for no guess.
        guess_boxes: xyxy of each guess.
        truth: the boxes of each image; images without are left out.
        known_boxes: xyxy of the box given for the true class of each image, NaN for none.
        ks: how many guesses may be looked at, each at least 1.
        iou_threshold: the least IoU with a true box, above 0.
        inclusive_pixels: corners name the first and the last pixel of a box, as in ILSVRC's and VOC's files, so that
            its width is xmax - xmin + 1.

    Returns:
        ``top1_error``, ``top5_error``; with ``known_boxes`` also ``known_error``, the share of images where that box
        meets no true box (called GT-known); ``images``. NaN without images.

    Raises:
        ArgumentError: on other numbers of images than in ``truth``, or options outside their range.

    Example:
        >>> from delineate.structures.objects import Objects
        >>> truth = Annotations.of((1,), ("cat", "dog"), Objects.of([0], [1], [[0, 0, 4, 4]]))
        >>> boxes = np.array([[[0.0, 0, 4, 4], [0, 0, 4, 3]]])
        >>> topk_localisation_error(np.array([[0, 1]]), boxes, truth)
        {'top1_error': 1.0, 'top5_error': 0.0, 'images': 1}
    """
    check_guess_options(ks, iou_threshold)
    check_guesses(guess_labels, guess_boxes, known_boxes, truth.num_images)
    missed, images, lost = missed_guesses(
        guess_labels,
        guess_boxes,
        known_boxes,
        truth.num_images,
        _true_columns(truth),
        ks,
        iou_threshold,
        1.0 if inclusive_pixels else 0.0,
    )
    return error_shares(ks, missed, images, None if known_boxes is None else lost, images)


def _true_columns(truth: Annotations) -> BoxColumns:
    objects = truth.objects
    return BoxColumns(objects.images, objects.labels, corners(objects.boxes), None, objects.ignored)


def map_hits(
    score_maps: Sequence[np.ndarray] | np.ndarray, argument: str, images: int, truth: BoxColumns
) -> tuple[Int64[np.ndarray, "2 D T"], int]:
    """In how many images the largest, and any, component meets a true box, at each IoU and each threshold."""
    require(len(score_maps) == images, argument, f"hold {images} maps, one an image", len(score_maps))
    thresholds, least = np.asarray(MAP_THRESHOLDS), np.asarray(MAP_IOU_THRESHOLDS)[:, None]
    order = np.argsort(truth.images, kind="stable")
    starts = np.searchsorted(truth.images[order], np.arange(images + 1))

    def count(share: np.ndarray) -> np.ndarray:
        hits = np.zeros((2, len(least), len(thresholds)), np.int64)
        for i in share.tolist():
            score_map = np.asarray(score_maps[i], np.float64)
            require(score_map.ndim == 2, f"{argument}[{i}]", "be (H, W)", score_map.shape)
            require(bool(np.isfinite(score_map).all()), f"{argument}[{i}]", "hold finite scores", "NaN or infinity")
            low, high = score_map.min(initial=np.inf), score_map.max(initial=-np.inf)
            scaled = (score_map - low) / (high - low) if high > low else np.zeros_like(score_map)
            boxes = truth.corners[order[starts[i] : starts[i + 1]]]
            hits += np.stack(threshold_box_ious(scaled, thresholds, boxes))[:, None] >= least
        return hits

    counted = np.flatnonzero(np.diff(starts))
    hits = run_pieces(count, np.array_split(counted, thread_count()))
    return np.sum(hits, axis=0), len(counted)


def box_accuracies(hits: Int64[np.ndarray, "2 D T"], images: int) -> dict[str, Any]:
    """The figures of :func:`max_box_accuracy` from the counts of :func:`map_hits`."""
    accuracy = hits / images if images else np.full(hits.shape, np.nan)
    best, places = accuracy.max(axis=2), hits.argmax(axis=2)
    per_threshold: dict[str, dict[str, float]] = {}
    for d, iou in enumerate(MAP_IOU_THRESHOLDS):
        per_threshold[f"{iou:g}"] = figures = {}
        for c, components in enumerate(("largest", "any")):
            figures[components] = float(best[c, d])
            figures[f"{components}_threshold"] = MAP_THRESHOLDS[places[c, d]] if images else float("nan")
    return {
        "max_box_accuracy": float(best[0, _V1]),
        "max_box_accuracy_v2": float(best[1].mean()),
        "per_threshold": per_threshold,
        "images": images,
    }


def check_guess_options(ks: Sequence[int], iou_threshold: float | int) -> None:
    """Raise ArgumentError unless these are options of :func:`topk_localisation_error`."""
    require(len(ks) > 0 and min(ks) >= 1, "ks", "be at least 1", tuple(ks))
    require(0 < iou_threshold <= 1, "iou_threshold", "be above 0 and at most 1", iou_threshold)


def check_guesses(labels: Any, boxes: Any, known: Any, images: int) -> None:
    """Raise ArgumentError unless the guesses are arrays or tensors of that many images."""
    shape = tuple(labels.shape)
    require(len(shape) == 2 and shape[0] == images, "guess_labels", f"be ({images}, G), a row an image", shape)
    require(tuple(boxes.shape) == (*shape, 4), "guess_boxes", f"be {(*shape, 4)}, as guess_labels", tuple(boxes.shape))
    if known is not None:
        require(tuple(known.shape) == (images, 4), "known_boxes", f"be ({images}, 4)", tuple(known.shape))


def missed_guesses(
    labels: np.ndarray,
    boxes: np.ndarray,
    known: np.ndarray | None,
    images: int,
    truth: BoxColumns,
    ks: Sequence[int],
    iou_threshold: float | int,
    pixel: float = 0.0,
) -> tuple[Int64[np.ndarray, " k"], int, int]:
    """For each k the images without a right guess; the images with truths; those whose known box meets none.

    ``pixel`` is added to widths and heights.
    """
    met = _row_ious(boxes[truth.images], truth.corners[:, None], pixel) >= iou_threshold
    right = np.zeros(labels.shape, bool)
    np.logical_or.at(right, truth.images, met & (labels[truth.images] == truth.labels[:, None]))
    counted = np.zeros(images, bool)
    counted[truth.images] = True
    missed = [int((counted & ~right[:, :k].any(axis=1)).sum()) for k in ks]
    found = np.zeros(images, bool)
    if known is not None:
        np.logical_or.at(found, truth.images, _row_ious(known[truth.images], truth.corners, pixel) >= iou_threshold)
    return np.array(missed, np.int64), int(counted.sum()), int((counted & ~found).sum())


def error_shares(ks: Sequence[int], missed: np.ndarray, images: int, lost: int | None, known: int) -> dict[str, float]:
    """The figures of :func:`topk_localisation_error` from the counts of :func:`missed_guesses`."""
    shares = {
        f"top{k}_error": int(count) / images if images else float("nan") for k, count in zip(ks, missed, strict=True)
    }
    if lost is not None:
        shares["known_error"] = lost / known if known else float("nan")
    return {**shares, "images": images}


def _row_ious(boxes1: np.ndarray, boxes2: np.ndarray, pixel: float = 0.0) -> np.ndarray:
    """The IoU of boxes that stand beside each other, 0 where neither has an area, NaN of NaN."""
    sizes1, sizes2 = (np.maximum(boxes[..., 2:] - boxes[..., :2] + pixel, 0) for boxes in (boxes1, boxes2))
    ends, begins = np.minimum(boxes1[..., 2:], boxes2[..., 2:]), np.maximum(boxes1[..., :2], boxes2[..., :2])
    shared = np.maximum(ends - begins + pixel, 0).prod(axis=-1)
    union = sizes1.prod(axis=-1) + sizes2.prod(axis=-1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)
