"""Generalised Dice loss: one overlap over all classes, in which small regions weigh as much as large ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.checks import require
from delineate.losses.regions import region_sums
from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_per_class,
    checked_class_weights,
    ratio,
)

WEIGHTINGS = {"square": 2, "simple": 1, "uniform": 0}


def generalised_dice(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    weighting: str = "square",
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """``1 - 2 sum_k w_k sum(p_k g_k) / sum_k w_k (sum(p_k) + sum(g_k))`` with ``w_k = 1 / sum(g_k)^2``.

    Source: Sudre, Li, Vercauteren, Ourselin, Cardoso, "Generalised Dice overlap as a deep learning loss function for
        highly unbalanced segmentations", DLMIA 2017, section 2 (GDL_v).
    Differs: sums run over the whole batch. A class without a pixel in the batch has weight 0, where the formula would
        divide by zero and a small constant in its place would let that class outweigh all others.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        weighting: w_k is 1 over the class's pixels squared ("square", the paper), 1 over its pixels ("simple") or 1
            ("uniform").
        class_weights: a further factor a class; 0 leaves it (the background, say) out.
        ignore_index: the label whose pixels count neither in the overlap nor in the areas.
        normaliser: takes the sums of overlaps and areas to their means over processes.

    Returns:
        0 (perfect) to 1; 0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, on an unknown weighting, or (off the GPU) on a label that is no class.

    Example:
        >>> target = torch.tensor([[[0, 1, 1]]])  # w = 1, 1/4; overlaps 1/2, 1; areas 3/2 + 1, 3/2 + 2
        >>> round(generalised_dice(torch.zeros(1, 2, 1, 3), target).item(), 4)
        0.5556
    """
    check_weighting(weighting)
    check_per_class("class_weights", class_weights, logits.shape[1])
    overlap, predicted, true = region_sums(logits, target, ignore_index=ignore_index, normaliser=normaliser)
    present = (true > 0).to(true.dtype)
    weights = present / torch.where(true > 0, true, torch.ones_like(true)).pow(WEIGHTINGS[weighting])
    if class_weights is not None:
        weights = weights * class_weights.to(weights)
    area = (weights * (predicted + true)).sum()
    return (area > 0).to(area.dtype) - 2 * ratio((weights * overlap).sum(), area)


def check_weighting(weighting: str) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless there is such a weighting."""
    require(weighting in WEIGHTINGS, "weighting", f"be one of {', '.join(WEIGHTINGS)}", repr(weighting))


class GeneralisedDice(SemanticLoss):
    """:func:`generalised_dice` with its options, also on the side heads.

    Args:
        weighting: "square" (the paper), "simple" or "uniform": how much more a small region weighs.
        class_weights: a further factor a class, in label order.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 1, 3))
        >>> round(GeneralisedDice()(outputs, torch.tensor([[[0, 1, 1]]]))["loss"].item(), 4)
        0.5556
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        weighting: str = "square",
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        check_weighting(weighting)
        self.weighting = weighting
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The generalised Dice loss of one head."""
        return generalised_dice(
            logits,
            target,
            weighting=self.weighting,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
