"""SegNet-Basic: four 7x7 convolutions down and four up, for experiments with decoders.

Source: Badrinarayanan, Kendall, Cipolla, "SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
Segmentation", PAMI 2017 (arXiv:1511.00561), section 3.1 and ``segnet_basic_train.prototxt`` of its tutorial.
Differs: the release starts batch norm's shift at 0.001, this at 0, and takes the statistics for prediction from all
training images afterwards, this their running averages. Its response norm divides pixels from 0 to 255 by up to 3.3;
this one takes normalised pixels, which it hardly changes. The paper says 1.425 million parameters; the release has
1,416,587.
"""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from delineate.models.blocks.pooling_encoder import PoolingEncoder, convolution_with_bias
from delineate.models.blocks.upsampling import create_upsampling
from delineate.structures.outputs import SemanticOutputs

STAGES = 4
KERNEL_SIZE = 7


class SegNetBasic(nn.Module):
    """Local response norm, the encoder, a decoder without ReLU, and a 1x1 classifier.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        channels: of every convolution.
        upsampling: before each convolution of the decoder, a name of
            :func:`~delineate.models.blocks.upsampling.create_upsampling`.
    """

    def __init__(
        self, num_classes: int, *, in_channels: int = 3, channels: int = 64, upsampling: str = "max_unpool"
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.norm = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)
        widths = (in_channels, *[channels] * STAGES)
        self.encoder = PoolingEncoder(convolution_with_bias(*pair, KERNEL_SIZE) for pair in pairwise(widths))
        self.upsamplings = nn.ModuleList(create_upsampling(upsampling, channels) for _ in range(STAGES))
        self.decoder = nn.ModuleList(
            convolution_with_bias(channels, channels, KERNEL_SIZE, activation=False) for _ in range(STAGES)
        )
        self.classify = nn.Conv2d(channels, num_classes, 1)
        nn.init.kaiming_normal_(self.classify.weight, nonlinearity="relu")
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of the images, which may be any from 1 x 1."""
        poolings = self.encoder(self.norm(images))
        features = poolings[-1].pooled
        for upsample, stage, pooling in zip(self.upsamplings, self.decoder, reversed(poolings), strict=True):
            features = stage(upsample(features, pooling.size, pooling.indices))
        return SemanticOutputs(self.classify(features))


def segnet_basic(
    num_classes: int, *, in_channels: int = 3, channels: int = 64, upsampling: str = "max_unpool"
) -> SegNetBasic:
    """SegNet-Basic: 1,416,587 parameters with 11 classes; its deepest feature sees 106 x 106 pixels.

    Args:
        num_classes: of the logits.
        in_channels: of the images.
        channels: of every convolution.
        upsampling: "max_unpool" with the encoder's indices, or another name of
            :func:`~delineate.models.blocks.upsampling.create_upsampling`: "bilinear" is one of the paper's own
            comparisons (table 1).

    Raises:
        UnknownNameError: on an unknown upsampling.

    Example:
        >>> model = segnet_basic(11)
        >>> sum(parameter.numel() for parameter in model.parameters())
        1416587
    """
    return SegNetBasic(num_classes, in_channels=in_channels, channels=channels, upsampling=upsampling)
