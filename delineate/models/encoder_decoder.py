"""The frame of most segmenters: an encoder, a decoder, a head, and perhaps a side head that only training uses."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
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


class AuxiliaryHead(nn.Module):
    """A classifier on one of the encoder's features, so that its layers learn the classes from a loss close by.

    From scratch this is what makes a decoder with skips learn *which* class an object is: its early skips find the
    outlines by themselves, and hardly any gradient passes the deep layers until those say something useful.

    Source: Lee et al., "Deeply-Supervised Nets", AISTATS 2015; Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017,
    section 3.3, which places it on the encoder's feature before the last stage.
    Differs: one 1x1 convolution, with no hidden layer, so that the feature itself must tell the classes apart.

    Args:
        channels: of each of the encoder's features, finest first.
        strides: of each of the encoder's features, finest first.
        stride: the feature to classify; where several have it, the last.
        num_classes: logits a pixel.

    Raises:
        ArgumentError: when no feature has that stride.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], stride: int, num_classes: int) -> None:
        super().__init__()
        require(
            stride in strides, "auxiliary_stride", f"be a stride of the encoder's features, {tuple(strides)}", stride
        )
        self.place = max(place for place, other in enumerate(strides) if other == stride)
        self.classify = nn.Conv2d(channels[self.place], num_classes, 1)
        initialise_classifier(self.classify)

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "B K h w"]:
        """The logits, at the feature's own size."""
        logits: Tensor = self.classify(features[self.place])
        return logits


class EncoderDecoder(nn.Module):
    """Any encoder, any decoder that takes its features, and a head.

    An input of any size, 1 x 1 included, is padded with its border pixels to a multiple of the encoder's stride, and
    the logits are cropped back.

    Args:
        encoder: images to features, finest first.
        decoder: a list of features to one feature.
        head: that feature to logits at the size of the encoder's input.
        auxiliary: a side head whose logits the loss supervises too; it runs in training mode alone.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        head: SegmentationHead,
        *,
        auxiliary: AuxiliaryHead | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.head = head
        self.auxiliary = auxiliary

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.encoder.in_channels

    @property
    def num_classes(self) -> int:
        """Logits a pixel."""
        return self.head.num_classes

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``; in training also those of the side head, interpolated to that size."""
        size = images.shape[-2:]
        padded = pad_to_multiple(images, self.encoder.strides[-1])
        features = self.encoder(padded)
        logits = crop_to_size(self.head(self.decoder(features)), size)
        if self.auxiliary is None or not self.training:
            return SemanticOutputs(logits)
        coarse = F.interpolate(self.auxiliary(features), size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return SemanticOutputs(logits, auxiliary=(crop_to_size(coarse, size),))
