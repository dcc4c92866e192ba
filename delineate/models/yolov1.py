"""YOLO: the whole image at once to a 7 x 7 grid, each cell with two boxes and one distribution over classes.

Source: Redmon, Divvala, Girshick, Farhadi, "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016,
section 2.
Differs: nothing by default but that ``norm="batch"`` may normalise every convolution, which makes training from scratch
short. The released network is a variant by name: three boxes a cell, a locally connected layer in place of the first
fully connected one, batch norm. Another has a single convolution in place of both, which sees a cell and no further:
its convolutions learn from scratch, and then those of the others can begin with them, as the paper's begin with a
classifier's.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.models.blocks.darknet import LEAK, POOL, DarknetConv, Layer, darknet_layers, scaled
from delineate.registry import unknown_name
from delineate.structures.outputs import GridOutputs
from delineate.structures.scored_boxes import DetectionOptions

STRIDE = 64
NORMS = ("none", "batch")
VARIANTS = ("paper", "darknet", "convolutional")
# behind the first convolution, 7x7 of stride 2, and its pooling
TRUNK: tuple[Layer, ...] = (
    (192, 3),
    POOL,
    (128, 1),
    (256, 3),
    (256, 1),
    (512, 3),
    POOL,
    *((256, 1), (512, 3)) * 4,
    (512, 1),
    (1024, 3),
    POOL,
    *((512, 1), (1024, 3)) * 2,
)


class LocallyConnected(nn.Module):
    """A 3x3 convolution whose weights differ from place to place.

    Args:
        in_channels: taken.
        out_channels: returned.
        grid: places a side; the input must have as many.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(grid * grid, out_channels, in_channels * 9))
        self.bias = nn.Parameter(torch.zeros(grid * grid, out_channels))
        nn.init.kaiming_uniform_(self.weight.view(grid * grid * out_channels, -1), a=LEAK, nonlinearity="leaky_relu")

    def forward(self, features: Float[Tensor, "B C S S"]) -> Float[Tensor, "B K S S"]:
        """Features of the same size."""
        windows = nn.functional.unfold(features, 3, padding=1)  # B 9C SS
        values = torch.einsum("bcp,pkc->bkp", windows, self.weight) + self.bias.t()
        return values.unflatten(2, features.shape[-2:])


class CellByCell(nn.Conv2d):
    """A 1x1 convolution whose numbers lie cell by cell.

    Args:
        in_channels: taken.
        numbers: of each cell.
    """

    def __init__(self, in_channels: int, numbers: int) -> None:
        super().__init__(in_channels, numbers, 1)

    def forward(self, features: Float[Tensor, "B C S S"]) -> Float[Tensor, "B N"]:
        """All numbers of all cells."""
        return super().forward(features).permute(0, 2, 3, 1).flatten(1)


class YOLOv1(nn.Module):
    """Convolutions, then layers that see the whole grid.

    Args:
        encoder: images to the grid's features.
        head: the features to ``grid * grid * (5 * boxes + num_classes)`` numbers.
        grid: cells a side.
        boxes: of each cell.
        in_channels: of the images.
        num_classes: object classes.
        form: how the head's numbers lie: "cells" for cell by cell, "parts" for all class scores, then all confidences,
            then all boxes, as the released network has them.
    """

    # as released, for evaluation, where every box counts down to the faintest; its demonstration shows those above 0.2
    decoding = DetectionOptions(score_threshold=0.001, iou_threshold=0.5, groups="class", most=300)

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        *,
        grid: int,
        boxes: int,
        in_channels: int,
        num_classes: int,
        form: str = "cells",
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.grid = grid
        self.boxes = boxes
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.form = form
        self.input_size = (STRIDE * grid, STRIDE * grid)

    def forward(self, images: Float[Tensor, "B C H W"]) -> GridOutputs:
        """Boxes, confidences and classes of every cell.

        Raises:
            ArgumentError: when images are not of ``input_size``, which the fully connected layers need.
        """
        size = (images.shape[-2], images.shape[-1])
        advice = "Resize images, or choose another grid."
        require(size == self.input_size, "images", f"be of {self.input_size} pixels", size, advice)
        values = self.head(self.encoder(images))
        cells, each = self.grid * self.grid, self.boxes
        if self.form == "cells":
            rows = values.unflatten(1, (cells, 5 * each + self.num_classes))
            of_boxes = rows[..., : 5 * each].unflatten(2, (each, 5))
            places, confidences, classes = of_boxes[..., :4], of_boxes[..., 4], rows[..., 5 * each :]
        else:
            parts = values.split([cells * self.num_classes, cells * each, cells * each * 4], dim=1)
            classes = parts[0].unflatten(1, (cells, self.num_classes))
            confidences, places = parts[1].unflatten(1, (cells, each)), parts[2].unflatten(1, (cells, each, 4))
        return GridOutputs(
            logits=classes[:, :, None],
            objectness=confidences,
            values=places,
            grid=(self.grid, self.grid),
            size=size,
        )


def yolov1(
    num_classes: int,
    *,
    in_channels: int = 3,
    grid: int = 7,
    boxes: int | None = None,
    width: float | int = 1.0,
    hidden: int = 4096,
    norm: str = "none",
    dropout: float | int = 0.5,
    variant: str = "paper",
) -> YOLOv1:
    """YOLO for images of 64 x ``grid`` pixels a side, 448 in the paper.

    With 20 classes: 271,703,550 parameters and 98 boxes; the released network 197,301,875 and 147. VOC 2007 mAP 63.4
    (paper).

    Args:
        num_classes: object classes.
        in_channels: of the images.
        grid: cells a side.
        boxes: of each cell; 2 in the paper, 3 in the released network, when left out.
        width: every convolution has this share of its channels.
        hidden: of the first fully connected layer.
        norm: "none" (the paper) or "batch"; the released network always has batch norm.
        dropout: before the last layer.
        variant: "paper", "darknet" for the released network, or "convolutional" for the released one with a 1x1
            convolution as its head: to learn without a pretrained classifier, or to pass the convolutions on.

    Raises:
        UnknownNameError: on an unknown norm or variant.
        ArgumentError: when ``grid`` or ``boxes`` is below 1, or ``width`` not above 0.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     model = yolov1(20)
        >>> sum(parameter.numel() for parameter in model.parameters())
        271703550
    """
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    paper = variant == "paper"
    boxes = (2 if paper else 3) if boxes is None else boxes
    norm = norm if paper else "batch"
    require(grid >= 1, "grid", "be at least 1", grid)
    require(boxes >= 1, "boxes", "be at least 1", boxes)
    require(width > 0, "width", "be above 0", width)
    first, wide = scaled(64, width), scaled(1024, width)
    encoder = nn.Sequential(
        DarknetConv(in_channels, first, 7, stride=2, norm=norm),
        nn.MaxPool2d(2),
        *darknet_layers(TRUNK, first, width=width, norm=norm),
        DarknetConv(wide, wide, norm=norm),
        DarknetConv(wide, wide, stride=2, norm=norm),
        DarknetConv(wide, wide, norm=norm),
        DarknetConv(wide, wide, norm=norm),
    )
    numbers = 5 * boxes + num_classes
    last: nn.Conv2d | nn.Linear
    if variant == "darknet":
        local = scaled(256, width)
        last = nn.Linear(local * grid * grid, grid * grid * numbers)
        layers = [LocallyConnected(wide, local, grid), nn.LeakyReLU(LEAK), nn.Flatten(), nn.Dropout(dropout), last]
    elif variant == "convolutional":
        last = CellByCell(wide, numbers)
        layers = [nn.Dropout(dropout), last]
    else:
        whole = nn.Linear(wide * grid * grid, hidden)
        nn.init.kaiming_uniform_(whole.weight, a=LEAK, nonlinearity="leaky_relu")
        last = nn.Linear(hidden, grid * grid * numbers)
        layers = [nn.Flatten(), whole, nn.LeakyReLU(LEAK), nn.Dropout(dropout), last]
    nn.init.normal_(last.weight, std=0.01)
    return YOLOv1(
        encoder,
        nn.Sequential(*layers),
        grid=grid,
        boxes=boxes,
        in_channels=in_channels,
        num_classes=num_classes,
        form="parts" if variant == "darknet" else "cells",
    )
