"""Several losses as one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from delineate.checks import require
from delineate.losses.supervision import Normaliser, Number, check_number
from delineate.structures.outputs import SemanticOutputs


class WeightedSum(nn.Module):
    """The weighted sum of named losses, with each of them beside it.

    Args:
        losses: name to (loss, weight); a loss answers ``(outputs, target, normaliser=..., valid_classes=...)`` with a
            dictionary whose "loss" counts. Names appear in the logs; "loss" itself is taken.

    Raises:
        ArgumentError: when there is no loss, a name is "loss" or holds a dot, or a weight is not a positive number.

    Example:
        >>> from delineate.losses.cross_entropy import CrossEntropy
        >>> from delineate.losses.dice import SoftDice
        >>> both = WeightedSum({"cross_entropy": (CrossEntropy(), 1.0), "dice": (SoftDice(), 2.0)})
        >>> values = both(SemanticOutputs(torch.zeros(1, 2, 1, 2)), torch.tensor([[[0, 1]]]))
        >>> {name: round(value.item(), 4) for name, value in values.items()}
        {'loss': 1.6931, 'cross_entropy': 0.6931, 'dice': 0.5}
    """

    def __init__(self, losses: Mapping[str, tuple[nn.Module, Number]]) -> None:
        super().__init__()
        require(len(losses) > 0, "losses", "hold at least one loss", "none")
        for name in losses:
            require(
                name != "loss" and "." not in name, "losses", "be named other than 'loss', without dots", repr(name)
            )
        self.losses = nn.ModuleDict({name: loss for name, (loss, _) in losses.items()})
        self.weights = {
            name: check_number(f"weight of {name}", weight, "be a positive number", lambda v: v > 0)
            for name, (_, weight) in losses.items()
        }

    def forward(
        self,
        outputs: SemanticOutputs,
        target: Integer[Tensor, "B H W"],
        *,
        normaliser: Normaliser | None = None,
        valid_classes: Bool[Tensor, "B K"] | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted sum to minimise, as "loss"; then each loss under its name, unweighted and detached.

        Args:
            outputs: what the model returned.
            target: labels at the size of ``outputs.logits``.
            normaliser: handed to every loss.
            valid_classes: which classes each image's data set labels, all when None; handed to every loss.
        """
        values = {
            name: loss(outputs, target, normaliser=normaliser, valid_classes=valid_classes)["loss"]
            for name, loss in self.losses.items()
        }
        total = torch.stack([self.weights[name] * value for name, value in values.items()]).sum()
        return {"loss": total, **{name: value.detach() for name, value in values.items()}}
