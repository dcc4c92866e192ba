"""The frame of segmenters without a decoder: a dilated encoder, a module of context, a classifier, interpolation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.encoders.encoder import Encoder
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.structures.outputs import SemanticOutputs


class ContextSegmenter(nn.Module):
    """The encoder's last feature, seen in its context, classified, and interpolated to the size of the images.

    Images are padded as little as the encoder and the interpolation allow. ResNets take every size as it is; with
    aligned corners, pixels lie exactly on each other where sides are one more than a multiple of the stride (the
    papers' crops of 473, 513 and 713 are), so others are padded to that, and the logits cropped.

    Args:
        encoder: images to features, finest first.
        context: the last feature to another of the same size.
        classifier: that to logits.
        num_classes: logits a pixel.
        auxiliary: a second classifier, of the encoder's feature before the last; it runs in training mode alone.
        align_corners: whether the interpolation puts the corners' centres on each other; only where the encoder
            rounds sizes up, others count pixels from the border.
    """

    def __init__(
        self,
        encoder: Encoder,
        context: nn.Module,
        classifier: nn.Module,
        *,
        num_classes: int,
        auxiliary: nn.Module | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.context = context
        self.classifier = classifier
        self.auxiliary = auxiliary
        self.num_classes = num_classes
        self.align_corners = align_corners and encoder.rounds_up

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.encoder.in_channels

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``; in training also those of the second classifier."""
        padded = self._padded(images)
        features = self.encoder(padded)
        logits = self._resized(self.classifier(self.context(features[-1])), padded, images)
        if self.auxiliary is None or not self.training:
            return SemanticOutputs(logits)
        return SemanticOutputs(logits, auxiliary=(self._resized(self.auxiliary(features[-2]), padded, images),))

    def _padded(self, images: Tensor) -> Tensor:
        stride = self.encoder.strides[-1]
        if not self.encoder.rounds_up:
            return pad_to_multiple(images, stride)
        if not self.align_corners:
            return images
        height, width = images.shape[-2:]
        return F.pad(images, (0, (1 - width) % stride, 0, (1 - height) % stride), mode="replicate")

    def _resized(self, logits: Tensor, padded: Tensor, images: Tensor) -> Tensor:
        size = padded.shape[-2:]
        resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=self.align_corners)
        return crop_to_size(resized, images.shape[-2:])
