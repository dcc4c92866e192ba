"""How much arithmetic a model is: multiply-adds of its convolutions and matrix products."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(model: nn.Module, size: tuple[int, int], *, in_channels: int | None = None) -> int:
    """Multiply-adds (MACs) of one image through ``model``: its convolutions and matrix products, nothing else.

    Papers call them MACs, MAdds, or (when they count twice) FLOPs. Biases, normalisation, activations, pooling and
    interpolation are not counted, as is usual. The model runs on the meta device, so nothing is really computed.

    Args:
        model: takes images ``B C H W``. It is not changed.
        size: (height, width) of the image.
        in_channels: of the image; what the model says itself, or 3, when left out.

    Example:
        >>> multiply_adds(nn.Conv2d(3, 8, 3, padding=1), (10, 10))  # 10 * 10 * 8 * 3 * 3 * 3
        21600
    """
    probe = copy.deepcopy(model).to("meta").eval()
    channels = getattr(model, "in_channels", 3) if in_channels is None else in_channels
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        probe(torch.empty(1, channels, *size, device="meta"))
    return int(counter.get_total_flops()) // 2
