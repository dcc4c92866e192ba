"""What follows a convolution made part of it, batch normalisation and ReLU: the same numbers in fewer passes."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from delineate.engine.packing import PackedConv2d
from delineate.engine.synchronisation import SynchronisedBatchNorm2d
from delineate.structures.outputs import RegionOutputs

# outputs may move by this share of their largest value; single-precision rounding moves them a thousandth of it
TOLERANCE = 1e-3


def folded(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy of an evaluated model in which normalisations that directly follow a convolution are folded into it.

    Which follow which is seen by running ``example`` once: a normalisation is folded when its input is the very tensor
    a convolution returned, nothing else used that tensor, both ran once, and the outputs stay the same; whatever cannot
    be folded is left as it is.

    Args:
        model: its weights are copied, not changed; the copy is in evaluation mode.
        example: an input it accepts, ``(1, C, H, W)``; not constant, so that a difference shows.
    """
    model = copy.deepcopy(model).eval()
    example = example.to(next((weight.device for weight in model.parameters()), example.device))
    before, pairs = _followers(model, example)

    def same() -> bool:
        with torch.inference_mode():
            after = _answers(model(example))
        return bool((before - after).abs().max() <= TOLERANCE * before.abs().max().clamp_min(1.0))

    _fold(model, pairs, same)
    return model


def rectified(model: nn.Module, example: Tensor) -> nn.Module:
    """The model itself, each ReLU behind a :class:`~delineate.engine.packing.PackedConv2d` made part of it.

    Which follow which is seen by running ``example`` once: a ReLU is included when all it is ever given are the results
    of one convolution, and nothing else uses those.

    Args:
        model: in evaluation mode.
        example: an input it accepts.
    """
    made: dict[int, tuple[PackedConv2d, Tensor]] = {}
    given: dict[nn.ReLU, list[int]] = {}
    calls: Counter[PackedConv2d] = Counter()
    uses = _Uses()

    def make(module: PackedConv2d, _: Any, output: Tensor) -> None:
        calls[module] += 1
        made[id(output)] = (module, output)  # kept alive: from now on no other tensor gets its id
        uses.count[id(output)] = 0

    def take(module: nn.ReLU, inputs: tuple[Tensor, ...]) -> None:
        unused = uses.count[id(inputs[0])] == 0
        given.setdefault(module, []).append(id(inputs[0]) if unused else 0)

    hooks = []
    for module in model.modules():
        if isinstance(module, PackedConv2d):
            hooks.append(module.register_forward_hook(make))
        elif type(module) is nn.ReLU:
            hooks.append(module.register_forward_pre_hook(take))
    try:
        with torch.inference_mode(), uses:
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module in calls:
            module.forget()  # laid out for the example
    names = {module: name for name, module in model.named_modules()}
    for relu, inputs in given.items():
        makers = {made[one][0] if one in made else None for one in inputs}
        maker = makers.pop()
        # in place, whoever comes later is given what is rectified
        alone = all(relu.inplace or uses.count[one] == 1 for one in inputs)
        if not makers and maker is not None and alone and calls[maker] == len(inputs):
            maker.rectifies = True
            _replace(model, names[relu], nn.Identity())
    return model


def _followers(model: nn.Module, example: Tensor) -> tuple[Tensor, list[tuple[str, str]]]:
    """The logits of ``example``, and the names of each convolution and the normalisation that alone uses its output."""
    producers: dict[int, tuple[str, Tensor]] = {}
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []
    hooks = []
    uses = _Uses()

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls[name] += 1
            if isinstance(module, nn.Conv2d):
                producers[id(output)] = (name, output)  # kept alive: from now on no other tensor gets its id
                uses.count[id(output)] = 0
            elif inputs and id(inputs[0]) in producers:
                pairs.append((producers[id(inputs[0])][0], name))

        hooks.append(module.register_forward_hook(hook))

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            watch(name, module)
    with torch.inference_mode(), uses:
        before = _answers(model(example))
    for hook in hooks:
        hook.remove()
    alone = {name for name, output in producers.values() if uses.count[id(output)] == 1}
    tracked = [(conv, norm) for conv, norm in pairs if model.get_submodule(norm).running_mean is not None]
    return before, [(conv, norm) for conv, norm in tracked if conv in alone and calls[conv] == 1 == calls[norm]]


def _answers(outputs: Any) -> Tensor:
    """What a model says; of regions, whose number and order may change with a rounding, what it says of all anchors."""
    answers: Tensor = (outputs.proposals if isinstance(outputs, RegionOutputs) else outputs).logits
    return answers


class _Uses(TorchFunctionMode):
    """Counts how often each tensor is an argument of a torch function; looking at its shape is no use."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") not in ("__get__", "size", "dim"):
            self.count.update({id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)})
        return func(*args, **(kwargs or {}))


def _fold(model: nn.Module, pairs: list[tuple[str, str]], same: Callable[[], bool]) -> None:
    """Fold as many pairs as leave the outputs the same: all of them, or those of either half that do."""
    modules = {name: model.get_submodule(name) for pair in pairs for name in pair}
    for conv, norm in pairs:
        _replace(model, conv, fuse_conv_bn_eval(modules[conv], modules[norm]))  # type: ignore[type-var, arg-type]
        _replace(model, norm, _rest(modules[norm]))
    if same():
        return
    for name, module in modules.items():
        _replace(model, name, module)
    if len(pairs) > 1:
        middle = len(pairs) // 2
        _fold(model, pairs[:middle], same)
        _fold(model, pairs[middle:], same)


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
