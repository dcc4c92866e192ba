"""Lovász-Softmax: a convex surrogate of one minus the IoU, exact where the network is sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor

from delineate.checks import require
from delineate.kernels.threads import run_pieces
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

SCOPES = ("batch", "image")
CLASSES = ("present", "all")


def lovasz_softmax(
    logits: Float[Tensor, "B K H W"],
    target: Integer[Tensor, "B H W"],
    *,
    over: str = "batch",
    classes: str = "present",
    class_weights: Float[Tensor, " N"] | None = None,
    ignore_index: int = 255,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """The mean over classes of the Lovász extension of the Jaccard loss, taken at the errors ``|g - p|``.

    Source: Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss: a tractable surrogate for the optimization of the
        intersection-over-union measure in neural networks", CVPR 2018, sections 2 and 3.
    Differs: nothing in one process. With several, over="batch" means each process's own part of the batch, since the
        errors are sorted: the loss is then the mean over the processes that have a counted pixel. over="image" does not
        depend on how the batch was split.

    Args:
        logits: before the softmax.
        target: labels 0..K-1, or ``ignore_index``.
        over: whose pixels one IoU is of: the whole "batch" (near the IoU of a data set) or each "image", with the mean
            over the images that have a counted pixel.
        classes: "present" means over the classes with a pixel there; "all" over every class, where an absent one costs
            its largest probability.
        class_weights: weights of the mean over classes; 0 leaves a class out.
        ignore_index: the label that does not count.
        normaliser: takes the number of images (or of processes) that count to its mean over processes.

    Returns:
        0 (perfect) to 1; for probabilities of 0 and 1 exactly the mean of 1 - IoU. 0 with a zero gradient when no pixel
        counts.

    Raises:
        ArgumentError: when the shapes disagree, on an unknown option, or (off the GPU) on a label that is no class.

    Example:
        >>> logits = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log().reshape(1, 2, 1, 2)
        >>> round(lovasz_softmax(logits, torch.tensor([[[0, 1]]])).item(), 4)
        0.25
    """
    check_target(logits, target)
    check_options(over, classes)
    num_classes = logits.shape[1]
    check_per_class("class_weights", class_weights, num_classes)
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        counted, labels = counted_labels(logits, target, ignore_index)
        factors = logits.new_ones(num_classes) if class_weights is None else class_weights.to(logits)
        pixels = factors.new_zeros(num_classes).index_add(0, labels.flatten(), counted.flatten().to(factors.dtype))
        # sorting is what costs: a wait for the GPU is cheap beside the classes that need none
        asked = (factors > 0) & (pixels > 0 if classes == "present" else pixels >= 0)
        chosen = asked.nonzero().squeeze(1)
        probs = logits.softmax(1)[:, chosen].movedim(1, 0)
        if over == "image":
            probs, labels, counted = probs.flatten(2), labels.flatten(1), counted.flatten(1)
        else:
            probs, labels, counted = probs.flatten(1).unsqueeze(1), labels.flatten()[None], counted.flatten()[None]
        truth = (labels == chosen[:, None, None]) & counted
        errors = torch.where(counted, (truth.to(probs.dtype) - probs).abs(), -1)  # uncounted ones are sorted last
        values = lovasz_extension(errors, truth, counted)  # one a class and group
        voting = truth.any(-1) if classes == "present" else counted.any(-1).expand(values.shape)
        weights = voting * factors[chosen, None]
        total = weights.sum(0)
        groups = (total > 0).sum().to(values.dtype)
        return ratio(ratio((weights * values).sum(0), total).sum(), over_ranks(groups, normaliser))


def lovasz_extension(
    errors: Float[Tensor, "*G P"], truth: Bool[Tensor, "*G P"], counted: Bool[Tensor, "*#G P"]
) -> Float[Tensor, "*G"]:
    """The Lovász extension of the Jaccard loss: errors in falling order, each times what it adds to the loss.

    Args:
        errors: 0..1 where counted, less elsewhere.
        truth: pixels of the class.
        counted: pixels that count.

    Example:
        >>> one, none = torch.tensor([True, False, False]), torch.ones(3, dtype=torch.bool)
        >>> lovasz_extension(torch.tensor([0.5, 1.0, 0.0]), one, none).item()  # 1 adds 1/2, then 0.5 adds 1/2
        0.75
    """
    order = falling_order(errors.detach())
    falling = errors.gather(-1, order)
    inside = truth.gather(-1, order).to(errors.dtype)
    # float32 counts exactly up to 16.7 million pixels
    missed = inside.cumsum(-1)
    wrong = (1 - inside).cumsum(-1)
    whole = inside.sum(-1, keepdim=True)
    jaccard = 1 - (whole - missed) / (whole + wrong).clamp_min(1)  # the loss if all errors down to this one were made
    steps = torch.cat([jaccard[..., :1], jaccard.diff(dim=-1)], dim=-1)
    kept = counted.expand(errors.shape).gather(-1, order)
    return torch.where(kept, falling * steps, 0).sum(-1)


def falling_order(errors: Float[Tensor, "*G P"]) -> Int64[Tensor, "*G P"]:
    """Where the largest error of each group is, the next, and so on.

    NumPy's sort uses a processor's wide registers, PyTorch's does not: a third of the time, and a row a thread besides.
    Equal errors stand in any order, which changes the loss by nothing.
    """
    if errors.device.type != "cpu" or not errors.numel():
        return errors.argsort(dim=-1, descending=True)
    rows = run_pieces(np.argsort, list(-errors.reshape(-1, errors.shape[-1]).numpy()))
    return torch.from_numpy(np.stack(rows)).view(errors.shape)


def check_options(over: str, classes: str) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless both are known words."""
    require(over in SCOPES, "over", f"be one of {', '.join(SCOPES)}", repr(over))
    require(classes in CLASSES, "classes", f"be one of {', '.join(CLASSES)}", repr(classes))


class LovaszSoftmax(SemanticLoss):
    """:func:`lovasz_softmax` with its options, also on the side heads.

    Args:
        over: "batch" or "image": whose pixels one IoU is of.
        classes: "present" or "all".
        class_weights: weights of the mean over classes, in label order.
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss, or a list with one weight a head.
        rest_class: the label that stands for what a partly labelled image's data set does not label.

    Example:
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> outputs = SemanticOutputs(torch.zeros(1, 2, 1, 2))
        >>> round(LovaszSoftmax()(outputs, torch.tensor([[[0, 1]]]))["loss"].item(), 4)
        0.5
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        over: str = "batch",
        classes: str = "present",
        class_weights: Sequence[Number] | None = None,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, auxiliary_weight=auxiliary_weight, rest_class=rest_class)
        check_options(over, classes)
        self.over, self.classes = over, classes
        self.register_buffer("class_weights", checked_class_weights("class_weights", class_weights), persistent=False)

    def on_logits(
        self,
        logits: Float[Tensor, "B K H W"],
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, ""]:
        """The Lovász-Softmax loss of one head."""
        return lovasz_softmax(
            logits,
            target,
            over=self.over,
            classes=self.classes,
            class_weights=self.class_weights,
            ignore_index=self.ignore_index,
            normaliser=normaliser,
        )
