"""Soft Dice loss: one minus the overlap of the predicted probabilities with the true regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.checks import require
from delineate.losses.cross_entropy import full_precision
from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_per_class,
    check_target,
    checked_class_weights,
    over_ranks,
    unknown_label,
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
    check_target(logits, target)
    check_per_class("class_weights", class_weights, logits.shape[1])
    require(power in (1, 2), "power", "be 1 or 2", power)
    num_classes = logits.shape[1]
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        counted = target != ignore_index
        labels = torch.where(counted, target, 0).long()
        # a wait for the GPU is dearer than this check; there the gather below stops on such a label
        if (
            labels.device.type == "cpu"
            and labels.numel()
            and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes
        ):
            raise unknown_label(logits, target, ignore_index)
        probs = logits.softmax(dim=1) * counted.unsqueeze(1)
        hits = probs.gather(1, labels.unsqueeze(1)).flatten()
        flat = labels.flatten()
        overlap = hits.new_zeros(num_classes).index_add(0, flat, hits)
        true_area = hits.new_zeros(num_classes).index_add(0, flat, counted.flatten().to(hits.dtype))
        area = (probs if power == 1 else probs.square()).sum(dim=(0, 2, 3))
        overlap, area = over_ranks(overlap, normaliser), over_ranks(area, normaliser)
        true_area = over_ranks(true_area, normaliser)
        weights = (true_area > 0).to(hits.dtype)
        if class_weights is not None:
            weights = weights * class_weights.to(weights)
        total = weights.sum()
        gap = 1 - 2 * overlap / torch.where(true_area > 0, area + true_area, torch.ones_like(area))
        return (weights * gap).sum() / torch.where(total > 0, total, torch.ones_like(total))


class SoftDice(SemanticLoss):
    """:func:`soft_dice` with its options, also on the side heads.

    Args:
        class_weights: weights of the mean over classes, in label order.
        ignore_index: the label that does not count.
        power: 1 or 2, the exponent of the probabilities below the fraction line.
        auxiliary_weight: the weight of each side head's loss.

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
        auxiliary_weight: Number = 0.4,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight)
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
