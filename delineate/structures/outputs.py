"""What a model returns: one type per task family, the same in training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SemanticOutputs:
    """Scores of every class at every pixel.

    Args:
        logits: before the softmax, at the size of the input image.
        auxiliary: further logits that a loss may supervise (side heads), each ``B K h w`` of its own size.
    """

    logits: Float[Tensor, "B K H W"]
    auxiliary: tuple[Float[Tensor, "B K _ _"], ...] = field(default=())
