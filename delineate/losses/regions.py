"""The soft counts behind every overlap loss: how much probability lies where, for each class over the whole batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, check_target, counted_labels, over_ranks, ratio


class RegionSums(NamedTuple):
    """Sums over the counted pixels of all images, one a class; means over processes where there are several."""

    overlap: Float[Tensor, " K"]
    """Probability of the class on its own pixels: the soft true positives."""
    predicted: Float[Tensor, " K"]
    """Probability of the class anywhere (squared, if so asked)."""
    true: Float[Tensor, " K"]
    """Pixels of the class."""


def region_sums(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    ignore_index: int = 255,
    power: int = 1,
    normaliser: Normaliser | None = None,
) -> RegionSums:
    """Soft true positives, predicted and true area of each class, in full precision also under autocast.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        ignore_index: the label whose pixels count in none of the three.
        power: exponent of the probabilities in the predicted area.
        normaliser: takes the sums to their means over processes; the gradient averaged over processes of any function
            of them is then exactly the one on the joined batch.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> sums = region_sums(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 1]]]))
        >>> [values.tolist() for values in sums]
        [[0.5, 1.0], [1.5, 1.5], [1.0, 2.0]]
    """
    check_target(logits, target)
    num_classes = logits.shape[1]
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        counted, labels = counted_labels(logits, target, ignore_index)
        probs = logits.softmax(dim=1) * counted.unsqueeze(1)
        hits = probs.gather(1, labels.unsqueeze(1)).flatten()
        flat = labels.flatten()
        overlap = hits.new_zeros(num_classes).index_add(0, flat, hits)
        true = hits.new_zeros(num_classes).index_add(0, flat, counted.flatten().to(hits.dtype))
        predicted = (probs if power == 1 else probs.pow(power)).sum(dim=(0, 2, 3))
        return RegionSums(*(over_ranks(value, normaliser) for value in (overlap, predicted, true)))


def mean_over_present(
    values: Float[Tensor, " K"], present: Float[Tensor, " K"], class_weights: Float[Tensor, " K"] | None
) -> Float[Tensor, ""]:
    """The weighted mean of ``values`` over the classes that are present; 0 with a zero gradient when none is.

    Args:
        values: one a class; finite also for absent classes.
        present: above 0 where the class has a pixel.
        class_weights: weights of the mean; all alike when None.
    """
    weights = (present > 0).to(values.dtype)
    if class_weights is not None:
        weights = weights * class_weights.to(weights)
    return ratio((weights * values).sum(), weights.sum())
