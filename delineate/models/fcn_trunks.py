"""The classifiers that FCN makes convolutional, without their last layer: VGG16, AlexNet and GoogLeNet.

Source: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 4.1;
Krizhevsky et al., NIPS 2012, and Szegedy et al., CVPR 2015, in the form of Caffe's model zoo.
Differs: GoogLeNet was never released as FCN. The paper discards its average pooling, without which one position sees
715 pixels; the 907 of the paper's table include its 7 x 7 window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.convolutional_classifier import convolutional_classifier
from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.encoders.torchvision_encoder import vgg_layers
from delineate.ops.padding import pad_to_multiple

FC_CHANNELS = 4096
# around the image, so that the 7x7 (AlexNet: 6x6) layer fits an image of one pixel
PADDING = 100
STRIDE = 32
# of each inception module: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; pooled (table 1 of its paper)
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True)
class Trunk:
    """A classifier up to what is scored.

    Args:
        stages: images to features, one after another.
        channels: of each stage's features.
        classifier: the last feature to what is scored.
        scored_channels: of that.
        upsampling: for each stride of the finest scores, the kernel of the last upsampling, and the row and column of
            its output that fall on the image's first pixel.
    """

    stages: list[nn.Sequential]
    channels: list[int]
    classifier: nn.Module
    scored_channels: int
    upsampling: dict[int, tuple[int, int]]


def vgg16_trunk(*, width: float, fc_channels: int, weights: Mapping[str, Tensor] | None = None) -> Trunk:
    """VGG16 to pool3, to pool4, to pool5, then fc6 and fc7."""
    layers = vgg_layers("vgg16", weights, width=width)
    first, *_ = layers
    assert isinstance(first, nn.Conv2d)
    first.padding = (PADDING, PADDING)
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    stages = [layers[:17], layers[17:24], layers[24:]]
    channels = [[layer for layer in stage if isinstance(layer, nn.Conv2d)][-1].out_channels for stage in stages]
    classifier = convolutional_classifier(channels[-1], 7, fc_channels, weights)
    return Trunk(stages, channels, classifier, fc_channels, {32: (64, 19), 16: (32, 27), 8: (16, 31)})


def alexnet_trunk(*, width: float, fc_channels: int) -> Trunk:
    """Caffe's AlexNet, with its two groups and response norms, to pool5, then fc6 and fc7."""
    c1, c2, c3 = (2 * max(1, round(channels * width / 2)) for channels in (96, 256, 384))
    layers = nn.Sequential(
        *(nn.Conv2d(3, c1, 11, stride=4, padding=PADDING), nn.ReLU(inplace=True), _pool(), _response_norm()),
        *(nn.Conv2d(c1, c2, 5, padding=2, groups=2), nn.ReLU(inplace=True), _pool(), _response_norm()),
        *(nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(c3, c3, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(c3, c2, 3, padding=1, groups=2), nn.ReLU(inplace=True), _pool()),
    )
    initialise_relu_network(layers)
    return Trunk([layers], [c2], convolutional_classifier(c2, 6, fc_channels), fc_channels, {32: (63, 18)})


class PadToStride(nn.Module):
    """The image continued to a multiple of 32 pixels, so that unpadded poolings find enough of even the smallest."""

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C PH PW"]:
        """Larger at the bottom and the right, where larger at all."""
        return pad_to_multiple(images, STRIDE)


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3 and 5x5 convolutions, and a pooling.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, figure 2b.

    Args:
        in_channels: taken.
        channels: as in ``INCEPTIONS``.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        one, three_reduced, three, five_reduced, five, pooled = channels
        self.branches = nn.ModuleList(
            [
                _convolution(in_channels, one, 1),
                nn.Sequential(_convolution(in_channels, three_reduced, 1), _convolution(three_reduced, three, 3)),
                nn.Sequential(_convolution(in_channels, five_reduced, 1), _convolution(five_reduced, five, 5)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _convolution(in_channels, pooled, 1)),
            ]
        )
        self.out_channels = one + three + five + pooled

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """The branches' channels, one after another."""
        return torch.cat([branch(features) for branch in self.branches], dim=1)


def googlenet_trunk(*, width: float, fc_channels: int) -> Trunk:
    """GoogLeNet to inception 5b; dropout is all that its classifier has before the scores.

    Raises:
        ArgumentError: when ``fc_channels`` is not left at its default: there are no such layers.
    """
    require(
        fc_channels == FC_CHANNELS,
        "fc_channels",
        f"stay {FC_CHANNELS} with 'googlenet', which has no fc6 and fc7",
        fc_channels,
        "Pass width to make it smaller.",
    )

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    layers: list[nn.Module] = [
        *(PadToStride(), _convolution(3, scaled(64), 7, stride=2), _pool(), _response_norm()),
        *(_convolution(scaled(64), scaled(64), 1), _convolution(scaled(64), scaled(192), 3), _response_norm(), _pool()),
    ]
    before = scaled(192)
    for name, channels in INCEPTIONS.items():
        if name in ("4a", "5a"):
            layers.append(_pool())
        inception = Inception(before, tuple(scaled(count) for count in channels))
        layers.append(inception)
        before = inception.out_channels
    stage = nn.Sequential(*layers)
    initialise_relu_network(stage)
    # position p of unpadded poolings is centred on pixel 32 p + 30; a kernel of 63 has its centre at 31
    return Trunk([stage], [before], nn.Dropout(0.4), before, {32: (63, 1)})


def _convolution(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2),
        nn.ReLU(inplace=True),
    )


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


def _response_norm() -> nn.Module:
    return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
