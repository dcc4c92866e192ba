"""A small fully convolutional classifier of one feature."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from delineate.models.blocks.conv_norm_act import ConvNormAct
from delineate.models.blocks.initialisation import initialise_classifier, initialise_relu_network


class FCNHead(nn.Module):
    """A 3x3 convolution with batch norm and ReLU, dropout, and a 1x1 convolution to one logit a class.

    Source: Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017, whose released Caffe networks end in it, and train
    one on the stage before the last as well; torchvision's ``FCNHead`` is the same. hszhao/semseg, the authors' later
    code, drops whole channels.
    Differs: starts from He et al.'s weights (ICCV 2015), the last layer from Glorot and Bengio's.

    Args:
        in_channels: of the feature.
        num_classes: logits a pixel.
        channels: of the hidden layer; a quarter of ``in_channels`` when None.
        dropout: share of the hidden layer's values dropped in training.
    """

    def __init__(
        self, in_channels: int, num_classes: int, *, channels: int | None = None, dropout: float | int = 0.1
    ) -> None:
        super().__init__()
        channels = max(1, in_channels // 4) if channels is None else channels
        self.num_classes = num_classes
        self.hidden = ConvNormAct(in_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Conv2d(channels, num_classes, 1)
        initialise_relu_network(self.hidden)
        initialise_classifier(self.classify)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K h w"]:
        """The logits, at the feature's own size."""
        logits: Tensor = self.classify(self.dropout(self.hidden(features)))
        return logits
