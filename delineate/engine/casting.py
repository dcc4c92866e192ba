"""Weights in the number format that a network multiplies in, for a network that learns no more."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from delineate.engine.packing import PackedConv2d
from delineate.engine.winograd import WinogradConv2d

# layers whose weights autocast turns into its number format in every call
_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, PackedConv2d, WinogradConv2d)


def cast_once(model: nn.Module, example: Tensor, dtype: torch.dtype) -> nn.Module:
    """The model itself, the weights cast for good that autocast would cast in every call: the same numbers out.

    Which those are is seen by running ``example`` once: the weights of convolutions and linear layers that are called
    under autocast only. They then take half the memory.

    Args:
        model: on the device it runs on.
        example: an input it accepts.
        dtype: what autocast casts to, ``torch.bfloat16`` or ``torch.float16``.
    """
    device = example.device.type
    always: dict[nn.Module, bool] = {}

    def look(module: nn.Module, _: Any) -> None:
        always[module] = always.get(module, True) and torch.is_autocast_enabled(device)

    layers = [module for module in model.modules() if type(module) in _KINDS]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with torch.inference_mode(), torch.autocast(device, dtype=dtype):
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        if always.get(layer):
            for parameter in layer.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
    return model
