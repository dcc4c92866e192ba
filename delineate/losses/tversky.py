"""Tversky loss: an overlap in which false positives and misses have prices of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.losses.regions import mean_over_present, region_sums
from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_number,
    check_per_class,
    checked_class_weights,
)

SMALLEST_GAP = 1e-12  # keeps the slope of gap^(1 / gamma) finite at a perfect overlap


def tversky(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    alpha: Number = 0.3,
    beta: Number = 0.7,
    gamma: Number = 1.0,
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean over the present classes of ``(1 - TP / (TP + alpha FP + beta FN)) ^ (1 / gamma)``, in soft counts.

    Source: Salehi, Erdogmus, Gholipour, "Tversky loss function for image segmentation using 3D fully convolutional deep
        networks", MLMI 2017, section 2; with gamma: Abraham, Khan, "A novel focal Tversky loss function with improved
        attention U-Net for lesion segmentation", ISBI 2019, section 2.
    Differs: the paper's loss is for one foreground class; here every class has its own. Sums run over the whole batch,
        and a class without a pixel in it is left out of the mean.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        alpha: the price of a false positive; with beta 0.5 each, the loss is soft Dice.
        beta: the price of a miss; the paper found 0.3 and 0.7 best for small lesions.
        gamma: above 1, classes that are already well overlapped are pushed on (the 2019 paper takes 4/3); below 1 they
            are turned down.
        class_weights: weights of the mean over classes; 0 leaves a class (the background, say) out.
        ignore_index: the label that does not count.
        normaliser: takes the soft counts to their means over processes.

    Returns:
        0 (perfect) to 1; 0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> target = torch.tensor([[[0, 1, 1]]])  # TP 0.5 and 1, FP 1 and 0.5, FN 0.5 and 1
        >>> round(tversky(torch.zeros(1, 2, 1, 3), target).item(), 4)  # 1 - (0.5 / 1.15 + 1 / 1.85) / 2
        0.5123
    """
    check_per_class("class_weights", class_weights, logits.shape[1])
    overlap, predicted, true = region_sums(logits, target, ignore_index=ignore_index, normaliser=normaliser)
    whole = overlap + alpha * (predicted - overlap) + beta * (true - overlap)
    gap = 1 - overlap / torch.where(true > 0, whole, torch.ones_like(whole))
    if gamma != 1:
        gap = gap.clamp_min(SMALLEST_GAP).pow(1 / gamma)
    return mean_over_present(gap, true, class_weights)


class Tversky(SemanticLoss):
    """:func:`tversky` with its options, also on the side heads.

    Args:
        alpha: the price of a false positive.
        beta: the price of a miss.
        gamma: the focal exponent; 1 for none.
        class_weights: weights of the mean over classes, in label order.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 1, 2))
        >>> round(Tversky(alpha=0.5, beta=0.5)(outputs, torch.tensor([[[0, 1]]]))["loss"].item(), 4)
        0.5
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        alpha: Number = 0.3,
        beta: Number = 0.7,
        gamma: Number = 1.0,
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        # a price of 0 would make "everywhere" or "nowhere" a perfect answer, and 0 / 0 a possible one
        self.alpha = check_number("alpha", alpha, "be a positive number", lambda v: v > 0)
        self.beta = check_number("beta", beta, "be a positive number", lambda v: v > 0)
        self.gamma = check_number("gamma", gamma, "be a positive number", lambda v: v > 0)
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The Tversky loss of one head."""
        return tversky(
            logits,
            target,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
