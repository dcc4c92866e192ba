"""Faster R-CNN: proposals from the features themselves, then each region's features to a class and a box.

Source: Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NIPS
2015; on a feature pyramid: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
Differs: ``faster_rcnn_vgg16`` is the paper's network; regions are pooled as in its release. ``faster_rcnn`` is the
pyramid's as torchvision has it: RoIAlign with two samples a bin and a side, unaligned by half a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.convolutional_classifier import vgg16_weights
from delineate.models.blocks.detection_pyramid import detection_pyramid
from delineate.models.blocks.region_pooling import FeaturePool, Pool, PyramidPool
from delineate.models.blocks.region_proposals import ProposalOptions, RegionProposalNetwork
from delineate.models.blocks.region_sampling import RegionSampling, sampled_regions
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.models.encoders.torchvision_encoder import StagedEncoder, adapt_first_convolution, vgg_layers
from delineate.models.published_detectors import check_published, load_published
from delineate.ops.anchors import base_anchors, rpn_base_anchors
from delineate.ops.padding import pad_to_multiple
from delineate.registry import unknown_name
from delineate.structures.outputs import AnchorOutputs, RegionOutputs
from delineate.structures.scored_boxes import DetectionOptions

Targets = Sequence[Mapping[str, Any]]
VARIANTS = ("v1", "v2")
NORMS = {"none": "vgg16", "batch": "vgg16_bn"}  # of faster_rcnn_vgg16's convolutions
NETWORKS = {"v1": "fasterrcnn_resnet50_fpn", "v2": "fasterrcnn_resnet50_fpn_v2"}  # torchvision's


class FasterRCNN(nn.Module):
    """Encoder, levels, proposals, and a head for each region.

    Args:
        encoder: images to features.
        neck: features to the levels that proposals are made from.
        proposals: levels to regions.
        pool: levels, boxes and the image of each box to features of one size.
        box_head: pooled features to vectors.
        hidden: numbers in a vector.
        num_classes: object classes.
        multiple: images are padded with zeros to multiples of it.
        pooled_levels: how many of the levels regions are read from, the finest.
        sampling: of the regions in training.
        decoding: how objects are read from the outputs.
    """

    def __init__(
        self,
        encoder: Encoder,
        neck: nn.Module,
        proposals: RegionProposalNetwork,
        pool: Pool,
        box_head: nn.Module,
        *,
        hidden: int,
        num_classes: int,
        multiple: int,
        pooled_levels: int,
        sampling: RegionSampling = RegionSampling(),  # noqa: B008 - frozen
        decoding: DetectionOptions = DetectionOptions(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = neck
        self.proposals = proposals
        self.pool = pool
        self.box_head = box_head
        self.classes = nn.Linear(hidden, num_classes + 1)
        self.boxes = nn.Linear(hidden, 4 * (num_classes + 1))
        for layer, deviation in ((self.classes, 0.01), (self.boxes, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
        self.in_channels = encoder.in_channels
        self.num_classes = num_classes
        self.multiple = multiple
        self.pooled_levels = pooled_levels
        self.sampling = sampling
        self.decoding = decoding

    def forward(
        self,
        images: Float[Tensor, "B C H W"],
        targets: Targets | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
        proposals: Sequence[Tensor] | None = None,
    ) -> RegionOutputs:
        """Proposals of the whole batch, and classes and boxes of its regions.

        Args:
            images: of any size.
            targets: "boxes", "labels" and perhaps "iscrowd" of each image; then regions are a sample to learn from,
                the true boxes among them.
            sizes: (height, width) of each image, without padding; the whole when left out.
            proposals: xyxy pixels of the input (N, 4) for each image, in place of the network's own: another network's,
                or selective search's. They are taken as they are; no gradient flows through them.

        Raises:
            ArgumentError: when there is not one target, size or table of proposals for each image, or one is not
                (N, 4).
        """
        count = len(images)
        require(targets is None or len(targets) == count, "targets", f"be {count}, one an image", len(targets or ()))
        levels, outputs, sizes = self._first_stage(images, sizes)
        if proposals is None:
            proposed = self.proposals.proposals(outputs, sizes, training=self.training)
        else:
            proposed = _given(proposals, outputs.anchors, count)
        matches = None
        if targets is not None:
            proposed, matches = sampled_regions(proposed, targets, self.sampling, num_classes=self.num_classes)
        regions = torch.cat(proposed)
        owners = _owners(proposed)
        features = tuple(levels[: self.pooled_levels])
        hidden = self.box_head(self.pool(features, regions, owners))
        return RegionOutputs(
            proposals=outputs,
            regions=regions,
            images=owners,
            logits=self.classes(hidden),
            deltas=self.boxes(hidden).unflatten(1, (-1, 4)),
            matches=matches,
            features=features,
        )

    def proposed(
        self, images: Float[Tensor, "B C H W"], sizes: Sequence[tuple[int, int]] | None = None
    ) -> RegionOutputs:
        """The first stage alone: what is said of every anchor, and as regions the proposals, of no class yet.

        Args:
            images: of any size.
            sizes: (height, width) of each image, without padding; the whole when left out.

        Returns:
            Outputs whose logits and deltas have no column. Regions stand image by image, best first; as many as in
            training where the model is in training mode.

        Raises:
            ArgumentError: when there is not one size for each image.
        """
        levels, outputs, sizes = self._first_stage(images, sizes)
        proposed = self.proposals.proposals(outputs, sizes, training=self.training)
        regions = torch.cat(proposed)
        return RegionOutputs(
            proposals=outputs,
            regions=regions,
            images=_owners(proposed),
            logits=regions.new_zeros(len(regions), 0),
            deltas=regions.new_zeros(len(regions), 0, 4),
            features=tuple(levels[: self.pooled_levels]),
        )

    def _first_stage(
        self, images: Tensor, sizes: Sequence[tuple[int, int]] | None
    ) -> tuple[Sequence[Tensor], AnchorOutputs, Sequence[tuple[int, int]]]:
        """Levels, what is said of their anchors, and the size of each image."""
        count = len(images)
        sizes = [(images.shape[-2], images.shape[-1])] * count if sizes is None else sizes
        require(len(sizes) == count, "sizes", f"be {count}, one an image", len(sizes))
        padded = pad_to_multiple(images, self.multiple, mode="constant")
        levels = self.neck(self.encoder(padded))
        return levels, self.proposals(levels, size=(padded.shape[-2], padded.shape[-1])), sizes


def _given(proposals: Sequence[Tensor], like: Tensor, count: int) -> list[Tensor]:
    """Proposals from outside, of the type and on the device of the network's own."""
    require(len(proposals) == count, "proposals", f"be {count}, one table an image", len(proposals))
    for boxes in proposals:
        advice = "If column 4 is a score, pass boxes[:, :4]." if boxes.shape[-1:] == (5,) else ""
        fits = boxes.ndim == 2 and boxes.shape[1] == 4
        require(fits, "proposals", "be (N, 4) xyxy pixels of each image", f"shape {tuple(boxes.shape)}", advice)
    return [boxes.detach().as_subclass(Tensor).to(like) for boxes in proposals]


def _owners(boxes: Sequence[Tensor]) -> Tensor:
    """Which image of the batch each row of the tables, one below the other, is of."""
    device = boxes[0].device
    return torch.arange(len(boxes), device=device).repeat_interleave(
        torch.tensor([len(one) for one in boxes], device=device)
    )


def pyramid_rcnn_parts(
    *,
    in_channels: int,
    encoder: str,
    pretrained: bool,
    channels: int,
    hidden: int,
    variant: str,
    scale: float | int,
    regions: int,
    after: int,
) -> dict[str, Any]:
    """What every detector with a pyramid and regions begins with: :class:`FasterRCNN`'s arguments but the classes.

    Args:
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        channels: of the pyramid.
        hidden: of the box head.
        variant: "v1", or "v2" for batch norm in the pyramid, two convolutions before proposals, four in the box head.
        scale: side of a level's anchors, in strides.
        regions: of an image, sampled in training.
        after: proposals of an image that are looked at outside of training.

    Raises:
        UnknownNameError: on an unknown encoder.
        ArgumentError: on another variant, or when a number is not above 0.
    """
    require(variant in VARIANTS, "variant", 'be "v1" or "v2"', f'"{variant}"')
    for name, value in {"scale": scale, "regions": regions, "after": after}.items():
        require(value > 0, name, "be above 0", value)
    backbone = create_encoder(encoder, in_channels=in_channels, pretrained=pretrained)
    second = variant == "v2"
    neck = detection_pyramid(backbone, finest=4, extra="pool", channels=channels, norm="batch" if second else "none")
    with torch.device("cpu"):  # where a model is described without memory, its anchors are numbers all the same
        bases = [base_anchors([scale * stride]) for stride in neck.strides]
    network = RegionProposalNetwork(
        channels, channels, bases, layers=2 if second else 1, options=ProposalOptions(after=after)
    )
    layers: list[nn.Module] = []
    if second:
        for _ in range(4):
            convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        layers += [nn.Flatten(), nn.Linear(channels * 49, hidden), nn.ReLU(inplace=True)]
    else:
        layers += [nn.Flatten(), nn.Linear(channels * 49, hidden), nn.ReLU(inplace=True)]
        layers += [nn.Linear(hidden, hidden), nn.ReLU(inplace=True)]
    levels = len(neck.strides) - 1
    return {
        "encoder": backbone,
        "neck": neck,
        "proposals": network,
        "pool": PyramidPool(neck.strides[:levels], 7),
        "box_head": nn.Sequential(*layers),
        "hidden": hidden,
        "multiple": 32,
        "pooled_levels": levels,
        "sampling": RegionSampling(count=regions),
    }


def faster_rcnn(
    num_classes: int,
    *,
    in_channels: int = 3,
    encoder: str = "resnet50",
    pretrained: bool = False,
    weights: str | None = None,
    channels: int = 256,
    hidden: int = 1024,
    variant: str = "v1",
    scale: float | int = 8,
    regions: int = 512,
    after: int = 1000,
) -> FasterRCNN:
    """Faster R-CNN with a feature pyramid, on any encoder.

    With 90 classes on resnet50: 41,808,406 parameters, 53,120 of them in the encoder's batch norm, which torchvision
    keeps frozen and does not count; 43,712,278 as "v2". COCO val AP 37.0 and 46.7 (torchvision).

    Args:
        num_classes: object classes; a softmax over them and the background.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        weights: "coco" downloads torchvision's weights of the whole network; see
            :func:`~delineate.models.published_detectors.load_published`.
        channels: of the pyramid.
        hidden: of the box head.
        variant: torchvision's "v1" or "v2".
        scale: side of a level's anchors, in strides: 8 gives 32 to 512 pixels.
        regions: of an image, sampled in training.
        after: proposals of an image that are looked at outside of training.

    Raises:
        UnknownNameError: on an unknown encoder or weights.
        ArgumentError: on another variant, when a number is not above 0, or on weights that were not published for these
            options.

    Example:
        >>> with torch.device("meta"):
        ...     model = faster_rcnn(90)
        >>> sum(parameter.numel() for parameter in model.parameters())
        41808406
    """
    check_published(weights, NETWORKS.get(variant), encoder=encoder, channels=channels, hidden=hidden, scale=scale)
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
    model = FasterRCNN(**parts, num_classes=num_classes)
    if weights is not None:
        load_published(model, NETWORKS[variant])
    return model


class LastFeature(nn.Module):
    """The coarsest feature as the only level."""

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One level."""
        return [features[-1]]


def faster_rcnn_vgg16(
    num_classes: int,
    *,
    in_channels: int = 3,
    pretrained: bool = False,
    width: float | int = 1.0,
    hidden: int = 4096,
    regions: int = 128,
    norm: str = "none",
) -> FasterRCNN:
    """The paper's Faster R-CNN: proposals and regions from VGG16's last convolution, at stride 16.

    With 20 classes: 137,078,239 parameters; 21,546 anchors at 600 x 1000 pixels. VOC 2007 mAP 69.9 (paper).

    Args:
        num_classes: object classes; a softmax over them and the background.
        in_channels: of the images.
        pretrained: whether VGG16 starts from ImageNet weights, fc6 and fc7 included, which are downloaded.
        width: every convolution has this share of its channels.
        hidden: of fc6 and fc7.
        regions: of an image, sampled in training.
        norm: "none" (the paper), or "batch" behind every convolution of VGG16, for training from scratch.

    Raises:
        UnknownNameError: on another norm.
        ArgumentError: when pretrained weights do not fit these widths or this norm, or ``width`` is not above 0.

    Example:
        >>> with torch.device("meta"):
        ...     model = faster_rcnn_vgg16(20)
        >>> sum(parameter.numel() for parameter in model.parameters())
        137078239
    """
    require(width > 0, "width", "be above 0", width)
    require(not pretrained or hidden == 4096, "hidden", "be 4096 with pretrained weights", hidden)
    require(not pretrained or norm == "none", "norm", 'be "none" with pretrained weights', f'"{norm}"')
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    weights = vgg16_weights(pretrained=pretrained, width=width, fc_channels=4096)
    layers = vgg_layers(NORMS[norm], weights, width=float(width))[:-1]
    adapt_first_convolution(layers, in_channels, pretrained=pretrained)
    channels = [layer for layer in layers if isinstance(layer, nn.Conv2d)][-1].out_channels
    encoder = StagedEncoder([layers], channels=[channels], strides=[16], in_channels=in_channels)
    first, second = nn.Linear(channels * 49, hidden), nn.Linear(hidden, hidden)
    if weights is not None:
        for layer, name in ((first, "classifier.0"), (second, "classifier.3")):
            layer.load_state_dict({"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]})
    head = nn.Sequential(
        *(nn.Flatten(), first, nn.ReLU(inplace=True), nn.Dropout()),
        *(second, nn.ReLU(inplace=True), nn.Dropout()),
    )
    with torch.device("cpu"):
        bases = [rpn_base_anchors()]
    options = ProposalOptions(before_training=12_000, before=6_000, after_training=2_000, after=300, min_size=16)
    return FasterRCNN(
        encoder,
        LastFeature(),
        RegionProposalNetwork(channels, channels, bases, scoring="softmax", options=options),
        FeaturePool(16, 7),
        head,
        hidden=hidden,
        num_classes=num_classes,
        multiple=1,
        pooled_levels=1,
        # as released for both stages together; Fast R-CNN, alone, leaves out what no object overlaps by 0.1
        sampling=RegionSampling(count=regions),
        decoding=DetectionOptions(iou_threshold=0.3),  # as released
    )
