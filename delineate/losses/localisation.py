"""The localiser's loss: cross-entropy and box regression of the slots, paired with the objects as is cheapest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.losses.box_regression import generalised_iou_loss
from delineate.losses.precision import full_precision
from delineate.losses.slots import SlotTruths, cheapest_pairs, slot_truths
from delineate.losses.supervision import Normaliser, Number
from delineate.registry import unknown_name
from delineate.structures.outputs import SlotOutputs

BOX_LOSSES = ("l2", "l1", "giou")


class LocalisationLoss(nn.Module):
    """Summed over an image's slots, meant over images; objects and slots are paired so that this sum is smallest.

    With one slot and one object it is plain classification with box regression. Slots without an object learn the
    background where there is one, and nothing else.

    Source: Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional
    Networks", ICLR 2014, section 4 (cross-entropy, and the squared distance of the box's four edges); the pairing:
    Erhan et al., "Scalable Object Detection using Deep Neural Networks", CVPR 2014, section 3.
    Differs: classes and boxes are learned together; OverFeat trains the box's layers after the classifier. Edges are
    shares of the image, whose squared errors are soon too small to teach: by default the absolute ones count.

    Args:
        box_loss: "l1" for the absolute distance of the edges, "l2" for the squared one (OverFeat), "giou" for
            one minus the generalised IoU.
        box_weight: of the boxes' loss. The gradient of "l1" never fades: with 5, classes of digits stayed at chance.

    Raises:
        UnknownNameError: on another box loss.
        ArgumentError: when ``box_weight`` is negative.

    Example:
        >>> said = SlotOutputs(torch.zeros(1, 1, 2), torch.tensor([0.0, 0.0, 0.5, 0.5]).view(1, 1, 1, 4), (64, 64))
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 32.0, 64.0]]), "labels": torch.tensor([1])}
        >>> found = LocalisationLoss(box_loss="l1")(said, [target])
        >>> round(float(found["classes"]), 4), float(found["boxes"])
        (0.6931, 0.5)
    """

    def __init__(self, *, box_loss: str = "l1", box_weight: Number = 1.0) -> None:
        super().__init__()
        if box_loss not in BOX_LOSSES:
            raise unknown_name("box_loss", box_loss, BOX_LOSSES)
        require(box_weight >= 0, "box_weight", "be 0 or more", box_weight)
        self.box_loss = box_loss
        self.box_weight = box_weight

    def forward(
        self, outputs: SlotOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts "classes" and "boxes", not weighted.

        Args:
            outputs: without objectness: classes alone tell whether something is there.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            normaliser: not needed: what is summed belongs to one image.

        Raises:
            ArgumentError: when there is not one target for each image, or the outputs have objectness.
        """
        del normaliser
        holds = outputs.objectness is None
        require(holds, "outputs", "have no objectness", "some", "Take BipartiteMultiBoxLoss for it.")
        truths = slot_truths(outputs, targets, num_classes=outputs.num_classes)
        parts = [self._of_image(outputs, image, own) for image, own in enumerate(truths)]
        classes, boxes = torch.stack(parts).mean(0)
        return {"loss": classes + self.box_weight * boxes, "classes": classes, "boxes": boxes}

    def _of_image(self, outputs: SlotOutputs, image: int, truths: SlotTruths) -> Float[Tensor, " 2"]:
        """Both sums of one image."""
        surprise = -full_precision(outputs.logits[image]).log_softmax(-1)  # N K, perhaps one more
        nothing = surprise[:, -1] if outputs.background else torch.zeros_like(surprise[:, 0])
        wrong = surprise[:, truths.labels]  # N T
        apart = self._distances(full_precision(outputs.boxes[image]), truths)  # N T
        costs = wrong - nothing[:, None] + self.box_weight * apart
        slots, objects, free = cheapest_pairs(costs, outputs.likeliest_boxes[image], truths.crowds)
        return torch.stack([wrong[slots, objects].sum() + nothing[free].sum(), apart[slots, objects].sum()])

    def _distances(self, boxes: Float[Tensor, "N P 4"], truths: SlotTruths) -> Float[Tensor, "N T"]:
        """Of each slot, its box of the object's class against the object."""
        pairs = len(boxes), len(truths.labels)
        said = boxes.expand(*pairs, 4) if boxes.shape[1] == 1 else boxes[:, truths.labels]
        if self.box_loss == "giou":
            wanted = truths.boxes.expand(*pairs, 4)
            return generalised_iou_loss(said.reshape(-1, 4), wanted.reshape(-1, 4)).view(pairs)
        errors = said - truths.boxes
        return (errors.square() if self.box_loss == "l2" else errors.abs()).sum(-1)
