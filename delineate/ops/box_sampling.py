"""Which anchors a loss counts, of the many that are background: a random few, or the hardest."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.ops.box_assignment import BACKGROUND

Number = int | float


class Sample(NamedTuple):
    """Rows of the chosen anchors, in random order.

    Args:
        positives: of those that answer for a true box.
        negatives: of those that must find nothing.
    """

    positives: Int64[Tensor, " P"]
    negatives: Int64[Tensor, " N"]


def sample_balanced(matches: Int64[Tensor, " A"], *, count: int, positive_share: Number) -> Sample:
    """Up to ``count`` anchors of an image, of them at most ``positive_share`` positive, the rest background.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.3 (64 of an image, a quarter positive); Ren et al., "Faster
    R-CNN", NIPS 2015, section 3.1.3 (256, half). Draws from torch's global generator in the order of torchvision's
    ``BalancedPositiveNegativeSampler``, so that one seed gives both the same anchors.
    Differs: nothing.

    Args:
        matches: of an :class:`~delineate.ops.box_assignment.Assignment`; ignored anchors are never drawn.
        count: anchors to draw; fewer where there are not as many.
        positive_share: 0 to 1. Places that positives do not fill go to background.

    Raises:
        ArgumentError: when ``count`` is not above 0 or ``positive_share`` lies outside 0 to 1.

    Example:
        >>> sample = sample_balanced(torch.tensor([0, -1, -1, -2, -1, 1]), count=4, positive_share=0.25)
        >>> len(sample.positives), len(sample.negatives)
        (1, 3)
    """
    require(count > 0, "count", "be above 0", count)
    require(0 <= positive_share <= 1, "positive_share", "lie between 0 and 1", positive_share)
    positives = (matches >= 0).nonzero()[:, 0]
    negatives = (matches == BACKGROUND).nonzero()[:, 0]
    kept = min(len(positives), int(count * positive_share))
    others = min(len(negatives), count - kept)
    drawn = torch.randperm(len(positives), device=matches.device)[:kept]
    return Sample(positives[drawn], negatives[torch.randperm(len(negatives), device=matches.device)[:others]])


def hard_negatives(
    losses: Float[Tensor, "B A"],
    positive: Bool[Tensor, "B A"],
    *,
    ratio: Number = 3,
    least: int = 0,
    ignored: Bool[Tensor, "B A"] | None = None,
) -> Bool[Tensor, "B A"]:
    """The background anchors of each image with the largest losses, ``ratio`` times as many as it has positive ones.

    Source: Liu et al., "SSD", ECCV 2016, section 2.2, "Hard negative mining".
    Differs: nothing. Of equal losses the first anchors are taken.

    Args:
        losses: of calling each anchor background; no gradient flows through the choice.
        positive: which anchors answer for a true box.
        ratio: background anchors for each positive one, rounded down for the image.
        least: how many at least; with 0 an image without objects teaches nothing, as in the paper.
        ignored: which anchors are never taken.

    Raises:
        ArgumentError: when ``ratio`` or ``least`` is negative.

    Example:
        >>> positive = torch.tensor([[True, False, False, False]])
        >>> hard_negatives(torch.tensor([[9., 1., 3., 2.]]), positive, ratio=2).tolist()
        [[False, False, True, True]]
    """
    require(ratio >= 0, "ratio", "be 0 or more", ratio)
    require(least >= 0, "least", "be 0 or more", least)
    taken = positive if ignored is None else positive | ignored
    wanted = (positive.sum(dim=1, keepdim=True) * ratio).long().clamp(min=least)
    order = losses.detach().masked_fill(taken, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(losses.shape[1], device=losses.device).expand_as(order)
    chosen = torch.zeros_like(positive).scatter(1, order, ranks < wanted)
    return chosen & ~taken
