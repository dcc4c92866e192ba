"""Anchors: the boxes that a detector lays over an image before it looks, one set around each place of a feature map.

All are xyxy pixels with continuous edges, in the order row, column, anchor: the order in which a convolution's channels
are read when they are moved to the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from delineate.checks import require

Number = int | float

YOLOV2_VOC_PRIORS = ((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053), (11.2364, 10.0071))
"""Width and height of YOLOv2's five priors on VOC, in cells of 32 pixels (the released configuration)."""

YOLO9000_PRIORS = ((0.77871, 1.14074), (3.00525, 4.31277), (9.22725, 9.61974))
"""Width and height of YOLO9000's three priors, in cells of 32 pixels (the released configuration)."""


def _check_positive(name: str, values: Sequence[Number]) -> None:
    holds = len(values) > 0 and all(value > 0 for value in values)
    require(holds, name, "be numbers above 0", list(values))


def rpn_base_anchors(
    *, stride: int = 16, scales: Sequence[Number] = (8, 16, 32), aspect_ratios: Sequence[Number] = (0.5, 1, 2)
) -> Float[Tensor, "A 4"]:
    """Faster R-CNN's anchors of the first place of the map: every shape at every scale, shapes outermost.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1; py-faster-rcnn, ``generate_anchors``, with its rounding:
    the shape of area ``stride**2`` is rounded to whole pixels (halves to even) before it is scaled.
    Differs: the edges are continuous. The release counts the right and lower pixel as part of a box, and its page
    prints MATLAB's corners, which count from 1: those are these plus (1, 1, 0, 0).

    Args:
        stride: of the map; the anchors lie around the centre of its first cell.
        scales: sides in strides.
        aspect_ratios: height over width.

    Raises:
        ArgumentError: when a number is not above 0.

    Example:
        >>> (rpn_base_anchors() + torch.tensor([1, 1, 0, 0]))[:2].tolist()
        [[-83.0, -39.0, 100.0, 56.0], [-175.0, -87.0, 192.0, 104.0]]
    """
    require(stride > 0, "stride", "be above 0", stride)
    _check_positive("scales", scales)
    _check_positive("aspect_ratios", aspect_ratios)
    boxes = []
    for ratio in aspect_ratios:
        width = round(math.sqrt(stride**2 / ratio))
        height = round(width * ratio)
        for scale in scales:
            half_width, half_height = width * scale / 2, height * scale / 2
            boxes.append(
                [stride / 2 - half_width, stride / 2 - half_height, stride / 2 + half_width, stride / 2 + half_height]
            )
    return torch.tensor(boxes, dtype=torch.float32)


def base_anchors(
    sizes: Sequence[Number], aspect_ratios: Sequence[Number] = (0.5, 1.0, 2.0), *, whole: bool = True
) -> Float[Tensor, "A 4"]:
    """Anchors around (0, 0): every shape in every size, shapes outermost.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 4.1; RetinaNet's three sizes
    an octave: Lin et al., ICCV 2017, section 4. Numbers as torchvision's ``AnchorGenerator``.
    Differs: nothing; the papers do not speak of rounding, torchvision rounds.

    Args:
        sizes: square roots of the areas, in pixels.
        aspect_ratios: height over width.
        whole: whether corners are rounded to whole pixels, halves to even, as torchvision does.

    Raises:
        ArgumentError: when a number is not above 0.

    Example:
        >>> base_anchors([32], [0.5, 1, 2]).tolist()
        [[-23.0, -11.0, 23.0, 11.0], [-16.0, -16.0, 16.0, 16.0], [-11.0, -23.0, 11.0, 23.0]]
    """
    _check_positive("sizes", sizes)
    _check_positive("aspect_ratios", aspect_ratios)
    # in float32 step by step, so that a corner near a half falls on the same side as torchvision's
    tall = torch.tensor([float(ratio) for ratio in aspect_ratios]).sqrt()[:, None]
    side = torch.tensor([float(size) for size in sizes])[None]
    width, height = (1 / tall * side).flatten(), (tall * side).flatten()
    boxes = torch.stack((-width, -height, width, height), dim=1) / 2
    return boxes.round() + 0 if whole else boxes  # + 0: no negative zeros


def grid_anchors(
    base: Float[Tensor, "A 4"],
    *,
    size: tuple[int, int],
    stride: Number | tuple[Number, Number] | None = None,
    over: tuple[int, int] | None = None,
) -> Float[Tensor, "N 4"]:
    """``base`` moved to every place of a map.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1.
    Differs: nothing.

    Args:
        base: the anchors of the first place.
        size: (height, width) of the map.
        stride: pixels from one place to the next, or (down, across).
        over: instead of a stride, (height, width) of the image: the stride is then the whole number of pixels that each
            place gets, down and across, as in torchvision; where the map does not divide the image, that is less than
            the network's own stride.

    Returns:
        (height * width * A, 4), in ``base``'s type, float32 for half precision (in which corners beyond 256 would lie
        on a raster of several pixels), and on its device.

    Raises:
        ArgumentError: when neither or both of ``stride`` and ``over`` are given, or a size is not above 0.

    Example:
        >>> grid_anchors(torch.tensor([[-4., -4., 4., 4.]]), size=(1, 3), stride=16)[:, 0].tolist()
        [-4.0, 12.0, 28.0]
    """
    require(
        (stride is None) != (over is None),
        "stride",
        "be given, or else over",
        "both" if over else "neither",
        "Pass the stride, or over=(height, width) of the image.",
    )
    require(min(size) > 0, "size", "be above 0", size)
    if over is not None:
        require(over[0] >= size[0] and over[1] >= size[1], "over", f"be at least the map's size {size}", over)
        down, across = over[0] // size[0], over[1] // size[1]
    else:
        down, across = stride if isinstance(stride, tuple) else (stride, stride)  # type: ignore[assignment]
        require(min(down, across) > 0, "stride", "be above 0", stride)
    base = base if base.dtype == torch.float64 else base.float()
    rows = torch.arange(size[0], device=base.device, dtype=base.dtype) * down
    columns = torch.arange(size[1], device=base.device, dtype=base.dtype) * across
    moves = torch.stack((columns.expand(size), rows[:, None].expand(size)), dim=-1).repeat(1, 1, 2)  # h w xyxy
    return (moves[:, :, None] + base).reshape(-1, 4)


def pyramid_anchors(
    bases: Sequence[Float[Tensor, "_ 4"]], sizes: Sequence[tuple[int, int]], *, over: tuple[int, int]
) -> list[Float[Tensor, "_ 4"]]:
    """The anchors of each level of a pyramid.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 4.1.
    Differs: nothing; strides as torchvision's ``AnchorGenerator``, see :func:`grid_anchors`.

    Args:
        bases: the anchors of each level's first place.
        sizes: (height, width) of each level's map.
        over: (height, width) of the image, padding included.

    Raises:
        ArgumentError: when there is not one base for each size.

    Example:
        >>> sizes = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
        >>> levels = pyramid_anchors([base_anchors([8 * 2**level]) for level in range(2, 7)], sizes, over=(800, 1344))
        >>> sum(map(len, levels))
        268569
    """
    require(len(bases) == len(sizes), "bases", f"be {len(sizes)}, one for each size", len(bases))
    return [grid_anchors(base, size=size, over=over) for base, size in zip(bases, sizes, strict=True)]


@dataclass(frozen=True)
class DefaultBoxes:
    """Shapes of SSD's default boxes at each of its maps.

    Args:
        scales: side of the small square as a share of the image, one a map and one beyond: the large square's side is
            the geometric mean of a scale and the next.
        aspect_ratios: width over height of the longish boxes of each map; each stands for itself and its inverse.
        strides: pixels from one place to the next, one a map.
    """

    scales: tuple[float, ...]
    aspect_ratios: tuple[tuple[float, ...], ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        maps = len(self.strides)
        require(len(self.scales) == maps + 1, "scales", f"be {maps + 1}, one a map and one more", len(self.scales))
        require(len(self.aspect_ratios) == maps, "aspect_ratios", f"be {maps} lists, one a map", self.aspect_ratios)
        _check_positive("scales", self.scales)
        _check_positive("strides", self.strides)


_FEW, _MANY = (2.0,), (2.0, 3.0)
_RATIOS_300 = (_FEW, _MANY, _MANY, _MANY, _FEW, _FEW)
_RATIOS_512 = (_FEW, _MANY, _MANY, _MANY, _MANY, _FEW, _FEW)
_STRIDES_300 = (8, 16, 32, 64, 100, 300)
_STRIDES_512 = (8, 16, 32, 64, 128, 256, 512)

SSD300_VOC = DefaultBoxes((0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05), _RATIOS_300, _STRIDES_300)
"""The release's: between 0.2 and 0.9 it steps by whole percents, where the paper's formula gives SSD300_PAPER."""

SSD300_PAPER = DefaultBoxes((0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075), _RATIOS_300, _STRIDES_300)
"""Evenly from 0.2 to 0.9 over the maps behind the first, which has 0.1 (section 2.2, equation 4, and section 3.1)."""

SSD300_COCO = DefaultBoxes((0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), _RATIOS_300, _STRIDES_300)
"""The release's for COCO's smaller objects, and torchvision's."""

SSD512_VOC = DefaultBoxes((0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05), _RATIOS_512, _STRIDES_512)
"""The release's."""

SSD512_COCO = DefaultBoxes((0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06), _RATIOS_512, _STRIDES_512)
"""The release's for COCO's smaller objects."""


def ssd_default_boxes(
    shapes: DefaultBoxes, sizes: Sequence[tuple[int, int]], *, over: tuple[int, int], most: Number | None = None
) -> Float[Tensor, "A 4"]:
    """SSD's default boxes of all its maps: at each place two squares, then each ratio and its inverse.

    Source: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2; the release's ``PriorBox`` layer.
    Differs: nothing. torchvision also cuts sides to the image's (``most=1``), which the release does not.

    Args:
        shapes: scales, ratios and strides.
        sizes: (height, width) of each map.
        over: (height, width) of the image; in one that is not square the boxes are stretched with it.
        most: the longest side, as a share of the image's.

    Returns:
        xyxy pixels, float32; boxes at the border reach over it.

    Raises:
        ArgumentError: when ``sizes`` does not name one size for each map.

    Example:
        >>> sizes = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
        >>> len(ssd_default_boxes(SSD300_VOC, sizes, over=(300, 300)))
        8732
    """
    require(len(sizes) == len(shapes.strides), "sizes", f"be {len(shapes.strides)}, one a map", list(sizes))
    longest = math.inf if most is None else most
    maps = []
    for place, (size, stride) in enumerate(zip(sizes, shapes.strides, strict=True)):
        scale = shapes.scales[place]
        large = math.sqrt(scale * shapes.scales[place + 1])
        sides = [(scale, scale), (large, large)]
        for ratio in shapes.aspect_ratios[place]:
            long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            sides += [(long, short), (short, long)]
        half = torch.tensor(sides, dtype=torch.float64).clamp(max=longest) / 2 * torch.tensor([over[1], over[0]])
        base = torch.cat((-half, half), dim=1) + stride / 2
        maps.append(grid_anchors(base, size=size, stride=stride))
    return torch.cat(maps).float()


def anchors_inside(anchors: Float[Tensor, "A 4"], size: tuple[int, int], *, margin: Number = 0) -> Bool[Tensor, " A"]:
    """Which anchors lie wholly in the image: the only ones that Faster R-CNN trains its proposals with.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.3.
    Differs: nothing.

    Args:
        anchors: xyxy pixels.
        size: (height, width) of the image.
        margin: how many pixels an anchor may reach over the border.

    Example:
        >>> anchors_inside(torch.tensor([[0., 0., 4., 4.], [-1., 0., 3., 4.]]), (4, 4)).tolist()
        [True, False]
    """
    from_corner = (anchors[:, :2] >= -margin).all(dim=1)
    return from_corner & (anchors[:, 2] <= size[1] + margin) & (anchors[:, 3] <= size[0] + margin)
