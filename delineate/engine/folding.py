"""Batch normalisation folded into the convolutions before it: the same numbers, one pass over memory less."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from delineate.engine.synchronisation import SynchronisedBatchNorm2d


def folded(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy of an evaluated model in which normalisations that directly follow a convolution are folded into it.

    Which follow which is seen by running ``example`` once: a normalisation is folded when its input is the very tensor
    a convolution returned, both ran once, and the result stays the same; whatever cannot be folded is left as it is.

    Args:
        model: in evaluation mode; its weights are copied, not changed.
        example: an input it accepts, ``(1, C, H, W)``.
    """
    model = copy.deepcopy(model).eval()
    producers: dict[int, tuple[str, Tensor]] = {}
    calls: dict[str, int] = {}
    pairs: list[tuple[str, str]] = []
    hooks = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(module, nn.Conv2d):
                producers[id(output)] = (name, output)
            elif id(inputs[0]) in producers:
                pairs.append((producers[id(inputs[0])][0], name))

        hooks.append(module.register_forward_hook(hook))

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d) and type(module) is not nn.LazyConv2d:
            watch(name, module)
    with torch.inference_mode():
        before = model(example).logits
    for hook in hooks:
        hook.remove()

    once = [(conv, norm) for conv, norm in pairs if calls[conv] == 1 == calls[norm]]
    followed = [conv for conv, _ in once]
    for conv_name, norm_name in once:
        if followed.count(conv_name) == 1:
            conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
            if norm.running_mean is not None:
                _replace(model, conv_name, fuse_conv_bn_eval(conv, norm))  # type: ignore[type-var, arg-type]
                _replace(model, norm_name, _rest(norm))
    with torch.inference_mode():
        after = model(example).logits
    scale = before.abs().max().clamp_min(1.0)
    if not bool((before - after).abs().max() <= 1e-3 * scale):
        raise ArithmeticError("folding batch normalisation changed the outputs; a convolution's output is used twice")
    return model


def _rest(norm: nn.Module) -> nn.Module:
    """What is left of a normalisation once its scale and shift are gone: timm's carry an activation."""
    if type(norm) in (nn.BatchNorm2d, SynchronisedBatchNorm2d):
        return nn.Identity()
    parts = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(part, nn.Module)]
    parts = [part for part in parts if not isinstance(part, nn.Identity)]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts) if parts else nn.Identity()


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
