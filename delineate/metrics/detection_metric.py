"""COCO's figures of boxes, masks and keypoints over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delineate.checks import require
from delineate.metrics.batch_objects import batch_objects
from delineate.metrics.detection import KEYPOINT_AREA_RANGES, KEYPOINT_MAX_DETECTIONS, average_precision, summarise
from delineate.metrics.score_metric import ScoreMetric
from delineate.ops.matching import (
    COCO_AREA_RANGES,
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

_NAMELESS = 1 << 62  # images without an id rank behind all that have one
_STATES = {  # the columns that are kept: a row an image, a truth, a detection; a visit is an image of an update
    "visits": torch.int64,
    "image_ids": torch.int64,
    "truth_visits": torch.int64,
    "truth_labels": torch.int64,
    "truth_counted": torch.uint8,
    "detection_visits": torch.int64,
    "labels": torch.int64,
    "scores": torch.float64,
    "ranks": torch.int64,
    "states": torch.uint8,
}


class BoxScores(ScoreMetric):
    """COCO's figures for boxes, see :func:`~delineate.metrics.detection.box_scores`.

    What becomes of a detection depends on its own image alone. So each batch is matched when it comes, no box or mask
    is kept, and processes exchange a row a detection and a row a truth. Of detections of one class with equal scores,
    those of the smaller ``image_id`` go first, as in pycocotools; images without one follow, in the order of processes
    and of updates. An ``image_id`` that comes again, as distributed samplers repeat images to even out processes, is
    left out.

    Args:
        class_names: one name a class, in label order.
        iou_thresholds: least overlaps.
        area_ranges: least and largest area in pixels by name; COCO's four when None. The first is the main one.
        max_detections: limits per image and class.
        options: torchmetrics' own (``sync_on_compute`` ...).

    Example:
        >>> scores = BoxScores(("cell",))
        >>> boxes, labels = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([0])
        >>> found = {"boxes": boxes, "labels": labels, "scores": torch.tensor([0.9])}
        >>> scores.update([found], [{"boxes": boxes, "labels": labels}])
        >>> round(scores.compute()["ap"], 6)
        1.0
    """

    visits: list[Tensor]

    overlaps: Overlaps = staticmethod(box_overlaps)
    masks = False
    keypoints = False

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        iou_thresholds: Sequence[float | int] = COCO_IOU_THRESHOLDS,
        area_ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
        max_detections: Sequence[int] = COCO_MAX_DETECTIONS,
        **options: Any,
    ) -> None:
        named = not isinstance(class_names, str) and isinstance(class_names, Sequence)
        require(named, "class_names", "be a sequence of names", repr(class_names))
        self.class_names = tuple(class_names)
        require(len(self.class_names) > 0, "class_names", "name at least one class", "none")
        require(len(set(self.class_names)) == len(self.class_names), "class_names", "not repeat a name", class_names)
        self.iou_thresholds = tuple(iou_thresholds)
        self.area_ranges = dict(COCO_AREA_RANGES if area_ranges is None else area_ranges)
        self.max_detections = tuple(max_detections)
        require(bool(self.max_detections), "max_detections", "hold at least one limit", self.max_detections)
        own = (self.class_names, self.iou_thresholds, tuple(self.area_ranges.items()), self.max_detections)
        super().__init__(*own, *options.pop("configuration", ()), **options)
        for state in _STATES:
            self.add_state(state, [], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> None:
        """Match the detections of a batch.

        Args:
            predictions: for each image ``boxes`` (N, 4) xyxy, ``labels`` (N,) and ``scores`` (N,); for masks ``masks``
                in place of boxes: (N, H, W) of 0 and 1, a list of :class:`~delineate.structures.rle.RLE` or an
                ``RLEMasks``; for keypoints ``keypoints`` (N, P, 3).
            targets: the same without scores; where there are such ``area``, ``iscrowd``, ``ignored`` or ``difficult``
                (N,), and ``image_id``, a whole number.

        Raises:
            ArgumentError: on lists or columns of different lengths, labels outside the classes, masks of another size
                than the truth's, or numbers that are not finite.
        """
        count = len(targets)
        require(len(predictions) == count, "predictions", f"be of {count} images, as targets", len(predictions))
        ids = [_image_id(target, f"targets[{i}]") for i, target in enumerate(targets)]
        read = partial(batch_objects, num_classes=len(self.class_names), masks=self.masks, keypoints=self.keypoints)
        found, true = read(predictions, "predictions"), self._counted(read(targets, "targets"))
        matches = match_objects(
            Annotations.of(range(count), self.class_names, true),
            found,
            self.overlaps,
            iou_thresholds=self.iou_thresholds,
            area_ranges=self.area_ranges,
            max_detections=max(self.max_detections),
        )
        visits = self.new_visits(count)
        ranges = np.asarray(list(self.area_ranges.values()), np.float64)
        inside = (true.areas[:, None] >= ranges[:, 0]) & (true.areas[:, None] <= ranges[:, 1])
        counted = inside & ~(true.crowd | true.ignored)[:, None]
        areas, thresholds, rows = matches.states.shape
        self._keep(
            visits=visits,
            image_ids=np.array([_NAMELESS if i is None else i for i in ids], np.int64),
            truth_visits=visits[true.images],
            truth_labels=true.labels,
            truth_counted=counted.astype(np.uint8),
            detection_visits=visits[matches.images],
            labels=matches.labels,
            scores=matches.scores,
            ranks=matches.ranks,
            states=np.ascontiguousarray(matches.states.reshape(areas * thresholds, rows).T),
        )

    def _counted(self, true: Objects) -> Objects:
        """The true objects, those ignored that this metric does not ask for."""
        return true

    def _keep(self, **columns: np.ndarray) -> None:
        for name, column in columns.items():
            getattr(self, name).append(torch.from_numpy(column).to(self.device))

    def sync(self, *arguments: Any, **options: Any) -> None:
        """As torchmetrics; a process without data takes part with empty columns of the right type."""
        if not self.visits:
            self._keep(**{name: self._column(name) for name in _STATES})
        super().sync(*arguments, **options)

    def _column(self, name: str) -> np.ndarray:
        """All rows of a state, of this process or of all, as they were synchronised."""
        state: Tensor | list[Tensor] = getattr(self, name)
        if not isinstance(state, Tensor):
            areas, thresholds = len(self.area_ranges), len(self.iou_thresholds)
            shape = {"truth_counted": (0, areas), "states": (0, areas * thresholds)}.get(name, (0,))
            state = torch.cat(state) if len(state) else torch.zeros(shape, dtype=_STATES[name])
        return state.cpu().numpy()

    def compute(self) -> dict[str, Any]:
        """The figures of :func:`~delineate.metrics.detection.box_scores`, of all images so far."""
        column = {name: self._column(name) for name in _STATES}
        visits, ids = column["visits"], column["image_ids"]
        order = np.lexsort((visits, ids))  # by id, then by process and update
        visits, ids = visits[order], ids[order]
        again = np.zeros(len(ids), bool)
        again[1:] = (ids[1:] == ids[:-1]) & (ids[1:] != _NAMELESS)
        places = _places(visits, ~again)
        truths, images = places(column["truth_visits"]), places(column["detection_visits"])
        counted, labels = column["truth_counted"][truths >= 0], column["truth_labels"][truths >= 0]
        positives = np.zeros((len(self.class_names), len(self.area_ranges)), np.int64)
        np.add.at(positives, labels, counted.astype(np.int64))
        rows = np.flatnonzero(images >= 0)
        rows = rows[np.lexsort((column["ranks"][rows], images[rows], column["labels"][rows]))]
        shape = (len(self.area_ranges), len(self.iou_thresholds), len(rows))
        matches = Matches(
            detections=rows,
            labels=column["labels"][rows],
            images=images[rows],
            scores=column["scores"][rows],
            ranks=column["ranks"][rows],
            states=np.ascontiguousarray(column["states"][rows].T).reshape(shape),
            matched=np.full(shape[1:], -1, np.int64),
            positives=positives,
            thresholds=self.iou_thresholds,
            areas=tuple(self.area_ranges),
        )
        result = average_precision(matches, max_detections=self.max_detections)
        return summarise(result, self.class_names, int((~again).sum()))


class MaskScores(BoxScores):
    """COCO's figures for masks, see :func:`~delineate.metrics.detection.mask_scores` and :class:`BoxScores`.

    Args:
        class_names: as :class:`BoxScores`.
        iou_thresholds: as :class:`BoxScores`.
        area_ranges: as :class:`BoxScores`.
        max_detections: as :class:`BoxScores`.
        options: torchmetrics' own.
    """

    overlaps: Overlaps = staticmethod(mask_overlaps)
    masks = True


class BoundaryScores(MaskScores):
    """Boundary AP, see :func:`~delineate.metrics.detection.boundary_scores` and :class:`BoxScores`.

    Args:
        class_names: as :class:`BoxScores`.
        ratio: width of the boundary as a share of the image's diagonal.
        options: as :class:`BoxScores`.
    """

    def __init__(self, class_names: Sequence[str], *, ratio: float | int = 0.02, **options: Any) -> None:
        super().__init__(class_names, configuration=(ratio,), **options)
        self.overlaps = partial(boundary_overlaps, ratio=ratio)


class KeypointScores(BoxScores):
    """COCO's figures for keypoints, see :func:`~delineate.metrics.detection.keypoint_scores` and :class:`BoxScores`.

    A true person without a labelled keypoint is ignored.

    Args:
        class_names: as :class:`BoxScores`.
        sigmas: the annotators' deviation for each keypoint.
        iou_thresholds: least similarities.
        area_ranges: as :class:`BoxScores`; all, medium and large when None.
        max_detections: as :class:`BoxScores`.
        options: torchmetrics' own.
    """

    keypoints = True

    def __init__(
        self,
        class_names: Sequence[str] = ("person",),
        *,
        sigmas: Sequence[float | int] = COCO_SIGMAS,
        iou_thresholds: Sequence[float | int] = COCO_IOU_THRESHOLDS,
        area_ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
        max_detections: Sequence[int] = KEYPOINT_MAX_DETECTIONS,
        **options: Any,
    ) -> None:
        super().__init__(
            class_names,
            iou_thresholds=iou_thresholds,
            area_ranges=KEYPOINT_AREA_RANGES if area_ranges is None else area_ranges,
            max_detections=max_detections,
            configuration=tuple(sigmas),
            **options,
        )
        self.overlaps = keypoint_overlaps(sigmas)

    def _counted(self, true: Objects) -> Objects:
        assert true.keypoints is not None  # read so
        labelled = (true.keypoints[:, :, 2] > 0).any(axis=1) if len(true) else np.zeros(0, bool)
        return replace(true, ignored=true.ignored | ~labelled)


def _image_id(target: Mapping[str, Any], place: str) -> int | None:
    """The id of a target's image, None where it has none."""
    value = target.get("image_id")
    if isinstance(value, Tensor | np.ndarray):
        value = np.asarray(value.cpu() if isinstance(value, Tensor) else value).reshape(-1)
        value = value[0] if len(value) == 1 else value
    whole = value is None or (isinstance(value, int | np.integer) and bool(0 <= value < _NAMELESS))
    require(whole, f"{place}['image_id']", "be a whole number of at least 0", repr(value), "Number the images.")
    return None if value is None else int(value)


def _places(visits: np.ndarray, kept: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from visits to places among the kept ones, -1 for those left out."""
    rows = np.cumsum(kept) - 1
    rows[~kept] = -1
    order = np.argsort(visits)
    return lambda asked: rows[order][np.searchsorted(visits[order], asked)] if len(asked) else np.zeros(0, np.int64)
