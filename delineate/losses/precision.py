"""The precision in which losses are computed, whatever the network's."""

from __future__ import annotations

from torch import Tensor


def full_precision(logits: Tensor) -> Tensor:
    """``logits`` in float32, or float64 if they are: a softmax in half precision loses the small probabilities."""
    return logits if logits.element_size() == 8 else logits.float()
