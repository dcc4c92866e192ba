"""RetinaNet: one-stage detection on a feature pyramid, every anchor judged by two small convolutional heads.

Source: Lin, Goyal, Girshick, He, Dollar, "Focal Loss for Dense Object Detection", ICCV 2017, section 4.
Differs: nothing by default. torchvision's versions are variants: "v1" takes level 6 from the pyramid's level 5, "v2"
normalises its heads by groups; both round their octave sizes down to whole pixels and return up to 300 objects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.anchor_rows import anchor_rows
from delineate.models.blocks.detection_pyramid import DetectionPyramid, detection_pyramid
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.models.published_detectors import check_published, load_published
from delineate.ops.anchors import base_anchors, pyramid_anchors
from delineate.ops.padding import pad_to_multiple
from delineate.registry import unknown_name
from delineate.structures.outputs import AnchorOutputs
from delineate.structures.scored_boxes import DetectionOptions

EXTRAS = ("encoder", "pyramid")
NORMS = ("none", "group")
VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"extra": "encoder", "norm": "none", "whole_sizes": False},
    "v1": {"extra": "pyramid", "norm": "none", "whole_sizes": True},
    "v2": {"extra": "encoder", "norm": "group", "whole_sizes": True},
}
NETWORKS = {"v1": "retinanet_resnet50_fpn", "v2": "retinanet_resnet50_fpn_v2"}  # torchvision's
PRIOR = 0.01  # the probability that every anchor starts with
OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height over width


class AnchorHead(nn.Sequential):
    """3x3 convolutions with ReLU, then one that says ``values`` numbers of each anchor; shared by all levels.

    Args:
        channels: of the pyramid.
        anchors: at each place.
        values: numbers an anchor.
        layers: convolutions before the last.
        norm: "none", or "group" for group norm behind each of them, which then has no bias.
    """

    def __init__(self, channels: int, anchors: int, values: int, *, layers: int = 4, norm: str = "none") -> None:
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts.append(nn.Conv2d(channels, channels, 3, padding=1, bias=norm == "none"))
            if norm == "group":
                parts.append(nn.GroupNorm(math.gcd(32, channels), channels))
            parts.append(nn.ReLU(inplace=True))
        super().__init__(*parts, nn.Conv2d(channels, anchors * values, 3, padding=1))
        self.values = values
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, level: Float[Tensor, "B C h w"]) -> Float[Tensor, "B A V"]:
        """The values of the level's anchors, row by row, the anchors of one place together."""
        return anchor_rows(super().forward(level), self.values)


class RetinaNet(nn.Module):
    """Encoder, pyramid, and the two heads on each of its levels.

    Args:
        encoder: images to features.
        pyramid: features to levels.
        classes: says of each anchor how much it shows each class.
        boxes: says of each anchor how it moves to its object.
        bases: the anchors around a place at each level, xyxy pixels.
        num_classes: object classes.
        decoding: how objects are read from the outputs.
    """

    def __init__(
        self,
        encoder: Encoder,
        pyramid: DetectionPyramid,
        classes: AnchorHead,
        boxes: AnchorHead,
        *,
        bases: Sequence[Float[Tensor, "A 4"]],
        num_classes: int,
        decoding: DetectionOptions = DetectionOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pyramid = pyramid
        self.classes = classes
        self.boxes = boxes
        self.bases = tuple(bases)
        self.in_channels = encoder.in_channels
        self.num_classes = num_classes
        self.decoding = decoding

    def forward(self, images: Float[Tensor, "B C H W"]) -> AnchorOutputs:
        """Classes and boxes of every anchor; anchors lie over the images padded with zeros to multiples of 32."""
        padded = pad_to_multiple(images, self.encoder.strides[-1], mode="constant")
        levels = self.pyramid(self.encoder(padded))
        bases = [base.to(images.device) for base in self.bases]
        sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
        anchors = pyramid_anchors(bases, sizes, over=(padded.shape[-2], padded.shape[-1]))
        return AnchorOutputs(
            logits=torch.cat([self.classes(level) for level in levels], dim=1),
            deltas=torch.cat([self.boxes(level) for level in levels], dim=1),
            anchors=torch.cat(anchors),
            levels=tuple(level.shape[0] for level in anchors),
        )


def octave_anchors(
    strides: Sequence[int], *, scale: float | int = 4, whole_sizes: bool = False
) -> tuple[Float[Tensor, "A 4"], ...]:
    """Nine anchors a place: three sizes an octave, three shapes.

    Args:
        strides: of the levels; the smallest anchor of a level is ``scale`` times its stride wide.
        scale: 4 in the paper: 32 to 512 pixels at strides 8 to 128.
        whole_sizes: round sizes down and corners to whole pixels, as torchvision does.
    """
    sizes = [[scale * stride * octave for octave in OCTAVES] for stride in strides]
    if whole_sizes:
        sizes = [[float(int(size)) for size in level] for level in sizes]
    with torch.device("cpu"):  # where a model is described without memory, its anchors are numbers all the same
        return tuple(base_anchors(level, ASPECT_RATIOS, whole=whole_sizes) for level in sizes)


def retinanet(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50",
    pretrained: bool = False,
    weights: str | None = None,
    variant: str = "paper",
    finest: int = 8,
    extra: str | None = None,
    channels: int = 256,
    layers: int = 4,
    norm: str | None = None,
    scale: float | int = 4,
    whole_sizes: bool | None = None,
) -> RetinaNet:
    """RetinaNet on any encoder.

    With 80 classes on resnet50: 37,968,692 parameters, as "v1" 33,839,924, as "v2" 37,970,740. The heads are 6,463,220
    of the first. At 800 x 1344 pixels there are 201,600 anchors. COCO test-dev AP 39.1 with resnet101 (paper), COCO val
    AP 36.4 and 41.5 as "v1" and "v2" (torchvision).

    Args:
        num_classes: object classes; a sigmoid for each, so there is no background class.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        weights: "coco" downloads torchvision's weights of the whole network, for variants "v1" and "v2"; see
            :func:`~delineate.models.published_detectors.load_published`.
        variant: "paper", or torchvision's "v1" or "v2"; says what the options below are when they are None.
        finest: stride of the pyramid's first level; 4 for small objects.
        extra: where the level beyond the encoder's last is computed from: "encoder" or "pyramid".
        channels: of pyramid and heads.
        layers: 3x3 convolutions of each head before its last.
        norm: in the heads, "none" or "group".
        scale: the smallest anchor of a level, in strides.
        whole_sizes: whether anchors are rounded as torchvision does.

    Raises:
        UnknownNameError: on an unknown encoder, weights, variant, source of extra levels, or norm.
        ArgumentError: when ``layers`` is negative, ``scale`` not above 0, or weights were not published for these
            options.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     model = retinanet(80)
        >>> sum(parameter.numel() for parameter in model.parameters())
        37968692
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    options = VARIANTS[variant]
    extra = options["extra"] if extra is None else extra
    norm = options["norm"] if norm is None else norm
    whole_sizes = options["whole_sizes"] if whole_sizes is None else whole_sizes
    if extra not in EXTRAS:
        raise unknown_name("extra", extra, EXTRAS)
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    require(layers >= 0, "layers", "be at least 0", layers)
    require(scale > 0, "scale", "be above 0", scale)
    check_published(
        weights,
        NETWORKS.get(variant),
        encoder=encoder,
        finest=finest,
        extra=extra,
        channels=channels,
        layers=layers,
        norm=norm,
        scale=scale,
        whole_sizes=whole_sizes,
    )
    backbone = create_encoder(encoder, in_channels=in_channels, pretrained=pretrained and weights is None)
    pyramid = detection_pyramid(backbone, finest=finest, extra=extra, channels=channels)
    anchors = len(OCTAVES) * len(ASPECT_RATIOS)
    classes = AnchorHead(channels, anchors, num_classes, layers=layers, norm=norm)
    last = classes[-1]
    assert isinstance(last, nn.Conv2d)
    nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
    model = RetinaNet(
        backbone,
        pyramid,
        classes,
        AnchorHead(channels, anchors, 4, layers=layers, norm=norm),
        bases=octave_anchors(pyramid.strides, scale=scale, whole_sizes=whole_sizes),
        num_classes=num_classes,
        decoding=DetectionOptions(most=100 if variant == "paper" else 300),
    )
    if weights is not None:
        load_published(model, NETWORKS[variant])
    return model
