"""DeepLab v3+: atrous spatial pyramid pooling with a decoder at stride 4.

Source: Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018.
Differs: encoders come from timm or torchvision, without multi-grid; ``encoder="xception65"`` is the paper's, with the
released code's layers and rates. Interpolation counts pixels as areas, where the released code aligns corners. Batch
norm's averages keep 0.9 at a step, the released code's 0.9997. ``variant="smp"`` is segmentation_models.pytorch's
network: a separable convolution after the pyramid, one in place of two after the skip, no batch norm inside separable
convolutions, and interpolation with aligned corners; outputs agree with it under equal weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.aspp import ASPP
from delineate.models.blocks.conv_norm_act import ConvNormAct, SeparableConvNormAct
from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.encoder_decoder import EncoderDecoder, SegmentationHead
from delineate.models.encoders.creation import create_encoder
from delineate.registry import unknown_name

VARIANTS = ("paper", "smp")
LOW_LEVEL_STRIDE = 4


class DeepLabV3PlusDecoder(nn.Module):
    """The pyramid, upsampled and joined with the encoder's feature at stride 4.

    Args:
        pyramid: the encoder's coarsest feature to ``channels``.
        reduce: the encoder's feature at stride 4 to few channels, lest it outweigh the pyramid.
        refine: both joined to ``channels``.
        low_level: place of the feature at stride 4 among the encoder's.
        channels: returned.
        stride: of the feature returned, in input pixels.
        align_corners: how the interpolation places pixels.
    """

    def __init__(
        self,
        pyramid: nn.Module,
        reduce: nn.Module,
        refine: nn.Module,
        *,
        low_level: int,
        channels: int,
        stride: int,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.reduce = reduce
        self.refine = refine
        self.low_level = low_level
        self.channels = channels
        self.stride = stride
        self.align_corners = align_corners
        initialise_relu_network(self)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "B C H W"]:
        """One feature, ``stride`` times smaller than the encoder's input."""
        low = self.reduce(features[self.low_level])
        high = F.interpolate(
            self.pyramid(features[-1]), size=low.shape[-2:], mode="bilinear", align_corners=self.align_corners
        )
        refined: Tensor = self.refine(torch.cat([high, low], dim=1))
        return refined


def deeplabv3plus(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50",
    pretrained: bool = False,
    output_stride: int = 16,
    rates: Sequence[int] | None = None,
    decoder_channels: int = 256,
    low_level_channels: int = 48,
    separable: bool = True,
    dropout: float | None = None,
    variant: str = "paper",
) -> EncoderDecoder:
    """DeepLab v3+ on any encoder with a feature at stride 4.

    With 21 classes, ``variant="smp"``: resnet50 26,682,725 parameters, resnet101 45,674,853.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`; "xception65" is the paper's
            strongest, and "xception41" and "xception71" its sisters.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        output_stride: of the pyramid: 16 as the paper trains, 8 as it evaluates best, 32 for speed.
        rates: dilations of the pyramid's 3x3 branches; (6, 12, 18) scaled to the output stride when None: doubled at
            8, halved at 32.
        decoder_channels: width of pyramid and decoder; 256 in the paper, less is faster with a small encoder.
        low_level_channels: to which the feature at stride 4 is reduced.
        separable: whether the 3x3 convolutions of pyramid and decoder are depthwise separable.
        dropout: after the pyramid; 0.1 in the released code, 0.5 in the "smp" variant.
        variant: "paper" or "smp".

    Raises:
        UnknownNameError: on an unknown encoder or variant.
        ArgumentError: when the encoder has no feature at stride 4, or not this output stride.

    Example:
        >>> model = deeplabv3plus(21, variant="smp")
        >>> sum(parameter.numel() for parameter in model.parameters())
        26682725
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    backbone = create_encoder(encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
    require(
        LOW_LEVEL_STRIDE in backbone.strides,
        "encoder",
        "have a feature at stride 4",
        f"'{encoder}' with strides {backbone.strides}",
    )
    low_level = backbone.strides.index(LOW_LEVEL_STRIDE)
    if rates is None:
        rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
    smp = variant == "smp"

    def convolution(width: int) -> nn.Module:
        if separable:
            return SeparableConvNormAct(width, decoder_channels, norm_between=not smp)
        return ConvNormAct(width, decoder_channels)

    pyramid: nn.Module = ASPP(
        backbone.channels[-1],
        decoder_channels,
        rates,
        separable=separable,
        norm_between=not smp,
        dropout=(0.5 if smp else 0.1) if dropout is None else dropout,
    )
    joined = decoder_channels + low_level_channels
    decoder = DeepLabV3PlusDecoder(
        nn.Sequential(pyramid, convolution(decoder_channels)) if smp else pyramid,
        ConvNormAct(backbone.channels[low_level], low_level_channels, 1),
        convolution(joined) if smp else nn.Sequential(convolution(joined), convolution(decoder_channels)),
        low_level=low_level,
        channels=decoder_channels,
        stride=LOW_LEVEL_STRIDE,
        align_corners=smp,
    )
    head = SegmentationHead(decoder_channels, num_classes, kernel_size=1, scale=LOW_LEVEL_STRIDE, align_corners=smp)
    return EncoderDecoder(backbone, decoder, head)
