"""Focal loss of a sigmoid per class: the detector's form, value by value."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from delineate.checks import require
from delineate.losses.focal import focused
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Number


def sigmoid_focal(
    logits: Float[Tensor, "*N"],
    targets: Float[Tensor, "*N"] | Bool[Tensor, "*N"],
    *,
    alpha: Number | None = 0.25,
    gamma: Number = 2.0,
) -> Float[Tensor, "*N"]:
    """``-alpha_t (1 - p_t)^gamma log p_t``, p_t the sigmoid's probability of the right one of two answers.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 5.
    Differs: nothing. The sum over anchors and classes and its divisor, the number of positive anchors, belong to the
    detector's loss; :func:`~delineate.losses.focal.focal` is the form for classes that exclude one another.

    Args:
        logits: before the sigmoid.
        targets: 1 or true where the class is there, else 0.
        alpha: weight of the ones, one minus it that of the zeros; None weighs both 1.
        gamma: how strongly sure answers are turned down; 0 gives the cross-entropy.

    Returns:
        0 or more for each value, in float32 for half precision.

    Raises:
        ArgumentError: when ``alpha`` lies outside 0 to 1 or ``gamma`` is negative.

    Example:
        >>> sigmoid_focal(torch.tensor([0., 0.]), torch.tensor([1., 0.])).tolist()
        [0.0433..., 0.1299...]
    """
    require(alpha is None or 0 <= alpha <= 1, "alpha", "lie between 0 and 1", alpha, "None weighs both answers 1.")
    require(gamma >= 0, "gamma", "be 0 or more", gamma)
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        targets = targets.to(logits.dtype)
        surprise = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        values = focused(surprise, gamma=gamma)
        return values if alpha is None else values * (alpha * targets + (1 - alpha) * (1 - targets))
