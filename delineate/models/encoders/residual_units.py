"""The residual units of a ResNet's stages, and the dilation of each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.timm_encoder import TimmEncoder
from delineate.models.encoders.torchvision_encoder import StagedEncoder

STAGES = 4


def residual_units(encoder: Encoder, stage: int = -1) -> list[nn.Module]:
    """The units of one stage, in order; none where the encoder is no ResNet.

    Args:
        encoder: any.
        stage: -1 for the last of four, -2 for the one before.

    Example:
        >>> from delineate.models.encoders.creation import create_encoder
        >>> len(residual_units(create_encoder("resnet50"), -2))
        6
    """
    found: object = None
    if isinstance(encoder, TimmEncoder):
        found = getattr(encoder.model, f"layer{STAGES + 1 + stage}", None)
    elif isinstance(encoder, StagedEncoder) and encoder.rounds_up:
        found = encoder.stages[stage]
    units = list(found) if isinstance(found, nn.Sequential) else []
    return units if all(hasattr(unit, "conv2") for unit in units) else []


def dilation_of(unit: nn.Module) -> int:
    """The distance between the taps of a unit's last convolution larger than 1x1."""
    return [layer.dilation[0] for layer in _spatial_convolutions(unit)][-1]


def set_dilations(units: Sequence[nn.Module], rates: Sequence[int]) -> None:
    """Give every convolution larger than 1x1 of each unit its rate; strides stay.

    Args:
        units: as from :func:`residual_units`.
        rates: one a unit.
    """
    for unit, rate in zip(units, rates, strict=True):
        for layer in _spatial_convolutions(unit):
            layer.dilation = (rate, rate)
            layer.padding = (rate * (layer.kernel_size[0] // 2), rate * (layer.kernel_size[1] // 2))


def dilate_whole_stages(encoder: Encoder) -> None:
    """Give the first unit of each of a ResNet's last two stages the rate of the units behind it.

    Where a stride gave way to dilation, a unit that strides in its 3x3 convolution keeps the rate of the stage before,
    so that each weight still sees its pixels. The networks of Caffe's time stride in the 1x1 convolution ahead of it,
    and so dilate the stage from its first unit on. Encoders that are no ResNets stay as they are.

    Example:
        >>> from delineate.models.encoders.creation import create_encoder
        >>> encoder = create_encoder("resnet18", output_stride=8)
        >>> dilate_whole_stages(encoder)
        >>> encoder.model.layer3[0].conv1.dilation, encoder.model.layer4[0].conv1.dilation
        ((2, 2), (4, 4))
    """
    for stage in (-2, -1):
        units = residual_units(encoder, stage)
        if units:
            set_dilations(units, [dilation_of(units[-1])] * len(units))


def _spatial_convolutions(unit: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in unit.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)]
