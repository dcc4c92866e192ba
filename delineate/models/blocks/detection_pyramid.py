"""The feature pyramid of detectors: levels of one width, and coarser ones beyond what the encoder has."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.blocks.feature_pyramid import FeaturePyramid
from delineate.models.blocks.initialisation import initialise_classifier
from delineate.models.encoders.encoder import Encoder, first_coarse_feature


class PooledLevel(nn.Module):
    """One coarser level: every second pixel of the coarsest.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, footnote 2.
    """

    count = 1

    def forward(self, feature: Tensor, level: Tensor) -> list[Tensor]:
        """The next level after ``level``; the encoder's ``feature`` is not used."""
        return [F.max_pool2d(level, 1, stride=2)]


class StridedLevels(nn.Module):
    """Two coarser levels by 3x3 convolutions of stride 2, a ReLU between them.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4 and footnote 2.

    Args:
        in_channels: of what the first is computed from.
        channels: of the pyramid.
        source: "encoder" for the encoder's coarsest feature, as in the paper, "pyramid" for the pyramid's.
    """

    count = 2

    def __init__(self, in_channels: int, channels: int, *, source: str) -> None:
        super().__init__()
        self.source = source
        self.sixth = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.seventh = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, feature: Tensor, level: Tensor) -> list[Tensor]:
        """The next two levels after the pyramid's coarsest, ``level``."""
        sixth = self.sixth(feature if self.source == "encoder" else level)
        return [sixth, self.seventh(F.relu(sixth))]


class DetectionPyramid(nn.Module):
    """An encoder's features as a pyramid of one width, with extra levels.

    Args:
        first: how many of the encoder's features, finer than the pyramid, are left out.
        pyramid: of the others.
        extra: the coarser levels, from the encoder's and the pyramid's coarsest.
        channels: of every level.
        strides: of every level, in input pixels.
    """

    def __init__(
        self, first: int, pyramid: FeaturePyramid, extra: nn.Module, *, channels: int, strides: Sequence[int]
    ) -> None:
        super().__init__()
        self.first = first
        self.pyramid = pyramid
        self.extra = extra
        self.channels = channels
        self.strides = tuple(strides)

    def forward(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Tensor]:
        """The levels, finest first."""
        levels = self.pyramid(features[self.first :])
        return [*levels, *self.extra(features[-1], levels[-1])]


def detection_pyramid(
    encoder: Encoder, *, finest: int, extra: str, channels: int = 256, norm: str = "none"
) -> DetectionPyramid:
    """A pyramid on any encoder.

    Args:
        encoder: whose features of stride ``finest`` and above are taken.
        finest: stride of the first level.
        extra: "pool" for one level more, "encoder" or "pyramid" for two by convolution, from there.
        channels: of every level.
        norm: "none", or "batch" behind every convolution but the extra levels'.
    """
    first = first_coarse_feature(encoder.strides, finest=finest)
    widths, strides = encoder.channels[first:], list(encoder.strides[first:])
    laterals = [_convolution(width, channels, 1, norm) for width in widths]
    outputs = [_convolution(channels, channels, 3, norm) for _ in widths]
    more: PooledLevel | StridedLevels
    if extra == "pool":
        more = PooledLevel()
    else:
        more = StridedLevels(widths[-1] if extra == "encoder" else channels, channels, source=extra)
    for layer in more.children():
        initialise_classifier(layer)  # type: ignore[arg-type]
    for _ in range(more.count):
        strides.append(2 * strides[-1])
    return DetectionPyramid(first, FeaturePyramid(laterals, outputs), more, channels=channels, strides=strides)


def _convolution(in_channels: int, channels: int, kernel_size: int, norm: str) -> nn.Module:
    """One that no ReLU follows inside the pyramid."""
    layer = nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=norm == "none")
    initialise_classifier(layer)
    return layer if norm == "none" else nn.Sequential(layer, nn.BatchNorm2d(channels))
