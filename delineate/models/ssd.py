"""SSD: default boxes on six or seven maps of VGG16 and what follows it, each judged by one 3x3 convolution.

Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, sections 2 and 3; default boxes as released.
Differs: nothing by default. ``norm="batch"`` normalises every convolution, for training from scratch; torchvision's
SSD300 is the same network with the released default boxes for COCO (``boxes="coco"``), their sides cut to the image's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.anchor_rows import anchor_rows
from delineate.models.blocks.convolutional_classifier import (
    convolutional_classifier,
    decimate_classifier,
    vgg16_weights,
)
from delineate.models.blocks.initialisation import initialise_classifier, initialise_relu_network
from delineate.models.encoders.torchvision_encoder import adapt_first_convolution, vgg_layers
from delineate.models.published_detectors import check_published, load_published, ssd_preprocessing
from delineate.ops.anchors import SSD300_COCO, SSD300_VOC, SSD512_COCO, SSD512_VOC, DefaultBoxes, ssd_default_boxes
from delineate.ops.box_coding import SSD_WEIGHTS
from delineate.registry import unknown_name
from delineate.structures.outputs import AnchorOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.scored_boxes import DetectionOptions

NORMS = ("none", "batch")
BOXES = {300: {"voc": SSD300_VOC, "coco": SSD300_COCO}, 512: {"voc": SSD512_VOC, "coco": SSD512_COCO}}
# hidden and returned channels, kernel size and stride of the 3x3 or 4x4 convolution, padding
EXTRAS = {
    300: ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)),
    512: ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 4, 1, 1)),
}
SCALE = 20.0
NETWORK = "ssd300_vgg16"  # torchvision's


class ScaledUnitNorm(nn.Module):
    """Every pixel's features divided by their length, then scaled by a learned factor a channel.

    Source: Liu, Rabinovich, Berg, "ParseNet: Looking Wider to See Better", 2015, section 3.3.

    Args:
        channels: of the feature.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), SCALE))

    def forward(self, feature: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """The feature, normalised."""
        return F.normalize(feature) * self.scale[:, None, None]


class SSD(nn.Module):
    """Stages whose outputs are the maps, and on each map one convolution for classes and one for boxes.

    Args:
        stages: each continues the one before.
        norm: of the first map, on its way to its heads.
        channels: of each map.
        shapes: of the default boxes.
        num_classes: object classes; a softmax over them and the background.
        in_channels: of the images.
        size: side of the square images that strides and scales are meant for.
        most: the longest side of a default box, as a share of the image's; None for no limit.
    """

    decoding = DetectionOptions(score_threshold=0.01, iou_threshold=0.45, candidates=400, groups="class", most=200)
    preprocessing: Preprocessing  # there only when it is not the usual one

    def __init__(
        self,
        stages: Sequence[nn.Module],
        norm: nn.Module,
        *,
        channels: Sequence[int],
        shapes: DefaultBoxes,
        num_classes: int,
        in_channels: int,
        size: int,
        most: float | int | None = None,
    ) -> None:
        super().__init__()
        counts = [2 + 2 * len(ratios) for ratios in shapes.aspect_ratios]
        self.stages = nn.ModuleList(stages)
        self.norm = norm
        self.classes = nn.ModuleList(
            nn.Conv2d(width, count * (num_classes + 1), 3, padding=1)
            for width, count in zip(channels, counts, strict=True)
        )
        self.boxes = nn.ModuleList(
            nn.Conv2d(width, count * 4, 3, padding=1) for width, count in zip(channels, counts, strict=True)
        )
        for layer in (*self.classes, *self.boxes):
            initialise_classifier(layer)
        self.shapes = shapes
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.input_size = (size, size)
        self.most = most

    def forward(self, images: Float[Tensor, "B C H W"]) -> AnchorOutputs:
        """Classes and boxes of every default box.

        Raises:
            ArgumentError: when images are not of ``input_size``, which scales and strides are meant for.
        """
        size = (images.shape[-2], images.shape[-1])
        require(size == self.input_size, "images", f"be of {self.input_size} pixels", size, "Resize them.")
        maps: list[Tensor] = []
        feature = images
        for stage in self.stages:
            feature = stage(feature)
            maps.append(feature if maps else self.norm(feature))
        sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
        anchors = ssd_default_boxes(self.shapes, sizes, over=size, most=self.most).to(images.device)
        logits = [
            anchor_rows(head(level), self.num_classes + 1) for head, level in zip(self.classes, maps, strict=True)
        ]
        deltas = [anchor_rows(head(level), 4) for head, level in zip(self.boxes, maps, strict=True)]
        return AnchorOutputs(
            logits=torch.cat(logits, dim=1),
            deltas=torch.cat(deltas, dim=1),
            anchors=anchors,
            levels=tuple(level.shape[1] for level in deltas),
            scoring="softmax",
            coding_weights=SSD_WEIGHTS,
        )


def ssd300(
    num_classes: int,
    *,
    in_channels: int = 3,
    pretrained: bool = False,
    weights: str | None = None,
    width: float | int = 1.0,
    norm: str = "none",
    boxes: str = "voc",
) -> SSD:
    """SSD for images of 300 x 300 pixels: 8,732 default boxes.

    With 20 classes: 26,285,486 parameters; with 80, 34,305,206. VOC 2007 mAP 77.2 (paper, with its full augmentation);
    COCO val AP 25.1 (torchvision).

    Args:
        num_classes: object classes; a softmax over them and the background.
        in_channels: of the images.
        pretrained: whether VGG16's convolutions start from ImageNet weights, which are downloaded.
        weights: with ``boxes="coco"``, "coco" downloads torchvision's weights of the whole network; see
            :func:`~delineate.models.published_detectors.load_published`. The model then says in ``preprocessing``
            what they expect of images, which is not what other models do.
        width: every layer has this share of its channels.
        norm: "none" (the paper), or "batch" behind every convolution.
        boxes: "voc", or "coco" for smaller objects.

    Raises:
        UnknownNameError: on another norm, other boxes or weights.
        ArgumentError: when ``width`` is not above 0, or not 1 with pretrained weights, or on weights that were not
            published for these options.

    Example:
        >>> with torch.device("meta"):
        ...     model = ssd300(20)
        >>> sum(parameter.numel() for parameter in model.parameters())
        26285486
    """
    check_published(weights, NETWORK, width=width, norm=norm, boxes=boxes)
    download = pretrained and weights is None
    model = _ssd(300, num_classes, in_channels, pretrained=download, width=width, norm=norm, boxes=boxes)
    if weights is not None:
        load_published(model, NETWORK)
        model.preprocessing = ssd_preprocessing(in_channels)
    return model


def ssd512(
    num_classes: int,
    *,
    in_channels: int = 3,
    pretrained: bool = False,
    width: float | int = 1.0,
    norm: str = "none",
    boxes: str = "voc",
) -> SSD:
    """SSD for images of 512 x 512 pixels: 24,564 default boxes.

    With 20 classes: 27,188,676 parameters. VOC 2007 mAP 79.8 (paper, with its full augmentation).

    Args:
        num_classes: object classes; a softmax over them and the background.
        in_channels: of the images.
        pretrained: whether VGG16's convolutions start from ImageNet weights, which are downloaded.
        width: every layer has this share of its channels.
        norm: "none" (the paper), or "batch" behind every convolution.
        boxes: "voc", or "coco" for smaller objects.

    Raises:
        UnknownNameError: on another norm or other boxes.
        ArgumentError: when ``width`` is not above 0, or not 1 with pretrained weights.

    Example:
        >>> with torch.device("meta"):
        ...     model = ssd512(20)
        >>> sum(parameter.numel() for parameter in model.parameters())
        27188676
    """
    return _ssd(512, num_classes, in_channels, pretrained=pretrained, width=width, norm=norm, boxes=boxes)


def _ssd(
    size: int,
    num_classes: int,
    in_channels: int,
    *,
    pretrained: bool,
    width: float | int,
    norm: str,
    boxes: str,
) -> SSD:
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if boxes not in BOXES[size]:
        raise unknown_name("boxes", boxes, BOXES[size])
    require(width > 0, "width", "be above 0", width)
    weights = vgg16_weights(pretrained=pretrained, width=width, fc_channels=1024)
    layers = vgg_layers("vgg16", weights, width=float(width))
    adapt_first_convolution(layers, in_channels, pretrained=pretrained)
    pools = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    layers[pools[2]] = nn.MaxPool2d(2, ceil_mode=True)  # 75 pixels become 38
    trunk = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].out_channels
    fully = max(1, round(1024 * width))
    thinned = None if weights is None else decimate_classifier(weights, 3, fully)
    classifier = convolutional_classifier(trunk, 3, fully, thinned, dilation=6, padding=6)
    deep = [*layers[pools[3] : pools[4]], nn.MaxPool2d(3, stride=1, padding=1)]
    deep += [layer for layer in classifier if not isinstance(layer, nn.Dropout)]
    stages, channels = [list(layers[: pools[3]]), deep], [trunk, fully]
    for hidden, returned, kernel, stride, padding in EXTRAS[size]:
        hidden, returned = max(1, round(hidden * width)), max(1, round(returned * width))
        extra = nn.Sequential(
            *(nn.Conv2d(channels[-1], hidden, 1), nn.ReLU(inplace=True)),
            *(nn.Conv2d(hidden, returned, kernel, stride=stride, padding=padding), nn.ReLU(inplace=True)),
        )
        initialise_relu_network(extra)
        stages.append(list(extra))
        channels.append(returned)
    return SSD(
        [nn.Sequential(*(normalised(stage) if norm == "batch" else stage)) for stage in stages],
        ScaledUnitNorm(trunk),
        channels=channels,
        shapes=BOXES[size][boxes],
        num_classes=num_classes,
        in_channels=in_channels,
        size=size,
        most=1 if boxes == "coco" else None,
    )


def normalised(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers with batch norm behind every convolution, in place of its bias.

    Where a map is a single pixel, batch norm needs more than one image to train on.
    """
    found: list[nn.Module] = []
    for layer in layers:
        found.append(layer)
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
            found.append(nn.BatchNorm2d(layer.out_channels))
    return found
