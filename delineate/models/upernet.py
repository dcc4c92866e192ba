"""UPerNet: pyramid pooling on top of a feature pyramid, all levels fused; today's usual decoder for any encoder.

Source: Xiao, Liu, Zhou, Jiang, Sun, "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, the part for
objects; its released code, CSAILVision/unifiedparsing.
Differs: only the semantic head, of the paper's five, and without the 3x3 convolution that each has there between the
fused feature and its classifier: a single task needs none of its own, and networks for one (the authors' own
semantic-segmentation-pytorch, Swin's, ConvNeXt's) leave it out. Dropout and layer norm on the encoder's features
(``feature_norm``) are not the paper's, but what Swin and ConvNeXt were published with. Pooled features are convolved
and then interpolated, as in PSPNet, where the release interpolates first. ``variant="smp"`` is
segmentation_models.pytorch's network: layer norm, no dropout, and logits interpolated with aligned corners; outputs
agree with it under equal weights and width 256.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.blocks.conv_norm_act import ConvNormAct
from delineate.models.blocks.feature_pyramid import FeaturePyramid
from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.blocks.pyramid_pooling import PyramidPooling
from delineate.models.encoder_decoder import AuxiliaryHead, EncoderDecoder, SegmentationHead
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import first_coarse_feature
from delineate.registry import unknown_name

VARIANTS = ("paper", "smp")
FEATURE_NORMS = ("layer", "none")


class UPerNetDecoder(nn.Module):
    """Norms, pyramid pooling on the coarsest feature, the pyramid, and all its levels fused at the finest one's size.

    Args:
        norms: one a feature, finest first.
        pyramid: whose coarsest lateral is the pyramid pooling.
        fuse: all levels joined to ``channels``.
        first: how many of the encoder's features, finer than the pyramid, are left out.
        channels: returned.
        dropout: share of channels dropped from what is returned, in training.
    """

    def __init__(
        self,
        norms: Sequence[nn.Module],
        pyramid: FeaturePyramid,
        fuse: nn.Module,
        *,
        first: int,
        channels: int,
        dropout: float | int = 0,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norms)
        self.pyramid = pyramid
        self.fuse = fuse
        self.dropout = nn.Dropout2d(dropout)
        self.first = first
        self.channels = channels

    def forward(self, features: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """One feature, of the size of the finest one used."""
        normed = [norm(feature) for norm, feature in zip(self.norms, features[self.first :], strict=True)]
        levels = self.pyramid(normed)
        size = levels[0].shape[-2:]
        grown = [F.interpolate(level, size=size, mode="bilinear") for level in levels[1:]]
        fused: Tensor = self.dropout(self.fuse(torch.cat([levels[0], *grown], dim=1)))
        return fused


def upernet(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "convnext_tiny",
    pretrained: bool = False,
    output_stride: int = 32,
    channels: int = 512,
    bins: Sequence[int] = (1, 2, 3, 6),
    feature_norm: str = "layer",
    dropout: float | int | None = None,
    variant: str = "paper",
    auxiliary_stride: int | None = None,
) -> EncoderDecoder:
    """UPerNet's semantic part on any encoder.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        output_stride: of the encoder's coarsest feature: 32, or 16 or 8 by dilation.
        channels: of every layer of the decoder: 512 as in the release and with Swin and ConvNeXt, 256 in
            segmentation_models.pytorch; fewer are faster.
        bins: of the pyramid pooling, in each direction; a branch each.
        feature_norm: of the encoder's features before the decoder: "layer" for Swin, ConvNeXt and other encoders whose
            stages end without one; "none" as in the paper, for ResNets.
        dropout: share of channels dropped before the classifier; 0.1, none in the "smp" variant.
        variant: "paper" or "smp".
        auxiliary_stride: a side head, used in training alone, classifies the encoder's feature at this stride; None for
            no side head, as in the paper.

    Raises:
        UnknownNameError: on an unknown encoder, variant or feature_norm.
        ArgumentError: when the encoder has no feature at ``auxiliary_stride``.

    Example:
        >>> model = upernet(2, encoder="resnet18", channels=32, feature_norm="none")
        >>> model.decoder.pyramid.laterals[-1][0].out_channels
        640
    """
    for kind, name, known in (("variant", variant, VARIANTS), ("feature_norm", feature_norm, FEATURE_NORMS)):
        if name not in known:
            raise unknown_name(kind, name, known)
    smp = variant == "smp"
    backbone = create_encoder(encoder, in_channels=in_channels, output_stride=output_stride, pretrained=pretrained)
    first = first_coarse_feature(backbone.strides)
    widths = backbone.channels[first:]
    pooling = PyramidPooling(widths[-1], channels, bins)
    pyramid = FeaturePyramid(
        [
            *(ConvNormAct(width, channels, 1) for width in widths[:-1]),
            nn.Sequential(pooling, ConvNormAct(pooling.out_channels, channels)),
        ],
        [*(ConvNormAct(channels, channels) for _ in widths[:-1]), nn.Identity()],
        mode="bilinear",
    )
    decoder = UPerNetDecoder(
        [LayerNorm2d(width) if feature_norm == "layer" else nn.Identity() for width in widths],
        pyramid,
        ConvNormAct(len(widths) * channels, channels),
        first=first,
        channels=channels,
        dropout=(0 if smp else 0.1) if dropout is None else dropout,
    )
    initialise_relu_network(decoder)
    head = SegmentationHead(channels, num_classes, kernel_size=1, scale=backbone.strides[first], align_corners=smp)
    auxiliary = None
    if auxiliary_stride is not None:
        auxiliary = AuxiliaryHead(backbone.channels, backbone.strides, auxiliary_stride, num_classes)
    return EncoderDecoder(backbone, decoder, head, auxiliary=auxiliary)
