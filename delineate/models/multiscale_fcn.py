"""Nested fully convolutional networks of several fields of view, fused and trained in sequence.

Source: Bian, Lim, Zhou, "Multiscale Fully Convolutional Network with Application to Industrial Inspection", WACV 2016:
the idea. Neither its layer sizes nor its code are public, so that no number of the paper can be compared with.
Differs: the layers are ours. Each network is the encoder down to one of its features and a classifier of two
convolutions; the larger a network's field of view, the more of the others it contains. A learned 1x1 convolution fuses
the scores of all; it starts as their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.initialisation import initialise_classifier, initialise_relu_network
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.structures.outputs import SemanticOutputs


class FieldOfViewHead(nn.Sequential):
    """A 3x3 convolution with ReLU, and a 1x1 classifier.

    Args:
        in_channels: of the feature.
        channels: between the two.
        num_classes: logits a pixel.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        classify = nn.Conv2d(channels, num_classes, 1)
        super().__init__(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True), classify)
        initialise_relu_network(self)
        initialise_classifier(classify)


class MultiscaleFCN(nn.Module):
    """An encoder, a classifier on several of its features, and the fusion of what they say.

    Trained in one go, the fused logits and those of every network are supervised together. Trained in sequence,
    :meth:`train_stage` freezes all but one part at a time, and the model answers with that part alone::

        for stage in range(1, model.num_stages + 1):
            model.train_stage(stage)
            ...  # an optimizer over the parameters that require a gradient, and its steps
        model.train_stage(None)

    Args:
        encoder: images to features.
        heads: one for each network, smallest field of view first.
        places: of the feature that each head classifies, among the encoder's; growing.
        num_classes: logits a pixel.
    """

    def __init__(
        self, encoder: Encoder, heads: Sequence[FieldOfViewHead], places: Sequence[int], *, num_classes: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(heads)
        self.places = tuple(places)
        self.num_classes = num_classes
        self.fuse = nn.Conv2d(len(heads) * num_classes, num_classes, 1)
        self.stage: int | None = None
        with torch.no_grad():
            mean = torch.eye(num_classes, device=self.fuse.weight.device).repeat(1, len(heads)) / len(heads)
            self.fuse.weight.copy_(mean[:, :, None, None])
            nn.init.zeros_(self.fuse.bias)  # type: ignore[arg-type]

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return self.encoder.in_channels

    @property
    def num_stages(self) -> int:
        """Networks to train one after another, and the fusion at the end."""
        return len(self.heads) + 1

    def train_stage(self, stage: int | None) -> None:
        """Train one part and freeze all others: network ``stage``, or the fusion when it is the last stage.

        A network learns what it does not share with the smaller ones: the encoder's layers beyond the previous
        network's feature, and its own classifier. Until the next call the model returns that network's logits, without
        side heads; at the last stage and with None it returns the fused ones. Frozen batch norms keep their statistics.

        Args:
            stage: 1 to :attr:`num_stages`, or None to train everything together again.

        Raises:
            ArgumentError: when there is no such stage.
        """
        require(
            stage is None or 1 <= stage <= self.num_stages,
            "stage",
            f"be 1 to {self.num_stages}, the last of which is the fusion, or None",
            stage,
        )
        self.stage = stage
        trained: set[nn.Parameter] = set(self.parameters())
        if stage == self.num_stages:
            trained = set(self.fuse.parameters())
        elif stage is not None:
            trained = self._encoder_part(stage - 1) | set(self.heads[stage - 1].parameters())
            if stage > 1:
                trained -= self._encoder_part(stage - 2)
        for parameter in self.parameters():
            parameter.requires_grad_(parameter in trained)
        self.train(self.training)

    def _encoder_part(self, network: int) -> set[nn.Parameter]:
        """The encoder's parameters on which a network's feature depends, found by asking autograd."""
        parameters = list(self.encoder.parameters())
        training = self.encoder.training
        for parameter in parameters:
            parameter.requires_grad_(True)
        side = 2 * self.encoder.strides[-1]
        images = torch.zeros(1, self.in_channels, side, side, device=parameters[0].device, dtype=parameters[0].dtype)
        with torch.enable_grad():
            feature = self.encoder.eval()(images)[self.places[network]]
            gradients = torch.autograd.grad(feature.sum(), parameters, allow_unused=True)
        self.encoder.train(training)
        return {parameter for parameter, gradient in zip(parameters, gradients, strict=True) if gradient is not None}

    def train(self, mode: bool = True) -> MultiscaleFCN:
        """As every module's, but a batch norm whose weights are frozen stays in evaluation mode."""
        super().train(mode)
        for layer in self.modules():
            frozen = [parameter for parameter in layer.parameters(recurse=False) if not parameter.requires_grad]
            if frozen and isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        return self

    def forward(self, images: Float[Tensor, "B C H W"]) -> SemanticOutputs:
        """Logits at the size of ``images``; in training also those of every network, smallest field of view first."""
        padded = pad_to_multiple(images, self.encoder.strides[-1])
        features = self.encoder(padded)

        def at_full_size(logits: Tensor) -> Tensor:
            full = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
            return crop_to_size(full, images.shape[-2:])

        if self.stage is not None and self.stage < self.num_stages:
            place, head = self.places[self.stage - 1], self.heads[self.stage - 1]
            return SemanticOutputs(at_full_size(head(features[place])))
        scores = [head(features[place]) for head, place in zip(self.heads, self.places, strict=True)]
        size = scores[0].shape[-2:]
        joined = [scores[0]] + [
            F.interpolate(score, size=size, mode="bilinear", align_corners=False) for score in scores[1:]
        ]
        fused = at_full_size(self.fuse(torch.cat(joined, dim=1)))
        if not self.training or self.stage is not None:
            return SemanticOutputs(fused)
        return SemanticOutputs(fused, auxiliary=tuple(at_full_size(score) for score in scores))


def multiscale_fcn(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "vgg16",
    pretrained: bool = False,
    strides: Sequence[int] = (4, 8, 16, 32),
    channels: int = 256,
    stage: int | None = None,
) -> MultiscaleFCN:
    """Nested FCNs on any encoder.

    Args:
        num_classes: logits a pixel, the background included.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        strides: of the features that the networks classify, growing; the last feature of each stride is taken.
        channels: of each classifier's hidden layer.
        stage: what is trained, as in :meth:`MultiscaleFCN.train_stage`; None trains everything together.

    Raises:
        UnknownNameError: on an unknown encoder.
        ArgumentError: when the encoder has no such strides, or there is no such stage.

    Example:
        >>> model = multiscale_fcn(2, encoder="resnet18", channels=8, stage=2)
        >>> model.num_stages, sum(p.numel() for p in model.heads[0].parameters() if p.requires_grad)
        (5, 0)
    """
    require(channels >= 1, "channels", "be at least 1", channels)
    backbone = create_encoder(encoder, in_channels=in_channels, pretrained=pretrained)
    require(
        len(strides) > 0
        and list(strides) == sorted(set(strides))
        and all(stride in backbone.strides for stride in strides),
        "strides",
        f"be growing strides of the encoder's features, {backbone.strides}",
        tuple(strides),
    )
    last = {stride: place for place, stride in enumerate(backbone.strides)}
    places = [last[stride] for stride in strides]
    heads = [FieldOfViewHead(backbone.channels[place], channels, num_classes) for place in places]
    model = MultiscaleFCN(backbone, heads, places, num_classes=num_classes)
    if stage is not None:
        model.train_stage(stage)
    return model
