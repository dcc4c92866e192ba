"""The semantic branch of Panoptic FPN: a feature pyramid whose levels are brought to stride 4 and summed.

Source: Kirillov, Girshick, He, Dollar, "Panoptic Feature Pyramid Networks", CVPR 2019, section 4.1; the pyramid: Lin et
al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
Differs: nothing in the network by default. ``variant="smp"`` is segmentation_models.pytorch's network: no 3x3
convolutions behind the pyramid, dropout of whole channels before the classifier, interpolation with aligned corners;
outputs agree with it under equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.feature_pyramid import FeaturePyramid
from delineate.models.blocks.initialisation import initialise_classifier, initialise_relu_network
from delineate.models.encoder_decoder import AuxiliaryHead, EncoderDecoder, SegmentationHead
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import first_coarse_feature
from delineate.registry import unknown_name

VARIANTS = ("paper", "smp")
GROUPS = 32


def upsampling_stages(in_channels: int, channels: int, times: int, *, align_corners: bool) -> nn.Sequential:
    """3x3 convolution, group norm, ReLU and twofold bilinear upsampling, ``times`` over; once without it for 0."""
    # two channels a group at least: of a single one, at a single pixel, there is nothing to normalise
    groups = max(count for count in range(1, GROUPS + 1) if channels % count == 0 and (count == 1 or count < channels))
    layers: list[nn.Module] = []
    for stage in range(max(times, 1)):
        layers += [
            nn.Conv2d(in_channels if stage == 0 else channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(groups, channels),
            nn.ReLU(inplace=True),
        ]
        if times:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners))
    return nn.Sequential(*layers)


class PanopticFPNDecoder(nn.Module):
    """The pyramid, and the sum of its levels at the stride of the finest.

    Args:
        pyramid: the encoder's features to as many of one width.
        branches: each level to the finest one's size, one a level.
        first: how many of the encoder's features, finer than the pyramid, are left out.
        channels: returned.
        stride: of the feature returned, in input pixels.
        dropout: share of channels dropped from the sum in training.
    """

    def __init__(
        self,
        pyramid: FeaturePyramid,
        branches: Sequence[nn.Module],
        *,
        first: int,
        channels: int,
        stride: int,
        dropout: float | int = 0,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.branches = nn.ModuleList(branches)
        self.dropout = nn.Dropout2d(dropout)
        self.first = first
        self.channels = channels
        self.stride = stride

    def forward(self, features: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """One feature, ``stride`` times smaller than the encoder's input."""
        levels = self.pyramid(features[self.first :])
        grown = [branch(level) for branch, level in zip(self.branches, levels, strict=True)]
        total: Tensor = self.dropout(sum(grown[1:], grown[0]))
        return total


def fpn(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50",
    pretrained: bool = False,
    output_stride: int = 32,
    pyramid_channels: int = 256,
    channels: int = 128,
    dropout: float | int | None = None,
    variant: str = "paper",
    auxiliary_stride: int | None = None,
) -> EncoderDecoder:
    """The semantic branch of Panoptic FPN on any encoder.

    With 21 classes, ``variant="smp"``: resnet34 23,157,973 parameters, resnet50 26,118,613, resnet101 45,110,741; the
    paper's 3x3 convolutions add 2,360,320.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        output_stride: of the encoder's coarsest feature: 32, or 16 or 8 by dilation.
        pyramid_channels: of the pyramid's levels.
        channels: of the levels brought to stride 4; group norm takes 32 groups, or the most that divide it.
        dropout: share of channels dropped before the classifier; none in the paper, 0.2 in the "smp" variant.
        variant: "paper" or "smp".
        auxiliary_stride: a side head, used in training alone, classifies the encoder's feature at this stride; None for
            no side head, as in the paper.

    Raises:
        UnknownNameError: on an unknown encoder or variant.
        ArgumentError: when the encoder's strides are no powers of two from each other, or when it has no feature at
            ``auxiliary_stride``.

    Example:
        >>> model = fpn(21, encoder="resnet34", variant="smp")
        >>> sum(parameter.numel() for parameter in model.parameters())
        23157973
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    smp = variant == "smp"
    backbone = create_encoder(encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
    first = first_coarse_feature(backbone.strides)
    strides = backbone.strides[first:]
    times = [round(math.log2(stride / strides[0])) for stride in strides]
    require(
        all(strides[0] * 2**count == stride for count, stride in zip(times, strides, strict=True)),
        "encoder",
        "have features whose strides double",
        f"'{encoder}' with strides {backbone.strides}",
    )
    laterals = [nn.Conv2d(width, pyramid_channels, 1) for width in backbone.channels[first:]]
    outputs = [nn.Identity() if smp else nn.Conv2d(pyramid_channels, pyramid_channels, 3, padding=1) for _ in strides]
    branches = [upsampling_stages(pyramid_channels, channels, count, align_corners=smp) for count in times]
    for layer in (*laterals, *outputs):
        if isinstance(layer, nn.Conv2d):
            initialise_classifier(layer)  # no ReLU follows inside the pyramid
    for branch in branches:
        initialise_relu_network(branch)
    decoder = PanopticFPNDecoder(
        FeaturePyramid(laterals, outputs),
        branches,
        first=first,
        channels=channels,
        stride=strides[0],
        dropout=(0.2 if smp else 0) if dropout is None else dropout,
    )
    head = SegmentationHead(channels, num_classes, kernel_size=1, scale=strides[0], align_corners=smp)
    auxiliary = None
    if auxiliary_stride is not None:
        auxiliary = AuxiliaryHead(backbone.channels, backbone.strides, auxiliary_stride, num_classes)
    return EncoderDecoder(backbone, decoder, head, auxiliary=auxiliary)
