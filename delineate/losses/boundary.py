"""Boundary loss: how far the predicted outline of each class lies from the true one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.losses.precision import full_precision
from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_per_class,
    check_target,
    checked_class_weights,
    counted_labels,
    over_ranks,
    ratio,
)
from delineate.ops.signed_distances import signed_distances


def boundary(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean over the counted pixels of ``sum_k phi_k (p_k - g_k)``, phi_k the signed distance to class k's outline.

    Source: Kervadec, Bouchtiba, Desrosiers, Granger, Dolz, Ben Ayed, "Boundary loss for highly unbalanced
        segmentation", MIDL 2019, section 2.
    Differs: the term of g, which the paper drops because it has no gradient, is kept, so that a perfect answer has loss
        0. The outline runs along the sides of pixels, so that the outermost pixels of a class are inside it; the
        released code gives them distance 0. All classes count, unless ``class_weights`` says otherwise.

    A mistake costs its distance from the outline: far off much, beside it little. The loss says nothing of classes that
    an image lacks, so it is meant for a weighted sum with an overlap loss such as Dice, as in the paper.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        class_weights: one factor a class; 0 leaves a class (the background, say) out.
        ignore_index: the label that does not count and makes no outline.
        normaliser: takes the number of counted pixels to its mean over processes.

    Returns:
        0 (perfect) or more, in pixels. A class that an image lacks has no outline and costs nothing there.
        0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> target = torch.tensor([[[0, 0, 1, 1]]])  # phi_1 = 1.5, 0.5, -0.5, -1.5, and phi_0 its negative
        >>> logits = torch.zeros(1, 2, 1, 4)  # wrong by 1/2 everywhere: (1.5 + 0.5 + 0.5 + 1.5) / 2 for both classes
        >>> boundary(logits, target).item()
        1.0
    """
    check_target(logits, target)
    num_classes = logits.shape[1]
    check_per_class("class_weights", class_weights, num_classes)
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        counted, labels = counted_labels(logits, target, ignore_index)
        distances = signed_distances(target, num_classes=num_classes, ignore_index=ignore_index).to(logits)
        if class_weights is not None:
            distances = distances * class_weights.to(logits)[:, None, None]
        reached = (distances * logits.softmax(1)).sum(1) - distances.gather(1, labels.unsqueeze(1)).squeeze(1)
        total = torch.where(counted, reached, 0).sum()
        return ratio(total, over_ranks(counted.sum().to(total.dtype), normaliser))


class Boundary(SemanticLoss):
    """:func:`boundary` with its options, also on the side heads, whose distances are in their own pixels.

    Args:
        class_weights: one factor a class, in label order; 0 leaves a class out.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> Boundary()(SemanticOutputs(torch.zeros(1, 2, 1, 4)), torch.tensor([[[0, 0, 1, 1]]]))["loss"].item()
        1.0
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The boundary loss of one head."""
        return boundary(
            logits,
            target,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
