"""HRNetV2 for segmentation: four resolutions kept side by side, joined at stride 4.

Source: Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", arXiv:1904.04514, 2019, and its
released code, HRNet/HRNet-Semantic-Segmentation: the biases, and bilinear interpolation with aligned corners wherever a
branch grows.
Differs: networks come from timm, whose ImageNet weights were trained with nearest-neighbour interpolation between the
branches; the release starts from such weights too, and interpolates bilinearly all the same. ``variant="nearest"``
keeps what they were trained with, and does not align corners. New layers start from He et al.'s weights (ICCV 2015),
where the release draws them with deviation 0.001.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.blocks.initialisation import initialise_relu_network
from delineate.models.encoder_decoder import EncoderDecoder, SegmentationHead
from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.timm_encoder import wake_residual_branches
from delineate.registry import unknown_name

ENCODERS = (
    "hrnet_w18_small",
    "hrnet_w18_small_v2",
    "hrnet_w18",
    "hrnet_w30",
    "hrnet_w32",
    "hrnet_w40",
    "hrnet_w44",
    "hrnet_w48",
    "hrnet_w64",
)
VARIANTS = ("release", "nearest")
STRIDE = 4


class HighResolutionBranches(Encoder):
    """The four branches of a HRNet at its end: strides 4 to 32, each twice as wide as the one before.

    Differs: from the features of :class:`~delineate.models.encoders.timm_encoder.TimmEncoder`, which are the four times
    wider ones of the classifier's head, and one at stride 2 from the stem.

    Args:
        name: one of ``ENCODERS``, with or without the tag of its weights ("hrnet_w18.ms_aug_in1k").
        in_channels: channels of the images; timm adapts pretrained first layers.
        pretrained: whether timm downloads its weights.

    Raises:
        UnknownNameError: when the name is not a HRNet's.

    Example:
        >>> branches = HighResolutionBranches("hrnet_w18_small")
        >>> branches.channels, branches.strides
        ((16, 32, 64, 128), (4, 8, 16, 32))
    """

    def __init__(self, name: str, *, in_channels: int = 3, pretrained: bool = False) -> None:
        super().__init__()
        if name.partition(".")[0] not in ENCODERS:
            raise unknown_name("encoder", name, ENCODERS)
        model: Any = timm.create_model(
            name,
            pretrained=pretrained,
            in_chans=in_channels,
            features_only=True,
            feature_location="",
            out_indices=(1, 2, 3, 4),
        )
        if not pretrained:
            wake_residual_branches(model)
        self.model: nn.Module = model
        self.in_channels = in_channels
        self.channels = tuple(model.feature_info.channels())
        self.strides = tuple(model.feature_info.reduction())

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The branches, finest first."""
        features: list[Tensor] = self.model(images)
        return features


class BranchFusion(nn.Module):
    """All branches at the size of the finest, joined, and mixed by a 1x1 convolution with batch norm and ReLU.

    Source: Sun et al., 2019, section 3.2.

    Args:
        channels: of each branch; as many altogether are returned.
        align_corners: how the interpolation places pixels.
    """

    def __init__(self, channels: tuple[int, ...], *, align_corners: bool) -> None:
        super().__init__()
        self.channels = sum(channels)
        self.align_corners = align_corners
        # the release's bias, which batch norm takes away again
        self.mix = nn.Sequential(
            nn.Conv2d(self.channels, self.channels, 1), nn.BatchNorm2d(self.channels), nn.ReLU(inplace=True)
        )
        initialise_relu_network(self)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "B C h w"]:
        """One feature, at the finest one's size."""
        size = features[0].shape[-2:]
        grown = [
            F.interpolate(feature, size=size, mode="bilinear", align_corners=self.align_corners)
            for feature in features[1:]
        ]
        mixed: Tensor = self.mix(torch.cat([features[0], *grown], dim=1))
        return mixed


def hrnet_seg(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "hrnet_w18",
    pretrained: bool = False,
    variant: str = "release",
) -> EncoderDecoder:
    """HRNetV2 with its head for segmentation.

    With 19 classes: hrnet_w48 65,859,379 parameters, hrnet_w18_small 1,540,819, hrnet_w18_small_v2 3,939,579; the
    release gives 65.8, 1.5 and 3.9 million.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: a HRNet of timm's: "hrnet_w18_small" to "hrnet_w64".
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        variant: "release" interpolates bilinearly with aligned corners, "nearest" as the ImageNet weights were trained.

    Raises:
        UnknownNameError: on an encoder that is no HRNet, or an unknown variant.

    Example:
        >>> model = hrnet_seg(19, encoder="hrnet_w18_small")
        >>> sum(parameter.numel() for parameter in model.parameters())
        1540819
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    branches = HighResolutionBranches(encoder, in_channels=in_channels, pretrained=pretrained)
    aligned = variant == "release"
    if aligned:
        for layer in branches.modules():
            if isinstance(layer, nn.Upsample):
                layer.mode, layer.align_corners = "bilinear", True
    fusion = BranchFusion(branches.channels, align_corners=aligned)
    head = SegmentationHead(fusion.channels, num_classes, kernel_size=1, scale=STRIDE, align_corners=aligned)
    return EncoderDecoder(branches, fusion, head)
