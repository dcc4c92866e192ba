"""Receptive fields: how much of the image one position of a feature, and one logit, can see."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from delineate.checks import require

Pair = tuple[int | float, int | float]


@dataclass(frozen=True)
class ReceptiveField:
    """What a model sees.

    Args:
        stride: image pixels between neighbouring positions of the coarsest feature, (rows, columns).
        size: image pixels that one position of the coarsest feature depends on, (height, width): the figure that
            papers give. ``inf`` means the whole image, whatever its size.
        logit_size: image pixels that one logit depends on, upsampling and skips included; the largest, where
            neighbouring logits differ.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 2, 3, padding=1))
        >>> receptive_field(net).size
        (8, 8)
    """

    stride: Pair
    size: Pair
    logit_size: Pair


def receptive_field(
    model: nn.Module, *, in_channels: int | None = None, size: tuple[int, int] = (512, 512)
) -> ReceptiveField:
    """The theoretical receptive field of ``model``, from the shapes of its layers; no number of it is computed.

    The model runs once on the meta device, where tensors have shapes and no values, and every operation says how many
    positions of its input a run of positions of its output takes. What joins branches (sums, concatenations) sees as
    much as the largest of them: they are taken to be centred on each other, as they are in all networks here. What
    mixes positions in another way (global pooling, attention, recurrent sweeps) sees the whole image.

    Source: Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, section 3.
    Differs: upsampling, which they leave out, is followed too.

    Args:
        model: takes images ``B C H W``; returns a tensor, or an object with ``logits``. It is not changed.
        in_channels: of the images; what the model says itself, or 3, when left out.
        size: of the image it is run on, which every downsampling of the model should divide.

    Raises:
        ArgumentError: when the model returns neither a tensor nor logits.
    """
    probe = copy.deepcopy(model).to("meta").eval()
    channels = getattr(model, "in_channels", 3) if in_channels is None else in_channels
    images = torch.empty(1, channels, *size, device="meta")
    tracker = _Tracker(images)
    for layer in probe.modules():
        if isinstance(layer, nn.RNNBase):  # its steps, one by one, would say less and take long
            layer.forward = partial(tracker.sweep, layer)
    with torch.no_grad(), tracker:
        outputs = probe(images)
    logits = getattr(outputs, "logits", outputs)
    require(isinstance(logits, Tensor), "model", "return a tensor or outputs with logits", type(outputs).__name__)
    strides, sizes = [], []
    for axis in (0, 1):
        seen = [field.axes[axis] for field in tracker.seen if math.isfinite(field.axes[axis].stride)]
        strides.append(max(own.stride for own in seen))
        sizes.append(max(own.extent(1) for own in seen if own.stride == strides[-1]))
    last = tracker.fields.get(logits)
    ends = [math.inf, math.inf] if last is None else [axis.extent(1) for axis in last.axes]
    return ReceptiveField(*((_plain(first), _plain(second)) for first, second in (strides, sizes, ends)))


def _plain(value: float | Fraction) -> int | float:
    """Whole numbers as int; a field that ends between pixels reaches to the next one."""
    return math.ceil(value) if math.isfinite(value) else math.inf


@dataclass(frozen=True)
class _Steps:
    """The pixels that a run of n positions sees: ``size + jump * ceil((n - 1) * step + offset)``.

    Without upsampling ``step`` is whole. After it, neighbouring positions share what they see, so that the pixels grow
    in jumps of the coarser feature, and ``step`` is a fraction.
    """

    size: Fraction = Fraction(1)
    jump: Fraction = Fraction(1)
    step: Fraction = Fraction(1)
    offset: Fraction = Fraction(0)

    def extent(self, positions: int) -> Fraction:
        return self.size + self.jump * math.ceil((positions - 1) * self.step + self.offset)

    def window(self, taps: int, stride: int) -> _Steps:
        """Of an operation that takes ``taps`` neighbouring positions, ``stride`` apart."""
        return replace(self, step=self.step * stride, offset=self.offset + (taps - 1) * self.step)

    def upsampled(self, ratio: Fraction, extra: int = 0) -> _Steps:
        """Of an operation with ``ratio`` outputs for each input, of which every output reaches ``extra`` further."""
        whole = self
        if self.step.denominator == 1:  # pixels grow evenly: say so in the plainest terms
            whole = _Steps(self.size + self.jump * math.ceil(self.offset), self.jump * self.step)
        return replace(whole, step=whole.step / ratio, offset=whole.offset + extra * whole.step / ratio)


@cache
def _profile(steps: _Steps) -> tuple[Fraction, ...]:
    return tuple(steps.extent(positions) for positions in _PROBES)


def _covers(one: tuple[Fraction, ...], other: tuple[Fraction, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))


_PROBES = (1, 2, 3, 5, 9, 17, 33, 65, 129, 257)


@dataclass(frozen=True)
class _Axis:
    """What positions along one axis see: the largest of several branches; of none, the whole image."""

    branches: tuple[_Steps, ...]
    stride: float | Fraction

    def extent(self, positions: int) -> float | Fraction:
        return max((branch.extent(positions) for branch in self.branches), default=math.inf)

    def each(self, change: Callable[[_Steps], _Steps], stride: Fraction) -> _Axis:
        return _Axis(tuple(change(branch) for branch in self.branches), self.stride * stride)

    @staticmethod
    def joined(axes: Iterable[_Axis]) -> _Axis:
        axes = list(axes)
        stride = min(axis.stride for axis in axes)
        if not all(axis.branches for axis in axes):
            return _Axis((), stride)
        branches = dict.fromkeys(branch for axis in axes for branch in axis.branches)
        profiles = {branch: _profile(branch) for branch in branches}
        widest = [
            branch
            for branch, own in profiles.items()
            if not any(_covers(other, own) for other in profiles.values() if other != own)
        ]
        return _Axis(tuple({profiles[branch]: branch for branch in widest}.values()), stride)


@dataclass(frozen=True)
class _Field:
    """Of one tensor: its height and width, and what its positions see along both."""

    sides: tuple[int, int]
    axes: tuple[_Axis, _Axis]


class _Tracker(TorchDispatchMode):
    """Follows fields through every operation that runs inside it."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.fields: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.seen: list[_Field] = []
        pixel = _Axis((_Steps(),), Fraction(1))
        self._keep(images, _Field(_sides(images), (pixel, pixel)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf in self.fields]
        if leaves:
            fields = [self.fields[leaf] for leaf in leaves]
            for output in tree_leaves(result):
                if isinstance(output, Tensor):
                    self._keep(output, _outcome(func, args, fields, output))
        return result

    def sweep(self, layer: nn.RNNBase, steps: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """What a recurrent layer returns in shape, having seen everything."""
        before = self.fields[steps]
        swept = steps.new_empty(*steps.shape[:-1], layer.hidden_size * (2 if layer.bidirectional else 1))
        axes = (_Axis((), before.axes[0].stride), _Axis((), before.axes[1].stride))
        self._keep(swept, _Field(before.sides, axes))
        return swept, None

    def _keep(self, tensor: Tensor, field: _Field) -> None:
        self.fields[tensor] = field
        self.seen.append(field)


def _sides(tensor: Tensor) -> tuple[int, int]:
    return (int(tensor.shape[-2]), int(tensor.shape[-1])) if tensor.ndim >= 2 else (1, 1)


def _outcome(func: Any, args: Any, fields: list[_Field], output: Tensor) -> _Field:
    """The field of an operation's output."""
    name = func.__name__.partition(".")[0].lstrip("_")
    if name in _WINDOWS:
        along = _WINDOWS[name](_given(func, args))
        return _Field(_sides(output), (along(fields[0].axes[0], 0), along(fields[0].axes[1], 1)))
    if name.startswith("upsample") or name == "max_unpool2d":
        return _interpolated(name, fields[0], _sides(output))
    joined = fields[0]
    if len(fields) > 1:
        axes = tuple(_Axis.joined(field.axes[axis] for field in fields) for axis in (0, 1))
        joined = _Field(max((field.sides for field in fields), key=math.prod), (axes[0], axes[1]))
    if name in _RESHAPES or (name in ("mm", "addmm") and len(fields) == 1):
        return joined  # the same positions in another order, or each by itself
    if name in _CROPS:
        return _Field(_sides(output), joined.axes)
    if name not in ("bmm", "baddbmm") and all(side in output.shape for side in joined.sides):
        return joined
    strides = [axis.stride if joined.sides == _sides(output) else math.inf for axis in joined.axes]
    return _Field(_sides(output), (_Axis((), strides[0]), _Axis((), strides[1])))


def _interpolated(name: str, field: _Field, sides: tuple[int, int]) -> _Field:
    taps = 2 if "bilinear" in name else 4 if "bicubic" in name else 1

    def along(axis: int) -> _Axis:
        ratio = Fraction(sides[axis], field.sides[axis])
        if ratio == 1:
            return field.axes[axis]
        return field.axes[axis].each(lambda steps: steps.window(taps, 1).upsampled(ratio), 1 / ratio)

    return _Field(sides, (along(0), along(1)))


_Along = Callable[[_Axis, int], _Axis]


def _given(func: Any, args: Any) -> dict[str, Any]:
    """The positional arguments by their names, with defaults where none was given."""
    arguments = func._schema.arguments
    values = {argument.name: argument.default_value for argument in arguments if argument.has_default_value()}
    return {**values, **{argument.name: value for argument, value in zip(arguments, args, strict=False)}}


def _pair(values: Any, missing: Any = 1) -> tuple[int, int]:
    if values is None or values == []:
        return _pair(missing)
    return (values[0], values[-1]) if isinstance(values, list | tuple) else (values, values)


def _convolution(given: dict[str, Any]) -> _Along:
    kernel, stride, dilation = _sides(given["weight"]), _pair(given["stride"]), _pair(given["dilation"])

    def along(axis: _Axis, place: int) -> _Axis:
        taps = (kernel[place] - 1) * dilation[place] + 1
        step = stride[place]
        if given["transposed"]:
            return axis.each(lambda steps: steps.upsampled(Fraction(step), taps - step), Fraction(1, step))
        return axis.each(lambda steps: steps.window(taps, step), Fraction(step))

    return along


def _pooling(given: dict[str, Any]) -> _Along:
    kernel, dilation = _pair(given["kernel_size"]), _pair(given.get("dilation"))
    stride = _pair(given.get("stride"), kernel)

    def along(axis: _Axis, place: int) -> _Axis:
        taps = (kernel[place] - 1) * dilation[place] + 1
        return axis.each(lambda steps: steps.window(taps, stride[place]), Fraction(stride[place]))

    return along


_WINDOWS: dict[str, Callable[[dict[str, Any]], _Along]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
}
_RESHAPES = frozenset(
    """
    view unsafe_view reshape permute transpose t unsqueeze squeeze expand clone detach alias to_copy as_strided copy
    native_layer_norm
    """.split()  # noqa: SIM905
)
_CROPS = frozenset(
    """
    slice select index_select index constant_pad_nd reflection_pad2d replication_pad2d roll
    """.split()  # noqa: SIM905
)
