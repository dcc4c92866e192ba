"""Cross-entropy over the pixels that count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from delineate.losses.partial_labels import asked_classes
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
    unknown_label,
)


def surprises(
    logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"], *, ignore_index: int = 255
) -> Float[Tensor, "B H W"]:
    """The negative log-probability of the true class at each pixel, in nats.

    Args:
        logits: before the softmax, in the precision to compute in.
        target: labels 0..K-1, or ``ignore_index``.
        ignore_index: the label whose pixels get 0, with a zero gradient.

    Raises:
        ArgumentError: on a label that is no class, off the GPU.
    """
    try:
        return functional.cross_entropy(logits, target.long(), ignore_index=ignore_index, reduction="none")
    except IndexError as error:
        raise unknown_label(logits, target, ignore_index) from error


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
        logits = full_precision(logits)
        values = surprises(logits, target, ignore_index=ignore_index)
        counted = target != ignore_index
        weights = None if class_weights is None else class_weights.to(logits)
        factors = counted.to(logits.dtype)
        if weights is not None:
            factors = factors * weights[torch.where(counted, target, 0).long()]
        total = (factors * values).sum()
        if label_smoothing > 0:
            even = _evenly_spread(logits, weights)
            total = (1 - label_smoothing) * total + label_smoothing * torch.where(counted, even, 0).sum()
        return ratio(total, over_ranks(factors.sum(), normaliser))


def _evenly_spread(logits: Float[Tensor, "B K H W"], weights: Float[Tensor, " K"] | None) -> Float[Tensor, "B H W"]:
    """The mean over the classes that are asked of their weighted negative log-probability."""
    asked = asked_classes(logits)
    values = torch.where(asked, -logits.log_softmax(1), 0)
    if weights is not None:
        values = values * weights[:, None, None]
    return values.sum(1) / asked.sum(1)


class CrossEntropy(SemanticLoss):
    """:func:`cross_entropy` with its options, also on the side heads.

    Args:
        class_weights: one factor a class, in label order.
        ignore_index: the label that does not count.
        label_smoothing: the share of the target spread evenly over all classes, 0 to 1.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

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
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
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
