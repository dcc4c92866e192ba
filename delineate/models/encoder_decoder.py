"""The frame of most segmenters: an encoder, a decoder, a head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.blocks.initialisation import initialise_classifier
from delineate.models.encoders.encoder import Encoder
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.structures.outputs import SemanticOutputs


class SegmentationHead(nn.Module):
    """A convolution to one logit a class, then bilinear interpolation to the input's resolution.

    Args:
        in_channels: of the decoder's feature.
        num_classes: logits a pixel.
        kernel_size: odd, in pixels of the feature.
        scale: how many times smaller than the input the feature is.
        align_corners: how the interpolation places pixels; False agrees with resized images.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        kernel_size: int = 3,
        scale: int = 1,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = scale
        self.align_corners = align_corners
        self.classify = nn.Conv2d(in_channels, num_classes, kernel_size, padding=kernel_size // 2)
        initialise_classifier(self.classify)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K H W"]:
        """The logits, ``scale`` times larger than ``features``."""
        logits: Tensor = self.classify(features)
        if self.scale == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.scale, mode="bilinear", align_corners=self.align_corners)


class EncoderDecoder(nn.Module):
    """Any encoder, any decoder that takes its features, and a head.

    An input of any size, 1 x 1 included, is padded with its border pixels to a multiple of the encoder's stride, and
    the logits are cropped back.

    Args:
        encoder: images to features, finest first.
        decoder: a list of features to one feature.
        head: that feature to logits at the size of the encoder's input.
    """

    def __init__(self, encoder: Encoder, decoder: nn.Module, head: SegmentationHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.encoder.in_channels

    @property
    def num_classes(self) -> int:
        """Logits a pixel."""
        return self.head.num_classes

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``."""
        features = self.encoder(pad_to_multiple(images, self.encoder.strides[-1]))
        logits = self.head(self.decoder(features))
        return SemanticOutputs(crop_to_size(logits, images.shape[-2:]))
