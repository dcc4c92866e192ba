"""The U-Net of the paper: valid convolutions, cropped skips, and a mirror around the image.

Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015
(arXiv:1505.04597).
Differs: nothing in the network. :class:`UNetOriginal` mirrors the borders of the whole image instead of cutting tiles,
which gives the same logits (see :func:`overlap_tile`); batch norm, which the paper does not have, is an option.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.ops.mirroring import Length, mirror_pad
from delineate.ops.padding import crop_to_size
from delineate.structures.outputs import SemanticOutputs

STRIDE = 16  # four poolings
MARGIN = 184  # input pixels that the valid convolutions use up in each direction


def valid_input_size(size: Length) -> Length:
    """The smallest number of pixels 16 k + 12 that the network takes and whose output covers ``size`` pixels.

    Source: figure 1 of the paper: 572 in, 388 out.

    Args:
        size: pixels of output wanted, at least 1.

    Returns:
        At least 188, whose output has 4 pixels.

    Example:
        >>> valid_input_size(388), valid_input_size(389), valid_input_size(1)
        (572, 588, 188)
    """
    return MARGIN + 4 + STRIDE * ((size - 4 + STRIDE - 1) // STRIDE)


def double_convolution(in_channels: int, out_channels: int, *, batch_norm: bool) -> nn.Sequential:
    """Two valid 3x3 convolutions, each followed by ReLU, with batch norm between if asked: 4 pixels smaller."""
    layers: list[nn.Module] = []
    for before, after in ((in_channels, out_channels), (out_channels, out_channels)):
        layers.append(nn.Conv2d(before, after, 3))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def centre_crop(features: Float[Tensor, "B C H W"], size: torch.Size) -> Float[Tensor, "B C h w"]:
    """The middle ``size`` pixels; the border cut away is equally wide on both sides."""
    top, left = (features.shape[2] - size[0]) // 2, (features.shape[3] - size[1]) // 2
    return features[:, :, top : top + size[0], left : left + size[1]]


class UNetCore(nn.Module):
    """The network of figure 1: 16 k + 12 pixels in, 184 fewer out.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        channels: of the levels, finest first; each level halves the size.
        batch_norm: whether batch norm follows each 3x3 convolution (the paper has none).
        dropout: share of values dropped at the end of the contracting path (its last two levels).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        in_channels: int = 1,
        channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.contracting = nn.ModuleList(
            double_convolution(before, after, batch_norm=batch_norm)
            for before, after in pairwise((in_channels, *channels))
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        rising = list(pairwise(reversed(channels)))
        self.up_convolutions = nn.ModuleList(nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in rising)
        self.expanding = nn.ModuleList(
            double_convolution(2 * after, after, batch_norm=batch_norm) for _, after in rising
        )
        self.classify = nn.Conv2d(channels[0], num_classes, 1)
        self.apply(initialise)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K h w"]:
        """Logits of the middle of the images: pixel (0, 0) is the images' (92, 92).

        Args:
            images: height and width each 16 k + 12 and at least 188 (see :func:`valid_input_size`).
        """
        skips: list[Tensor] = []
        features = images
        last = len(self.contracting) - 1
        for level, block in enumerate(self.contracting):
            features = block(features if level == 0 else self.pool(features))
            if level >= last - 1:
                features = self.dropout(features)
            skips.append(features)
        skips.pop()
        for up_convolution, block in zip(self.up_convolutions, self.expanding, strict=True):
            features = up_convolution(features)
            skip = centre_crop(skips.pop(), features.shape[2:])
            features = block(torch.cat([skip, features], dim=1))
        logits: Tensor = self.classify(features)
        return logits


def initialise(layer: nn.Module) -> None:
    """Draw the weights of one convolution from N(0, sqrt(2 / N)), N the incoming values of one unit; biases start at 0.

    Source: section 3 of the paper, after He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        # a unit behind a 2x2 convolution of stride 2 upwards sees one tap of every channel
        taps = 1 if isinstance(layer, nn.ConvTranspose2d) else layer.kernel_size[0] * layer.kernel_size[1]
        nn.init.normal_(layer.weight, std=(2 / (layer.in_channels * taps)) ** 0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class UNetOriginal(nn.Module):
    """The core with a mirror around the image, so that logits have the size of any image.

    Args:
        core: the network of valid convolutions.
        num_classes: of its logits.
        in_channels: of its images.
    """

    def __init__(self, core: UNetCore, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.core = core
        self.num_classes = num_classes
        self.in_channels = in_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images; 92 pixels of mirror image are computed around them."""
        return SemanticOutputs(crop_to_size(self.core(mirrored(images)), images.shape[2:]))


def mirrored(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C PH PW"]:
    """The images with 92 mirrored pixels around, and as many more behind as a valid size needs."""
    height, width = images.shape[2:]
    before = MARGIN // 2
    right = valid_input_size(width) - width - before
    bottom = valid_input_size(height) - height - before
    return mirror_pad(images, (before, right, before, bottom))


def overlap_tile(core: nn.Module, images: Float[Tensor, "B C H W"], *, tile: int = 388) -> Float[Tensor, "B K H W"]:
    """The logits of whole images, computed tile by tile: the paper's overlap-tile strategy.

    Source: section 2 and figure 2 of the paper.
    Differs: tiles are ``tile - 4`` pixels apart, a multiple of 16, so that each tile is pooled on the grid of the whole
        image; the logits are then those of the whole image, which tiles 388 apart only come near.

    Args:
        core: a :class:`UNetCore`, in evaluation mode.
        images: of any size.
        tile: output pixels of one tile, 16 k + 4; memory grows with its square.

    Raises:
        ArgumentError: when ``tile`` is not 16 k + 4 with k of at least 1.

    Example:
        >>> core = UNetCore(2, channels=(1, 1, 1, 1, 1)).eval()
        >>> with torch.no_grad():
        ...     tuple(overlap_tile(core, torch.rand(1, 1, 40, 50), tile=36).shape)
        (1, 2, 40, 50)
    """
    require(tile >= 20 and tile % STRIDE == 4, "tile", "be 16 k + 4 pixels and at least 20", tile, "The paper has 388.")
    height, width = images.shape[2:]
    padded = mirrored(images)
    size, step = tile + MARGIN, tile - 4
    rows = []
    for top in range(0, height, step):
        row = [core(padded[:, :, top : top + size, left : left + size]) for left in range(0, width, step)]
        rows.append(torch.cat([logits[:, :, :step, :step] for logits in row], dim=3))
    return torch.cat(rows, dim=2)[:, :, :height, :width]


def unet_original(
    num_classes: int = 2,
    *,
    in_channels: int = 1,
    batch_norm: bool = False,
    dropout: float = 0.5,
    base_channels: int = 64,
) -> UNetOriginal:
    """The U-Net of the paper: 31,030,658 parameters from one channel to two classes.

    Counts by layer arithmetic on figure 1: 31,031,810 from three channels to two classes; batch norm adds 11,776.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        batch_norm: adds batch norm after each 3x3 convolution, for a steadier training than the paper's.
        dropout: at the end of the contracting path.
        base_channels: of the finest level; each coarser one has twice as many.
    """
    require(base_channels >= 1, "base_channels", "be at least 1", base_channels)
    core = UNetCore(
        num_classes,
        in_channels=in_channels,
        channels=tuple(base_channels * 2**level for level in range(5)),
        batch_norm=batch_norm,
        dropout=dropout,
    )
    return UNetOriginal(core, num_classes=num_classes, in_channels=in_channels)
