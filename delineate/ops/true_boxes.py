"""The true boxes of one image as a detector learns from them: single objects, and apart from them the crowds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.ops.boxes import check_boxes


class TrueBoxes(NamedTuple):
    """What an image shows.

    Args:
        boxes: xyxy pixels of single objects.
        labels: their classes, from 0.
        crowds: boxes around groups, which are neither objects nor background.
        rows: of the target, that these are.
    """

    boxes: Float[Tensor, "T 4"]
    labels: Int64[Tensor, " T"]
    crowds: Float[Tensor, "C 4"]
    rows: Int64[Tensor, " T"]


def true_boxes(target: Mapping[str, Any], *, num_classes: int | None = None) -> TrueBoxes:
    """The boxes of a target with "boxes", "labels" and perhaps "iscrowd".

    Args:
        target: of one image; without objects, its columns have no rows.
        num_classes: labels must be below it; not checked when None, nor off the CPU, which would wait.

    Raises:
        ArgumentError: when boxes are not (N, 4), the columns have different lengths, or a label is no class.

    Example:
        >>> boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 90., 50.]])
        >>> found = true_boxes({"boxes": boxes, "labels": torch.tensor([2, 2]), "iscrowd": torch.tensor([0, 1])})
        >>> len(found.boxes), len(found.crowds)
        (1, 1)
    """
    boxes = target["boxes"].as_subclass(Tensor)
    check_boxes("boxes", boxes)
    labels: Tensor = target["labels"]
    require(len(labels) == len(boxes), "labels", f"be {len(boxes)}, one a box", len(labels))
    if num_classes is not None and labels.device.type == "cpu" and len(labels):
        low, high = int(labels.min()), int(labels.max())
        known = low >= 0 and high < num_classes
        require(known, "labels", f"be object classes 0 to {num_classes - 1}", low if low < 0 else high)
    crowd: Bool[Tensor, " N"] = torch.as_tensor(
        target.get("iscrowd", torch.zeros(len(boxes), dtype=torch.bool)), device=boxes.device
    ).bool()
    single = ~crowd
    return TrueBoxes(boxes[single], labels[single].long(), boxes[crowd], single.nonzero()[:, 0])
