"""Cross-entropy over the pixels that count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from delineate.losses.supervision import (
    Normaliser,
    Number,
    SemanticLoss,
    check_number,
    check_per_class,
    check_target,
    checked_class_weights,
    over_ranks,
    unknown_label,
)


def full_precision(logits: Tensor) -> Tensor:
    """``logits`` in float32, or float64 if they are: a softmax in half precision loses the small probabilities."""
    return logits if logits.dtype == torch.float64 else logits.float()


def cross_entropy(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    label_smoothing: Number = 0.0,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean negative log-probability of the true class over the pixels that count, weighted by class.

    Source: the softmax loss; label smoothing: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016.
    Differs: computed in float32 whatever the logits' type, also under autocast.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        class_weights: one factor a class. As in PyTorch, the mean is weighted: divided by the sum over the counted
            pixels of their class's weight, so that multiplying all weights by a constant changes nothing.
        ignore_index: the label that counts neither above nor below the fraction line.
        label_smoothing: the share of the target spread evenly over all classes, 0 to 1.
        normaliser: takes the denominator (counted pixels, or their weights) to its mean over processes, so that a step
            does not depend on how the batch was split.

    Returns:
        0 or more, in nats; 0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU, which would have to wait) on a label that is no class.

    Example:
        >>> logits = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1)
        >>> round(cross_entropy(logits, torch.tensor([[[0]]])).item(), 4)
        0.1269
    """
    check_target(logits, target)
    check_per_class("class_weights", class_weights, logits.shape[1])
    with torch.autocast(logits.device.type, enabled=False):
        logits, labels = full_precision(logits), target.long()
        weights = None if class_weights is None else class_weights.to(logits)
        try:
            total = functional.cross_entropy(
                logits,
                labels,
                weight=weights,
                ignore_index=ignore_index,
                reduction="sum",
                label_smoothing=label_smoothing,
            )
        except IndexError as error:
            raise unknown_label(logits, target, ignore_index) from error
        counted = labels != ignore_index
        if weights is None:
            denominator = counted.sum().to(logits.dtype)
        else:
            denominator = torch.where(counted, weights[torch.where(counted, labels, 0)], 0).sum()
        denominator = over_ranks(denominator, normaliser)
        return total / torch.where(denominator > 0, denominator, torch.ones_like(denominator))


class CrossEntropy(SemanticLoss):
    """:func:`cross_entropy` with its options, also on the side heads.

    Args:
        class_weights: one factor a class, in label order.
        ignore_index: the label that does not count.
        label_smoothing: the share of the target spread evenly over all classes, 0 to 1.
        auxiliary_weight: the weight of each side head's loss.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> loss = CrossEntropy(class_weights=[1.0, 3.0])
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 4, 4))
        >>> round(loss(outputs, torch.zeros(1, 4, 4, dtype=torch.long))["loss"].item(), 4)
        0.6931
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        label_smoothing: Number = 0.0,
        auxiliary_weight: Number = 0.4,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, "lie in 0..1", lambda v: 0 <= v <= 1)
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The cross-entropy of one head."""
        return cross_entropy(
            logits,
            target,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            normaliser=normaliser,
        )
