"""The region proposal network: at every place of every level, which of a few anchors hold an object, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.models.blocks.anchor_rows import anchor_rows
from delineate.ops.anchors import pyramid_anchors
from delineate.ops.box_coding import clip_boxes, decode_boxes, valid_boxes
from delineate.ops.suppression import batched_nms
from delineate.structures.outputs import AnchorOutputs


@dataclass(frozen=True)
class ProposalOptions:
    """Which proposals become regions.

    Args:
        before_training: the best of each level that are compared, in training.
        before: otherwise.
        after_training: those of an image that are kept, in training.
        after: otherwise.
        iou_threshold: of two proposals of a level that overlap by more, the better one stays.
        min_size: of a proposal's sides, in pixels.
    """

    before_training: int = 2000
    before: int = 1000
    after_training: int = 2000
    after: int = 1000
    iou_threshold: float | int = 0.7
    min_size: float | int = 1e-3


class RegionProposalNetwork(nn.Module):
    """3x3 convolutions with ReLU, then objectness and boxes of the anchors at each place; shared by all levels.

    Source: Ren, He, Girshick, Sun, "Faster R-CNN", NIPS 2015, section 3.1; on a pyramid: Lin et al., CVPR 2017, section
    4.1.
    Differs: nothing with ``scoring="softmax"``; "sigmoid" has one logit an anchor where the paper has two, whose
    difference it is.

    Args:
        in_channels: of the levels.
        channels: of the 3x3 convolutions.
        bases: the anchors around a place of each level, as many on each.
        layers: 3x3 convolutions.
        scoring: "sigmoid", or "softmax" for two logits an anchor, the second for the background.
        options: of the proposals.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        bases: Sequence[Float[Tensor, "_ 4"]],
        *,
        layers: int = 1,
        scoring: Literal["sigmoid", "softmax"] = "sigmoid",
        options: ProposalOptions = ProposalOptions(),
    ) -> None:
        super().__init__()
        widths = [in_channels, *[channels] * layers]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        self.hidden = nn.Sequential(*(part for layer in convolutions for part in (layer, nn.ReLU(inplace=True))))
        anchors = len(bases[0])
        self.scoring = scoring
        self.logits = 1 if scoring == "sigmoid" else 2  # of an anchor
        self.objectness = nn.Conv2d(channels, self.logits * anchors, 1)
        self.boxes = nn.Conv2d(channels, 4 * anchors, 1)
        for layer in (*convolutions, self.objectness, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.bases = tuple(bases)
        self.options = options

    def forward(self, levels: Sequence[Float[Tensor, "B _ _ _"]], *, size: tuple[int, int]) -> AnchorOutputs:
        """Objectness and boxes of every anchor.

        Args:
            levels: finest first.
            size: (height, width) of the images, padding included.
        """
        hidden = [self.hidden(level) for level in levels]
        bases = [base.to(levels[0].device) for base in self.bases]
        anchors = pyramid_anchors(bases, [(level.shape[-2], level.shape[-1]) for level in levels], over=size)
        logits = [anchor_rows(self.objectness(level), self.logits) for level in hidden]
        deltas = [anchor_rows(self.boxes(level), 4) for level in hidden]
        return AnchorOutputs(
            logits=torch.cat(logits, dim=1),
            deltas=torch.cat(deltas, dim=1),
            anchors=torch.cat(anchors),
            levels=tuple(level.shape[0] for level in anchors),
            scoring=self.scoring,
        )

    @torch.no_grad()
    def proposals(
        self, outputs: AnchorOutputs, sizes: Sequence[tuple[int, int]], *, training: bool | None = None
    ) -> list[Float[Tensor, "_ 4"]]:
        """The regions of each image, best first, within it; no gradient flows through them.

        Args:
            outputs: of this network.
            sizes: (height, width) of each image, without padding.
            training: whether they are as many as a detector in training looks at, which may be so while this network is
                fixed; as the network's own mode is when None.
        """
        training = self.training if training is None else training
        before = self.options.before_training if training else self.options.before
        after = self.options.after_training if training else self.options.after
        logits = outputs.logits.float()
        scores = logits[..., 0] if self.scoring == "sigmoid" else logits[..., 0] - logits[..., 1]
        places, level_of, first = [], [], 0
        for number, count in enumerate(outputs.levels):
            best = scores[:, first : first + count].topk(min(before, count), dim=1).indices
            places.append(best + first)
            level_of.append(torch.full_like(best[0], number))
            first += count
        chosen, groups = torch.cat(places, dim=1), torch.cat(level_of)
        found = []
        for image, (rows, size) in enumerate(zip(chosen, sizes, strict=True)):
            boxes = clip_boxes(decode_boxes(outputs.deltas[image, rows], outputs.anchors[rows]), size)
            valid = valid_boxes(boxes, self.options.min_size)
            boxes, values, own = boxes[valid], scores[image, rows][valid].sigmoid(), groups[valid]
            found.append(boxes[batched_nms(boxes, values, own, iou_threshold=self.options.iou_threshold)[:after]])
        return found
