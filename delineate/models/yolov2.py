"""YOLOv2: one convolution says of five prior boxes at every cell where, whether and what.

Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, sections 2 and 3; widths of the head from its
released definitions.
Differs: the passthrough moves each 2 x 2 block of pixels into channels; the released code's reorganisation also mixes
rows and columns, which the convolution behind it cannot tell apart from any other order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.models.blocks.darknet import POOL, DarknetConv, Layer, darknet_layers, scaled
from delineate.ops.anchors import YOLOV2_VOC_PRIORS
from delineate.ops.padding import pad_to_multiple
from delineate.structures.outputs import GridOutputs
from delineate.structures.scored_boxes import DetectionOptions
from delineate.structures.word_tree import WordTree

STRIDE = 32
# up to the map at stride 16, which the passthrough takes; from there to stride 32
FINE: tuple[Layer, ...] = (
    (32, 3),
    POOL,
    (64, 3),
    POOL,
    (128, 3),
    (64, 1),
    (128, 3),
    POOL,
    (256, 3),
    (128, 1),
    (256, 3),
    POOL,
    (512, 3),
    (256, 1),
    (512, 3),
    (256, 1),
    (512, 3),
)
COARSE: tuple[Layer, ...] = (POOL, (1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3))


class Darknet19(nn.Module):
    """The classifier's convolutions.

    Args:
        in_channels: of the images.
        width: every layer has this share of its channels.
    """

    def __init__(self, in_channels: int = 3, *, width: float | int = 1.0) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.fine = darknet_layers(FINE, in_channels, width=width)
        self.coarse = darknet_layers(COARSE, scaled(512, width), width=width)
        self.channels = (scaled(512, width), scaled(1024, width))
        self.strides = (STRIDE // 2, STRIDE)

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """The features at strides 16 and 32."""
        fine = self.fine(images)
        return [fine, self.coarse(fine)]


class YOLOv2(nn.Module):
    """Darknet-19, two convolutions, the passthrough of finer features, and the prediction.

    Args:
        encoder: images to features at strides 16 and 32.
        hidden: the convolutions before the passthrough joins.
        passthrough: the finer feature, made narrow.
        predict: the last layers.
        priors: width and height of the boxes of each cell, in cells.
        num_classes: object classes.
    """

    # as released, for evaluation, where every box counts down to the faintest; its demonstration shows those above 0.24
    decoding = DetectionOptions(score_threshold=0.005, iou_threshold=0.45, groups="class", most=300)

    def __init__(
        self,
        encoder: Darknet19,
        hidden: nn.Module,
        passthrough: nn.Module,
        predict: nn.Module,
        *,
        priors: Float[Tensor, "P 2"],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden = hidden
        self.passthrough = passthrough
        self.predict = predict
        self.priors = priors
        self.in_channels = encoder.in_channels
        self.num_classes = num_classes

    def forward(self, images: Float[Tensor, "B C H W"]) -> GridOutputs:
        """Boxes, objectness and classes of every prior at every cell; images are padded to multiples of 32."""
        padded = pad_to_multiple(images, STRIDE)
        fine, coarse = self.encoder(padded)
        joined = torch.cat([F.pixel_unshuffle(self.passthrough(fine), 2), self.hidden(coarse)], dim=1)
        return prior_outputs(self.predict(joined), self.priors, size=(padded.shape[-2], padded.shape[-1]))


def prior_outputs(
    maps: Float[Tensor, "B C h w"], priors: Float[Tensor, "P 2"], *, size: tuple[int, int], tree: WordTree | None = None
) -> GridOutputs:
    """What the channels of the last convolution say, prior by prior: four of the box, the objectness, the classes.

    Args:
        maps: of the last convolution, P(5 + K) channels.
        priors: width and height of the boxes of each cell, in cells.
        size: (height, width) of the input, padding included.
        tree: of the K words; None where all classes share one softmax.

    Example:
        >>> outputs = prior_outputs(torch.zeros(1, 14, 2, 3), torch.ones(2, 2), size=(64, 96))
        >>> tuple(outputs.logits.shape), outputs.grid
        ((1, 6, 2, 2), (2, 3))
    """
    values = maps.permute(0, 2, 3, 1).flatten(1, 2).unflatten(2, (len(priors), -1))
    return GridOutputs(
        logits=values[..., 5:],
        objectness=values[..., 4],
        values=values[..., :4],
        grid=(maps.shape[-2], maps.shape[-1]),
        size=size,
        priors=priors.to(maps.device),
        tree=tree,
    )


def yolov2(
    num_classes: int,
    *,
    in_channels: int = 3,
    width: float | int = 1.0,
    priors: Sequence[Sequence[float | int]] | None = None,
) -> YOLOv2:
    """YOLOv2 on Darknet-19, every layer normalised, for images of any size.

    With 20 classes and five priors: 50,655,389 parameters, 845 boxes at 416 pixels; with 80 classes 50,962,889. VOC
    2007 mAP 76.8 at 416 pixels, 78.6 at 544 (paper).

    Args:
        num_classes: object classes; a softmax over them, objectness apart.
        in_channels: of the images.
        width: every layer has this share of its channels.
        priors: width and height of each prior in cells of 32 pixels, from ``delineate data anchors``; those of VOC when
            None.

    Raises:
        ArgumentError: when ``width`` is not above 0, or priors are no pairs of numbers above 0.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     model = yolov2(20)
        >>> sum(parameter.numel() for parameter in model.parameters())
        50655389
    """
    require(width > 0, "width", "be above 0", width)
    boxes = prior_sizes(YOLOV2_VOC_PRIORS if priors is None else priors)
    encoder = Darknet19(in_channels, width=width)
    fine, coarse = encoder.channels
    narrow = scaled(64, width)
    last = nn.Conv2d(coarse, len(boxes) * (5 + num_classes), 1)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return YOLOv2(
        encoder,
        nn.Sequential(DarknetConv(coarse, coarse), DarknetConv(coarse, coarse)),
        DarknetConv(fine, narrow, 1),
        nn.Sequential(DarknetConv(4 * narrow + coarse, coarse), last),
        priors=boxes,
        num_classes=num_classes,
    )


def prior_sizes(priors: Sequence[Sequence[float | int]]) -> Float[Tensor, "P 2"]:
    """Priors of plain numbers as a tensor, wherever new tensors are made.

    Raises:
        ArgumentError: when they are no pairs of numbers above 0.
    """
    condition = "be pairs of width and height above 0"
    rows = [tuple(prior) for prior in priors]
    if not rows or any(len(row) != 2 or not all(value > 0 for value in row) for row in rows):
        raise ArgumentError(f"priors must {condition}; got {priors}. `delineate data anchors` finds them.")
    return torch.tensor(rows, dtype=torch.float32, device="cpu")
