"""Mask R-CNN: beside a region's class and box, its mask, or a map for each joint of a person.

Source: He, Gkioxari, Dollar, Girshick, "Mask R-CNN", ICCV 2017, sections 3 and 5.
Differs: nothing in the heads; regions are read as torchvision does, see :mod:`delineate.models.faster_rcnn`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.models.blocks.region_pooling import PyramidPool
from delineate.models.faster_rcnn import FasterRCNN, Targets, pyramid_rcnn_parts
from delineate.models.published_detectors import check_published, load_published
from delineate.structures.outputs import RegionOutputs

JOINTS = 17  # of COCO's persons
MASK_NETWORKS = {"v1": "maskrcnn_resnet50_fpn", "v2": "maskrcnn_resnet50_fpn_v2"}  # torchvision's
KEYPOINT_NETWORK = "keypointrcnn_resnet50_fpn"


class MaskHead(nn.Sequential):
    """3x3 convolutions, a transposed one that doubles the size, and a logit for each class at every pixel.

    Args:
        in_channels: of the pyramid.
        channels: of the head.
        num_classes: maps that are returned.
        layers: 3x3 convolutions.
        norm: "none", or "batch" behind each of them, which then has no bias.
    """

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, *, layers: int = 4, norm: str = "none"
    ) -> None:
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts.append(nn.Conv2d(in_channels, channels, 3, padding=1, bias=norm == "none"))
            parts += [nn.BatchNorm2d(channels)] if norm == "batch" else []
            parts.append(nn.ReLU(inplace=True))
            in_channels = channels
        parts += [nn.ConvTranspose2d(channels, channels, 2, stride=2), nn.ReLU(inplace=True)]
        super().__init__(*parts, nn.Conv2d(channels, num_classes, 1))
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class KeypointHead(nn.Sequential):
    """3x3 convolutions, a transposed one that doubles the size, and a map for each joint, doubled again.

    Args:
        in_channels: of the pyramid.
        channels: of the head.
        joints: maps that are returned.
        layers: 3x3 convolutions.
    """

    def __init__(self, in_channels: int, channels: int, joints: int, *, layers: int = 8) -> None:
        parts: list[nn.Module] = []
        for _ in range(layers):
            parts += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(inplace=True)]
            in_channels = channels
        super().__init__(*parts, nn.ConvTranspose2d(channels, joints, 4, stride=2, padding=1))
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, regions: Float[Tensor, "R C s s"]) -> Float[Tensor, "R J S S"]:
        """Logits of every place of a region for each joint, four times as fine."""
        return F.interpolate(super().forward(regions), scale_factor=2, mode="bilinear", align_corners=False)


class DescribingRCNN(FasterRCNN):
    """Faster R-CNN with one more head for the regions that hold an object.

    Args:
        head: pooled features to maps.
        describes: what the maps are: "masks" or "keypoints".
        head_pool: levels, boxes and images to features for the head.
        parts: of :class:`~delineate.models.faster_rcnn.FasterRCNN`.
    """

    def __init__(self, head: nn.Module, describes: str, head_pool: PyramidPool, **parts: Any) -> None:
        super().__init__(**parts)
        self.head = head
        self.describes = describes
        self.head_pool = head_pool
        self.pasting = "centres"  # the rule by which masks become pixels

    def forward(
        self,
        images: Float[Tensor, "B C H W"],
        targets: Targets | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> RegionOutputs:
        """As of Faster R-CNN; with targets also the maps of the regions that answer for an object.

        Without targets, :meth:`described` gives the maps of what was detected.
        """
        outputs = super().forward(images, targets, sizes, proposals)
        if outputs.matches is None:
            return outputs
        positive = outputs.matches >= 0
        maps = self.described(outputs, outputs.regions[positive], outputs.images[positive])
        given = {name: getattr(outputs, name) for name in outputs.__dataclass_fields__}
        return RegionOutputs(**{**given, self.describes: maps})

    def described(
        self, outputs: RegionOutputs, boxes: Float[Tensor, "N 4"], images: Int64[Tensor, " N"]
    ) -> Float[Tensor, "N K S S"]:
        """The head's maps of these boxes.

        Args:
            outputs: whose features are read.
            boxes: xyxy pixels of the input.
            images: which image of the batch each is of.
        """
        maps: Tensor = self.head(self.head_pool(outputs.features, boxes, images))
        return maps


def mask_rcnn(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50",
    pretrained: bool = False,
    weights: str | None = None,
    channels: int = 256,
    hidden: int = 1024,
    head_channels: int = 256,
    variant: str = "v1",
    scale: float | int = 8,
    regions: int = 512,
    after: int = 1000,
) -> DescribingRCNN:
    """Mask R-CNN with a feature pyramid, on any encoder: masks of 28 x 28 for each class.

    With 90 classes on resnet50: 44,454,256 parameters, of which torchvision's count of 44,401,393 leaves out 53,120 of
    frozen batch norm and has 257 for a mask of the background. The mask head is 2,643,280 of them with 80 classes. COCO
    val mask AP 34.6 (torchvision).

    Args:
        num_classes: object classes; a softmax over them and the background, and a mask for each.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        weights: "coco" downloads torchvision's weights of the whole network; see
            :func:`~delineate.models.published_detectors.load_published`.
        channels: of the pyramid.
        hidden: of the box head.
        head_channels: of the mask head.
        variant: torchvision's "v1" or "v2".
        scale: side of a level's anchors, in strides: 8 gives 32 to 512 pixels.
        regions: of an image, sampled in training.
        after: proposals of an image that are looked at outside of training.

    Raises:
        UnknownNameError: on an unknown encoder or weights.
        ArgumentError: on another variant, when a number is not above 0, or on weights that were not published for these
            options.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     model = mask_rcnn(90)
        >>> sum(parameter.numel() for parameter in model.parameters())
        44454256
    """
    given = {"channels": channels, "hidden": hidden, "head_channels": head_channels, "scale": scale}
    check_published(weights, MASK_NETWORKS.get(variant), encoder=encoder, **given)
    norm = "batch" if variant == "v2" else "none"
    parts = pyramid_rcnn_parts(
        in_channels=in_channels,
        encoder=encoder,
        pretrained=pretrained and weights is None,
        channels=channels,
        hidden=hidden,
        variant=variant,
        scale=scale,
        regions=regions,
        after=after,
    )
    head = MaskHead(channels, head_channels, num_classes, norm=norm)
    pool = PyramidPool(parts["pool"].strides, 14)
    model = DescribingRCNN(head, "masks", pool, num_classes=num_classes, **parts)
    if weights is not None:
        load_published(model, MASK_NETWORKS[variant])
        model.pasting = "whole_pixels"  # which its authors' masks were learnt and scored with
    return model


def keypoint_rcnn(
    num_classes: int = 1,
    *,
    in_channels: int = 3,
    joints: int = JOINTS,
    encoder: str = "resnet50",
    pretrained: bool = False,
    weights: str | None = None,
    channels: int = 256,
    hidden: int = 1024,
    head_channels: int = 512,
    scale: float | int = 8,
    regions: int = 512,
    after: int = 1000,
) -> DescribingRCNN:
    """Mask R-CNN for joints: a softmax over the 56 x 56 places of a region for each.

    For persons on resnet50: 59,190,378 parameters, of which torchvision's count of 59,137,258 leaves out 53,120 of
    frozen batch norm. The head is 17,838,097 of them. COCO val keypoint AP 65.0 (torchvision).

    Args:
        num_classes: object classes, as a rule persons alone.
        in_channels: of the images.
        joints: of an object.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        weights: "coco" downloads torchvision's weights of the whole network; see
            :func:`~delineate.models.published_detectors.load_published`.
        channels: of the pyramid.
        hidden: of the box head.
        head_channels: of the keypoint head.
        scale: side of a level's anchors, in strides: 8 gives 32 to 512 pixels.
        regions: of an image, sampled in training.
        after: proposals of an image that are looked at outside of training.

    Raises:
        UnknownNameError: on an unknown encoder or weights.
        ArgumentError: when a number is not above 0, or on weights that were not published for these options.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     model = keypoint_rcnn()
        >>> sum(parameter.numel() for parameter in model.parameters())
        59190378
    """
    require(joints > 0, "joints", "be above 0", joints)
    given = {"channels": channels, "hidden": hidden, "head_channels": head_channels, "scale": scale}
    check_published(weights, KEYPOINT_NETWORK, encoder=encoder, **given)
    parts = pyramid_rcnn_parts(
        in_channels=in_channels,
        encoder=encoder,
        pretrained=pretrained and weights is None,
        channels=channels,
        hidden=hidden,
        variant="v1",
        scale=scale,
        regions=regions,
        after=after,
    )
    head = KeypointHead(channels, head_channels, joints)
    pool = PyramidPool(parts["pool"].strides, 14)
    model = DescribingRCNN(head, "keypoints", pool, num_classes=num_classes, **parts)
    if weights is not None:
        load_published(model, KEYPOINT_NETWORK)
    return model
