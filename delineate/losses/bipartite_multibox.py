"""MultiBox's loss: as many proposals as objects answer for them, one to one; all confidences learn who does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.losses.slots import SlotTruths, cheapest_pairs, slot_truths
from delineate.losses.supervision import Normaliser, Number
from delineate.ops.boxes import BoxPairs
from delineate.registry import unknown_name
from delineate.structures.outputs import SlotOutputs

MATCHINGS = ("priors", "predictions")


class BipartiteMultiBoxLoss(nn.Module):
    """``alpha`` times half the squared distances of paired boxes, and the logarithmic loss of every confidence.

    SSD's loss, of the same name in its paper, is :class:`~delineate.losses.multibox.MultiBoxLoss`.

    Source: Erhan et al., "Scalable Object Detection using Deep Neural Networks", CVPR 2014, section 3
    (F = alpha F_match + F_conf, alpha 0.3); summed over an image, meant over images.
    Differs: nothing by default. Where the network has a head for classes, which the paper leaves to a second network,
    the cross-entropy of the paired proposals' classes is added.

    Args:
        alpha: weight of the boxes.
        matching: what objects are paired with: "priors", by the squared distance, which is the paper's last word, or
            "predictions", by what each pair adds to this loss.
        class_weight: of the classes' loss.
        class_overlap: the IoU from which a box without an object of its own learns the class of the one it overlaps
            most, as the paper's second network does from 0.5; when left out, only paired boxes learn one.

    Raises:
        UnknownNameError: on another matching.
        ArgumentError: when a weight is negative, or the overlap does not lie between 0 and 1.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
        >>> said = SlotOutputs(torch.zeros(1, 2, 1), boxes.view(1, 2, 1, 4), (64, 64), False, torch.zeros(1, 2), boxes)
        >>> target = {"boxes": torch.tensor([[0.0, 0.0, 32.0, 64.0]]), "labels": torch.tensor([0])}
        >>> {name: round(float(value), 4) for name, value in BipartiteMultiBoxLoss()(said, [target]).items()}
        {'loss': 1.4238, 'boxes': 0.125, 'objects': 0.6931, 'no_objects': 0.6931, 'classes': 0.0}
    """

    def __init__(
        self,
        *,
        alpha: Number = 0.3,
        matching: str = "priors",
        class_weight: Number = 1.0,
        class_overlap: Number | None = None,
    ) -> None:
        super().__init__()
        if matching not in MATCHINGS:
            raise unknown_name("matching", matching, MATCHINGS)
        require(alpha >= 0, "alpha", "be 0 or more", alpha)
        require(class_weight >= 0, "class_weight", "be 0 or more", class_weight)
        lies = class_overlap is None or 0 < class_overlap <= 1
        require(lies, "class_overlap", "be above 0 and at most 1, or none", class_overlap)
        self.alpha = alpha
        self.class_overlap = class_overlap
        self.matching = matching
        self.class_weight = class_weight

    def forward(
        self, outputs: SlotOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts "boxes", "objects", "no_objects" and "classes", not weighted.

        Args:
            outputs: with objectness and one box a slot. Where they have a single class, every object is of it,
                whatever its label.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            normaliser: not needed: what is summed belongs to one image.

        Raises:
            ArgumentError: when there is not one target for each image, when the outputs have no objectness, or no
                priors that are to be matched.
        """
        del normaliser
        holds = outputs.objectness is not None
        require(holds, "outputs", "have objectness", "none", "Take LocalisationLoss for them.")
        holds = self.matching == "predictions" or outputs.priors is not None
        require(holds, "outputs", "have priors to match", "none", 'Pass matching="predictions".')
        only_one = outputs.num_classes == 1
        truths = slot_truths(outputs, targets, num_classes=None if only_one else outputs.num_classes)
        if only_one:
            truths = [own._replace(labels=torch.zeros_like(own.labels)) for own in truths]
        names = ("boxes", "objects", "no_objects", "classes")
        of_images = torch.stack([self._of_image(outputs, image, own) for image, own in enumerate(truths)])
        parts = dict(zip(names, of_images.mean(0), strict=True))
        total = self.alpha * parts["boxes"] + parts["objects"] + parts["no_objects"]
        return {"loss": total + self.class_weight * parts["classes"], **parts}

    def _of_image(self, outputs: SlotOutputs, image: int, truths: SlotTruths) -> Float[Tensor, " 4"]:
        """The four sums of one image."""
        assert outputs.objectness is not None
        confidence = full_precision(outputs.objectness[image])
        boxes = full_precision(outputs.boxes[image, :, 0])
        apart = _half_squares(boxes, truths.boxes)  # N T
        wrong = -full_precision(outputs.logits[image]).log_softmax(-1)[:, truths.labels]
        if self.matching == "priors":
            assert outputs.priors is not None
            costs = _half_squares(full_precision(outputs.priors), truths.boxes)
        else:
            # -log c + log(1 - c) is the confidence before its sigmoid, turned round
            costs = self.alpha * apart - confidence[:, None] + self.class_weight * wrong
        slots, objects, free = cheapest_pairs(costs, boxes, truths.crowds)
        classes = wrong[slots, objects].sum()
        if self.class_overlap is not None and wrong.numel():
            overlaps = BoxPairs(boxes.detach()[:, None], truths.boxes).iou  # N T
            overlaps[slots] = 0
            near = (overlaps.amax(1) >= self.class_overlap).nonzero()[:, 0]
            classes = classes + wrong[near, overlaps[near].argmax(1)].sum()
        return torch.stack(
            [
                apart[slots, objects].sum(),
                softplus(-confidence[slots]).sum(),
                softplus(confidence[free]).sum(),
                classes,
            ]
        )


def _half_squares(boxes: Float[Tensor, "N 4"], truths: Float[Tensor, "T 4"]) -> Float[Tensor, "N T"]:
    return (boxes[:, None] - truths).square().sum(-1) / 2
