"""Focal loss: cross-entropy with the easy pixels turned down."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.losses.cross_entropy import surprises
from delineate.losses.precision import full_precision
from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_number,
    check_per_class,
    check_target,
    checked_class_weights,
    over_ranks,
    ratio,
)

SMALLEST_GAP = 1e-12  # keeps d/dp (1 - p)^gamma finite at p = 1 when gamma < 1


def focused(surprise: Float[Tensor, "*N"], *, gamma: Number) -> Float[Tensor, "*N"]:
    """``-(1 - p)^gamma log p`` of the probability ``p = exp(-surprise)``: the form that both focal losses share.

    Args:
        surprise: negative logarithms of probabilities, in the precision to compute in.
        gamma: how strongly sure answers are turned down.
    """
    return (-torch.expm1(-surprise)).clamp_min(SMALLEST_GAP).pow(gamma) * surprise


def focal(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    gamma: Number = 2.0,
    alpha: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean of ``-alpha_t (1 - p_t)^gamma log p_t`` over the pixels that count, p_t the softmax of the true class.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 5, on a softmax.
    Differs: the paper's detector takes a sigmoid per class, so that each class is its own two-way decision, and divides
        by the number of matched anchors. Here classes exclude one another, as pixel labels do, and the divisor is the
        number of counted pixels (alpha stays a plain factor, as in the paper). With two classes the softmax form is the
        paper's sigmoid form on the difference of the two logits.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        gamma: how strongly sure pixels are turned down; 0 gives the cross-entropy.
        alpha: one factor a class.
        ignore_index: the label that does not count.
        normaliser: takes the number of counted pixels to its mean over processes.

    Returns:
        0 or more; 0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> logits = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1)
        >>> round(focal(logits, torch.tensor([[[0]]])).item(), 5)
        0.0018
    """
    check_target(logits, target)
    check_per_class("alpha", alpha, logits.shape[1])
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        surprise = surprises(logits, target, ignore_index=ignore_index)
        counted = target != ignore_index
        values = focused(surprise, gamma=gamma)
        if alpha is not None:
            values = values * alpha.to(logits)[torch.where(counted, target, 0).long()]
        return ratio(values.sum(), over_ranks(counted.sum().to(logits.dtype), normaliser))


class Focal(SemanticLoss):
    """:func:`focal` with its options, also on the side heads.

    Args:
        gamma: how strongly sure pixels are turned down.
        alpha: one factor a class, in label order.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 4, 4))
        >>> round(Focal()(outputs, torch.zeros(1, 4, 4, dtype=torch.long))["loss"].item(), 4)
        0.1733
    """

    alpha: Tensor | None

    def __init__(
        self,
        *,
        gamma: Number = 2.0,
        alpha: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        self.gamma = check_number("gamma", gamma, "be 0 or more", lambda v: v >= 0)
        self.register_buffer("alpha", checked_class_weights("alpha", alpha), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The focal loss of one head."""
        return focal(
            logits,
            target,
            gamma=self.gamma,
            alpha=self.alpha,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
