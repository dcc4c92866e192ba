"""Soft Dice loss: one minus the overlap of the predicted probabilities with the true regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.checks import require
from delineate.losses.regions import mean_over_present, region_sums
from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_per_class,
    checked_class_weights,
)


def soft_dice(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    power: int = 1,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """One minus the mean over the present classes of ``2 sum(p g) / (sum(p^power) + sum(g))``.

    Source: Milletari et al., "V-Net", 3DV 2016, section 3 (power 2); Sudre et al., "Generalised Dice overlap", DLMIA
        2017, for the form without squares (power 1), the usual one today.
    Differs: several classes, by softmax. Sums run over the whole batch. A class with no pixel in the batch is left out
        of the mean instead of being held up by a smoothing constant: nothing is added above or below the fraction line.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        class_weights: weights of the mean over classes; 0 leaves a class (the background, say) out.
        ignore_index: the label whose pixels count neither in the overlap nor in the areas.
        power: 1 or 2, the exponent of the probabilities below the fraction line.
        normaliser: takes the sums of overlaps and areas to their means over processes; the gradient averaged over
            processes is then exactly the one on the joined batch.

    Returns:
        0 (perfect) to 1; 0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 2)
        >>> round(soft_dice(logits, torch.tensor([[[0, 1]]])).item(), 4)
        0.5
    """
    check_per_class("class_weights", class_weights, logits.shape[1])
    require(power in (1, 2), "power", "be 1 or 2", power)
    sums = region_sums(logits, target, ignore_index=ignore_index, power=power, normaliser=normaliser)
    area = torch.where(sums.true > 0, sums.predicted + sums.true, torch.ones_like(sums.true))
    return mean_over_present(1 - 2 * sums.overlap / area, sums.true, class_weights)


class SoftDice(SemanticLoss):
    """:func:`soft_dice` with its options, also on the side heads.

    Args:
        class_weights: weights of the mean over classes, in label order.
        ignore_index: the label that does not count.
        power: 1 or 2, the exponent of the probabilities below the fraction line.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 1, 2))
        >>> round(SoftDice()(outputs, torch.tensor([[[0, 1]]]))["loss"].item(), 4)
        0.5
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        power: int = 1,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        require(power in (1, 2), "power", "be 1 or 2", repr(power))
        self.power = int(power)
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The soft Dice loss of one head."""
        return soft_dice(
            logits,
            target,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            power=self.power,
            normaliser=normaliser,
        )
