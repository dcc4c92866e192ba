"""Six ways to make a feature finer, all with one signature, so that a decoder can take any of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.bilinear import BilinearTransposedConv
from delineate.models.blocks.initialisation import initialise_classifier
from delineate.ops.padding import crop_to_size
from delineate.ops.unpooling import max_unpool
from delineate.registry import Registry

Size = Sequence[Any]  # (height, width), symbolic while a model is exported


class Upsampling(nn.Module):
    """A feature made ``scale`` times finer; channels stay.

    A pixel of the coarse feature becomes ``scale`` x ``scale`` pixels of the fine one, whose last rows and columns are
    left out where ``size`` is odd: it was odd before it was pooled, and windows lie on the grid that starts top left.

    Args:
        channels: taken and returned.
        scale: how many times finer; a whole number of at least 1.
    """

    def __init__(self, channels: int, *, scale: int = 2) -> None:
        super().__init__()
        self.channels = channels
        self.scale = scale

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """The feature at ``size``, at most ``scale`` times that of ``features``.

        Args:
            features: the coarse feature.
            size: (height, width) wanted.
            indices: of the pooling that is undone; only :class:`MaxUnpooling` looks at them.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.channels}, scale={self.scale}"


class NearestUpsampling(Upsampling):
    """Each value repeated: blocks of ``scale`` x ``scale`` equal pixels."""

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """See :class:`Upsampling`."""
        return F.interpolate(features, size=size, mode="nearest")


class BilinearUpsampling(Upsampling):
    """Each pixel a weighted mean of the four nearest values; pixels are areas, as in resized images."""

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """See :class:`Upsampling`."""
        # by the factor, then cropped: interpolating to an odd size would use another factor and shift every pixel
        return crop_to_size(
            F.interpolate(features, scale_factor=float(self.scale), mode="bilinear", align_corners=False), size
        )


class BedOfNails(Upsampling):
    """Each value at the top left of its block, zeros elsewhere: unpooling that does not know where the maximum was.

    Source: Dosovitskiy, Springenberg, Brox, "Learning to Generate Chairs with Convolutional Neural Networks", CVPR
    2015.
    """

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """See :class:`Upsampling`."""
        rows, columns = (torch.arange(length, device=features.device) % self.scale == 0 for length in size)
        return torch.where(rows[:, None] & columns, F.interpolate(features, size=size, mode="nearest"), 0.0)


class MaxUnpooling(Upsampling):
    """Each value where the pooling of the encoder found its maximum, zeros elsewhere.

    Source: Zeiler et al., "Adaptive Deconvolutional Networks for Mid and High Level Feature Learning", ICCV 2011.
    """

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """See :class:`Upsampling`; ``indices`` are needed.

        Raises:
            ArgumentError: without ``indices``.
        """
        require(indices is not None, "indices", "be those of the pooling that is undone", None)
        return max_unpool(features, indices, size)  # type: ignore[arg-type]


class TransposedUpsampling(Upsampling):
    """A transposed convolution that starts as bilinear interpolation and is trained from there.

    The kernel is ``2 * scale`` wide, a multiple of the stride, so that as many weights reach one pixel as another.

    Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 3.3.
    Differs: the border is cropped away here and nowhere else; it fades towards zeros beyond the feature, which
    interpolation continues.
    """

    def __init__(self, channels: int, *, scale: int = 2) -> None:
        super().__init__(channels, scale=scale)
        kernel_size = 2 * scale - scale % 2
        self.convolution = BilinearTransposedConv(channels, kernel_size, scale)
        self.offset = ((kernel_size - scale) // 2,) * 2

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """See :class:`Upsampling`."""
        return crop_to_size(self.convolution(features), size, offset=self.offset)


class ResizeConv(Upsampling):
    """Each value repeated, then a 3x3 convolution that is trained: no checkerboard to begin with.

    Source: Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.
    """

    def __init__(self, channels: int, *, scale: int = 2) -> None:
        super().__init__(channels, scale=scale)
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        initialise_classifier(self.convolution)

    def forward(
        self, features: Float[Tensor, "B C h w"], size: Size, indices: Int64[Tensor, "B C h w"] | None = None
    ) -> Float[Tensor, "B C H W"]:
        """See :class:`Upsampling`."""
        fine: Tensor = self.convolution(F.interpolate(features, size=size, mode="nearest"))
        return fine


UPSAMPLINGS: Registry[type[Upsampling]] = Registry(
    "upsampling",
    {
        "nearest": NearestUpsampling,
        "bilinear": BilinearUpsampling,
        "bed_of_nails": BedOfNails,
        "max_unpool": MaxUnpooling,
        "transposed": TransposedUpsampling,
        "resize_conv": ResizeConv,
    },
)


def create_upsampling(name: str, channels: int, *, scale: int = 2) -> Upsampling:
    """One of the six by its name.

    Args:
        name: "nearest", "bilinear", "bed_of_nails" or "max_unpool", which have no parameters; "transposed", with
            ``4 * scale**2 * channels**2`` of them (even scales); "resize_conv", with ``9 * channels**2 + channels``.
        channels: taken and returned.
        scale: how many times finer the output is.

    Raises:
        UnknownNameError: on another name.
        ArgumentError: on a scale below 1.

    Example:
        >>> upsample = create_upsampling("bed_of_nails", 1)
        >>> upsample(torch.tensor([[[[1.0, 2.0]]]]), (2, 3)).tolist()
        [[[[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]]]]
    """
    require(scale >= 1, "scale", "be a whole number of at least 1", scale)
    return UPSAMPLINGS[name](channels, scale=scale)
