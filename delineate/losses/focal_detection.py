"""RetinaNet's loss: focal loss of every anchor's classes, smooth L1 or an IoU loss of the positive ones' boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.losses.box_regression import generalised_iou_loss, smooth_l1
from delineate.losses.sigmoid_focal import sigmoid_focal
from delineate.losses.supervision import Normaliser, Number
from delineate.ops.box_assignment import Assignment, assign_atss, assign_by_iou
from delineate.ops.box_coding import decode_boxes, encode_boxes
from delineate.ops.true_boxes import TrueBoxes, true_boxes
from delineate.registry import unknown_name
from delineate.structures.outputs import AnchorOutputs

ASSIGNMENTS = ("iou", "atss")
BOX_LOSSES = ("smooth_l1", "giou")


class FocalDetectionLoss(nn.Module):
    """The sum over an image's anchors divided by its number of positive ones, meant over images.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4; equal to torchvision's with
    ``beta=0``.
    Differs: nothing by default. ``assignment="atss"`` and ``box_loss="giou"`` are what Zhang et al., CVPR 2020, train
    the same network with.

    Args:
        alpha: weight of the class that is there, one minus it that of those that are not.
        gamma: how strongly sure answers are turned down.
        beta: where smooth L1's square ends; 0 for L1.
        assignment: "iou" (positive from 0.5, background below 0.4, each object's best anchor kept) or "atss".
        nearest: anchors of each level near an object from which "atss" chooses; times the anchors of a place.
        box_loss: "smooth_l1" of the encoded boxes, or "giou".
        box_weight: of the boxes' loss.

    Raises:
        UnknownNameError: on another assignment or box loss.
        ArgumentError: when a number is out of its range.
    """

    def __init__(
        self,
        *,
        alpha: Number = 0.25,
        gamma: Number = 2.0,
        beta: Number = 1 / 9,
        assignment: str = "iou",
        nearest: int = 81,
        box_loss: str = "smooth_l1",
        box_weight: Number = 1.0,
    ) -> None:
        super().__init__()
        if assignment not in ASSIGNMENTS:
            raise unknown_name("assignment", assignment, ASSIGNMENTS)
        if box_loss not in BOX_LOSSES:
            raise unknown_name("box_loss", box_loss, BOX_LOSSES)
        require(0 <= alpha <= 1, "alpha", "lie between 0 and 1", alpha)
        require(gamma >= 0, "gamma", "be 0 or more", gamma)
        require(beta >= 0, "beta", "be 0 or more", beta)
        require(box_weight >= 0, "box_weight", "be 0 or more", box_weight)
        self.alpha = alpha
        self.gamma = gamma
        self.beta = beta
        self.assignment = assignment
        self.nearest = nearest
        self.box_loss = box_loss
        self.box_weight = box_weight

    def forward(
        self, outputs: AnchorOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts "classes" and "boxes", not weighted.

        Args:
            outputs: with a sigmoid for each class.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            normaliser: not needed: each image has a divisor of its own.

        Raises:
            ArgumentError: when there is not one target for each image.
        """
        del normaliser
        require(len(targets) == len(outputs.logits), "targets", f"be {len(outputs.logits)}, one an image", len(targets))
        classes, boxes = [], []
        for logits, deltas, target in zip(outputs.logits, outputs.deltas, targets, strict=True):
            truths = true_boxes(target, num_classes=outputs.logits.shape[2])
            found = self._assigned(outputs, truths)
            positive, counted = found.positive, ~found.ignored
            divisor = positive.sum().clamp(min=1)
            labels = found.labels(truths.labels, background=logits.shape[1], ignored=logits.shape[1])
            wanted = torch.zeros_like(logits, dtype=torch.bool)
            wanted[positive, labels[positive]] = True
            values = sigmoid_focal(logits[counted], wanted[counted], alpha=self.alpha, gamma=self.gamma)
            classes.append(values.sum() / divisor)
            of_boxes = self._box_values(
                deltas[positive], outputs.anchors[positive], found.of_positives(truths.boxes), outputs.coding_weights
            )
            boxes.append(of_boxes.sum() / divisor)
        parts = {"classes": torch.stack(classes).mean(), "boxes": torch.stack(boxes).mean()}
        return {"loss": parts["classes"] + self.box_weight * parts["boxes"], **parts}

    def _assigned(self, outputs: AnchorOutputs, truths: TrueBoxes) -> Assignment:
        if self.assignment == "atss":
            return assign_atss(
                outputs.anchors, outputs.levels, truths.boxes, top=self.nearest, crowd_boxes=truths.crowds
            )
        return assign_by_iou(
            outputs.anchors, truths.boxes, positive=0.5, negative=0.4, keep_best=0, crowd_boxes=truths.crowds
        )

    def _box_values(self, deltas: Tensor, anchors: Tensor, truths: Tensor, weights: Sequence[Number]) -> Tensor:
        if self.box_loss == "giou":
            return generalised_iou_loss(decode_boxes(deltas, anchors, weights=weights), truths)
        return smooth_l1(deltas, encode_boxes(truths, anchors, weights=weights), beta=self.beta)
