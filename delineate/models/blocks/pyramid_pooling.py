"""Pyramid pooling: a feature joined with its own means over the whole image and over ever smaller parts of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.blocks.conv_norm_act import ConvNormAct
from delineate.models.blocks.image_statistics import require_several_images
from delineate.ops.pooling import average_over_bins


class PyramidPooling(nn.Module):
    """Means over n x n bins, each through a 1x1 convolution and interpolated back, behind the feature itself.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, section 3.2.
    Differs: nothing where the bins divide the feature; elsewhere they overlap by a row, where the release's poolings of
    fixed kernels hold for one size only.

    Args:
        in_channels: taken.
        branch_channels: of each pooled branch.
        bins: in each direction, one number a branch.
        align_corners: how the interpolation places pixels.

    Attributes:
        out_channels: ``in_channels`` and those of every branch.
    """

    def __init__(
        self,
        in_channels: int,
        branch_channels: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.align_corners = align_corners
        self.branches = nn.ModuleList(ConvNormAct(in_channels, branch_channels, 1) for _ in self.bins)
        self.out_channels = in_channels + len(self.bins) * branch_channels

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Features of the same size, the ones taken first.

        Raises:
            ArgumentError: on a training batch of one image, where one bin leaves batch norm a single value.
        """
        if self.training and 1 in self.bins:
            require_several_images(features)
        joined = [features]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            pooled = branch(average_over_bins(features, bins))
            joined.append(
                F.interpolate(pooled, size=features.shape[-2:], mode="bilinear", align_corners=self.align_corners)
            )
        return torch.cat(joined, dim=1)
