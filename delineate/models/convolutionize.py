"""Any classifier of one window made convolutional: its linear layers slide over images of any size.

Source: Matan, Burges, LeCun, Denker, "Multi-Digit Recognition Using a Space Displacement Neural Network", NIPS 1991;
Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks", ICLR 2014,
section 3.5; Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.1.
Differs: nothing; the network is traced with ``torch.fx`` instead of being written by hand.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.models.patch_classifier import ScaledTanh

IMAGENET_SIDE = 224
GROWTH = 2**20  # pixels; large against any stride

_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_DROPOUTS = (nn.Dropout, nn.AlphaDropout)
# layers and functions that treat every value by itself, whatever the shape around it
_POINTWISE_LAYERS = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, ScaledTanh),
)
_POINTWISE_FUNCTIONS = (F.relu, F.gelu, F.silu, F.hardswish, F.dropout, torch.relu, torch.tanh, torch.sigmoid)
_RESHAPING = (torch.flatten, torch.reshape, torch.squeeze, operator.getitem, "flatten", "reshape", "squeeze", "view")
_SCALAR_FUNCTIONS = (operator.add, operator.mul, operator.sub, operator.truediv)


class SlidingClassifier(nn.Module):
    """A convolutional classifier; made by :func:`convolutionize`.

    Args:
        network: images to one logit a class at every place of the window.
        input_size: height and width of the window.
        stride: rows and columns from one window to the next.
    """

    def __init__(self, network: nn.Module, *, input_size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        self.stride = stride

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K h w"]:
        """Logits of the window whose first pixel is (i * stride, j * stride), at (i, j).

        Raises:
            ArgumentError: when the images are smaller than the window.
        """
        if not torch.compiler.is_exporting():
            size = tuple(images.shape[-2:])
            require(
                all(side >= window for side, window in zip(size, self.input_size, strict=True)),
                "images",
                f"be at least {self.input_size[0]} x {self.input_size[1]} pixels, one window",
                f"{size[0]} x {size[1]}",
            )
        logits: Tensor = self.network(images)
        return logits


def convolutionize(model: nn.Module, input_size: tuple[int, int] | None = None) -> SlidingClassifier:
    """A convolutional copy of a classifier, which takes larger images and returns a coarse map of logits.

    Flattening and linear layers become convolutions with the same weights, and pooling to a fixed number of bins
    becomes pooling with the bins' size at stride 1. On images of ``input_size`` the logits are the classifier's own. On
    larger ones there is one more row of them every ``stride`` pixels, each equal to what the classifier says of the
    window there **if nothing inside it is padded and nothing looks at the whole image** (squeeze-and-excitation). Where
    its convolutions are padded, as VGG's and GoogLeNet's are, the classifier sees zeros beyond the window and the
    sliding one sees the neighbouring pixels, so that both differ near the windows' borders.

    Layers before the first flattening are kept as they are, with their names and weights; dropout is kept. AlexNet,
    VGGs, GoogLeNet, ResNets, DenseNets, MobileNets and ConvNeXts can be converted, torchvision's and timm's; networks
    that mix tokens (vision transformers, Swin) cannot.

    Args:
        model: of the usual form: features, perhaps a pooling, flattening, linear layers, one tensor of logits. Not
            changed; its mode is that of the copy.
        input_size: height and width of the window the classifier is made for. None takes the model's own
            ``input_size`` attribute, timm's ``pretrained_cfg``, or 224 x 224.

    Raises:
        ArgumentError: on a layer without a convolutional form, named; on pooling into bins that do not divide the
            feature; and on a model that ``torch.fx`` cannot trace or that answers larger images with no larger map.

    Example:
        >>> classifier = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
        >>> sliding = convolutionize(classifier, (8, 8))
        >>> tuple(sliding(torch.zeros(1, 1, 8, 8)).shape), tuple(sliding(torch.zeros(1, 1, 16, 12)).shape)
        ((1, 2, 1, 1), (1, 2, 5, 3))
        >>> sliding.stride
        (2, 2)
    """
    size = _window(model) if input_size is None else (int(input_size[0]), int(input_size[1]))
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None:
        raise ArgumentError(f"model must have a convolution; got {type(model).__name__}.")
    example = torch.empty(1, first.in_channels, *size, dtype=first.weight.dtype, device="meta")
    graph_module = _traced(copy.deepcopy(model).eval(), example)
    _on_meta(graph_module, lambda: ShapeProp(graph_module).propagate(example))
    for node in list(graph_module.graph.nodes):
        _Conversion(graph_module, node).convert()
    output = next(iter(reversed(graph_module.graph.nodes))).args[0]
    require(
        isinstance(output, fx.Node) and "collapsed" in output.meta,
        "model",
        "return one tensor of logits behind linear layers or a global pooling",
        output,
    )
    graph_module.graph.eliminate_dead_code()
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    sliding = SlidingClassifier(graph_module, input_size=size, stride=_stride(graph_module, example))
    return sliding.train(model.training)


def _window(model: nn.Module) -> tuple[int, int]:
    own = getattr(model, "input_size", None)
    if own is None:
        own = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    if own is None:
        return IMAGENET_SIDE, IMAGENET_SIDE
    return int(own[-2]), int(own[-1])


def _on_meta(module: nn.Module, work: Callable[[], Any]) -> Any:
    """Run ``work`` while every weight of ``module`` is a shape without values, so that it costs next to nothing."""
    weights = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*module.named_parameters(), *module.named_buffers())
    }

    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = module

        def forward(self) -> Any:
            return work()

    with torch.no_grad():
        return functional_call(Caller(), {f"inside.{name}": value for name, value in weights.items()}, ())


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


class _Tracer(fx.Tracer):
    """Sees through the modules that end spatial maps, and keeps those that return one in a piece."""

    def __init__(self, whole: set[nn.Module]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # a library's own kind of linear layer counts as one
        known = isinstance(m, (nn.Linear, *_POINTWISE_LAYERS))
        return m in self.whole or known or super().is_leaf_module(m, module_qualified_name)


def _traced(model: nn.Module, example: Tensor) -> fx.GraphModule:
    whole: set[nn.Module] = set()

    def watch(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if module is model or not isinstance(output, Tensor) or output.ndim != 4:
            return
        inside = list(module.modules())
        if output.shape[2:] == (1, 1):  # convolutions to one pixel may slide; what pools to one must be changed
            slides = any(isinstance(layer, nn.Conv2d) for layer in inside)
            slides = slides and not any(isinstance(layer, (*_ADAPTIVE, nn.Linear, nn.Flatten)) for layer in inside)
        else:
            slides = not any(isinstance(layer, _ADAPTIVE) and layer.output_size not in (1, (1, 1)) for layer in inside)
        if slides:
            whole.add(module)

    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        _on_meta(model, lambda: model(example))
    except (RuntimeError, ValueError) as error:
        raise ArgumentError(
            f"model must take images of input_size {tuple(example.shape[2:])} and do the same whatever their values; "
            f"got: {_first_line(error)}."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    tracer = _Tracer(whole)
    try:
        graph = tracer.trace(model)
    except (fx.proxy.TraceError, TypeError, NotImplementedError) as error:
        raise ArgumentError(
            f"model must be one that torch.fx can trace; got {type(model).__name__}: {_first_line(error)}."
        ) from error
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


class _Conversion:
    """One node of the graph, and what becomes of it.

    A node of the original graph is spatial (B C h w), and stays; or, once flattened, collapsed: then its meta data say
    which map was flattened, as (channels, height, width, distance between its bins), or (features, 1, 1, 1).
    """

    def __init__(self, graph_module: fx.GraphModule, node: fx.Node) -> None:
        self.graph_module = graph_module
        self.node = node
        self.layer = graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None
        self.source = next((argument for argument in node.args if isinstance(argument, fx.Node)), None)

    @property
    def what(self) -> str:
        """The node in words, for an error."""
        if self.layer is not None:
            return f"'{self.node.target}' ({type(self.layer).__name__})"
        return f"'{self.node.name}' ({getattr(self.node.target, '__name__', self.node.target)})"

    @staticmethod
    def shape(node: fx.Node) -> tuple[int, ...]:
        """Of what a node returned at the window's size; empty when that is no tensor."""
        found: Any = node.meta.get("tensor_meta")
        return tuple(found.shape) if hasattr(found, "shape") else ()

    def convert(self) -> None:
        """Change this node, whose inputs have been changed already."""
        if self.node.op in ("placeholder", "get_attr", "output") or self.source is None:
            return
        collapsed = self.source.meta.get("collapsed")
        if collapsed is not None:
            self._behind_flattening(collapsed)
            return
        pooled, spread = self._pooling(), self.source.meta.get("spread", 1)
        if pooled is not None:
            self._pool(*pooled)
        elif len(self.shape(self.source)) == 4 and self._flattens():
            self._replace(nn.Identity())
            self.node.meta["collapsed"] = (*self.shape(self.source)[1:], spread)
        elif isinstance(self.layer, nn.Linear):
            self._refuse("a linear layer must read a flattened feature or a global pooling")
        elif spread > 1:
            require(self._pointwise(), "model", "flatten what it pools into bins", self.what)
            self.node.meta["spread"] = spread

    def _refuse(self, why: str) -> None:
        raise ArgumentError(f"model must have a convolutional form; got {self.what}: {why}.")

    def _replace(self, layer: nn.Module) -> None:
        """Let ``layer`` stand here, under this layer's own name where it has one."""
        name = str(self.node.target) if self.layer is not None else f"converted_{self.node.name}"
        used = [node for node in self.graph_module.graph.nodes if node.op == "call_module" and node.target == name]
        if used and used != [self.node]:
            name = f"converted_{self.node.name}"  # the same layer stands in several places
        self.graph_module.add_submodule(name, layer.train(False))
        self.node.op, self.node.target = "call_module", name
        self.node.args, self.node.kwargs = (self.source,), {}

    def _pointwise(self) -> bool:
        if self.layer is not None:
            return isinstance(self.layer, (*_POINTWISE_LAYERS, *_DROPOUTS))
        if self.node.target in _SCALAR_FUNCTIONS:
            return sum(isinstance(argument, fx.Node) for argument in self.node.args) == 1
        return self.node.target in _POINTWISE_FUNCTIONS or self.node.target in ("relu", "tanh", "sigmoid", "contiguous")

    def _pooling(self) -> tuple[type[nn.Module], tuple[int, int], bool] | None:
        """Which pooling this is, into how many rows and columns of bins, and whether these are flattened too."""
        assert self.source is not None
        before, after = self.shape(self.source), self.shape(self.node)
        if len(before) != 4:
            return None
        functions: dict[Any, type[nn.Module]] = {
            F.adaptive_avg_pool2d: nn.AvgPool2d,
            F.adaptive_max_pool2d: nn.MaxPool2d,
        }
        if isinstance(self.layer, _ADAPTIVE):
            kind = nn.AvgPool2d if isinstance(self.layer, nn.AdaptiveAvgPool2d) else nn.MaxPool2d
            return kind, (after[2], after[3]), False
        if self.node.target in functions:
            return functions[self.node.target], (after[2], after[3]), False
        if self.node.target in ("mean", torch.mean, "amax", torch.amax):
            over = self.node.kwargs.get("dim", self.node.args[1] if len(self.node.args) > 1 else None)
            axes = over if isinstance(over, tuple | list) else (over,)
            if {int(axis) % 4 for axis in axes if isinstance(axis, int)} == {2, 3}:
                kind = nn.AvgPool2d if self.node.target in ("mean", torch.mean) else nn.MaxPool2d
                return kind, (1, 1), len(after) == 2
        return None

    def _pool(self, kind: type[nn.Module], bins: tuple[int, int], flattened: bool) -> None:
        assert self.source is not None
        _, channels, height, width = self.shape(self.source)
        require(
            height % bins[0] == 0 and width % bins[1] == 0,
            "input_size",
            f"make a feature that divides into the {bins[0]} x {bins[1]} bins of {self.what}",
            f"a feature of {height} x {width}",
        )
        extent = (height // bins[0], width // bins[1])
        require(extent[0] == extent[1] or bins == (1, 1), "input_size", f"make square bins for {self.what}", extent)
        self._replace(nn.Identity() if extent == (1, 1) else kind(extent, stride=1))
        if flattened:
            self.node.meta["collapsed"] = (channels, 1, 1, 1)
        elif bins != (1, 1):
            self.node.meta["spread"] = extent[0]

    def _flattens(self) -> bool:
        """Whether this joins channels, rows and columns and leaves the batch."""
        assert self.source is not None
        before, after = self.shape(self.source), self.shape(self.node)
        reshapes = isinstance(self.layer, nn.Flatten) or self.node.target in _RESHAPING
        return reshapes and after == (before[0], before[1] * before[2] * before[3])

    def _behind_flattening(self, collapsed: tuple[int, int, int, int]) -> None:
        channels, height, width, spread = collapsed
        layer = self.layer
        if isinstance(layer, nn.Linear):
            convolution = nn.Conv2d(
                channels, layer.out_features, (height, width), dilation=spread, bias=layer.bias is not None
            ).to(layer.weight)
            with torch.no_grad():
                # a row of a linear layer is a kernel that covers the flattened map
                convolution.weight.copy_(layer.weight.view_as(convolution.weight))
                if layer.bias is not None and convolution.bias is not None:
                    convolution.bias.copy_(layer.bias)
            self._replace(convolution)
            self.node.meta["collapsed"] = (layer.out_features, 1, 1, 1)
            return
        if isinstance(layer, nn.BatchNorm1d) and (height, width) == (1, 1):
            norm = nn.BatchNorm2d(
                layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
            )
            norm.load_state_dict(layer.state_dict(), assign=True)  # in the dtype and on the device they have
            self._replace(norm)
        elif isinstance(layer, nn.Softmax | nn.LogSoftmax) and layer.dim in (1, -1) and (height, width) == (1, 1):
            self._replace(type(layer)(dim=1))
        elif self.node.target is F.dropout:
            # traced in evaluation mode, the function would never drop anything again
            share = self.node.kwargs.get("p", self.node.args[1] if len(self.node.args) > 1 else 0.5)
            self._replace(nn.Dropout(float(share)))  # type: ignore[arg-type]
        elif self._keeps_flat():
            self._replace(nn.Identity())
        elif not self._pointwise():
            self._refuse("behind a flattening only linear layers, activations, dropout and batch norm have one")
        self.node.meta["collapsed"] = collapsed

    def _keeps_flat(self) -> bool:
        """Whether this flattens what is flat already."""
        assert self.source is not None
        reshapes = isinstance(self.layer, nn.Flatten) or self.node.target in _RESHAPING
        return reshapes and self.shape(self.node) == self.shape(self.source)


def _stride(graph_module: fx.GraphModule, example: Tensor) -> tuple[int, int]:
    """Rows and columns between windows, from how many more of them an enormous image has: shapes cost nothing."""
    height, width = example.shape[2:]
    images = example.new_empty(1, example.shape[1], height + GROWTH, width + GROWTH)
    try:
        _, _, rows, columns = _on_meta(graph_module, lambda: graph_module(images)).shape
    except RuntimeError as error:
        raise ArgumentError(
            f"model must slide over larger images; got an error on one: {_first_line(error)}."
        ) from error
    require(
        rows > 1 and columns > 1,
        "model",
        "slide over larger images",
        f"a map of {rows} x {columns} from an enormous one",
        "A function inside it pools, or cuts, to a fixed size; use nn.AdaptiveAvgPool2d.",
    )
    return round(GROWTH / (rows - 1)), round(GROWTH / (columns - 1))
