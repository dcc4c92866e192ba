"""SSD's loss: cross-entropy of positive default boxes and of the hardest others, smooth L1 of the positive ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from delineate.checks import require
from delineate.losses.box_regression import smooth_l1
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, Number, over_ranks
from delineate.ops.box_assignment import assign_best_priors
from delineate.ops.box_coding import encode_boxes
from delineate.ops.box_sampling import hard_negatives
from delineate.ops.true_boxes import true_boxes
from delineate.structures.outputs import AnchorOutputs


class MultiBoxLoss(nn.Module):
    """Both sums divided by the number of positive default boxes of the batch.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2, eqs. 1 to 3.
    Differs: nothing. A batch without any object has a loss of 0, as in the paper.

    Args:
        ratio: background boxes that count for each positive one of their image.
        positive: IoU above which a default box is positive; each object's best one always is.
        box_weight: of the boxes' loss.

    Raises:
        ArgumentError: when ``ratio`` or ``box_weight`` is negative.
    """

    def __init__(self, *, ratio: Number = 3, positive: Number = 0.5, box_weight: Number = 1.0) -> None:
        super().__init__()
        require(ratio >= 0, "ratio", "be 0 or more", ratio)
        require(0 <= positive <= 1, "positive", "lie between 0 and 1", positive)
        require(box_weight >= 0, "box_weight", "be 0 or more", box_weight)
        self.ratio = ratio
        self.positive = positive
        self.box_weight = box_weight

    def forward(
        self, outputs: AnchorOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts "classes" and "boxes", not weighted.

        Args:
            outputs: with a softmax over classes and background.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            normaliser: takes the number of positive boxes to its mean over processes.

        Raises:
            ArgumentError: when there is not one target for each image.
        """
        require(len(targets) == len(outputs.logits), "targets", f"be {len(outputs.logits)}, one an image", len(targets))
        background = outputs.logits.shape[2] - 1
        labels, positive, ignored, wanted = [], [], [], []
        for target in targets:
            truths = true_boxes(target, num_classes=background)
            found = assign_best_priors(outputs.anchors, truths.boxes, positive=self.positive, crowd_boxes=truths.crowds)
            labels.append(found.labels(truths.labels, background=background, ignored=background))
            positive.append(found.positive)
            ignored.append(found.ignored)
            wanted.append(
                encode_boxes(
                    found.of_positives(truths.boxes),
                    outputs.anchors[found.positive],
                    weights=outputs.coding_weights,
                )
            )
        chosen = torch.stack(positive)
        values = cross_entropy(
            full_precision(outputs.logits).flatten(0, 1), torch.stack(labels).flatten(), reduction="none"
        ).view(chosen.shape)
        counted = chosen | hard_negatives(values, chosen, ratio=self.ratio, ignored=torch.stack(ignored))
        divisor = over_ranks(chosen.sum().to(values.dtype), normaliser).clamp(min=1)
        of_boxes = smooth_l1(outputs.deltas[chosen], torch.cat(wanted))
        parts = {"classes": values[counted].sum() / divisor, "boxes": of_boxes.sum() / divisor}
        return {"loss": parts["classes"] + self.box_weight * parts["boxes"], **parts}
