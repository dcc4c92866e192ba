"""Faster R-CNN's loss: objectness and boxes of sampled anchors, classes and boxes of sampled regions; or one half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.losses.box_regression import smooth_l1
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, Number, check_number, over_ranks
from delineate.ops.anchors import anchors_inside
from delineate.ops.box_assignment import IGNORED, assign_by_iou
from delineate.ops.box_coding import encode_boxes
from delineate.ops.box_sampling import sample_balanced
from delineate.ops.true_boxes import true_boxes
from delineate.structures.outputs import AnchorOutputs, RegionOutputs


class RegionDetectionLoss(nn.Module):
    """The sum of four means: two over the anchors drawn for the proposals, two over the regions.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1.2, with all parts of weight 1 and divided by the number
    of samples, as in the release and in torchvision, whose numbers these are.
    Differs: anchors that cross the border learn too, as in torchvision; ``inside_only`` leaves them out, as the paper.

    Either half may be weighted, or left out with 0, as where proposals and regions learn in turns (section 3.2). Of a
    half that is left out nothing is computed, so that its layers have no gradient.

    Args:
        proposals: weight of the half over the anchors.
        regions: weight of the half over the regions.
        anchors: drawn from each image.
        share: of them that may be positive.
        positive: IoU with an object from which on an anchor is positive; each object's best ones always are.
        negative: IoU below which it is background.
        beta: where smooth L1's square ends.
        inside_only: how far, in pixels, an anchor may cross the border of the image; None for any distance.

    Raises:
        ArgumentError: when a number is out of its range, or both halves are left out.

    Example:
        >>> RegionDetectionLoss(regions=0).proposals
        1.0
    """

    def __init__(
        self,
        *,
        proposals: Number = 1,
        regions: Number = 1,
        anchors: int = 256,
        share: Number = 0.5,
        positive: Number = 0.7,
        negative: Number = 0.3,
        beta: Number = 1 / 9,
        inside_only: Number | None = None,
    ) -> None:
        super().__init__()
        self.proposals = check_number("proposals", proposals, "be 0 or more", lambda v: v >= 0)
        self.regions = check_number("regions", regions, "be 0 or more", lambda v: v >= 0)
        require(self.proposals + self.regions > 0, "proposals", "be above 0 where regions is 0", self.proposals)
        require(anchors > 0, "anchors", "be above 0", anchors)
        require(0 <= share <= 1, "share", "lie between 0 and 1", share)
        require(0 <= negative <= positive <= 1, "negative", "lie between 0 and positive", negative)
        require(beta >= 0, "beta", "be 0 or more", beta)
        self.anchors = anchors
        self.share = share
        self.positive = positive
        self.negative = negative
        self.beta = beta
        self.inside_only = inside_only

    def forward(
        self,
        outputs: RegionOutputs,
        targets: Sequence[Mapping[str, Any]],
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        normaliser: Normaliser | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts "objectness", "proposals", "classes" and "boxes".

        Parts are told before their weights, and not at all where their half is left out.

        Args:
            outputs: of a model that was given the targets, whose regions are a sample; without regions' half, any.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            sizes: (height, width) of each image without padding, for ``inside_only``.
            normaliser: takes numbers of samples to their means over processes.

        Raises:
            ArgumentError: when there is not one target for each image, or regions were not sampled.
        """
        count = len(outputs.proposals.logits)
        require(len(targets) == count, "targets", f"be {count}, one an image", len(targets))
        parts: dict[str, Tensor] = {}
        weighted: list[Tensor] = []
        if self.proposals:
            of_anchors = self._of_anchors(outputs.proposals, targets, sizes, normaliser)
            parts |= of_anchors
            weighted += [self.proposals * value for value in of_anchors.values()]
        if self.regions:
            if outputs.matches is None:
                raise ArgumentError(
                    "outputs must be of regions sampled with the targets; got none. Call model(images, targets)."
                )
            of_regions = self._of_regions(outputs, outputs.matches, targets, normaliser)
            parts |= of_regions
            weighted += [self.regions * value for value in of_regions.values()]
        return {"loss": torch.stack(weighted).sum(), **parts}

    def _of_anchors(
        self,
        outputs: AnchorOutputs,
        targets: Sequence[Mapping[str, Any]],
        sizes: Sequence[tuple[int, int]] | None,
        normaliser: Normaliser | None,
    ) -> dict[str, Tensor]:
        logits, wanted, moves, goals = [], [], [], []
        for image, target in enumerate(targets):
            truths = true_boxes(target)
            matches = assign_by_iou(
                outputs.anchors,
                truths.boxes,
                positive=self.positive,
                negative=self.negative,
                keep_best=0,
                crowd_boxes=truths.crowds,
            ).matches
            if self.inside_only is not None:
                require(sizes is not None, "sizes", "be given with inside_only", None)
                assert sizes is not None
                inside = anchors_inside(outputs.anchors, sizes[image], margin=self.inside_only)
                matches = torch.where(inside, matches, IGNORED)
            sample = sample_balanced(matches, count=self.anchors, positive_share=self.share)
            rows = torch.cat([sample.positives, sample.negatives])
            logits.append(outputs.logits[image, rows])
            wanted.append(matches[rows] >= 0)
            moves.append(outputs.deltas[image, sample.positives])
            goals.append(encode_boxes(truths.boxes[matches[sample.positives]], outputs.anchors[sample.positives]))
        scores, positive = full_precision(torch.cat(logits)), torch.cat(wanted)
        if outputs.scoring == "sigmoid":
            values = binary_cross_entropy_with_logits(scores[:, 0], positive.to(scores.dtype), reduction="none")
        else:
            values = cross_entropy(scores, (~positive).long(), reduction="none")
        divisor = _divisor(len(scores), values, normaliser)
        of_boxes = smooth_l1(torch.cat(moves), torch.cat(goals), beta=self.beta)
        return {"objectness": values.sum() / divisor, "proposals": of_boxes.sum() / divisor}

    def _of_regions(
        self,
        outputs: RegionOutputs,
        matches: Tensor,
        targets: Sequence[Mapping[str, Any]],
        normaliser: Normaliser | None,
    ) -> dict[str, Tensor]:
        background = outputs.logits.shape[1] - 1
        labels = torch.full_like(matches, background)
        goals = outputs.regions.new_zeros(len(matches), 4)
        for image, target in enumerate(targets):
            own = (outputs.images == image) & (matches >= 0)
            labels[own] = target["labels"].to(labels)[matches[own]]
            goals[own] = target["boxes"].as_subclass(Tensor).to(goals)[matches[own]]
        values = cross_entropy(full_precision(outputs.logits), labels, reduction="none")
        positive = matches >= 0
        moves = outputs.deltas[positive, labels[positive]]
        wanted = encode_boxes(goals[positive], outputs.regions[positive], weights=outputs.coding_weights)
        divisor = _divisor(len(labels), values, normaliser)
        of_boxes = smooth_l1(moves, wanted, beta=self.beta)
        return {"classes": values.sum() / divisor, "boxes": of_boxes.sum() / divisor}


def _divisor(count: int, like: Tensor, normaliser: Normaliser | None) -> Tensor:
    return over_ranks(like.new_tensor(float(count)), normaliser).clamp(min=1)
