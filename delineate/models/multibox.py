"""MultiBox: the whole image to a fixed number of boxes, each with a confidence that it holds an object.

Source: Erhan, Szegedy, Toshev, Anguelov, "Scalable Object Detection using Deep Neural Networks", CVPR 2014, section 3.
Differs: the convolutions are torchvision's AlexNet, padded, and any encoder may take their place; images may be of any
size. A head for the classes of the boxes is there by default, where the paper asks a second network about each
(``class_head="none"``). ``class_head="regions"`` asks like that second network, one for all boxes, but looks at the
features of a box instead of its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.pooled_features import PooledFeatures, small_linear
from delineate.models.encoders.creation import create_encoder
from delineate.models.encoders.encoder import Encoder
from delineate.ops.padding import pad_to_multiple
from delineate.ops.roi_align import roi_align
from delineate.registry import unknown_name
from delineate.structures.outputs import SlotOutputs
from delineate.structures.scored_boxes import DetectionOptions

Number = float | int

CLASS_HEADS = ("softmax", "regions", "none")
STARTING_CONFIDENCE = 0.01  # most boxes find nothing
REGION_STRIDE = 16  # of the features that boxes are classified by
REGION_BINS = 7


class VectorClasses(nn.Module):
    """A linear layer a box, all on what is known of the whole image.

    Args:
        width: of the vector of an image.
        slots: boxes.
        num_classes: object classes.
    """

    def __init__(self, width: int, slots: int, num_classes: int) -> None:
        super().__init__()
        self.layer = small_linear(width, slots * num_classes)
        self.slots = slots

    def forward(
        self, features: Sequence[Tensor], vector: Float[Tensor, "B F"], boxes: Float[Tensor, "B N 4"]
    ) -> Float[Tensor, "B N K"]:
        """Logits, whatever the boxes."""
        del features, boxes
        logits: Tensor = self.layer(vector).unflatten(1, (self.slots, -1))
        return logits


class RegionClasses(nn.Module):
    """One classifier for all boxes, on the features inside of each.

    Args:
        encoder: whose coarsest feature of stride 16 or less is looked at.
        hidden: of its fully connected layer.
        dropout: behind it.
        num_classes: object classes.
    """

    def __init__(self, encoder: Encoder, hidden: int, dropout: float, num_classes: int) -> None:
        super().__init__()
        usable = [place for place, stride in enumerate(encoder.strides) if stride <= REGION_STRIDE]
        self.place = usable[-1] if usable else 0
        self.scale = 1 / encoder.strides[self.place]
        first = nn.Linear(encoder.channels[self.place] * REGION_BINS**2, hidden)
        nn.init.kaiming_uniform_(first.weight, nonlinearity="relu")
        nn.init.zeros_(first.bias)
        self.layers = nn.Sequential(
            nn.Flatten(), first, nn.ReLU(inplace=True), nn.Dropout(dropout), small_linear(hidden, num_classes)
        )

    def forward(
        self, features: Sequence[Tensor], vector: Float[Tensor, "B F"], boxes: Float[Tensor, "B N 4"]
    ) -> Float[Tensor, "B N K"]:
        """Logits of the boxes, xyxy pixels of the padded image, through which no gradient flows."""
        del vector
        count, slots = boxes.shape[:2]
        feature = features[self.place]
        images = torch.arange(count, device=boxes.device)[:, None].expand(count, slots).flatten()
        regions = boxes.detach().flatten(0, 1)
        pooled = roi_align(
            feature, regions, images, output_size=REGION_BINS, spatial_scale=self.scale, sampling_ratio=2
        )
        logits: Tensor = self.layers(pooled).unflatten(0, (-1, slots))
        return logits


class MultiBox(nn.Module):
    """Encoder, fully connected layers, and what they say of each box: confidence, residual to its prior, class.

    Args:
        encoder: images to features.
        pooled: the last feature to a vector.
        priors: xyxy, as shares of the image.
        num_classes: object classes.
        classes: features, the vector and boxes to the logits of classes; None where boxes are not told apart.
        residual_scale: what the last layer's numbers are multiplied with before they are added to the priors.
    """

    def __init__(
        self,
        encoder: Encoder,
        pooled: PooledFeatures,
        *,
        priors: Float[Tensor, "N 4"],
        num_classes: int,
        classes: VectorClasses | RegionClasses | None,
        residual_scale: Number = 1.0,
    ) -> None:
        super().__init__()
        slots = len(priors)
        self.encoder = encoder
        self.pooled = pooled
        self.confidences = small_linear(pooled.width, slots)
        nn.init.constant_(self.confidences.bias, -math.log((1 - STARTING_CONFIDENCE) / STARTING_CONFIDENCE))
        self.residuals = small_linear(pooled.width, slots * 4)
        self.classes = classes
        self.residual_scale = residual_scale
        self.register_buffer("priors", priors)
        self.priors: Tensor
        self.in_channels = encoder.in_channels
        self.num_classes = num_classes
        self.decoding = DetectionOptions(score_threshold=0.01, iou_threshold=0.5, most=min(slots, 100))

    def forward(self, images: Float[Tensor, "B C H W"]) -> SlotOutputs:
        """Every box; their shares are of the images padded with zeros to the encoder's stride."""
        padded = pad_to_multiple(images, self.encoder.strides[-1], mode="constant")
        height, width = padded.shape[-2:]
        features = self.encoder(padded)
        vector = self.pooled(features[-1])
        slots = len(self.priors)
        confidences = self.confidences(vector)
        boxes = self.priors + self.residual_scale * self.residuals(vector).unflatten(1, (slots, 4))
        logits = torch.zeros_like(confidences)[..., None]
        if self.classes is not None:
            logits = self.classes(features, vector, boxes * boxes.new_tensor([width, height, width, height]))
        return SlotOutputs(
            logits=logits,
            boxes=boxes[:, :, None],
            size=(height, width),
            objectness=confidences,
            priors=self.priors,
        )


def tiled_boxes(sides: Sequence[int] = (1, 2, 3, 4, 5, 6)) -> Float[Tensor, "N 4"]:
    """The image cut into 1, 4, 9, ... equal tiles: priors for data that have not been clustered.

    Args:
        sides: tiles a side, for each cut.

    Returns:
        xyxy, as shares of the image.

    Raises:
        ArgumentError: when there is no side, or one is below 1.

    Example:
        >>> tiled_boxes((1, 2)).tolist()[:3]
        [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5]]
    """
    require(len(sides) > 0 and all(side >= 1 for side in sides), "sides", "be numbers from 1 on", list(sides))
    tiles = [
        [column / side, row / side, (column + 1) / side, (row + 1) / side]
        for side in sides
        for row in range(side)
        for column in range(side)
    ]
    return torch.tensor(tiles, dtype=torch.float32)


def clustered_boxes(boxes: Float[Tensor, "N 4"], count: int, *, seed: int = 0) -> Float[Tensor, "K 4"]:
    """The centres of ``count`` clusters of a data set's boxes: the paper's priors.

    Source: Erhan et al., CVPR 2014, section 3 (k-means on the boxes' coordinates).
    Differs: nothing.

    Args:
        boxes: xyxy of the training set, as shares of their images.
        count: of priors.
        seed: of the first centres; the same boxes and seed give the same priors.

    Returns:
        In the same shares, by rising area.

    Raises:
        ArgumentError: when boxes are not (N, 4) and finite, or fewer different ones than ``count``.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.7, 0.5], [0.0, 0.0, 1.0, 1.0]])
        >>> clustered_boxes(boxes, 2)
        tensor([[0.0000, 0.0000, 0.6000, 0.5000],
                [0.0000, 0.0000, 1.0000, 1.0000]])
    """
    from sklearn.cluster import KMeans  # costs a second, so only where priors are made

    _check_shares("boxes", boxes)
    different = len(boxes.unique(dim=0))
    require(1 <= count <= different, "count", f"lie between 1 and the number of different boxes, {different}", count)
    found = KMeans(count, n_init=10, tol=0, random_state=seed).fit(boxes.double().cpu().numpy())
    centres = torch.from_numpy(found.cluster_centers_).float()
    order = (centres[:, 2:] - centres[:, :2]).prod(1).argsort(stable=True)
    return centres[order]


def multibox(
    num_classes: int,
    *,
    priors: Float[Tensor, "N 4"] | Sequence[Sequence[Number]] | None = None,
    class_head: str = "softmax",
    in_channels: int = 3,
    encoder: str = "alexnet",
    pretrained: bool = False,
    bins: int = 6,
    hidden: tuple[int, ...] | list[int] = (4096, 4096),
    dropout: float | int = 0.5,
    class_hidden: int = 1024,
    residual_scale: float | int = 1.0,
) -> MultiBox:
    """MultiBox on AlexNet or any other encoder, for images of any size; the paper's are of 220 x 220 pixels.

    With one class and 91 priors: 58,867,975 parameters. With a smaller encoder take fewer hidden units.

    Args:
        num_classes: object classes.
        priors: xyxy, as shares of the image, one for each box: :func:`clustered_boxes` finds them. When left out, the
            91 of :func:`tiled_boxes`.
        class_head: "softmax" for a layer a box, which tells its class from the whole image; "regions" for one
            classifier of all boxes, which tells it from the features inside of each and needs fewer examples; or "none"
            (the paper): boxes hold something, all of class 0. With one class there is nothing to tell.
        in_channels: of the images.
        encoder: any name of :func:`~delineate.models.encoders.creation.create_encoder`.
        pretrained: whether the encoder starts from ImageNet weights, which are downloaded.
        bins: a side, over which the encoder's last feature is averaged.
        hidden: of the fully connected layers on the bins.
        dropout: before each of them, and before the last layer of a classifier of regions.
        class_hidden: of the classifier of regions.
        residual_scale: what the last layer says of a box is added to its prior times this, 1 in the paper. With 0.1,
            about as far as objects lie from their priors, steps that suit the confidences do not throw boxes about.

    Raises:
        UnknownNameError: on an unknown encoder or class head.
        ArgumentError: when priors are not (N, 4) and finite, ``bins`` or a width is below 1, or the
            scale is not above 0.

    Example:
        >>> with torch.device("meta"):
        ...     model = multibox(1)
        >>> sum(parameter.numel() for parameter in model.parameters())
        58867975
    """
    if class_head not in CLASS_HEADS:
        raise unknown_name("class_head", class_head, CLASS_HEADS)
    boxes = tiled_boxes() if priors is None else torch.as_tensor(priors, dtype=torch.float32)
    _check_shares("priors", boxes)
    require(class_hidden >= 1, "class_hidden", "be at least 1", class_hidden)
    require(residual_scale > 0, "residual_scale", "be above 0", residual_scale)
    backbone = create_encoder(encoder, in_channels=in_channels, pretrained=pretrained)
    pooled = PooledFeatures(backbone.channels[-1], bins=bins, hidden=hidden, dropout=dropout)
    classes: VectorClasses | RegionClasses | None = None
    if num_classes > 1 and class_head == "softmax":
        classes = VectorClasses(pooled.width, len(boxes), num_classes)
    elif num_classes > 1 and class_head == "regions":
        classes = RegionClasses(backbone, class_hidden, float(dropout), num_classes)
    return MultiBox(
        backbone, pooled, priors=boxes, num_classes=num_classes, classes=classes, residual_scale=residual_scale
    )


def _check_shares(name: str, boxes: Tensor) -> None:
    shape = tuple(boxes.shape)
    require(len(shape) == 2 and shape[1] == 4 and shape[0] > 0, name, "be (N, 4) xyxy shares", f"shape {shape}")
    if boxes.device.type != "meta":
        far = float(boxes.abs().max())
        advice = "Divide pixels by the image's width and height."
        require(bool(boxes.isfinite().all()) and far <= 2, name, "be shares of the image, finite", far, advice)
