"""Encoders by name."""

from __future__ import annotations

from delineate.checks import require
from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.timm_encoder import TimmEncoder
from delineate.models.encoders.torchvision_encoder import RESNETS, TORCHVISION_ENCODERS, torchvision_encoder

OUTPUT_STRIDES = (8, 16, 32)


def create_encoder(name: str, *, in_channels: int = 3, output_stride: int = 32, pretrained: bool = False) -> Encoder:
    """An encoder with random or ImageNet weights.

    Args:
        name: "vgg16", "vgg16_bn", "alexnet", "googlenet" and their like come from torchvision, every other name from
            timm ("resnet34", "convnext_tiny", "resnet50.a1_in1k", ...). "torchvision/resnet50" and "timm/vgg16" insist.
        in_channels: channels of the images.
        output_stride: 32, or 16 or 8 with dilated convolutions in place of the last strides.
        pretrained: whether to download ImageNet weights.

    Raises:
        UnknownNameError: on a name neither library has; says the nearest.
        ArgumentError: on an output stride the encoder cannot have.

    Example:
        >>> encoder = create_encoder("resnet18", in_channels=1)
        >>> encoder.channels, encoder.strides
        ((64, 64, 128, 256, 512), (2, 4, 8, 16, 32))
    """
    require(output_stride in OUTPUT_STRIDES, "output_stride", "be 8, 16 or 32", output_stride)
    require(in_channels >= 1, "in_channels", "be at least 1", in_channels)
    library, _, plain = name.rpartition("/")
    require(library in ("", "timm", "torchvision"), "encoder", "be prefixed 'timm/' or 'torchvision/'", f"'{name}'")
    if not library:
        # torchvision's ResNets are reached by prefix only: timm has the same and better weights
        library = "torchvision" if plain in TORCHVISION_ENCODERS and plain not in RESNETS else "timm"
    if library == "torchvision":
        return torchvision_encoder(plain, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
    return TimmEncoder(plain, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
