"""U-Net's expanding path on any encoder.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.
Differs: the contracting path is any encoder; convolutions are padded, with batch norm; upsampling is by nearest
neighbour unless asked otherwise, without the 2x2 up-convolution. These are the choices of segmentation_models.pytorch,
with which outputs agree under equal weights. The network of the paper is ``unet_original``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.conv_norm_act import ConvNormAct
from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.blocks.upsampling import create_upsampling
from delineate.models.encoder_decoder import AuxiliaryHead, EncoderDecoder, SegmentationHead
from delineate.models.encoders.creation import create_encoder
from delineate.ops.unpooling import max_pool


class UNetBlock(nn.Module):
    """Upsample, join with the encoder's feature of that size, two 3x3 convolutions.

    Args:
        in_channels: of the coarser feature.
        skip_channels: of the encoder's feature; 0 when there is none at this size.
        out_channels: returned.
        scale: how many times finer the output is; 1 joins features of one size.
        upsampling: a name of :func:`~delineate.models.blocks.upsampling.create_upsampling`. For "max_unpool" the
            maxima are those of the skip in windows of 2 x 2, for which the coarser feature is projected to as many
            channels; without a skip nobody knows where they were, and it is "bed_of_nails".

    Raises:
        UnknownNameError: on an unknown upsampling.
        ArgumentError: on "max_unpool" with a skip and a scale that is not 1 or 2.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, out_channels: int, *, scale: int = 2, upsampling: str = "nearest"
    ) -> None:
        super().__init__()
        self.scale = scale
        self.unpools = upsampling == "max_unpool" and skip_channels > 0 and scale > 1
        require(
            not self.unpools or scale == 2,
            "upsampling",
            f"be another than 'max_unpool' where a feature becomes {scale} times finer at once",
            f"'{upsampling}'",
            "Pass an output_stride of 32.",
        )
        if upsampling == "max_unpool" and not self.unpools:
            upsampling = "bed_of_nails"
        self.project: nn.Module = nn.Identity()
        if self.unpools and in_channels != skip_channels:
            self.project = nn.Conv2d(in_channels, skip_channels, 1)
            in_channels = skip_channels
        self.upsample = create_upsampling(upsampling, in_channels, scale=scale) if scale > 1 else None
        self.convolve = nn.Sequential(
            ConvNormAct(in_channels + skip_channels, out_channels),
            ConvNormAct(out_channels, out_channels),
        )

    def forward(
        self, coarse: Float[Tensor, "B C h w"], skip: Float[Tensor, "B S H W"] | None = None
    ) -> Float[Tensor, "B D H W"]:
        """A feature of the size of ``skip``, or ``scale`` times larger than ``coarse``."""
        fine = coarse
        if self.upsample is not None:
            height, width = coarse.shape[-2:]
            size = (height * self.scale, width * self.scale) if skip is None else skip.shape[-2:]
            indices = max_pool(skip)[1] if self.unpools and skip is not None else None
            fine = self.upsample(self.project(coarse), size, indices)
        if skip is not None:
            fine = torch.cat([fine, skip], dim=1)
        convolved: Tensor = self.convolve(fine)
        return convolved


class UNetDecoder(nn.Module):
    """From the encoder's coarsest feature, one block for each entry of ``decoder_channels``.

    A block goes to the encoder's next finer feature and joins it; past the finest, it doubles the resolution alone.

    Args:
        channels: of the encoder's features, finest first.
        strides: of the encoder's features, finest first.
        decoder_channels: returned by each block, coarsest first.
        finest_skip: encoder features of a finer stride than this are not joined.
        centre: whether two 3x3 convolutions come before the first block; for encoders that end in a pooling.
        upsampling: of each block, as in :class:`UNetBlock`.

    Attributes:
        channels: of the feature returned.
        stride: of the feature returned, in input pixels.

    Raises:
        ArgumentError: when there are more blocks than the input's resolution has room for, or none.
    """

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        decoder_channels: Sequence[int],
        *,
        finest_skip: int = 1,
        centre: bool = False,
        upsampling: str = "nearest",
    ) -> None:
        super().__init__()
        require(
            isinstance(decoder_channels, Sequence) and not isinstance(decoder_channels, str),
            "decoder_channels",
            "be a list of widths, coarsest first",
            repr(decoder_channels),
        )
        require(len(decoder_channels) > 0, "decoder_channels", "name at least one block", tuple(decoder_channels))
        self.channels, self.stride = channels[-1], strides[-1]
        self.centre = nn.Sequential(*(ConvNormAct(self.channels, self.channels) for _ in range(2 if centre else 0)))
        coarser_first = list(zip(channels, strides, strict=True))[-2::-1]
        skips = [(width, stride) for width, stride in coarser_first if stride >= finest_skip]
        blocks = []
        for place, width in enumerate(decoder_channels):
            skip_channels, stride = skips[place] if place < len(skips) else (0, self.stride // 2)
            require(
                stride >= 1,
                "decoder_channels",
                f"have at most {place} entries with this encoder, whose strides are {tuple(strides)}",
                tuple(decoder_channels),
                f"Pass {tuple(decoder_channels)[:place]}.",
            )
            scale = self.stride // stride
            blocks.append(UNetBlock(self.channels, skip_channels, width, scale=scale, upsampling=upsampling))
            self.channels, self.stride = width, stride
        self.blocks = nn.ModuleList(blocks)
        self.skips = len(skips)
        initialise_relu_network(self)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "B C H W"]:
        """One feature, ``stride`` times smaller than the encoder's input."""
        feature = self.centre(features[-1])
        for place, block in enumerate(self.blocks):
            feature = block(feature, features[-2 - place] if place < self.skips else None)
        return feature


def unet(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet34",
    pretrained: bool = False,
    output_stride: int = 32,
    decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
    finest_skip: int = 1,
    centre: bool = False,
    auxiliary_stride: int | None = None,
    upsampling: str = "nearest",
) -> EncoderDecoder:
    """U-Net on any encoder.

    With 21 classes, resnet34 has 24,439,269 parameters; vgg16_bn with ``centre=True, finest_skip=2`` has 23,759,589.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        output_stride: of the encoder's coarsest feature: 32, or 16 or 8 by dilation.
        decoder_channels: width of each block, coarsest first. A shorter list stops at a coarser resolution and leaves
            the rest to bilinear interpolation of the logits: (256, 128, 64) with a ResNet ends at stride 4 and is
            about twice as fast as the default. Where the list is longer than a narrow encoder has room for
            (ConvNeXt's finest feature is at stride 4; it takes five as well), the last blocks have no skip.
        finest_skip: encoder features of a finer stride are not joined; 2 spares VGG's at full resolution.
        centre: whether two 3x3 convolutions of the encoder's width come first, as in the paper's deepest level; for
            encoders that end in a pooling (VGG).
        auxiliary_stride: a side head, used in training alone, classifies the encoder's feature at this stride; the
            losses' ``auxiliary_weight`` says how much it counts. From scratch, training is several times shorter with
            it where classes differ by their shape rather than their texture. None for no side head, as in the paper.
        upsampling: of the decoder: "nearest", "bilinear", "bed_of_nails", "max_unpool" (to where the skip has its
            maxima), "transposed" or "resize_conv"; see
            :func:`~delineate.models.blocks.upsampling.create_upsampling`.

    Raises:
        UnknownNameError: on an unknown encoder or upsampling.
        ArgumentError: on more decoder blocks than there are resolutions, no feature at ``auxiliary_stride``, or
            "max_unpool" with an encoder that is dilated so that a block has to enlarge by four.

    Example:
        >>> model = unet(21)
        >>> sum(parameter.numel() for parameter in model.parameters())
        24439269
    """
    backbone = create_encoder(encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
    decoder = UNetDecoder(
        backbone.channels,
        backbone.strides,
        decoder_channels,
        finest_skip=finest_skip,
        centre=centre,
        upsampling=upsampling,
    )
    head = SegmentationHead(decoder.channels, num_classes, scale=decoder.stride)
    auxiliary = None
    if auxiliary_stride is not None:
        auxiliary = AuxiliaryHead(backbone.channels, backbone.strides, auxiliary_stride, num_classes)
    return EncoderDecoder(backbone, decoder, head, auxiliary=auxiliary)
