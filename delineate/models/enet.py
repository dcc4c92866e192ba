"""ENet: a third of a million parameters, made for real time.

Source: Paszke, Chaurasia, Kim, Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
Segmentation", 2016 (arXiv:1606.02147), and ``encoder.lua`` / ``decoder.lua`` of its release.
Differs: nothing from the release, layer for layer, its convolution biases and the decoder's ReLU included. The authors
train the encoder first, on labels an eighth the size, then all of it; here it is one network to be trained in one go.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.ops.unpooling import max_pool, max_unpool
from delineate.structures.outputs import SemanticOutputs

EPSILON = 1e-3  # of every batch norm
STEM_CHANNELS = 16
Kind = Literal["regular", "asymmetric", "dilated"]


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the release's epsilon."""
    return nn.BatchNorm2d(channels, eps=EPSILON)


class InitialBlock(nn.Module):
    """A strided convolution beside a max-pooling of the image itself: 16 channels at half the size (figure 2a)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        require(
            1 <= in_channels < STEM_CHANNELS,
            "in_channels",
            f"be 1 to {STEM_CHANNELS - 1}: the first block returns {STEM_CHANNELS} channels, the image's among them",
            in_channels,
        )
        self.convolution = nn.Conv2d(in_channels, STEM_CHANNELS - in_channels, 3, stride=2, padding=1)
        self.finish = nn.Sequential(norm(STEM_CHANNELS), nn.PReLU(STEM_CHANNELS))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Features at half the size."""
        joined = torch.cat([self.convolution(images), F.max_pool2d(images, 2)], dim=1)
        features: Tensor = self.finish(joined)
        return features


class Bottleneck(nn.Module):
    """A bottleneck of the encoder that keeps the size (figure 2b).

    Args:
        channels: taken and returned; a quarter of them inside.
        dropout: share of whole channels dropped before the addition.
        kind: of the middle convolution: 3x3, 5x1 and 1x5, or 3x3 dilated.
        dilation: of the dilated kind.
    """

    def __init__(self, channels: int, *, dropout: float, kind: Kind = "regular", dilation: int = 1) -> None:
        super().__init__()
        inside = channels // 4
        middle: list[nn.Module]
        if kind == "asymmetric":
            middle = [
                nn.Conv2d(inside, inside, (1, 5), padding=(0, 2), bias=False),
                nn.Conv2d(inside, inside, (5, 1), padding=(2, 0)),
            ]
        else:
            middle = [nn.Conv2d(inside, inside, 3, padding=dilation, dilation=dilation)]
        self.residual = nn.Sequential(
            nn.Conv2d(channels, inside, 1, bias=False),
            norm(inside),
            nn.PReLU(inside),
            *middle,
            norm(inside),
            nn.PReLU(inside),
            nn.Conv2d(inside, channels, 1, bias=False),
            norm(channels),
            nn.Dropout2d(dropout),
        )
        self.activation = nn.PReLU(channels)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size."""
        summed: Tensor = self.activation(features + self.residual(features))
        return summed


class DownsamplingBottleneck(nn.Module):
    """A bottleneck that halves the size: max-pooled, with zero channels added, beside a 2x2 convolution of stride 2."""

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float) -> None:
        super().__init__()
        inside = out_channels // 4
        self.more_channels = out_channels - in_channels
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, inside, 2, stride=2, bias=False),
            norm(inside),
            nn.PReLU(inside),
            nn.Conv2d(inside, inside, 3, padding=1),
            norm(inside),
            nn.PReLU(inside),
            nn.Conv2d(inside, out_channels, 1, bias=False),
            norm(out_channels),
            nn.Dropout2d(dropout),
        )
        self.activation = nn.PReLU(out_channels)

    def forward(self, features: Float[Tensor, "B C H W"]) -> tuple[Float[Tensor, "B D h w"], Int64[Tensor, "B C h w"]]:
        """Features at half the size, and where their pooling found each maximum."""
        pooled, indices = max_pool(features)
        filled = F.pad(pooled, (0, 0, 0, 0, 0, self.more_channels))
        return self.activation(filled + self.residual(features)), indices


class DecoderBottleneck(nn.Module):
    """A bottleneck of the decoder that keeps the size: ReLU, no dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // 4
        self.residual = decoder_branch(channels, channels, nn.Conv2d(inside, inside, 3, padding=1))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size."""
        return F.relu(features + self.residual(features))


class UpsamplingBottleneck(nn.Module):
    """A bottleneck that doubles the size: unpooled with the encoder's indices, beside a transposed convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inside = out_channels // 4
        upsample = nn.ConvTranspose2d(inside, inside, 3, stride=2, padding=1, output_padding=1)
        self.residual = decoder_branch(in_channels, out_channels, upsample)
        self.project = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), norm(out_channels))

    def forward(
        self, features: Float[Tensor, "B C h w"], indices: Int64[Tensor, "B D h w"]
    ) -> Float[Tensor, "B D H W"]:
        """Features at twice the size."""
        upsampled = self.residual(features)
        return F.relu(max_unpool(self.project(features), indices, upsampled.shape[2:]) + upsampled)


def decoder_branch(in_channels: int, out_channels: int, middle: nn.Module) -> nn.Sequential:
    """1x1 convolution, ``middle`` on a quarter of ``out_channels``, 1x1 convolution; batch norm after each."""
    inside = out_channels // 4
    return nn.Sequential(
        nn.Conv2d(in_channels, inside, 1, bias=False),
        norm(inside),
        nn.ReLU(inplace=True),
        middle,
        norm(inside),
        nn.ReLU(inplace=True),
        nn.Conv2d(inside, out_channels, 1, bias=False),
        norm(out_channels),
    )


def dilated_stage(channels: int, *, dropout: float) -> nn.Sequential:
    """Bottlenecks 2.1 to 2.8 of table 1, which stage 3 repeats."""
    kinds: tuple[tuple[Kind, int], ...] = (
        ("regular", 1),
        ("dilated", 2),
        ("asymmetric", 1),
        ("dilated", 4),
        ("regular", 1),
        ("dilated", 8),
        ("asymmetric", 1),
        ("dilated", 16),
    )
    return nn.Sequential(*(Bottleneck(channels, dropout=dropout, kind=kind, dilation=rate) for kind, rate in kinds))


class ENet(nn.Module):
    """The encoder (table 1, stages 1 to 3) and the small decoder (stages 4 and 5).

    Args:
        num_classes: of the logits.
        in_channels: of the images, at most 15.
    """

    stride = 8  # of the coarsest features

    def __init__(self, num_classes: int, *, in_channels: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.initial = InitialBlock(in_channels)
        self.down1 = DownsamplingBottleneck(STEM_CHANNELS, 64, dropout=0.01)
        self.stage1 = nn.Sequential(*(Bottleneck(64, dropout=0.01) for _ in range(4)))
        self.down2 = DownsamplingBottleneck(64, 128, dropout=0.1)
        self.stage2 = dilated_stage(128, dropout=0.1)
        self.stage3 = dilated_stage(128, dropout=0.1)
        self.up4 = UpsamplingBottleneck(128, 64)
        self.stage4 = nn.Sequential(DecoderBottleneck(64), DecoderBottleneck(64))
        self.up5 = UpsamplingBottleneck(64, STEM_CHANNELS)
        self.stage5 = DecoderBottleneck(STEM_CHANNELS)
        self.classify = nn.ConvTranspose2d(STEM_CHANNELS, num_classes, 2, stride=2)

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images; inside, their border is continued to a multiple of 8."""
        features = self.initial(pad_to_multiple(images, self.stride))
        features, finer = self.down1(features)
        features, coarser = self.down2(self.stage1(features))
        features = self.stage3(self.stage2(features))
        features = self.stage4(self.up4(features, coarser))
        features = self.stage5(self.up5(features, finer))
        return SemanticOutputs(crop_to_size(self.classify(features), images.shape[2:]))


def enet(num_classes: int, *, in_channels: int = 3) -> ENet:
    """ENet: 363,791 parameters with 11 classes, 364,311 with 19.

    Args:
        num_classes: of the logits.
        in_channels: of the images, at most 15.
    """
    return ENet(num_classes, in_channels=in_channels)
