"""Objects of many images as columns: boxes, masks, keypoints, true or predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from delineate.checks import require
from delineate.structures.rle_masks import RLEMasks


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects as columns, a row each; rows of one image keep the order in which they were written.

    Boxes are kept as ``x, y, width, height``, the form of COCO's files: overlaps are computed from these very numbers,
    and a detour over corners would round, which moves ties.

    Args:
        images: which image, as an index into :attr:`Annotations.image_ids`.
        labels: which class, as an index into :attr:`Annotations.classes`.
        boxes: x, y, width, height in pixels; an object without a box has that of its mask or its keypoints.
        scores: the confidence of predicted objects, None for true ones.
        areas: in pixels, what area ranges refer to; that of the mask, or width x height, when left out. A true object
            has the area that its file states (COCO: that of its outline), a predicted one that of its mask or box.
        crowd: true objects that stand for a group: any number of predictions may fall on them without being counted.
        ignored: true objects that count neither as found nor as missed (difficult ones; persons without keypoints).
        masks: one a row, or None.
        keypoints: x, y, visibility (0: not labelled), or None.
        ids: what the file calls each object, its row number when left out.

    Raises:
        ArgumentError: on columns of different lengths, negative indices, or numbers that are not finite.

    Example:
        >>> boxes = Objects.of(images=[0, 0], labels=[1, 0], boxes=[[0, 0, 4, 5], [2, 2, 3, 3]], scores=[0.9, 0.4])
        >>> len(boxes), boxes.areas
        (2, array([20.,  9.]))
    """

    images: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    boxes: Float64[np.ndarray, "N 4"]
    scores: Float64[np.ndarray, " N"] | None
    areas: Float64[np.ndarray, " N"]
    crowd: Bool[np.ndarray, " N"]
    ignored: Bool[np.ndarray, " N"]
    masks: RLEMasks | None
    keypoints: Float64[np.ndarray, "N P 3"] | None
    ids: Int64[np.ndarray, " N"]

    @classmethod
    def of(
        cls,
        images: Sequence[int] | Integer[np.ndarray, " N"],
        labels: Sequence[int] | Integer[np.ndarray, " N"],
        boxes: Any,
        *,
        scores: Any = None,
        areas: Any = None,
        crowd: Any = None,
        ignored: Any = None,
        masks: RLEMasks | None = None,
        keypoints: Any = None,
        ids: Any = None,
    ) -> Objects:
        """Objects of anything NumPy reads as columns of these; what is left out takes its default."""
        count = len(images)
        box_rows = np.asarray(boxes, np.float64).reshape(-1, 4)
        if areas is None:
            areas = box_rows[:, 2] * box_rows[:, 3] if masks is None else masks.areas()
        return cls(
            images=np.asarray(images, np.int64).reshape(-1),
            labels=np.asarray(labels, np.int64).reshape(-1),
            boxes=box_rows,
            scores=None if scores is None else np.asarray(scores, np.float64).reshape(-1),
            areas=np.asarray(areas, np.float64).reshape(-1),
            crowd=np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
            ignored=np.zeros(count, bool) if ignored is None else np.asarray(ignored, bool).reshape(-1),
            masks=masks,
            keypoints=None if keypoints is None else np.asarray(keypoints, np.float64),
            ids=np.arange(count, dtype=np.int64) if ids is None else np.asarray(ids, np.int64).reshape(-1),
        )

    def __post_init__(self) -> None:
        count = len(self.images)
        for name in ("labels", "boxes", "scores", "masks", "areas", "crowd", "ignored", "keypoints", "ids"):
            column = getattr(self, name)
            require(
                column is None or len(column) == count,
                name,
                f"hold one row for each of {count} objects",
                count_of(column),
            )
        for name in ("images", "labels"):
            column = getattr(self, name)
            require(count == 0 or int(column.min()) >= 0, name, "be indices of at least 0", _least(column))
        for name in ("boxes", "scores", "areas", "keypoints"):
            column = getattr(self, name)
            require(column is None or bool(np.isfinite(column).all()), name, "be finite numbers", "NaN or infinity")

    def __len__(self) -> int:
        return len(self.images)

    def select(self, rows: Integer[np.ndarray, " M"] | Bool[np.ndarray, " N"]) -> Objects:
        """The objects of these rows, in this order."""
        return Objects(
            images=self.images[rows],
            labels=self.labels[rows],
            boxes=self.boxes[rows],
            scores=None if self.scores is None else self.scores[rows],
            areas=self.areas[rows],
            crowd=self.crowd[rows],
            ignored=self.ignored[rows],
            masks=None if self.masks is None else self.masks.select(rows),
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            ids=self.ids[rows],
        )

    def class_agnostic(self) -> Objects:
        """The same with all classes taken as one, those of the first class first, else in their order.

        That is the order of pycocotools without categories, where it decides between equal scores and equal overlaps.
        """
        ordered = self.select(np.argsort(self.labels, kind="stable"))
        return replace(ordered, labels=np.zeros_like(ordered.labels))

    @classmethod
    def concatenate(cls, parts: Sequence[Objects]) -> Objects:
        """The rows of all parts, which must have the same columns."""
        require(len(parts) > 0, "parts", "hold at least one table", "none")
        columns: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            values = [getattr(part, name) for part in parts]
            missing = [value is None for value in values]
            require(all(missing) or not any(missing), "parts", f"all have {name}, or none of them", "some")
            if all(missing):
                columns[name] = None
            elif name == "masks":
                columns[name] = RLEMasks.concatenate(values)
            else:
                columns[name] = np.concatenate(values)
        return cls(**columns)


def count_of(column: Any) -> Any:
    """How many rows a column has, for an error's text."""
    return None if column is None else len(column)


def _least(column: np.ndarray) -> int | None:
    return int(column.min()) if len(column) else None
