"""What every torchmetrics class of this room shares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric


class ScoreMetric(Metric):
    """A metric whose states are told apart from those of any other, and stay exact.

    A ``MetricCollection`` takes metrics whose states are equal after the first batch for one and the same, and updates
    one of them from then on. Two of ours with different options, or box and mask scores, are equal after a first batch
    without detections. So each carries a number made of its class and options among its states.

    Sums are kept in float64 whatever type the model is moved to: ``metric.to(torch.bfloat16)`` would round them, and
    processes of which one has no data would gather different types.

    Args:
        configuration: the options that decide what the states mean.
        options: torchmetrics' own (``sync_on_compute`` ...).
    """

    is_differentiable = False
    higher_is_better: bool | None = True
    full_state_update = False

    configuration: Tensor

    def __init__(self, *configuration: Any, **options: Any) -> None:
        super().__init__(**options)
        text = repr((type(self).__qualname__, configuration)).encode()
        number = int.from_bytes(hashlib.sha256(text).digest()[:7], "big")
        self.add_state("configuration", torch.tensor(number), dist_reduce_fx="max")
        self._visited = 0  # not a state: forward() resets those between batches

    def new_visits(self, count: int) -> np.ndarray:
        """Numbers of images that no other update of any process has, ascending in the order of both."""
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        first = ((torch.distributed.get_rank() if together else 0) << 40) + self._visited
        self._visited += count
        return np.arange(first, first + count, dtype=np.int64)

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> torch.nn.Module:
        before = {name: _types(getattr(self, name)) for name in self._defaults}
        super()._apply(fn, exclude_state)
        for name, types in before.items():
            setattr(self, name, _restored(getattr(self, name), types))
            self._defaults[name] = _restored(self._defaults[name], types)
        return self


def _types(state: Tensor | list[Tensor]) -> list[torch.dtype]:
    return [state.dtype] if isinstance(state, Tensor) else [part.dtype for part in state]


def _restored(state: Tensor | list[Tensor], types: list[torch.dtype]) -> Tensor | list[Tensor]:
    if isinstance(state, Tensor):
        return state.to(types[0])
    return [part.to(kind) for part, kind in zip(state, types, strict=False)]
