"""Stacked hourglasses: networks that go down and up again, one after another, each with a prediction of its own.

Source: Newell, Yang, Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016 (arXiv:1603.06937), and
``hg.lua``, ``Residual.lua`` of its release, princeton-vl/pose-hg-train.
Differs: nothing in the network; the release's heatmaps of joints are here one map a class. They are interpolated from
stride 4 to the input's size, where the paper's joints are read off at stride 4 and its loss is a squared error. Weights
start uniform within 1 / sqrt(fan in), as Torch7 drew them and PyTorch does by default: batch norm before every
convolution of a residual block makes up for that, and a stack this deep stays tame before its statistics are known.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.structures.outputs import SemanticOutputs

STEM_STRIDE = 4  # a strided convolution and a pooling


class PreActivationBottleneck(nn.Module):
    """A residual block whose batch norm and ReLU come before each of its three convolutions.

    Source: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016; ``Residual.lua`` of the release, whose
    convolutions have biases.

    Args:
        in_channels: taken.
        out_channels: returned; half as many inside. A 1x1 convolution is the shortcut where both differ.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        layers: list[nn.Module] = []
        for before, after, size in ((in_channels, half, 1), (half, half, 3), (half, out_channels, 1)):
            layers += [
                nn.BatchNorm2d(before),
                nn.ReLU(inplace=True),
                nn.Conv2d(before, after, size, padding=size // 2),
            ]
        self.residual = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Features of the same size."""
        residual: Tensor = self.residual(features)
        return residual + self.shortcut(features)


def _convolution(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Sequential:
    """With a bias before batch norm, as everywhere in the release: it is redundant, and the count has it."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _bottlenecks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(PreActivationBottleneck(channels, channels) for _ in range(count)))


class Hourglass(nn.Module):
    """Pooled, processed by a smaller hourglass, upsampled, and added to what stayed at this resolution.

    Args:
        channels: taken and returned.
        levels: poolings on the way down.
        blocks: residual blocks wherever the paper has one.
    """

    def __init__(self, channels: int, levels: int, *, blocks: int = 1) -> None:
        super().__init__()
        self.stay = _bottlenecks(channels, blocks)
        self.down = _bottlenecks(channels, blocks)
        self.inner: nn.Module = _bottlenecks(channels, blocks)
        if levels > 1:
            self.inner = Hourglass(channels, levels - 1, blocks=blocks)
        self.up = _bottlenecks(channels, blocks)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size, which must be a multiple of 2 to the power of ``levels``."""
        coarse = self.up(self.inner(self.down(F.max_pool2d(features, 2))))
        stayed: Tensor = self.stay(features)
        return stayed + F.interpolate(coarse, scale_factor=2, mode="nearest")


class Stage(nn.Module):
    """One hourglass, its prediction, and what it hands to the next: features and prediction back among the channels.

    Args:
        channels: taken and returned.
        num_classes: of the prediction.
        levels: of the hourglass.
        blocks: residual blocks wherever the paper has one.
        last: whether no stage follows.
    """

    def __init__(self, channels: int, num_classes: int, *, levels: int, blocks: int, last: bool) -> None:
        super().__init__()
        self.hourglass = Hourglass(channels, levels, blocks=blocks)
        self.features = nn.Sequential(_bottlenecks(channels, blocks), _convolution(channels, channels, 1))
        self.classify = nn.Conv2d(channels, num_classes, 1)
        self.remap_features = None if last else nn.Conv2d(channels, channels, 1)
        self.remap_prediction = None if last else nn.Conv2d(num_classes, channels, 1)

    def forward(self, features: Float[Tensor, "B C H W"]) -> tuple[Tensor, Tensor]:
        """What the next stage takes (``features`` themselves after the last), and the logits."""
        processed = self.features(self.hourglass(features))
        logits = self.classify(processed)
        if self.remap_features is None or self.remap_prediction is None:
            return features, logits
        return features + self.remap_features(processed) + self.remap_prediction(logits), logits


class StackedHourglass(nn.Module):
    """A stem to stride 4 and a stack of hourglasses; the last one's logits count, the others' are supervised too.

    Args:
        stem: images to features at stride 4.
        stages: applied one after another.
        levels: poolings of each hourglass.
        num_classes: of the logits.
        in_channels: of the images.
    """

    def __init__(
        self, stem: nn.Module, stages: list[Stage], *, levels: int, num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.multiple = STEM_STRIDE * 2**levels
        self.num_classes = num_classes
        self.in_channels = in_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images; in training also those of the earlier stages, first to last but one."""
        padded = pad_to_multiple(images, self.multiple)
        features = self.stem(padded)
        predictions = []
        for stage in self.stages:
            features, logits = stage(features)
            predictions.append(logits)
        # earlier predictions are interpolated as well: cut to the images' size they lie on the same pixels
        *earlier, last = (
            crop_to_size(
                F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False), images.shape[-2:]
            )
            for logits in (predictions if self.training else predictions[-1:])
        )
        return SemanticOutputs(last, auxiliary=tuple(earlier))


def hourglass(
    num_classes: int,
    *,
    in_channels: int = 3,
    stacks: int = 2,
    blocks: int = 1,
    levels: int = 4,
    channels: int = 256,
) -> StackedHourglass:
    """Stacked hourglasses.

    With 16 maps: 1 stack 3,426,448 parameters, 2 stacks 6,570,400, 4 stacks 12,858,304, 8 stacks 25,434,112. The paper
    has 8, its smaller variants 2 and 4. The squared error of every stack counts as much as the last one's: give the
    loss ``auxiliary_weight: 1.0`` for that.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        stacks: hourglasses one after another.
        blocks: residual blocks wherever the paper's final network has one.
        levels: poolings of each hourglass; images are continued to multiples of 4 times 2 to this power.
        channels: of every hourglass, a multiple of 4; the stem starts with a quarter of it and goes on with half.

    Raises:
        ArgumentError: when a number is below 1, or channels are no multiple of 4.

    Example:
        >>> model = hourglass(16)
        >>> sum(parameter.numel() for parameter in model.parameters())
        6570400
    """
    for name, value in (("stacks", stacks), ("blocks", blocks), ("levels", levels)):
        require(value >= 1, name, "be at least 1", value)
    require(channels >= 4 and channels % 4 == 0, "channels", "be a multiple of 4", channels)
    quarter, half = channels // 4, channels // 2
    stem = nn.Sequential(
        _convolution(in_channels, quarter, 7, stride=2),
        PreActivationBottleneck(quarter, half),
        nn.MaxPool2d(2),
        PreActivationBottleneck(half, half),
        PreActivationBottleneck(half, channels),
    )
    stages = [
        Stage(channels, num_classes, levels=levels, blocks=blocks, last=place == stacks - 1) for place in range(stacks)
    ]
    return StackedHourglass(stem, stages, levels=levels, num_classes=num_classes, in_channels=in_channels)
