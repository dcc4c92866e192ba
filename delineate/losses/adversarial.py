"""What an adversary of segmentation is shown, and the two losses of the game.

Source: Luc, Couprie, Chintala, Verbeek, "Semantic Segmentation using Adversarial Networks", NIPS Workshop on
Adversarial Training 2016 (arXiv:1611.08408), equations 1 to 3 and section 3.2 (basic, product, scaling).
Differs: "basic" and "scaling" put the image beside the label map, where the paper gives it a branch of layers of its
own (Stanford background) or, as it made no difference, leaves it out (Pascal VOC). Losses are means over the
adversary's windows. Pixels that do not count are zero in both kinds of map.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from delineate.checks import require
from delineate.losses.supervision import Number
from delineate.registry import unknown_name

INPUTS = ("basic", "product", "scaling")


def true_label_map(
    target: Integer[Tensor, "B H W"], num_classes: int, *, ignore_index: int = 255
) -> Float[Tensor, "B K H W"]:
    """The true classes as probabilities: one at the true class, zero everywhere where no class counts.

    Args:
        target: labels 0..K-1, or ``ignore_index``.
        num_classes: K.
        ignore_index: the label whose pixels are zero in every class.
    """
    counted = target != ignore_index
    labels = torch.where(counted, target, 0).long()
    return F.one_hot(labels, num_classes).movedim(-1, 1).float() * counted.unsqueeze(1)


def scaled_label_map(
    truth: Float[Tensor, "B K H W"], probs: Float[Tensor, "B K H W"], *, tau: Number = 0.9
) -> Float[Tensor, "B K H W"]:
    """The distribution nearest to ``probs`` that gives the true class at least ``tau``.

    An adversary cannot tell it from a prediction just by its not being exactly 0 or 1. The true class gets
    ``max(tau, p)``; the others share what is left in the proportions of ``probs``.

    Args:
        truth: as :func:`true_label_map` gives it.
        probs: the segmenter's probabilities.
        tau: the least probability of the true class, above 0 and at most 1.

    Returns:
        Probabilities; zero where ``truth`` is.

    Example:
        >>> truth, probs = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.2, 0.6, 0.2])
        >>> scaled_label_map(truth.view(1, 3, 1, 1), probs.view(1, 3, 1, 1)).flatten()
        tensor([0.9000, 0.0750, 0.0250])
    """
    require(0 < tau <= 1, "tau", "be above 0 and at most 1", tau)
    counted = truth.sum(1, keepdim=True)
    own = (truth * probs).sum(1, keepdim=True)
    wanted = own.clamp(min=tau)
    others = (1 - own).clamp(min=torch.finfo(probs.dtype).tiny)
    return counted * torch.where(truth > 0, wanted, probs * ((1 - wanted) / others))


def adversary_input(
    kind: str, label_map: Float[Tensor, "B K H W"], images: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B _ H W"]:
    """What the adversary sees of one label map, true or predicted.

    Args:
        kind: "basic" and "scaling" put the image beside the label map, ``K + C`` channels; "product" multiplies every
            class with every channel of the image, ``K * C`` channels.
        label_map: probabilities.
        images: normalised.

    Raises:
        UnknownNameError: on another kind.
    """
    if kind not in INPUTS:
        raise unknown_name("adversary input", kind, INPUTS)
    if kind == "product":
        return (label_map.unsqueeze(2) * images.unsqueeze(1)).flatten(1, 2)
    return torch.cat([label_map, images], 1)


def adversary_channels(kind: str, num_classes: int, in_channels: int) -> int:
    """Channels of :func:`adversary_input`."""
    return num_classes * in_channels if kind == "product" else num_classes + in_channels


def discrimination_loss(
    true_scores: Float[Tensor, "B 1 h w"], predicted_scores: Float[Tensor, "B 1 h w"]
) -> Float[Tensor, ""]:
    """The adversary's loss: the binary cross-entropy of both kinds of map, summed (equation 2).

    Example:
        >>> round(discrimination_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item(), 4)
        1.3863
    """
    return F.softplus(-true_scores).mean() + F.softplus(predicted_scores).mean()


def deception_loss(predicted_scores: Float[Tensor, "B 1 h w"]) -> Float[Tensor, ""]:
    """The segmenter's share: the binary cross-entropy of its maps being taken for true (equation 3, non-saturating).

    Example:
        >>> round(deception_loss(torch.zeros(1, 1, 2, 2)).item(), 4)
        0.6931
    """
    return F.softplus(-predicted_scores).mean()
