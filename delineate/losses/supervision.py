"""What every semantic loss shares: supervising the side heads, and one mean over all processes of a training run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64, Integer
from torch import Tensor, nn

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.losses.partial_labels import check_labelled, marginal_logits
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


def counted_labels(
    logits: Tensor, target: Tensor, ignore_index: int
) -> tuple[Bool[Tensor, "B H W"], Int64[Tensor, "B H W"]]:
    """Which pixels count, and their labels, 0 where they do not; for losses that gather by label.

    Raises:
        ArgumentError: on a label that is no class, off the GPU: a wait for it is dearer than this check, and there the
            gather behind it stops on such a label.
    """
    counted = target != ignore_index
    labels = torch.where(counted, target, 0).long()
    if labels.device.type == "cpu" and labels.numel():
        least, most = torch.aminmax(labels)
        if not 0 <= int(least) <= int(most) < logits.shape[1]:
            raise unknown_label(logits, target, ignore_index)
    return counted, labels


def ratio(above: Float[Tensor, "*K"], below: Float[Tensor, "*K"]) -> Float[Tensor, "*K"]:
    """``above / below``; ``above`` itself where ``below`` is 0, which in a loss has counted nothing."""
    return above / torch.where(below > 0, below, torch.ones_like(below))


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
        auxiliary_weight: the weight of each side head's loss against the main one, or a list with one weight a head;
            0 leaves a head out.
        rest_class: the label that stands for all that a partly labelled image's data set does not label; see
            :func:`~delineate.losses.partial_labels.marginal_logits`.
    """

    def __init__(
        self,
        *,
        ignore_index: int = 255,
        auxiliary_weight: Number | Sequence[Number] = 0.4,
        rest_class: int | None = None,
    ) -> None:
        super().__init__()
        for name, label in (("ignore_index", ignore_index), ("rest_class", 0 if rest_class is None else rest_class)):
            require(isinstance(label, int) and not isinstance(label, bool), name, "be a whole number", repr(label))
        require(rest_class is None or rest_class >= 0, "rest_class", "be a class, 0 or more", rest_class)
        self.ignore_index = ignore_index
        self.rest_class = rest_class
        listed = isinstance(auxiliary_weight, Sequence) and not isinstance(auxiliary_weight, str)
        weights = [
            check_number("auxiliary_weight", weight, "be 0 or more", lambda v: v >= 0)
            for weight in (auxiliary_weight if listed else [auxiliary_weight])  # type: ignore[union-attr]
        ]
        self.auxiliary_weight: float | tuple[float, ...] = tuple(weights) if listed else weights[0]

    def on_logits(
        self, logits: Float[Tensor, "B K H W"], target: Integer[Tensor, "B H W"], *, normaliser: Normaliser | None
    ) -> Float[Tensor, ""]:
        """The loss of one head."""
        raise NotImplementedError(f"{type(self).__name__} must define on_logits")

    def forward(
        self,
        outputs: SemanticOutputs,
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
        valid_classes: Bool[Tensor, "B K"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The scalars to log; "loss" is the one to minimise.

        Args:
            outputs: what the model returned.
            target: labels at the size of ``outputs.logits``.
            normaliser: the mean over processes of a denominator (see :func:`over_ranks`); None in one process.
            valid_classes: which classes each image's data set labels; all when None.

        Returns:
            "loss"; with side heads also "main" and "auxiliary" (the sum over the heads that count, not weighted):
            loss = main + weight * auxiliary, or with a list of weights main + the weighted sum over the heads.

        Raises:
            ArgumentError: when a list of side heads' weights has another length than the model has heads, or (off the
                GPU) the target holds a class that ``valid_classes`` denies the image.
        """
        if valid_classes is not None:
            check_labelled(target, valid_classes, ignore_index=self.ignore_index)

        def on_head(logits: Tensor) -> Tensor:
            logits = marginal_logits(logits, valid_classes, rest_class=self.rest_class)
            labels = resized_target(target, (logits.shape[2], logits.shape[3]))
            return self.on_logits(logits, labels, normaliser=normaliser)

        check_target(outputs.logits, target)
        main = on_head(outputs.logits)
        weights = self._head_weights(len(outputs.auxiliary))
        counted = [(weight, head) for weight, head in zip(weights, outputs.auxiliary, strict=True) if weight > 0]
        if not counted:
            return {"loss": main}
        values = [on_head(head) for _, head in counted]
        weighted = [weight * value for (weight, _), value in zip(counted, values, strict=True)]
        return {
            "loss": main + torch.stack(weighted).sum(),
            "main": main.detach(),
            "auxiliary": torch.stack(values).sum().detach(),
        }

    def _head_weights(self, heads: int) -> tuple[float, ...]:
        """One weight a side head. A model without any (in evaluation, say) asks for none."""
        if isinstance(self.auxiliary_weight, float):
            return (self.auxiliary_weight,) * heads
        require(
            heads in (0, len(self.auxiliary_weight)),
            "auxiliary_weight",
            f"hold {heads} weights, one a side head of the model",
            list(self.auxiliary_weight),
        )
        return self.auxiliary_weight[:heads]
