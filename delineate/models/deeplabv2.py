"""DeepLab v2: several fields of view at once, as complete classifiers side by side whose scores are added.

Source: Chen, Papandreou, Kokkinos, Murphy, Yuille, "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets,
Atrous Convolution, and Fully Connected CRFs", PAMI 2018 (arXiv:1606.00915); paddings and poolings from its released
definitions.
Differs: as in :mod:`~delineate.models.deeplabv1`, scores are interpolated to the image's size in training too. The
ResNets are timm's, which stride in a block's 3x3 convolution, where Caffe's stride in its first; a dilated stage is
dilated from its first block on, as in the release. Scores start after Glorot and Bengio, the release's with a deviation
of 0.01.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.convolutional_classifier import vgg16_weights
from delineate.models.blocks.initialisation import initialise_classifier
from delineate.models.blocks.multi_scale import MultiScaleInputs
from delineate.models.context_segmenter import ContextSegmenter
from delineate.models.deeplabv1 import scoring_head
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.residual_units import dilate_whole_stages
from delineate.models.encoders.vgg_with_holes import vgg16_with_holes

STRIDE = 8


class SummedHeads(nn.Module):
    """Heads side by side on one feature, their scores added: the first atrous spatial pyramid pooling.

    Source: Chen et al., PAMI 2018, section 3.2 and figure 7.

    Args:
        heads: each one the feature to scores of the same shape.
    """

    def __init__(self, heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        """The sum of every head's scores."""
        return torch.stack([head(features) for head in self.heads]).sum(0)


def _direct_head(in_channels: int, num_classes: int, rate: int) -> nn.Conv2d:
    score = nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate)
    initialise_classifier(score)
    return score


def deeplabv2(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet101",
    rates: Sequence[int] = (6, 12, 18, 24),
    scales: Sequence[float | int] = (1.0,),
    fc_channels: int = 1024,
    width: float | int = 1.0,
    pretrained: bool = False,
) -> ContextSegmenter | MultiScaleInputs:
    """DeepLab v2 on VGG16, a ResNet, or any encoder that can have stride 8.

    With 21 classes: resnet101 44,048,532 parameters, vgg16 37,877,652 (with ``rates=[12]``, LargeFOV, 20,505,429).

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: "vgg16", with fc6, fc7 and fc8 for every rate; or any name of
            :func:`~delineate.models.encoders.creation.create_encoder`, with one 3x3 convolution to scores a rate.
        rates: distances of the heads' taps at stride 8: (6, 12, 18, 24) is ASPP-L, (2, 4, 8, 12) ASPP-S, (12,)
            LargeFOV.
        scales: of the image at which the network looks; (0.5, 0.75, 1.0) are the paper's for its ResNet, with the
            largest logit taken and, in training, each scale's logits as auxiliary ones; about twice the work.
        fc_channels: of fc6 and fc7 on "vgg16".
        width: the layers of "vgg16" have this share of their published channels.
        pretrained: whether the encoder (and fc6 and fc7, thinned out) starts from ImageNet weights.

    Raises:
        UnknownNameError: on an unknown encoder.
        ArgumentError: on no rate or one below 1, a scale that is not above 0, an encoder that cannot have stride 8,
            or a width of one that is not "vgg16".

    Example:
        >>> model = deeplabv2(21, encoder="vgg16")
        >>> sum(parameter.numel() for parameter in model.parameters())
        37877652
    """
    require(len(rates) > 0 and all(rate >= 1 for rate in rates), "rates", "be at least 1, at least one", list(rates))
    require(fc_channels >= 1, "fc_channels", "be at least 1", fc_channels)
    trunk: Encoder
    if encoder == "vgg16":
        weights = vgg16_weights(pretrained=pretrained, width=width, fc_channels=fc_channels)
        trunk = vgg16_with_holes(in_channels=in_channels, width=width, weights=weights)
        heads: list[nn.Module] = [
            scoring_head(
                trunk.channels[-1], num_classes, kernel_size=3, rate=rate, channels=fc_channels, weights=weights
            )
            for rate in rates
        ]
    else:
        require(width == 1, "width", "be 1 unless encoder='vgg16'", width, "Choose a smaller encoder, as 'resnet18'.")
        trunk = create_encoder(encoder, in_channels=in_channels, output_stride=STRIDE, pretrained=pretrained)
        dilate_whole_stages(trunk)
        heads = [_direct_head(trunk.channels[-1], num_classes, rate) for rate in rates]
    model = ContextSegmenter(trunk, nn.Identity(), SummedHeads(heads), num_classes=num_classes, align_corners=True)
    return model if list(scales) == [1] else MultiScaleInputs(model, scales)
