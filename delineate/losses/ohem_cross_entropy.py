"""Cross-entropy over the hard pixels only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
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


def ohem_cross_entropy(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    threshold: Number = 0.7,
    min_share: Number = 0.0625,
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean cross-entropy over the pixels whose true class has a probability below ``threshold``.

    Source: Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors with Online Hard Example Mining", CVPR
        2016, there of boxes; of pixels, with a threshold and a least number: Wu, Shen, van den Hengel,
        "High-performance Semantic Segmentation Using Very Deep Fully Convolutional Networks", 2016 (bootstrapping).
    Differs: the least number is a share of the batch's counted pixels, so that it follows the size of crop and batch.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        threshold: pixels count while their true class's probability is below it. 0 leaves it to ``min_share`` alone
            (bootstrapping by top share); 1 keeps every pixel, as long as it is not perfect.
        min_share: at least this share of the counted pixels, the hardest, is kept, with what ties with them. 0 leaves
            it to the threshold alone. With several processes it is a share of each process's own pixels.
        class_weights: one factor a class, as for cross-entropy; what is hard is decided without it.
        ignore_index: the label that does not count.
        normaliser: takes the number of kept pixels (or their weights) to its mean over processes.

    Returns:
        0 or more, in nats; 0 with a zero gradient when no pixel counts, or none is hard.

    Raises:
        ArgumentError: when the shapes disagree, or (off the GPU) on a label that is no class.

    Example:
        >>> logits = torch.tensor([[0.9, 0.8, 0.2, 0.5], [0.1, 0.2, 0.8, 0.5]]).log().reshape(1, 2, 1, 4)
        >>> target = torch.zeros(1, 1, 4, dtype=torch.long)  # p = 0.9, 0.8, 0.2, 0.5
        >>> round(ohem_cross_entropy(logits, target).item(), 4)  # -(ln 0.2 + ln 0.5) / 2
        1.1513
        >>> round(ohem_cross_entropy(logits, target, threshold=0, min_share=0.25).item(), 4)  # -ln 0.2
        1.6094
    """
    check_target(logits, target)
    check_per_class("class_weights", class_weights, logits.shape[1])
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        values = surprises(logits, target, ignore_index=ignore_index)
        counted = target != ignore_index
        kept = hard_pixels(values.detach(), counted, threshold=threshold, min_share=min_share).to(values.dtype)
        if class_weights is not None:
            kept = kept * class_weights.to(values)[torch.where(counted, target, 0).long()]
        return ratio((kept * values).sum(), over_ranks(kept.sum(), normaliser))


def hard_pixels(
    values: Float[Tensor, "*S"], counted: Bool[Tensor, "*S"], *, threshold: Number, min_share: Number
) -> Bool[Tensor, "*S"]:
    """Counted pixels with a probability below ``threshold``, or among the ``min_share`` with the largest values.

    Args:
        values: negative log-probabilities.
        counted: the pixels to choose from.
        threshold: a probability.
        min_share: of the counted pixels, rounded up to whole ones.

    Example:
        >>> hard_pixels(torch.tensor([0.1, 2.0, 0.5]), torch.ones(3, dtype=torch.bool), threshold=0, min_share=0.5)
        tensor([False,  True,  True])
    """
    hard = torch.exp(-values) < threshold
    if min_share > 0 and values.numel():
        falling = torch.where(counted, values, -1).flatten().sort(descending=True).values
        least = (counted.sum() * min_share).ceil().long()
        # by a tensor: reading the number would wait for the GPU
        hard = hard | (values >= falling.gather(0, (least - 1).clamp_min(0)[None]))
    return hard & counted


class OhemCrossEntropy(SemanticLoss):
    """:func:`ohem_cross_entropy` with its options, also on the side heads.

    Args:
        threshold: pixels count while their true class's probability is below it.
        min_share: the share of pixels, the hardest, that is always kept.
        class_weights: one factor a class, in label order.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 4, 4))
        >>> round(OhemCrossEntropy()(outputs, torch.zeros(1, 4, 4, dtype=torch.long))["loss"].item(), 4)
        0.6931
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        threshold: Number = 0.7,
        min_share: Number = 0.0625,
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        self.threshold = check_number("threshold", threshold, "lie in 0..1", lambda v: 0 <= v <= 1)
        self.min_share = check_number("min_share", min_share, "lie in 0..1", lambda v: 0 <= v <= 1)
        some = self.threshold > 0 or self.min_share > 0
        require(some, "min_share", "be above 0 where threshold is 0", min_share, "Else no pixel is ever kept.")
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The cross-entropy of one head over its hard pixels."""
        return ohem_cross_entropy(
            logits,
            target,
            threshold=self.threshold,
            min_share=self.min_share,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
