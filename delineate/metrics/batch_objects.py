"""Torchvision's dictionaries of a batch as columns of objects: the one way that tensors come into these metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delineate.checks import require
from delineate.metrics.voc import BoxColumns
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

_FLAGS = {"iscrowd": "crowd", "ignored": "ignored", "difficult": "ignored"}


def batch_objects(
    batch: Sequence[Mapping[str, Any]],
    argument: str,
    num_classes: int | None,
    *,
    masks: bool = False,
    keypoints: bool = False,
) -> Objects:
    """The objects of a batch; images are numbered from 0.

    Args:
        batch: for each image ``labels`` (N,); ``boxes`` (N, 4) xyxy, not needed beside masks or keypoints;
            of predictions ``scores`` (N,); of targets where there are such ``area``, ``iscrowd``, ``ignored`` or
            ``difficult`` (N,), of which the last two mean the same.
        argument: "predictions", which have scores, or "targets".
        num_classes: labels lie below it; None to take any.
        masks: also read ``masks``: (N, H, W) or (N, 1, H, W) of 0 and 1, a list of RLE, or an RLEMasks.
        keypoints: also read ``keypoints`` (N, P, 3).

    Raises:
        ArgumentError: naming image and column, on columns that are missing, of other lengths, outside the classes, not
            finite, or of a form that means something else (masks of probabilities, boxes as xywh).
    """
    parts = []
    for i, image in enumerate(batch):
        place = f"{argument}[{i}]"
        labels = _labels(image, place, num_classes)
        count = len(labels)
        table = _masks(image, place, count) if masks else None
        points = _keypoints(image, place, count) if keypoints else None
        flags = {"crowd": np.zeros(count, bool), "ignored": np.zeros(count, bool)}
        scores = areas = None
        if argument == "predictions":
            scores = _column(image, "scores", place, (count,))
        else:
            for name, meaning in _FLAGS.items():
                if name in image:
                    flags[meaning] |= _column(image, name, place, (count,)) != 0
            if "area" in image:
                areas = _column(image, "area", place, (count,))
        if table is not None:
            boxes = table.boxes()
        elif points is not None and "boxes" not in image:
            places = points[:, :, :2]
            low, high = (places.min(axis=1), places.max(axis=1)) if count else np.zeros((2, 0, 2))
            boxes = np.concatenate([low, high - low], axis=1)
        else:
            xyxy = _corners(image, place, count)
            boxes = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
        if areas is None and table is not None:
            areas = table.areas().astype(np.float64)
        parts.append(
            Objects.of(
                np.full(count, i), labels, boxes, scores=scores, areas=areas, masks=table, keypoints=points, **flags
            )
        )
    if parts and keypoints:
        parts = _with_one_number_of_keypoints(parts, argument)
    return (
        Objects.concatenate(parts)
        if parts
        else Objects.of([], [], [], scores=[] if argument == "predictions" else None)
    )


def batch_columns(batch: Sequence[Mapping[str, Any]], argument: str, num_classes: int | None) -> BoxColumns:
    """The boxes of a batch by their corners, as written; crowds count as difficult. As :func:`batch_objects`."""
    objects = batch_objects(batch, argument, num_classes)
    exact = [_corners(image, f"{argument}[{i}]", len(image["labels"])) for i, image in enumerate(batch)]
    return BoxColumns(
        objects.images,
        objects.labels,
        np.concatenate([np.zeros((0, 4)), *exact]),
        objects.scores,
        None if argument == "predictions" else objects.crowd | objects.ignored,
    )


def _array(values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach()
        values = values.to("cpu", torch.float64 if values.is_floating_point() else values.dtype).numpy()
    return np.asarray(values)


def _column(image: Mapping[str, Any], name: str, place: str, shape: tuple[int, ...]) -> np.ndarray:
    require(name in image, place, f"have {name}", f"keys {sorted(image)}")
    column = _array(image[name])
    require(column.shape == shape, f"{place}['{name}']", f"be {shape}", column.shape)
    column = column.astype(np.float64)
    require(bool(np.isfinite(column).all()), place, f"hold finite {name}", "NaN or infinity")
    return column


def _labels(image: Mapping[str, Any], place: str, num_classes: int | None) -> np.ndarray:
    require("labels" in image, place, "have labels", f"keys {sorted(image)}")
    values = _array(image["labels"])
    require(values.ndim == 1, f"{place}['labels']", "be (N,)", values.shape)
    labels = values.astype(np.int64)
    whole = bool((labels == values).all())
    require(whole, f"{place}['labels']", "be whole numbers", values[labels != values][:3].tolist() if not whole else "")
    outside = labels[(labels < 0) | (labels >= (np.inf if num_classes is None else num_classes))]
    allowed = "at least 0" if num_classes is None else f"0 to {num_classes - 1}"
    require(len(outside) == 0, f"{place}['labels']", f"be {allowed}", outside[:3].tolist())
    return labels


def _corners(image: Mapping[str, Any], place: str, count: int) -> np.ndarray:
    require("boxes" in image, place, "have boxes", f"keys {sorted(image)}")
    form = getattr(getattr(image["boxes"], "format", None), "value", "XYXY")  # of torchvision's tv_tensors
    advice = "Convert them with torchvision.transforms.v2.ConvertBoundingBoxFormat."
    require(form == "XYXY", f"{place}['boxes']", "be xyxy", form, advice)
    corners = _array(image["boxes"])
    corners = corners.reshape(0, 4) if corners.size == 0 and count == 0 else corners
    require(corners.shape == (count, 4), f"{place}['boxes']", f"be ({count}, 4) xyxy pixels", corners.shape)
    require(bool(np.isfinite(corners).all()), place, "hold finite boxes", "NaN or infinity")
    return corners.astype(np.float64)


def _masks(image: Mapping[str, Any], place: str, count: int) -> RLEMasks:
    require("masks" in image, place, "have masks", f"keys {sorted(image)}")
    masks = image["masks"]
    if isinstance(masks, list) and all(isinstance(mask, RLE) for mask in masks):
        masks = RLEMasks.from_rles(masks)
    if not isinstance(masks, RLEMasks):
        maps = _array(masks)
        if maps.ndim == 4 and maps.shape[1] == 1:
            maps = maps[:, 0]
        if maps.size == 0 and count == 0:
            maps = np.zeros((0, 1, 1), bool)
        require(maps.ndim == 3, f"{place}['masks']", "be (N, H, W)", maps.shape)
        binary = maps.dtype.kind != "f" and bool(((maps == 0) | (maps == 1)).all())
        advice = "Pass masks > 0.5 rather than probabilities."
        require(binary, f"{place}['masks']", "be bool, or integers of 0 and 1", maps.dtype, advice)
        masks = RLEMasks.from_rles([RLE.encode(mask) for mask in maps])
    require(len(masks) == count, f"{place}['masks']", f"be {count}, as labels", len(masks))
    return masks


def _keypoints(image: Mapping[str, Any], place: str, count: int) -> np.ndarray:
    require("keypoints" in image, place, "have keypoints", f"keys {sorted(image)}")
    points = _array(image["keypoints"])
    if points.size == 0 and count == 0:
        return np.zeros((0, points.shape[1] if points.ndim == 3 else 0, 3))
    right = points.ndim == 3 and points.shape[0] == count and points.shape[2] == 3
    require(right, f"{place}['keypoints']", f"be ({count}, P, 3)", points.shape)
    require(bool(np.isfinite(points).all()), place, "hold finite keypoints", "NaN or infinity")
    return points.astype(np.float64)


def _with_one_number_of_keypoints(parts: list[Objects], argument: str) -> list[Objects]:
    """Images without persons have as many keypoints as the others."""
    numbers = {part.keypoints.shape[1] for part in parts if part.keypoints is not None and len(part)}
    require(len(numbers) < 2, argument, "have one number of keypoints", sorted(numbers))
    points = numbers.pop() if numbers else 0
    return [
        part
        if len(part)
        else Objects.of([], [], [], scores=None if part.scores is None else [], keypoints=np.zeros((0, points, 3)))
        for part in parts
    ]
