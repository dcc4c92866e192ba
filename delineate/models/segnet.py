"""SegNet: a mirrored VGG16 whose decoder unpools with the encoder's pooling indices.

Source: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation", PAMI 2017 (arXiv:1511.00561), and ``segnet_train.prototxt`` of its tutorial.
Differs: the release starts batch norm's shift at 0.001, this at 0. Its encoder starts from VGG16 weights trained
on ImageNet; here every weight starts as in the release's decoder (He et al., ICCV 2015).
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from delineate.ops.unpooling import max_pool, max_unpool
from delineate.structures.outputs import SemanticOutputs

DEPTHS = (2, 2, 3, 3, 3)  # 3x3 convolutions of each stage, as in VGG16


def convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """A 3x3 convolution with bias, batch norm and ReLU, as in the release (the bias is redundant before batch norm)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class SegNet(nn.Module):
    """The encoder, the decoder that mirrors it, and a last 3x3 convolution without batch norm or ReLU.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        channels: of the five stages, finest first.
    """

    def __init__(
        self, num_classes: int, *, in_channels: int = 3, channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.encoder = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for depth, (before, after) in zip(DEPTHS, pairwise((in_channels, *channels)), strict=True):
            self.encoder.append(nn.Sequential(convolution(before, after), *same(after, depth - 1)))
        for depth, (before, after) in zip(reversed(DEPTHS[1:]), pairwise(reversed(channels)), strict=True):
            self.decoder.append(nn.Sequential(*same(before, depth - 1), convolution(before, after)))
        self.decoder.append(convolution(channels[0], channels[0]))
        self.classify = nn.Conv2d(channels[0], num_classes, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images, which may be any from 1 x 1."""
        features = images
        taken = []  # (indices, size before pooling), finest first
        for stage in self.encoder:
            features = stage(features)
            size = features.shape[2:]
            features, indices = max_pool(features)
            taken.append((indices, size))
        for stage, (indices, size) in zip(self.decoder, reversed(taken), strict=True):
            features = stage(max_unpool(features, indices, size))
        return SemanticOutputs(self.classify(features))


def same(channels: int, count: int) -> list[nn.Module]:
    """``count`` convolutions that keep the number of channels."""
    return [convolution(channels, channels) for _ in range(count)]


def segnet(num_classes: int, *, in_channels: int = 3, base_channels: int = 64) -> SegNet:
    """SegNet: 29,449,355 parameters with 11 classes, 106.7 GMAC at 360 x 480.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        base_channels: of the finest stage; the others have 2, 4, 8 and 8 times as many.
    """
    return SegNet(num_classes, in_channels=in_channels, channels=tuple(base_channels * n for n in (1, 2, 4, 8, 8)))
