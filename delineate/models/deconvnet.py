"""DeconvNet: VGG16 with its fully connected layers, mirrored by unpooling and transposed convolutions.

Source: Noh, Hong, Han, "Learning Deconvolution Network for Semantic Segmentation", ICCV 2015 (arXiv:1505.04366), and
``DeconvNet_inference_deploy.prototxt`` of its release.
Differs: the release starts batch norm's shift at 0.001, this at 0, and takes the statistics for prediction from the
training images afterwards, this their running averages. It starts its encoder from VGG16 weights without batch norm,
with ``pretrained=True`` this from those with it; its decoder from a normal distribution of deviation 0.01, this from He
et al., ICCV 2015. The paper segments 50 object proposals of 224 x 224 pixels and takes their maximum; this takes the
whole image, over which fc6 slides. Shortcuts are not in the paper.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VGG16_BN_Weights

from delineate.checks import require
from delineate.models.blocks.convolutional_classifier import convolutional_classifier
from delineate.models.blocks.pooling_encoder import (
    VGG16_DEPTHS,
    Pooling,
    convolution_with_bias,
    load_vgg16,
    vgg16_encoder,
)
from delineate.models.blocks.upsampling import create_upsampling
from delineate.ops.padding import crop_to_size
from delineate.registry import unknown_name
from delineate.structures.outputs import SemanticOutputs

STRIDE = 32
WINDOW = 7  # of fc6, in positions of pool5
BASE_CHANNELS, FC_CHANNELS = 64, 4096
SHORTCUTS = ("none", "add", "concatenate")


class Bottleneck(nn.Sequential):
    """fc6, fc7 and the transposed convolution that spreads them out again: every position knows a 7 x 7 window.

    Args:
        channels: of pool5, taken and returned.
        fc_channels: of fc6 and fc7.
    """

    def __init__(self, channels: int, fc_channels: int) -> None:
        super().__init__(
            convolution_with_bias(channels, fc_channels, WINDOW, padding=0),
            convolution_with_bias(fc_channels, fc_channels, 1),
            convolution_with_bias(fc_channels, channels, WINDOW, padding=0, layer=nn.ConvTranspose2d),
        )

    def forward(self, pool5: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """A feature of the same size, at least 7 x 7."""
        if self.training:
            positions = len(pool5) * (pool5.shape[2] - WINDOW + 1) * (pool5.shape[3] - WINDOW + 1)
            require(
                positions > 1,
                "batch size",
                "be at least 2 in training on images of up to 224 x 224: batch norm after fc6 needs several values",
                len(pool5),
                "Use a larger batch and drop the last incomplete one, or larger images.",
            )
        spread: Tensor = super().forward(pool5)
        return spread


class Addition(nn.Module):
    """A shortcut that adds the encoder's pooling."""

    def forward(self, features: Float[Tensor, "B C H W"], pooled: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """The sum."""
        return features + pooled


class Concatenation(nn.Module):
    """A shortcut that joins the encoder's pooling; a 1x1 convolution leaves as many channels as the indices have."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = convolution_with_bias(2 * channels, channels, 1)

    def forward(self, features: Float[Tensor, "B C H W"], pooled: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Both in ``channels`` channels."""
        joined: Tensor = self.project(torch.cat([features, pooled], dim=1))
        return joined


class DeconvNet(nn.Module):
    """The encoder, fc6 and fc7, the decoder that mirrors both, and a 1x1 classifier.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        channels: of the five stages, finest first.
        fc_channels: of fc6 and fc7.
        upsampling: before each stage of the decoder, a name of
            :func:`~delineate.models.blocks.upsampling.create_upsampling`.
        shortcuts: from pool4, pool3, pool2 and pool1 to the decoder before it unpools them: "none", "add" or
            "concatenate". pool5 has none: it would lead past fc6 and fc7.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: tuple[int, ...] = (64, 128, 256, 512, 512),
        fc_channels: int = FC_CHANNELS,
        upsampling: str = "max_unpool",
        shortcuts: str = "none",
    ) -> None:
        super().__init__()
        if shortcuts not in SHORTCUTS:
            raise unknown_name("shortcuts", shortcuts, SHORTCUTS)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.encoder = vgg16_encoder(in_channels, channels)
        self.bottleneck = Bottleneck(channels[-1], fc_channels)
        self.upsamplings = nn.ModuleList(create_upsampling(upsampling, width) for width in reversed(channels))
        self.decoder = nn.ModuleList()
        rising = (*reversed(channels), channels[0])
        for depth, (before, after) in zip(reversed(VGG16_DEPTHS), pairwise(rising), strict=True):
            widths = (*[before] * depth, after)
            self.decoder.append(
                nn.Sequential(
                    *(convolution_with_bias(*pair, layer=nn.ConvTranspose2d) for pair in pairwise(widths)),
                )
            )
        self.shortcuts = nn.ModuleList()
        if shortcuts != "none":
            finer = list(reversed(channels))[1:]
            self.shortcuts.extend(Addition() if shortcuts == "add" else Concatenation(width) for width in finer)
        self.classify = nn.Conv2d(channels[0], num_classes, 1)
        nn.init.kaiming_normal_(self.classify.weight, nonlinearity="relu")
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images.

        Inside, the border is continued at the bottom and the right to a multiple of 32 pixels and at least 224, where
        pool5 is the 7 x 7 that fc6 takes: a smaller image takes as long as one of 224 x 224.
        """
        poolings: list[Pooling] = self.encoder(pad_to_window(images))
        features = self.bottleneck(poolings[-1].pooled)
        for place, pooling in enumerate(reversed(poolings)):
            if self.shortcuts and place:
                features = self.shortcuts[place - 1](features, pooling.pooled)
            features = self.decoder[place](self.upsamplings[place](features, pooling.size, pooling.indices))
        return SemanticOutputs(crop_to_size(self.classify(features), images.shape[2:]))


def pad_to_window(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C PH PW"]:
    """The images with their border continued at the bottom and the right to 32 k pixels, at least 224."""

    def missing(length: Any) -> Any:
        return torch.sym_max((length + STRIDE - 1) // STRIDE, WINDOW) * STRIDE - length

    height, width = images.shape[2:]
    return F.pad(images, (0, missing(width), 0, missing(height)), mode="replicate")


def deconvnet(
    num_classes: int,
    *,
    in_channels: int = 3,
    base_channels: int = BASE_CHANNELS,
    fc_channels: int = FC_CHANNELS,
    pretrained: bool = False,
    upsampling: str = "max_unpool",
    shortcuts: str = "none",
) -> DeconvNet:
    """DeconvNet: 251,805,653 parameters with 21 classes, 32.75 GMAC at 224 x 224.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        base_channels: of the finest stage; the others have 2, 4, 8 and 8 times as many.
        fc_channels: of fc6 and fc7, which have 222 of the 252 million parameters; 1024 leave 82 million in all.
        pretrained: whether encoder, fc6 and fc7 start from torchvision's ``vgg16_bn``, trained on ImageNet.
        upsampling: "max_unpool" with the encoder's indices, or another name of
            :func:`~delineate.models.blocks.upsampling.create_upsampling` in its place.
        shortcuts: "add" or "concatenate" joins the encoder's poolings 4 to 1 to the decoder's features of their size,
            as FCN and U-Net do; the paper has "none".

    Raises:
        UnknownNameError: on an unknown upsampling, or unknown shortcuts.
        ArgumentError: when pretrained weights do not exist for these widths.
    """
    require(
        not pretrained or (base_channels, fc_channels) == (BASE_CHANNELS, FC_CHANNELS),
        "pretrained",
        f"be False unless base_channels is {BASE_CHANNELS} and fc_channels {FC_CHANNELS}",
        pretrained,
        "torchvision has no weights for other widths.",
    )
    model = DeconvNet(
        num_classes,
        in_channels=3 if pretrained else in_channels,
        channels=tuple(base_channels * n for n in (1, 2, 4, 8, 8)),
        fc_channels=fc_channels,
        upsampling=upsampling,
        shortcuts=shortcuts,
    )
    if pretrained:
        weights = VGG16_BN_Weights.DEFAULT.get_state_dict(progress=False)
        load_vgg16(model.encoder, weights, in_channels=in_channels)
        model.in_channels = in_channels
        fc6, _, _, fc7, *_ = convolutional_classifier(8 * base_channels, WINDOW, fc_channels, weights)
        layers = {"0.0": fc6, "1.0": fc7}
        values = {f"{place}.{name}": value for place, fc in layers.items() for name, value in fc.state_dict().items()}
        model.bottleneck.load_state_dict(values, strict=False)
    return model
