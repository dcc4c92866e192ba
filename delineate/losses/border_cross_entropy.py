"""U-Net's cross-entropy: pixels between two objects that nearly touch weigh most."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.checks import require
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
from delineate.ops.border_weights import border_weights


def border_cross_entropy(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    w0: Number = 10.0,
    sigma: Number = 5.0,
    background: int | None = 0,
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean of ``-w(x) log p_t(x)`` with ``w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))``.

    Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        eqs. 1 and 2.
    Differs: divided by the sum of the weights over the counted pixels, where the paper sums, so that the size of the
        image does not change the learning rate. For d1 and d2 see :func:`~delineate.ops.border_weights.border_weights`.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        w0: how much more a pixel weighs where two objects meet.
        sigma: pixels over which that fades.
        background: the label that is no object; None where every label is one.
        class_weights: w_c, one a class; 1 for all when None.
        ignore_index: the label that does not count.
        normaliser: takes the sum of the weights to its mean over processes.

    Returns:
        0 or more, in nats; 0 with a zero gradient when no pixel counts.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> target = torch.tensor([[[1, 1, 0, 1, 1]]])
        >>> logits = torch.zeros(1, 2, 1, 5)
        >>> logits[0, 1] = 3.0  # every pixel is called an object, also the gap
        >>> round(border_cross_entropy(logits, target, w0=0).item(), 4)
        0.6486
        >>> round(border_cross_entropy(logits, target).item(), 4)
        0.6986
    """
    check_target(logits, target)
    check_per_class("class_weights", class_weights, logits.shape[1])
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        values = surprises(logits, target, ignore_index=ignore_index)
        counted = target != ignore_index
        weights = torch.ones_like(values.detach())
        if class_weights is not None:
            weights = class_weights.to(values)[torch.where(counted, target, 0).long()]
        if w0 > 0:
            near = border_weights(target, sigma=sigma, background=background, ignore_index=ignore_index)
            weights = weights + w0 * near.to(values)
        weights = weights * counted
        return ratio((weights * values).sum(), over_ranks(weights.sum(), normaliser))


class BorderCrossEntropy(SemanticLoss):
    """:func:`border_cross_entropy` with its options, also on the side heads, whose distances are in their own pixels.

    Args:
        w0: how much more a pixel weighs where two objects meet.
        sigma: pixels over which that fades.
        background: the label that is no object; None where every label is one.
        class_weights: one factor a class, in label order, beside which w0 stands.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 4, 4))
        >>> round(BorderCrossEntropy()(outputs, torch.zeros(1, 4, 4, dtype=torch.long))["loss"].item(), 4)
        0.6931
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        w0: Number = 10.0,
        sigma: Number = 5.0,
        background: int | None = 0,
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        self.w0 = check_number("w0", w0, "be 0 or more", lambda v: v >= 0)
        self.sigma = check_number("sigma", sigma, "be a positive number of pixels", lambda v: v > 0)
        whole = isinstance(background, int) and not isinstance(background, bool)
        require(background is None or whole, "background", "be a label or None", repr(background))
        self.background = background
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The border-weighted cross-entropy of one head."""
        return border_cross_entropy(
            logits,
            target,
            w0=self.w0,
            sigma=self.sigma,
            background=self.background,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
