"""Boxes as the numbers that a detector's last layer predicts, and back.

Three coders: R-CNN's, relative to an anchor; YOLO's first, relative to a cell and the image; YOLO's second, relative to
a cell and a prior. Decoding what was encoded gives the box again, for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from delineate.checks import require

Number = int | float
Weights = Sequence[Number]

SSD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""SSD's variances 0.1, 0.1, 0.2, 0.2, and the deviations by which Fast R-CNN divides, as factors."""

LARGEST_GROWTH = math.log(1000 / 16)
"""A predicted side is at most 62.5 times its anchor's: from an anchor of 16 pixels to an image of 1,000."""

SMALLEST_SIDE = 1e-6  # a side of 0 pixels counts as this, so that no target is infinite


def encode_boxes(
    boxes: Float[Tensor, "*N 4"], anchors: Float[Tensor, "*M 4"], *, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> Float[Tensor, "*L 4"]:
    """How far each box's centre lies from its anchor's, in sides of the anchor, and the logarithms of its growth.

    Source: Girshick et al., "Rich Feature Hierarchies" (R-CNN), CVPR 2014, appendix C.
    Differs: a side of 0 counts as a millionth of a pixel.

    Args:
        boxes: xyxy pixels.
        anchors: xyxy pixels, of the same shape or one that broadcasts with it.
        weights: factors of the four numbers: one over SSD's variances, one over Fast R-CNN's deviations.

    Returns:
        x, y, width, height; float32 for half precision.

    Raises:
        ArgumentError: when ``weights`` are not four numbers above 0.

    Example:
        >>> encode_boxes(torch.tensor([[2., 0., 6., 8.]]), torch.tensor([[0., 0., 4., 4.]])).tolist()
        [[0.5, 0.5, 0.0, 0.693147...]]
    """
    boxes, anchors = _full_precision(boxes), _full_precision(anchors)
    factors = _factors(weights, boxes)
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=SMALLEST_SIDE)
    anchor_sides = (anchors[..., 2:] - anchors[..., :2]).clamp(min=SMALLEST_SIDE)
    moves = (_centres(boxes) - _centres(anchors)) / anchor_sides
    return torch.cat((moves, torch.log(sides / anchor_sides)), dim=-1) * factors


def decode_boxes(
    deltas: Float[Tensor, "*N 4"],
    anchors: Float[Tensor, "*M 4"],
    *,
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    clip: Number = LARGEST_GROWTH,
) -> Float[Tensor, "*L 4"]:
    """The boxes that predictions mean: the inverse of :func:`encode_boxes`.

    Source: Girshick et al., "Rich Feature Hierarchies" (R-CNN), CVPR 2014, appendix C; the limit of growth: Detectron.
    Differs: nothing.

    Args:
        deltas: x, y, width, height for each anchor. With one more dimension than ``anchors``, (R, K, 4) for (R, 4):
            a box for each class.
        anchors: xyxy pixels; of a batch (B, A, 4) either the same shape or (1, A, 4).
        weights: those of :func:`encode_boxes`.
        clip: the largest logarithm of a side's growth.

    Returns:
        xyxy pixels, not clipped to the image; float32 for half precision.

    Raises:
        ArgumentError: when ``weights`` are not four numbers above 0, or ``anchors`` do not fit ``deltas``.

    Example:
        >>> decode_boxes(torch.tensor([[.5, .5, 0., math.log(2)]]), torch.tensor([[0., 0., 4., 4.]])).round().tolist()
        [[2.0, 0.0, 6.0, 8.0]]
    """
    deltas, anchors = _full_precision(deltas), _full_precision(anchors)
    spare = deltas.ndim - anchors.ndim
    fits = spare == 0 or (spare == 1 and deltas.shape[:-2] == anchors.shape[:-1])
    require(
        fits,
        "anchors",
        "have the deltas' shape, or that without the dimension of the classes",
        f"{tuple(anchors.shape)} for deltas {tuple(deltas.shape)}",
        "Pass anchors[None] for a batch of images.",
    )
    if spare == 1:
        anchors = anchors[..., None, :]
    deltas = deltas / _factors(weights, deltas)
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = deltas[..., :2] * sides + _centres(anchors)
    half = torch.exp(deltas[..., 2:].clamp(max=clip)) * sides / 2
    return torch.cat((centres - half, centres + half), dim=-1)


def clip_boxes(boxes: Float[Tensor, "*N 4"], size: tuple[int, int]) -> Float[Tensor, "*N 4"]:
    """``boxes`` cut at the border of the image.

    Args:
        boxes: xyxy pixels.
        size: (height, width) of the image.

    Example:
        >>> clip_boxes(torch.tensor([[-3., 2., 9., 20.]]), (10, 8)).tolist()
        [[0.0, 2.0, 8.0, 10.0]]
    """
    height, width = size
    across, down = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((across, down), dim=-1).flatten(-2)


def valid_boxes(boxes: Float[Tensor, "*N 4"], min_size: Number) -> Bool[Tensor, "*N"]:
    """Which boxes are finite and at least ``min_size`` pixels wide and high.

    Args:
        boxes: xyxy pixels.
        min_size: Faster R-CNN keeps proposals from 16 on; torchvision from 0.001.

    Example:
        >>> valid_boxes(torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 1.]]), 2).tolist()
        [True, False]
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides >= min_size).all(dim=-1) & boxes.isfinite().all(dim=-1)


def box_cells(boxes: Float[Tensor, "*N 4"], *, size: tuple[int, int], grid: tuple[int, int]) -> Int64[Tensor, "*N"]:
    """The cell that answers for each box: the one its centre falls into.

    Source: Redmon et al., "You Only Look Once", CVPR 2016, section 2.
    Differs: a centre on or beyond the image's border belongs to the nearest cell.

    Args:
        boxes: xyxy pixels.
        size: (height, width) of the image.
        grid: (rows, columns) of the cells.

    Returns:
        ``row * columns + column``.

    Example:
        >>> box_cells(torch.tensor([[0., 64., 64., 128.]]), size=(128, 128), grid=(4, 4)).tolist()
        [13]
    """
    across, down = _cell_sides(size, grid)
    centres = _centres(_full_precision(boxes))
    columns = (centres[..., 0] / across).floor().long().clamp(0, grid[1] - 1)
    rows = (centres[..., 1] / down).floor().long().clamp(0, grid[0] - 1)
    return rows * grid[1] + columns


def encode_yolo_boxes(
    boxes: Float[Tensor, "*N 4"], cells: Int64[Tensor, "*N"], *, size: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "*N 4"]:
    """YOLO's targets: the centre within its cell, 0 to 1, and the square roots of the sides as shares of the image.

    Source: Redmon et al., "You Only Look Once", CVPR 2016, section 2 and equation 3.
    Differs: nothing. The network predicts the square roots themselves, as in the released configuration (``sqrt=1``).

    Args:
        boxes: xyxy pixels.
        cells: which cell answers for each, as :func:`box_cells` counts them.
        size: (height, width) of the image.
        grid: (rows, columns) of the cells.

    Example:
        >>> box = torch.tensor([[0., 64., 64., 128.]])
        >>> encode_yolo_boxes(box, torch.tensor([13]), size=(256, 256), grid=(8, 8)).tolist()
        [[-4.0, 2.0, 0.5, 0.5]]
    """
    boxes = _full_precision(boxes)
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    shares = sides / sides.new_tensor([size[1], size[0]])
    return torch.cat((_within_cells(boxes, cells, size, grid), shares.sqrt()), dim=-1)


def decode_yolo_boxes(
    values: Float[Tensor, "*N 4"], cells: Int64[Tensor, "*M"], *, size: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "*N 4"]:
    """The boxes that YOLO's predictions mean: the inverse of :func:`encode_yolo_boxes`.

    Args:
        values: x and y within the cell, square roots of width and height; a negative root counts as its opposite.
        cells: the cell of each; or of a shape that broadcasts with theirs, (S * S, 1) for (B, S * S, boxes, 4).
        size: (height, width) of the image.
        grid: (rows, columns) of the cells.

    Example:
        >>> values = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
        >>> decode_yolo_boxes(values, torch.tensor([9]), size=(256, 256), grid=(8, 8)).tolist()
        [[16.0, 16.0, 80.0, 80.0]]
    """
    values = _full_precision(values)
    half = values[..., 2:] ** 2 * values.new_tensor([size[1], size[0]]) / 2
    return _around_cells(values[..., :2], half, cells, size, grid)


def yolov2_values(predictions: Float[Tensor, "*N 4"]) -> Float[Tensor, "*N 4"]:
    """YOLOv2's predictions with the sigmoid that keeps a centre in its cell: what its loss compares with targets.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 2, "Direct location prediction".
    Differs: nothing.

    Example:
        >>> yolov2_values(torch.tensor([[0., 0., 1., 1.]])).tolist()
        [[0.5, 0.5, 1.0, 1.0]]
    """
    predictions = _full_precision(predictions)
    return torch.cat((predictions[..., :2].sigmoid(), predictions[..., 2:]), dim=-1)


def encode_yolov2_boxes(
    boxes: Float[Tensor, "*N 4"],
    cells: Int64[Tensor, "*N"],
    priors: Float[Tensor, "*N 2"],
    *,
    size: tuple[int, int],
    grid: tuple[int, int],
) -> Float[Tensor, "*N 4"]:
    """YOLOv2's targets: the centre within its cell, 0 to 1, and the logarithms of the sides over the prior's.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 2, "Direct location prediction".
    Differs: a side of 0 counts as a millionth of a pixel.

    Args:
        boxes: xyxy pixels.
        cells: which cell answers for each, as :func:`box_cells` counts them.
        priors: width and height of each box's prior, in cells.
        size: (height, width) of the image.
        grid: (rows, columns) of the cells.

    Example:
        >>> box, cell, prior = torch.tensor([[0., 0., 64., 64.]]), torch.tensor([0]), torch.tensor([[2., 1.]])
        >>> encode_yolov2_boxes(box, cell, prior, size=(416, 416), grid=(13, 13)).tolist()
        [[1.0, 1.0, 0.0, 0.693147...]]
    """
    boxes = _full_precision(boxes)
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=SMALLEST_SIDE)
    growth = torch.log(sides / (priors * sides.new_tensor(_cell_sides(size, grid))))
    return torch.cat((_within_cells(boxes, cells, size, grid), growth), dim=-1)


def decode_yolov2_boxes(
    values: Float[Tensor, "*N 4"],
    cells: Int64[Tensor, "*M"],
    priors: Float[Tensor, "*P 2"],
    *,
    size: tuple[int, int],
    grid: tuple[int, int],
) -> Float[Tensor, "*N 4"]:
    """The boxes that YOLOv2's predictions mean: the inverse of :func:`encode_yolov2_boxes`.

    Args:
        values: predictions behind :func:`yolov2_values`.
        cells: the cell of each, or of a shape that broadcasts: (S * S, 1) for (B, S * S, priors, 4).
        priors: width and height in cells, of a shape that broadcasts: (priors, 2).
        size: (height, width) of the image.
        grid: (rows, columns) of the cells.

    Example:
        >>> values, cell, prior = torch.tensor([[1., 1., 0., math.log(2)]]), torch.tensor([0]), torch.tensor([[2., 1.]])
        >>> decode_yolov2_boxes(values, cell, prior, size=(416, 416), grid=(13, 13)).tolist()
        [[0.0, 0.0, 64.0, 64.0]]
    """
    values = _full_precision(values)
    sides = priors * values.new_tensor(_cell_sides(size, grid))
    # a diverging prediction would give inf, and inf - inf: NaN
    half = torch.exp(values[..., 2:].clamp(max=_LARGEST_EXPONENT)) * sides / 2
    return _around_cells(values[..., :2], half, cells, size, grid)


_LARGEST_EXPONENT = 20.0


def _full_precision(boxes: Tensor) -> Tensor:
    """In half precision corners beyond 256 lie on a raster of several pixels."""
    return boxes if boxes.dtype == torch.float64 else boxes.float()


def _factors(weights: Weights, like: Tensor) -> Tensor:
    holds = len(weights) == 4 and all(weight > 0 for weight in weights)
    require(holds, "weights", "be four numbers above 0, for x, y, width and height", tuple(weights))
    return like.new_tensor([float(weight) for weight in weights])


def _centres(boxes: Tensor) -> Tensor:
    return boxes[..., :2] + 0.5 * (boxes[..., 2:] - boxes[..., :2])


def _cell_sides(size: tuple[int, int], grid: tuple[int, int]) -> tuple[float, float]:
    require(min(grid) > 0, "grid", "be above 0", grid)
    return size[1] / grid[1], size[0] / grid[0]  # across, down


def _corners(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    return torch.stack((cells % grid[1], cells // grid[1]), dim=-1)


def _within_cells(boxes: Tensor, cells: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    return _centres(boxes) / boxes.new_tensor(_cell_sides(size, grid)) - _corners(cells, grid)


def _around_cells(within: Tensor, half: Tensor, cells: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    centres = (within + _corners(cells, grid)) * within.new_tensor(_cell_sides(size, grid))
    return torch.cat((centres - half, centres + half), dim=-1)
