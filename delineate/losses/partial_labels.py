"""Images whose data set labels only some of the classes: what a softmax may be asked there.

A pixel that data set A calls background may show a car that only data set B labels. Punishing "car" there teaches the
network that cars do not exist. Two remedies, chosen by whether a class stands for all that was not labelled.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.losses.precision import full_precision

REMOVED = -1e30  # a logit whose probability is exactly 0, with finite gradients; no network comes near it


def asked_classes(logits: Float[Tensor, "B K H W"]) -> Bool[Tensor, "B K H W"]:
    """Which classes take part in the softmax of each pixel: all but those that :func:`marginal_logits` took out."""
    return logits > REMOVED / 2


def marginal_logits(
    logits: Float[Tensor, "B K H W"], valid_classes: Bool[Tensor, "M N"] | None, *, rest_class: int | None = None
) -> Float[Tensor, "B K H W"]:
    """Logits over the classes that each image's data set labels.

    Source: Shi et al., "Marginal loss and exclusion loss for partially supervised multi-organ segmentation", Medical
        Image Analysis 2021; Fang, Yan, "Multi-Organ Segmentation over Partially Labeled Datasets with
        Multi-Scale Feature Abstraction", TMI 2020 (target adaptive loss).
    Differs: on logits and an image at a time, so that every loss behind it needs no change. Without a rest class the
        other classes leave the softmax, for data whose unlabelled pixels are ignored.

    Args:
        logits: before the softmax.
        valid_classes: which classes the image's data set labels; None where all label all.
        rest_class: the label (background, say) that stands for everything a data set does not label. In images whose
            data set labels it, it is given the probability of all unlabelled classes together; None, and in images
            whose data set does not label it: unlabelled classes are taken out of the softmax.

    Returns:
        float32 (float64 stays); the logits as they are for None. A class that is not labelled in an image has
        probability 0 there. Images whose classes are all valid are unchanged.

    Raises:
        ArgumentError: when ``valid_classes`` does not fit the logits, or there is no class ``rest_class``.

    Example:
        >>> logits = torch.tensor([1.0, 2.0, 3.0]).log().reshape(1, 3, 1, 1)
        >>> valid = torch.tensor([[True, True, False]])
        >>> marginal_logits(logits, valid).softmax(1).flatten().tolist()  # 1 and 2 of 3
        [0.3333..., 0.6666..., 0.0]
        >>> marginal_logits(logits, valid, rest_class=0).softmax(1).flatten().tolist()  # 1 + 3 and 2 of 6
        [0.6666..., 0.3333..., 0.0]
    """
    if valid_classes is None:
        return logits
    require(
        valid_classes.shape == logits.shape[:2],
        "valid_classes",
        f"hold one truth value an image and class, {tuple(logits.shape[:2])}",
        tuple(valid_classes.shape),
    )
    check_rest_class(rest_class, logits.shape[1])
    valid_classes = valid_classes.to(logits.device)
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        asked = valid_classes[:, :, None, None]
        kept = logits.masked_fill(~asked, REMOVED)
        if rest_class is None:
            return kept
        rest = torch.zeros_like(valid_classes)
        rest[:, rest_class] = valid_classes[:, rest_class]
        merged = torch.logsumexp(logits.masked_fill((asked & ~rest[:, :, None, None]), REMOVED), dim=1, keepdim=True)
        return torch.where(rest[:, :, None, None], merged, kept)


def check_rest_class(rest_class: int | None, num_classes: int) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless ``rest_class`` is None or one of the classes."""
    if rest_class is not None:
        require(0 <= rest_class < num_classes, "rest_class", f"be a class, 0..{num_classes - 1}", rest_class)


def check_labelled(
    target: Integer[Tensor, "B H W"], valid_classes: Bool[Tensor, "B K"], *, ignore_index: int = 255
) -> None:
    """Raise where an image holds a label that its data set is said not to label (off the GPU, which would wait).

    Args:
        target: labels; those that are no class are left to the loss to refuse.
        valid_classes: which classes the image's data set labels.
        ignore_index: the label that may always stand.

    Raises:
        ArgumentError: names the labels.
    """
    if target.device.type != "cpu":
        return
    num_classes = valid_classes.shape[1]
    for labels, valid in zip(target, valid_classes.cpu(), strict=True):
        if valid.all():
            continue
        held = [label for label in torch.unique(labels).tolist() if label != ignore_index and 0 <= label < num_classes]
        wrong = [label for label in held if not valid[label]]
        if wrong:
            raise ArgumentError(
                f"target must hold only classes that valid_classes grants the image; got {wrong[:8]}. "
                "Declare these classes as labelled in that data set, or map them to ignore_index."
            )
