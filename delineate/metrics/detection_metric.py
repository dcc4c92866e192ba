"""COCO's figures of boxes, masks and keypoints over a data set, in the manner of torchmetrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from delineate.checks import require
from delineate.metrics.detection import KEYPOINT_AREA_RANGES, KEYPOINT_MAX_DETECTIONS, average_precision, summarise
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
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks


class BoxScores(Metric):
    """COCO's figures for boxes, see :func:`~delineate.metrics.detection.box_scores`.

    What becomes of a detection depends on its own image alone. So each batch is matched when it comes, no truth or mask
    is kept, and processes exchange a row a detection. Of detections of one class with equal scores, those of the
    smaller ``image_id`` go first, as in pycocotools; images without one follow in the order of updates, and of
    processes.

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

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    keys: list[Tensor]
    labels: list[Tensor]
    scores: list[Tensor]
    ranks: list[Tensor]
    states: list[Tensor]
    positives: Tensor
    images: Tensor

    overlaps: Overlaps = staticmethod(box_overlaps)

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        iou_thresholds: Sequence[float | int] = COCO_IOU_THRESHOLDS,
        area_ranges: Mapping[str, tuple[float | int, float | int]] | None = None,
        max_detections: Sequence[int] = COCO_MAX_DETECTIONS,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.class_names = tuple(class_names)
        require(len(self.class_names) > 0, "class_names", "name at least one class", "none")
        self.iou_thresholds = tuple(iou_thresholds)
        self.area_ranges = dict(COCO_AREA_RANGES if area_ranges is None else area_ranges)
        self.max_detections = tuple(max_detections)
        for state in ("keys", "labels", "scores", "ranks", "states"):
            self.add_state(state, [], dist_reduce_fx="cat")
        shape = (len(self.class_names), len(self.area_ranges))
        self.add_state("positives", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> None:
        """Match the detections of a batch.

        Args:
            predictions: for each image ``boxes`` (N, 4) xyxy, ``labels`` (N,) and ``scores`` (N,); for masks ``masks``
                (N, H, W), a list of :class:`~delineate.structures.rle.RLE` or an ``RLEMasks``; for keypoints
                ``keypoints`` (N, P, 3).
            targets: the same without scores; where there are such ``area``, ``iscrowd``, ``ignored`` (N,) and
                ``image_id``.

        Raises:
            ArgumentError: on lists or columns of different lengths, labels outside the classes, or numbers that are
                not finite.
        """
        require(len(predictions) == len(targets), "predictions", f"be of {len(targets)} images", len(predictions))
        if len(targets):
            matches = self._match(_columns(predictions, "predictions", scored=True), _columns(targets, "targets"))
            self._keep(matches, self._image_keys(targets), len(targets))

    def _match(self, found: Objects, true: Objects) -> Matches:
        count = 1 + max(int(objects.images.max(initial=0)) for objects in (found, true))
        for name, objects in (("predictions", found), ("targets", true)):
            most, classes = int(objects.labels.max(initial=0)), len(self.class_names)
            require(most < classes, f"labels of {name}", f"be 0 to {classes - 1}", most)
        return match_objects(
            Annotations.of(range(count), self.class_names, true),
            found,
            self.overlaps,
            iou_thresholds=self.iou_thresholds,
            area_ranges=self.area_ranges,
            max_detections=max(self.max_detections),
        )

    def _image_keys(self, targets: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Numbers in whose order images rank: their ids, or beyond all ids the order of updates."""
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        process = torch.distributed.get_rank() if together else 0
        before = (1 << 62) + (process << 40) + int(self.images)
        return np.array([int(target.get("image_id", before + i)) for i, target in enumerate(targets)], np.int64)

    def _keep(self, matches: Matches, keys: np.ndarray, images: int) -> None:
        areas, thresholds, count = matches.states.shape
        states = matches.states.reshape(areas * thresholds, count).T
        columns = (keys[matches.images], matches.labels, matches.scores, matches.ranks, np.ascontiguousarray(states))
        for name, column in zip(("keys", "labels", "scores", "ranks", "states"), columns, strict=True):
            getattr(self, name).append(torch.from_numpy(column).to(self.device))
        # not in place: a state that was reset under inference_mode may not be changed outside it
        self.positives = self.positives + torch.from_numpy(matches.positives).to(self.device)
        self.images = self.images + images

    def sync(self, *arguments: Any, **options: Any) -> None:
        """As torchmetrics; a process without data takes part with empty columns of the right type."""
        if len(self.labels) == 0:
            self._keep(self._no_matches(), np.zeros(0, np.int64), 0)
        super().sync(*arguments, **options)

    def _no_matches(self) -> Matches:
        none = np.zeros(0, np.int64)
        areas, thresholds = len(self.area_ranges), len(self.iou_thresholds)
        return Matches(
            detections=none,
            labels=none,
            images=none,
            scores=np.zeros(0),
            ranks=none,
            states=np.zeros((areas, thresholds, 0), np.uint8),
            matched=np.zeros((thresholds, 0), np.int64),
            positives=np.zeros((len(self.class_names), areas), np.int64),
            thresholds=self.iou_thresholds,
            areas=tuple(self.area_ranges),
        )

    def compute(self) -> dict[str, Any]:
        """The figures of :func:`~delineate.metrics.detection.box_scores`, of all detections so far."""
        matches = self._no_matches()
        if len(self.labels):
            keys, labels, scores, ranks, states = (
                (column if isinstance(column, Tensor) else torch.cat(column)).cpu().numpy()
                for column in (self.keys, self.labels, self.scores, self.ranks, self.states)
            )
            order = np.lexsort((ranks, keys, labels))
            matches = replace(
                matches,
                detections=order,
                labels=labels[order],
                images=keys[order],
                scores=scores[order],
                ranks=ranks[order],
                states=np.ascontiguousarray(states[order].T).reshape(*matches.states.shape[:2], len(order)),
                matched=np.full((len(self.iou_thresholds), len(order)), -1, np.int64),
                positives=self.positives.cpu().numpy(),
            )
        result = average_precision(matches, max_detections=self.max_detections)
        return summarise(result, self.class_names, int(self.images))


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

    def update(self, predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> None:
        """Match the masks of a batch; ``boxes`` are not needed."""
        super().update([_with_mask_table(entry) for entry in predictions], [_with_mask_table(t) for t in targets])


class BoundaryScores(MaskScores):
    """Boundary AP, see :func:`~delineate.metrics.detection.boundary_scores` and :class:`BoxScores`.

    Args:
        class_names: as :class:`BoxScores`.
        ratio: width of the boundary as a share of the image's diagonal.
        options: as :class:`BoxScores`.
    """

    def __init__(self, class_names: Sequence[str], *, ratio: float | int = 0.02, **options: Any) -> None:
        super().__init__(class_names, **options)
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
            **options,
        )
        self.overlaps = keypoint_overlaps(sigmas)

    def update(self, predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> None:
        """Match the persons of a batch; predictions need no ``boxes``."""
        super().update(
            [_with_keypoint_boxes(prediction) for prediction in predictions],
            [_with_unlabelled_ignored(target) for target in targets],
        )


def _columns(batch: Sequence[Mapping[str, Any]], argument: str, *, scored: bool = False) -> Objects:
    """The objects of torchvision's dictionaries, one an image."""
    parts = []
    for i, image in enumerate(batch):
        place = f"{argument}[{i}]"
        for name in ("boxes", "labels", "scores") if scored else ("boxes", "labels"):
            require(name in image, place, f"have {name}", f"keys {sorted(image)}")
        labels = _array(image["labels"], np.int64)
        count = len(labels)
        corners = _array(image["boxes"], np.float64)
        require(corners.shape == (count, 4), f"{place}['boxes']", f"be ({count}, 4) xyxy pixels", corners.shape)
        masks = image.get("masks")
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        keypoints = image.get("keypoints")
        parts.append(
            Objects.of(
                np.full(count, i),
                labels,
                boxes,
                scores=_array(image["scores"], np.float64) if scored else None,
                areas=_array(image["area"], np.float64) if "area" in image else _areas(masks, boxes),
                crowd=_array(image["iscrowd"], bool) if "iscrowd" in image else None,
                ignored=_array(image["ignored"], bool) if "ignored" in image else None,
                masks=masks if isinstance(masks, RLEMasks) else None,
                keypoints=None if keypoints is None else _array(keypoints, np.float64),
            )
        )
    return Objects.concatenate(parts)


def _areas(masks: Any, boxes: np.ndarray) -> np.ndarray:
    return masks.areas().astype(np.float64) if isinstance(masks, RLEMasks) else boxes[:, 2] * boxes[:, 3]


def _array(values: Any, kind: Any) -> np.ndarray:
    return (values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)).astype(kind)


def _with_mask_table(image: Mapping[str, Any]) -> dict[str, Any]:
    require("masks" in image, "image", "have masks", f"keys {sorted(image)}")
    masks = image["masks"]
    if not isinstance(masks, RLEMasks):
        if not (isinstance(masks, list) and all(isinstance(mask, RLE) for mask in masks)):
            masks = [RLE.encode(mask) for mask in _array(masks, bool)]
        masks = RLEMasks.from_rles(masks)
    boxes = masks.boxes()
    return {**image, "masks": masks, "boxes": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)}


def _with_keypoint_boxes(image: Mapping[str, Any]) -> dict[str, Any]:
    require("keypoints" in image, "image", "have keypoints", f"keys {sorted(image)}")
    points = _array(image["keypoints"], np.float64)
    if len(points) == 0:
        return {**image, "boxes": np.zeros((0, 4))}
    places = points[:, :, :2]
    return {**image, "boxes": np.concatenate([places.min(axis=1), places.max(axis=1)], axis=1)}


def _with_unlabelled_ignored(image: Mapping[str, Any]) -> dict[str, Any]:
    require("keypoints" in image, "image", "have keypoints", f"keys {sorted(image)}")
    unlabelled = (_array(image["keypoints"], np.float64)[:, :, 2] > 0).sum(axis=1) == 0
    ignored = _array(image["ignored"], bool) if "ignored" in image else np.zeros(len(unlabelled), bool)
    return {**image, "ignored": ignored | unlabelled}
