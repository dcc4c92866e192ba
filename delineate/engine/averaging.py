"""An exponential moving average of the weights, which is what gets validated and saved."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """Lightning's weight averaging with a decay that grows from 0.1 to ``decay``, so that short runs profit too.

    After ``n`` steps the decay is ``min(decay, (1 + n) / (10 + n))``, as in TensorFlow's ExponentialMovingAverage.
    Parameters and floating-point buffers (batch statistics) are averaged; counters are copied.

    Args:
        decay: of the average, below 1.
    """

    def __init__(self, decay: float) -> None:
        @torch.no_grad()
        def average(averaged: list[Tensor], current: list[Tensor], number: Tensor) -> None:
            # torch groups the tensors by dtype: all of one call are floats, or all are counters
            if averaged[0].is_floating_point():
                steps = float(number)
                share = 1.0 - min(decay, (1.0 + steps) / (10.0 + steps))
                torch._foreach_lerp_(averaged, current, share)
            else:
                torch._foreach_copy_(averaged, current)

        super().__init__(use_buffers=True, multi_avg_fn=average)
