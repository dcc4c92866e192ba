"""One small network with shared weights on three scales of a Laplacian pyramid.

Source: Farabet, Couprie, Najman, LeCun, "Learning Hierarchical Features for Scene Labeling", PAMI 2013, sections 3.1
and 5.1.
Differs: every map reads all maps below it, where the paper draws random tables of connections (and reads Y apart from U
and V in the first layer). Features and classifier are trained in one go; the paper trains the features with a linear
classifier first. The pyramid is filtered by [1 3 3 1] instead of five taps, which keeps pixels of all scales centred on
one another. Images are padded to a multiple of 16 and logits interpolated from stride 4; superpixels, random fields and
the optimal cover, which clean the paper's answers up, belong to postprocessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.initialisation import initialise_classifier
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.structures.outputs import SemanticOutputs

NEIGHBOURHOOD = 15  # pixels over which each channel is normalised
STRIDE = 4  # of the network's features: two poolings
# a deviation below this counts as none; half a grey level of images normalised with ImageNet's statistics
SMALLEST_DEVIATION = 0.01


def yuv(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Luminance and the two colour differences of RGB images (ITU-R BT.601).

    Example:
        >>> [round(value, 3) for value in yuv(torch.ones(1, 3, 1, 1)).flatten().tolist()]
        [1.0, 0.0, 0.0]
    """
    red, green, blue = images.unbind(1)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luminance, 0.492 * (blue - luminance), 0.877 * (red - luminance)], dim=1)


def _half(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
    """Half the size, filtered by [1 3 3 1] / 8: three means of two pixels, the last of them strided."""
    means = F.avg_pool2d(F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 2, stride=1), 2, stride=1)
    return F.avg_pool2d(means, 2)


def _double(images: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C H W"]:
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


def laplacian_pyramid(images: Float[Tensor, "B C H W"], levels: int) -> list[Tensor]:
    """What each scale adds to the next coarser one; the coarsest is what is left.

    Source: Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983.
    Differs: the filter is [1 3 3 1] / 8 in each direction.

    Args:
        images: sizes are multiples of 2 to the power of ``levels - 1``.
        levels: scales, at least 1.

    Returns:
        Finest first, each half the size of the one before. Doubling the coarsest by bilinear interpolation, adding the
        next finer, and so on returns the images.

    Example:
        >>> [level.tolist() for level in laplacian_pyramid(torch.full((1, 1, 2, 2), 3.0), 2)]
        [[[[[0.0, 0.0], [0.0, 0.0]]]], [[[[3.0]]]]]
    """
    pyramid = []
    for _ in range(levels - 1):
        coarser = _half(images)
        pyramid.append(images - _double(coarser))
        images = coarser
    return [*pyramid, images]


def locally_normalised(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Each channel less the mean and divided by the deviation of the 15 x 15 pixels around it (those in the image).

    Returns:
        About zero mean and unit deviation wherever something is to be seen; 0 where a channel is constant.
    """
    margin = NEIGHBOURHOOD // 2

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, NEIGHBOURHOOD, stride=1, padding=margin, count_include_pad=False)

    centre = images.mean(dim=(2, 3), keepdim=True)  # or else the difference of large squares loses its digits
    shifted = images - centre
    local = mean(shifted)
    variance = (mean(shifted.square()) - local.square()).clamp(min=SMALLEST_DEVIATION**2)
    return (shifted - local) / variance.sqrt()


class FarabetMultiscale(nn.Module):
    """The shared network, and a classifier on the features of all scales.

    Args:
        network: one scale of the pyramid to features at stride 4, whose last layer has no activation.
        classifier: the features of all scales, joined, to logits.
        scales: of the pyramid.
        in_channels: of the images; three are taken as RGB and changed to YUV.
        num_classes: of the logits.
    """

    def __init__(
        self, network: nn.Module, classifier: nn.Module, *, scales: int, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier
        self.scales = scales
        self.in_channels = in_channels
        self.num_classes = num_classes

    def features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """The joined features of all scales, finest first, at stride 4.

        Args:
            images: height and width multiples of 4 times 2 to the power of ``scales - 1``.
        """
        inputs = yuv(images) if self.in_channels == 3 else images
        maps: list[Tensor] = []
        for level in laplacian_pyramid(inputs, self.scales):
            features = self.network(locally_normalised(level))
            if maps:
                features = F.interpolate(features, size=maps[0].shape[-2:], mode="bilinear", align_corners=False)
            maps.append(features)
        return torch.cat(maps, dim=1)

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images, which may be any from 1 x 1."""
        padded = pad_to_multiple(images, STRIDE * 2 ** (self.scales - 1))
        logits = self.classifier(self.features(padded))
        logits = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return SemanticOutputs(crop_to_size(logits, images.shape[-2:]))


def farabet_multiscale(
    num_classes: int,
    *,
    in_channels: int = 3,
    scales: int = 3,
    channels: Sequence[int] = (16, 64, 256),
    hidden_channels: int = 1024,
) -> FarabetMultiscale:
    """The multiscale network: 1,676,961 parameters with 33 classes (SIFT Flow), 855,680 of them in the shared part.

    The paper has fewer, since each of its maps reads only some maps below. Counts by arithmetic. A feature sees 46 x 46
    pixels of its scale, of the coarsest therefore 184 x 184 of the image.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images; three are RGB.
        scales: of the pyramid, each half the size of the one before.
        channels: of the three stages.
        hidden_channels: of the classifier's hidden layer.

    Raises:
        ArgumentError: when a number is below 1, or there are not three stages.

    Example:
        >>> model = farabet_multiscale(33)
        >>> sum(parameter.numel() for parameter in model.parameters())
        1676961
    """
    require(scales >= 1, "scales", "be at least 1", scales)
    require(hidden_channels >= 1, "hidden_channels", "be at least 1", hidden_channels)
    require(len(channels) == 3, "channels", "hold three widths, one a stage", list(channels))
    layers: list[nn.Module] = []
    for before, after in pairwise((in_channels, *channels)):
        # zeros around a normalised map are its mean
        layers += [nn.Conv2d(before, after, 7, padding=3), nn.Tanh(), nn.MaxPool2d(2)]
    network = nn.Sequential(*layers[:-2])  # the third stage is a bank of filters and nothing more
    classifier = nn.Sequential(
        nn.Conv2d(scales * channels[-1], hidden_channels, 1), nn.Tanh(), nn.Conv2d(hidden_channels, num_classes, 1)
    )
    for layer in (*network, *classifier):
        if isinstance(layer, nn.Conv2d):
            initialise_classifier(layer)  # Glorot and Bengio's, which is made for tanh
    return FarabetMultiscale(network, classifier, scales=scales, in_channels=in_channels, num_classes=num_classes)
