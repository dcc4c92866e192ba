"""Which regions of an image a two-stage detector learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from delineate.ops.box_assignment import assign_by_iou
from delineate.ops.box_sampling import sample_balanced
from delineate.ops.true_boxes import true_boxes


@dataclass(frozen=True)
class RegionSampling:
    """Which regions a detector learns from.

    Args:
        positive: IoU with an object from which on a region answers for it.
        negative: IoU below which it is background.
        least_negative: IoU from which on it is.
        count: regions of an image.
        share: of them that may be positive.
    """

    positive: float | int = 0.5
    negative: float | int = 0.5
    least_negative: float | int = 0
    count: int = 512
    share: float | int = 0.25


@torch.no_grad()
def sampled_regions(
    proposed: Sequence[Float[Tensor, "_ 4"]],
    targets: Sequence[Mapping[str, Any]],
    sampling: RegionSampling,
    *,
    num_classes: int,
) -> tuple[list[Float[Tensor, "_ 4"]], Int64[Tensor, " R"]]:
    """The regions of each image to learn from, and the row of its target that each answers for.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, and its release, where the true boxes are among the candidates.
    Differs: nothing.

    Args:
        proposed: xyxy pixels, for each image.
        targets: "boxes", "labels" and perhaps "iscrowd" of each image.
        sampling: which of them.
        num_classes: object classes.

    Returns:
        The boxes of each image, and of all of them the row of the image's target, -1 for background.
    """
    chosen, matches = [], []
    for boxes, target in zip(proposed, targets, strict=True):
        truths = true_boxes(target, num_classes=num_classes)
        candidates = torch.cat([boxes, truths.boxes.to(boxes)])
        found = assign_by_iou(
            candidates,
            truths.boxes,
            positive=sampling.positive,
            negative=sampling.negative,
            least_negative=sampling.least_negative,
            crowd_boxes=truths.crowds,
        ).matches
        sample = sample_balanced(found, count=sampling.count, positive_share=sampling.share)
        rows = torch.cat([sample.positives, sample.negatives])
        chosen.append(candidates[rows])
        # rows of the target, whose crowds were left out of the truths
        owners = torch.cat([truths.rows, truths.rows.new_tensor([-1])])
        matches.append(owners[found[rows]])
    return chosen, torch.cat(matches)
