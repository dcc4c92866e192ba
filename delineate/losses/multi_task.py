"""One loss for a network with several tasks: a fixed sum, or one whose weights are learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.losses.supervision import Normaliser, Number, check_number

WEIGHTINGS = ("fixed", "uncertainty")


class MultiTaskSum(nn.Module):
    """The sum over tasks of each one's own loss on its own outputs and target.

    Source: weighting="uncertainty": Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for
        Scene Geometry and Semantics", CVPR 2018, section 3.2.
    Differs: the sum of ``weight * (exp(-s) L + s)``, with s from 0: up to a constant twice the paper's objective, for
        squared errors with s = log sigma^2, for cross-entropies with s = log(sigma^2 / 2). Where s is best, exp(-s) is
        1 / L, so that no task's scale matters.

    Args:
        losses: task to (loss, weight); a loss answers ``(outputs, target, normaliser=...)`` with a dictionary whose
            "loss" counts. Task names appear in the logs; "loss" itself is taken.
        weighting: "fixed" keeps the weights; "uncertainty" learns a log-variance s for each task besides. These
            parameters must then be given to the optimizer beside the model's, without weight decay:
            ``losses.parameters()``.

    Raises:
        ArgumentError: when there is no task, a name is "loss" or holds a dot, or a weight is not a positive number.

    Example:
        >>> from delineate.losses.cross_entropy import CrossEntropy
        >>> from delineate.structures.outputs import SemanticOutputs
        >>> both = MultiTaskSum({"parts": (CrossEntropy(), 1.0), "shadow": (CrossEntropy(), 0.5)})
        >>> parts, shadow = (SemanticOutputs(torch.zeros(1, classes, 1, 1)) for classes in (4, 2))
        >>> target = torch.tensor([[[1]]])
        >>> values = both({"parts": parts, "shadow": shadow}, {"parts": target, "shadow": target})
        >>> {name: round(value.item(), 4) for name, value in values.items()}
        {'loss': 1.7329, 'parts': 1.3863, 'shadow': 0.6931}
    """

    def __init__(self, losses: Mapping[str, tuple[nn.Module, Number]], *, weighting: str = "fixed") -> None:
        super().__init__()
        require(len(losses) > 0, "losses", "hold at least one task", "none")
        for task in losses:
            require(
                task != "loss" and "." not in task, "losses", "be named other than 'loss', without dots", repr(task)
            )
        require(weighting in WEIGHTINGS, "weighting", f"be one of {', '.join(WEIGHTINGS)}", repr(weighting))
        self.losses = nn.ModuleDict({task: loss for task, (loss, _) in losses.items()})
        self.weights = {
            task: check_number(f"weight of {task}", weight, "be a positive number", lambda v: v > 0)
            for task, (_, weight) in losses.items()
        }
        learned = losses if weighting == "uncertainty" else ()
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in learned})

    def forward(
        self, outputs: Mapping[str, Any], targets: Mapping[str, Any], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; then each task's loss under its name, unweighted and detached.

        Args:
            outputs: what the model returned for each task.
            targets: the target of each task.
            normaliser: handed to every loss.

        Raises:
            ArgumentError: when a task has no outputs or no target.
        """
        for argument, given in (("outputs", outputs), ("targets", targets)):
            missing = [task for task in self.losses if task not in given]
            require(not missing, argument, f"hold every task: {', '.join(self.losses)}", f"none for {missing}")
        values = {
            task: loss(outputs[task], targets[task], normaliser=normaliser)["loss"]
            for task, loss in self.losses.items()
        }
        parts = []
        for task, value in values.items():
            if task in self.log_variances:
                log_variance = self.log_variances[task]
                parts.append(self.weights[task] * (torch.exp(-log_variance) * value + log_variance))
            else:
                parts.append(self.weights[task] * value)
        return {"loss": torch.stack(parts).sum(), **{task: value.detach() for task, value in values.items()}}
