"""What every semantic loss shares: supervising the side heads, and one mean over all processes of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.structures.outputs import SemanticOutputs

Number = int | float  # recipes hold whole numbers where a fraction would do

Normaliser = Callable[[Tensor], Tensor]
"""Replaces a sum over this process's pixels by its mean over all processes; no gradient flows through it."""


def over_ranks(value: Float[Tensor, "*K"], normaliser: Normaliser | None) -> Float[Tensor, "*K"]:
    """``value`` as its mean over all processes, with the gradient of this process's own part.

    When a loss is a function of such means, the average over processes of its gradients (what DDP computes) is the
    gradient on the joined batch: d f(mean_r v_r) = f' * mean_r dv_r. So a plain all-reduce serves as normaliser.

    Args:
        value: a sum over this process's pixels.
        normaliser: the mean over processes; None leaves ``value`` alone.
    """
    if normaliser is None:
        return value
    return normaliser(value.detach()) + (value - value.detach())


def resized_target(target: Integer[Tensor, "B H W"], size: tuple[int, int]) -> Integer[Tensor, "B h w"]:
    """``target`` at another size: each new pixel takes the label under its centre (``nearest-exact``).

    Args:
        target: labels; any integer type, kept.
        size: (height, width) of the result.

    Example:
        >>> resized_target(torch.tensor([[[1, 2, 3, 4]]]), (1, 2)).tolist()
        [[[2, 4]]]
    """
    if target.shape[-2:] == size:
        return target
    rows, columns = (
        ((torch.arange(new, device=target.device) + 0.5) * (old / new)).long().clamp_(max=max(old - 1, 0))
        for old, new in zip(target.shape[-2:], size, strict=True)
    )
    return target[:, rows[:, None], columns]


def check_target(logits: Tensor, target: Tensor) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless ``target`` holds one integer per pixel of ``logits``."""
    require(
        not target.is_floating_point() and target.dtype != torch.bool,
        "target",
        "hold integer labels",
        target.dtype,
        "Convert it with .long().",
    )
    require(
        target.shape == (logits.shape[0], *logits.shape[2:]),
        "target",
        f"be one label per pixel of the logits, {(logits.shape[0], *logits.shape[2:])}",
        tuple(target.shape),
        "Resize the labels (nearest) to the images.",
    )


def unknown_label(logits: Tensor, target: Tensor, ignore_index: int) -> ArgumentError:
    """The error for labels that are neither a class nor ignored: names them."""
    labels = torch.unique(target).tolist()
    strange = [label for label in labels if label != ignore_index and not 0 <= label < logits.shape[1]]
    return ArgumentError(
        f"target must hold labels 0..{logits.shape[1] - 1} or ignore_index {ignore_index}; got {strange[:8]}. "
        "Check num_classes, or map these labels to ignore_index."
    )


def checked_class_weights(name: str, weights: Sequence[Number] | None) -> Float[Tensor, " K"] | None:
    """``weights`` as a float32 tensor; raises unless each is finite, none is negative and one is positive."""
    if weights is None:
        return None
    require(
        not isinstance(weights, str) and all(isinstance(weight, int | float) for weight in weights),
        name,
        "be a list of numbers, one a class",
        weights,
    )
    require(
        all(math.isfinite(weight) and weight >= 0 for weight in weights) and any(weights),
        name,
        "be finite, not negative and not all zero",
        list(weights),
    )
    return torch.tensor([float(weight) for weight in weights], dtype=torch.float32)


def check_per_class(name: str, weights: Tensor | None, num_classes: int) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless ``weights`` is None or holds one value a class."""
    if weights is not None:
        require(weights.shape == (num_classes,), name, f"hold {num_classes} values, one a class", tuple(weights.shape))


def check_number(name: str, value: Any, condition: str, holds: Callable[[float], bool]) -> float:
    """``value`` as a float; raises :class:`~delineate.errors.ArgumentError` unless it is a number that ``holds``."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    require(number and holds(value), name, condition, repr(value))
    return float(value)


class SemanticLoss(nn.Module):
    """A loss on logits, also applied to the auxiliary logits of a model; subclasses define :meth:`on_logits`.

    Source: the weight of side heads: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 3.3 (0.4).

    Args:
        ignore_index: the label that does not count.
        auxiliary_weight: the weight of each side head's loss against the main one; 0 leaves side heads out.
    """

    def __init__(self, *, ignore_index: int = 255, auxiliary_weight: Number = 0.4) -> None:
        super().__init__()
        require(
            isinstance(ignore_index, int) and not isinstance(ignore_index, bool),
            "ignore_index",
            "be a whole number",
            repr(ignore_index),
        )
        self.ignore_index = ignore_index
        self.auxiliary_weight = check_number("auxiliary_weight", auxiliary_weight, "be 0 or more", lambda v: v >= 0)

    def on_logits(
        self, logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"], *, normaliser: Normaliser | None
    ) -> Float[Tensor, ""]:
        """The loss of one head."""
        raise NotImplementedError(f"{type(self).__name__} must define on_logits")

    def forward(
        self, outputs: SemanticOutputs, target: Integer[Tensor, "B H W"], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The scalars to log; "loss" is the one to minimise.

        Args:
            outputs: what the model returned.
            target: labels at the size of ``outputs.logits``.
            normaliser: the mean over processes of a denominator (see :func:`over_ranks`); None in one process.

        Returns:
            "loss"; with side heads also "main" and "auxiliary" (their sum): loss = main + weight * auxiliary.
        """
        main = self.on_logits(outputs.logits, target, normaliser=normaliser)
        if not outputs.auxiliary or self.auxiliary_weight == 0:
            return {"loss": main}
        auxiliary = torch.stack(
            [
                self.on_logits(
                    logits, resized_target(target, (logits.shape[2], logits.shape[3])), normaliser=normaliser
                )
                for logits in outputs.auxiliary
            ]
        ).sum()
        return {
            "loss": main + self.auxiliary_weight * auxiliary,
            "main": main.detach(),
            "auxiliary": auxiliary.detach(),
        }
