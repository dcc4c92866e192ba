"""Atrous spatial pyramid pooling: one feature seen with several fields of view at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.models.blocks.conv_norm_act import ConvNormAct, SeparableConvNormAct
from delineate.models.blocks.image_statistics import require_several_images


class ImagePooling(nn.Module):
    """The mean of the whole image through a 1x1 convolution, at every pixel.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = ConvNormAct(in_channels, out_channels, 1)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """The same vector at every pixel of an image."""
        if self.training:
            require_several_images(features)
        pooled: Tensor = self.project(features.mean((2, 3), keepdim=True))
        return pooled.expand(-1, -1, *features.shape[-2:])


class ASPP(nn.Module):
    """A 1x1 convolution, 3x3 convolutions at several dilation rates and image pooling, joined by a 1x1 convolution.

    Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.3.
    Differs: the image's mean is repeated, where the released code interpolates a 1x1 feature, which is the same.

    Args:
        in_channels: taken.
        out_channels: of every branch, and returned.
        rates: dilation of each 3x3 branch.
        separable: whether the 3x3 branches are depthwise separable.
        norm_between: whether those have batch norm and ReLU between depthwise and pointwise.
        dropout: share of channels' values dropped after joining, in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        rates: Sequence[int],
        *,
        separable: bool = False,
        norm_between: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        branches: list[nn.Module] = [ConvNormAct(in_channels, out_channels, 1)]
        for rate in rates:
            if separable:
                branches.append(
                    SeparableConvNormAct(in_channels, out_channels, dilation=rate, norm_between=norm_between)
                )
            else:
                branches.append(ConvNormAct(in_channels, out_channels, dilation=rate))
        branches.append(ImagePooling(in_channels, out_channels))
        self.branches = nn.ModuleList(branches)
        self.project = nn.Sequential(ConvNormAct(len(branches) * out_channels, out_channels, 1), nn.Dropout(dropout))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Features of the same size."""
        joined: Tensor = self.project(torch.cat([branch(features) for branch in self.branches], dim=1))
        return joined
