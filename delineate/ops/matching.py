"""Predicted objects paired with true ones, image by image and class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from delineate.checks import require
from delineate.kernels.boxes import group_box_ious
from delineate.kernels.grouping import grouped_order, merged_groups, work_pieces
from delineate.kernels.keypoints import group_similarities
from delineate.kernels.matching import match_groups
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle_masks import RLEMasks, group_ious

COCO_IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
COCO_AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 1024.0), "medium": (1024.0, 9216.0), "large": (9216.0, 1e10)}
COCO_MAX_DETECTIONS = (1, 10, 100)
COCO_SIGMAS = tuple(
    sigma / 10
    for sigma in (0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89)
)
_MOST_PAIRS = 1 << 24  # overlaps held at once: 128 MiB


@dataclass(frozen=True, eq=False)
class Groups:
    """Detections and truths in order of (class, image, falling score), and where each class of an image starts.

    Args:
        detections: rows of the predictions; those beyond the limit of an image and class are left out.
        ranks: place of each within its image and class, from 0.
        truths: rows of the true objects.
        detection_starts: where the detections of each group start.
        truth_starts: where its truths start.
        block_starts: where its block starts in a flat column of overlaps, a row a detection and a column a truth.
    """

    detections: Int64[np.ndarray, " M"]
    ranks: Int64[np.ndarray, " M"]
    truths: Int64[np.ndarray, " N"]
    detection_starts: Int64[np.ndarray, " G1"]
    truth_starts: Int64[np.ndarray, " G1"]
    block_starts: Int64[np.ndarray, " G1"]


Overlaps = Callable[[Objects, Objects, Groups], Float64[np.ndarray, " P"]]


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of every detection, in order of (class, image, falling score).

    Args:
        detections: rows of the predictions.
        labels: class of each.
        images: image of each.
        scores: confidence of each.
        ranks: place of each within its image and class, from 0.
        states: 0 false positive, 1 true positive, 2 ignored; for each area range and threshold.
        matched: row of the truth that was taken in the first area range, -1 for none.
        positives: how many truths count, for each class and area range.
        thresholds: the least overlaps.
        areas: the names of the area ranges.
    """

    detections: Int64[np.ndarray, " M"]
    labels: Int64[np.ndarray, " M"]
    images: Int64[np.ndarray, " M"]
    scores: Float64[np.ndarray, " M"]
    ranks: Int64[np.ndarray, " M"]
    states: UInt8[np.ndarray, "A T M"]
    matched: Int64[np.ndarray, "T M"]
    positives: Int64[np.ndarray, "K A"]
    thresholds: tuple[float, ...]
    areas: tuple[str, ...]

    @property
    def class_starts(self) -> Int64[np.ndarray, " K1"]:
        """Where the detections of each class start."""
        return np.searchsorted(self.labels, np.arange(len(self.positives) + 1)).astype(np.int64)


def grouped(truth: Annotations, predictions: Objects, *, max_detections: int) -> Groups:
    """Detections and truths of each image and class, the most confident ``max_detections`` of each kept."""
    images = max(truth.num_images, 1)
    order = grouped_order(predictions.labels, predictions.images, predictions.scores)
    keys = predictions.labels[order] * images + predictions.images[order]
    ranks = np.arange(len(order), dtype=np.int64)
    if len(order):
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        ranks -= np.repeat(first, np.diff(first, append=len(order)))
    kept = ranks < max_detections
    if not kept.all():
        order, keys, ranks = order[kept], keys[kept], ranks[kept]
    objects = truth.objects
    truths = grouped_order(objects.labels, objects.images)
    _, detection_starts, truth_starts = merged_groups(keys, objects.labels[truths] * images + objects.images[truths])
    blocks = np.diff(detection_starts) * np.diff(truth_starts)
    return Groups(order, ranks, truths, detection_starts, truth_starts, np.concatenate([[0], np.cumsum(blocks)]))


def box_overlaps(predictions: Objects, truths: Objects, groups: Groups) -> Float64[np.ndarray, " P"]:
    """The IoU of boxes; of a crowd, the share of the detection that lies on it."""
    return group_box_ious(
        predictions.boxes,
        truths.boxes,
        truths.crowd,
        groups.detections,
        groups.detection_starts,
        groups.truths,
        groups.truth_starts,
        groups.block_starts,
    )


def mask_overlaps(predictions: Objects, truths: Objects, groups: Groups) -> Float64[np.ndarray, " P"]:
    """The IoU of masks; of a crowd, the share of the detection that lies on it.

    Raises:
        ArgumentError: when one of the two has no masks, or masks that are to be compared have different sizes.
    """
    found, true = _masks(predictions, truths, groups)
    return _group_ious(found, groups.detections, true, truths.crowd, groups)


def boundary_overlaps(
    predictions: Objects, truths: Objects, groups: Groups, *, ratio: float | int = 0.02
) -> Float64[np.ndarray, " P"]:
    """The smaller of the IoU of masks and that of their boundaries.

    Source: Cheng, Girshick, Dollar, Berg, Kirillov, "Boundary IoU: Improving Object-Centric Image Segmentation
    Evaluation", CVPR 2021, section 4 and the released evaluation.
    Differs: nothing.

    Args:
        predictions: with masks.
        truths: with masks.
        groups: which to compare.
        ratio: how far inside a mask its boundary reaches, as a share of the image's diagonal.

    Raises:
        ArgumentError: as :func:`mask_overlaps`.
    """
    found, true = _masks(predictions, truths, groups)
    whole = _group_ious(found, groups.detections, true, truths.crowd, groups)
    meets_truth = np.repeat(np.diff(groups.truth_starts) > 0, np.diff(groups.detection_starts))
    compared = np.unique(groups.detections[meets_truth])
    if len(compared) == 0:
        return whole
    places = np.zeros(len(found), np.int64)  # detections that meet no truth have no overlap to compute
    places[compared] = np.arange(len(compared))
    edges = found.select(compared).boundaries(ratio=ratio)
    along = _group_ious(edges, places[groups.detections], true.boundaries(ratio=ratio), truths.crowd, groups)
    return np.minimum(whole, along)


def keypoint_overlaps(sigmas: Sequence[float | int] = COCO_SIGMAS) -> Overlaps:
    """A function that computes object keypoint similarity.

    Source: the COCO API, ``COCOeval.computeOks``; Ronchi, Perona, "Benchmarking and Error Diagnosis in Multi-Instance
    Pose Estimation", ICCV 2017.
    Differs: nothing. A person without a labelled keypoint is met as far as the prediction lies in its doubled box.

    Args:
        sigmas: the annotators' deviation for each keypoint, as a share of the object's size; COCO's 17 by default.
    """
    deviations = np.asarray(sigmas, np.float64)
    require(deviations.ndim == 1 and bool((deviations > 0).all()), "sigmas", "be above 0, one a keypoint", sigmas)

    def overlaps(predictions: Objects, truths: Objects, groups: Groups) -> Float64[np.ndarray, " P"]:
        for name, objects in (("predictions", predictions), ("truths", truths)):
            points = None if objects.keypoints is None else objects.keypoints.shape[1]
            fit = points == len(deviations) or len(objects) == 0
            advice = "Pass sigmas of your own: --sigmas, or sigmas=."
            require(fit, name, f"have {len(deviations)} keypoints, one a sigma", points, advice)
        return group_similarities(
            predictions.keypoints,  # type: ignore[arg-type]
            truths.keypoints,  # type: ignore[arg-type]
            truths.boxes,
            truths.areas,
            deviations,
            groups.detections,
            groups.detection_starts,
            groups.truths,
            groups.truth_starts,
            groups.block_starts,
        )

    return overlaps


def match_objects(
    truth: Annotations,
    predictions: Objects,
    overlaps: Overlaps = box_overlaps,
    *,
    iou_thresholds: Sequence[float | int] = COCO_IOU_THRESHOLDS,
    area_ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
    max_detections: int = COCO_MAX_DETECTIONS[-1],
) -> Matches:
    """Pair predictions with truths as the COCO API does.

    In each image and class the detections are asked from the most confident down. Each takes the truth with the
    largest overlap among those still free, if that overlap reaches the threshold; a truth that counts goes before one
    that does not. A truth does not count when it is a crowd, ignored, or outside the area range; what falls on it is
    ignored, and so is a detection that takes nothing and whose own area lies outside the range. Among equal scores
    the one earlier in the file goes first, among equal overlaps the truth later in the file.

    Source: the COCO API, ``COCOeval.evaluateImg``.
    Differs: the truth whose id is 0 can be taken as well; pycocotools takes 0 for "none".

    Args:
        truth: images, classes and true objects.
        predictions: with scores.
        overlaps: how two objects are compared; asked for some groups at a time where there are very many pairs.
        iou_thresholds: least overlaps, from 0 to 1.
        area_ranges: least and largest area in pixels, both inside, by name; COCO's four when None.
        max_detections: how many of each image and class are looked at.

    Returns:
        What became of each detection.

    Raises:
        ArgumentError: on predictions without scores or of images and classes that do not exist, and on thresholds or
            ranges that make no sense.
    """
    require(predictions.scores is not None, "predictions", "have scores", "none")
    for name, limit in (("images", truth.num_images), ("labels", truth.num_classes)):
        column = getattr(predictions, name)
        most = int(column.max()) if len(column) else -1
        require(most < limit, f"predictions.{name}", f"be below {limit}, as the annotations have them", most)
    thresholds = np.asarray(iou_thresholds, np.float64)
    possible = thresholds.ndim == 1 and len(thresholds) > 0 and bool(((thresholds >= 0) & (thresholds <= 1)).all())
    require(possible, "iou_thresholds", "lie between 0 and 1", iou_thresholds)
    ranges = COCO_AREA_RANGES if area_ranges is None else area_ranges
    require(
        len(ranges) > 0 and all(low <= high for low, high in ranges.values()),
        "area_ranges",
        "be (least, largest) areas",
        area_ranges,
    )
    require(max_detections > 0, "max_detections", "be at least 1", max_detections)
    groups = grouped(truth, predictions, max_detections=max_detections)
    objects = truth.objects
    silent = objects.crowd | objects.ignored
    limits = np.asarray(list(ranges.values()), np.float64).reshape(-1, 2)
    parts = []
    for block in _blocks(groups):
        rows = block.truths
        states, places = match_groups(
            overlaps(predictions, objects, block),
            block.block_starts,
            block.detection_starts,
            block.truth_starts,
            predictions.areas[block.detections],
            objects.areas[rows],
            silent[rows],
            objects.crowd[rows],
            thresholds,
            limits,
        )
        places[places >= 0] = rows[places[places >= 0]]
        parts.append((states, places))
    if len(parts) > 1:
        states, places = (np.concatenate(columns, axis=-1) for columns in zip(*parts, strict=True))
    positives = np.zeros((truth.num_classes, len(limits)), np.int64)
    for a, (low, high) in enumerate(limits):
        counted = ~silent & (objects.areas >= low) & (objects.areas <= high)
        positives[:, a] = np.bincount(objects.labels[counted], minlength=truth.num_classes)
    order = groups.detections
    return Matches(
        detections=order,
        labels=predictions.labels[order],
        images=predictions.images[order],
        scores=predictions.scores[order],  # type: ignore[index]
        ranks=groups.ranks,
        states=states,
        matched=places,
        positives=positives,
        thresholds=tuple(thresholds.tolist()),
        areas=tuple(ranges),
    )


def joined_matches(parts: Sequence[tuple[Matches, int]]) -> Matches:
    """The matches of predictions that were matched in parts, all predictions of an image in one part.

    Args:
        parts: at least one, of one set of annotations, thresholds and area ranges; with the number of predictions in
            each part, those beyond the limit of detections included: row numbers of later parts count on from there.

    Example:
        >>> truth = Annotations.of((1, 2), ("cell",), Objects.of([1], [0], [[0, 0, 4, 5]]))
        >>> one, two = (Objects.of([i], [0], [[0, 0, 4, 5]], scores=[0.9]) for i in (1, 0))
        >>> joined = joined_matches([(match_objects(truth, one), 1), (match_objects(truth, two), 1)])
        >>> joined.images, joined.detections, joined.states[0, 0]
        (array([0, 1]), array([1, 0]), array([0, 1], dtype=uint8))
    """
    matches = [part for part, _ in parts]
    columns = {
        name: np.concatenate([getattr(part, name) for part in matches])
        for name in ("labels", "images", "scores", "ranks")
    }
    before = np.cumsum([0, *(count for _, count in parts[:-1])])
    rows = np.concatenate([part.detections + offset for part, offset in zip(matches, before, strict=True)])
    order = grouped_order(columns["labels"], columns["images"])
    return replace(
        matches[0],
        detections=rows[order],
        **{name: column[order] for name, column in columns.items()},
        states=np.concatenate([part.states for part in matches], axis=2)[:, :, order],
        matched=np.concatenate([part.matched for part in matches], axis=1)[:, order],
    )


def _blocks(groups: Groups) -> Iterator[Groups]:
    """The same groups, in blocks of bounded memory; a single group stays whole."""
    pairs = int(groups.block_starts[-1])
    if pairs <= _MOST_PAIRS:
        yield groups
        return
    for first, last in work_pieces(groups.block_starts, 1 + pairs // _MOST_PAIRS):
        columns = (groups.detection_starts, groups.truth_starts, groups.block_starts)
        detections, truths, blocks = (starts[first : last + 1] for starts in columns)
        yield Groups(
            detections=groups.detections[detections[0] : detections[-1]],
            ranks=groups.ranks[detections[0] : detections[-1]],
            truths=groups.truths[truths[0] : truths[-1]],
            detection_starts=detections - detections[0],
            truth_starts=truths - truths[0],
            block_starts=blocks - blocks[0],
        )


def _masks(predictions: Objects, truths: Objects, groups: Groups) -> tuple[RLEMasks, RLEMasks]:
    """The masks of both, of one size wherever they are compared."""
    require(predictions.masks is not None, "predictions", "have masks", "none")
    require(truths.masks is not None, "truths", "have masks", "none")
    found, true = predictions.masks, truths.masks
    assert found is not None
    assert true is not None
    detections, masks = np.diff(groups.detection_starts), np.diff(groups.truth_starts)
    met = (detections > 0) & (masks > 0)
    sizes = np.zeros((len(met), 2), np.int32)  # of each group, that of its first truth
    sizes[met] = true.sizes[groups.truths[groups.truth_starts[:-1][met]]]
    for name, objects, own, rows, counts in (
        ("truths", truths, true, groups.truths, masks),
        ("predictions", predictions, found, groups.detections, detections),
    ):
        wrong = (own.sizes[rows] != np.repeat(sizes, counts, axis=0)).any(axis=1) & np.repeat(met, counts)
        if wrong.any():
            place = int(np.argmax(wrong))
            row, wanted = rows[place], np.repeat(sizes, counts, axis=0)[place].tolist()
            got = f"{tuple(own.sizes[row].tolist())} in row {row}, of image {objects.images[row]}"
            condition = f"have masks of the size of the true ones of their image, {tuple(wanted)}"
            require(False, name, condition, got)
    return found, true


def _group_ious(
    found: RLEMasks, order: np.ndarray, true: RLEMasks, crowd: np.ndarray, groups: Groups
) -> Float64[np.ndarray, " P"]:
    ious, _ = group_ious(
        found,
        true,
        crowd,
        order=order,
        starts=groups.detection_starts,
        truth_order=groups.truths,
        truth_starts=groups.truth_starts,
    )
    return ious
