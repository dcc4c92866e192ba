"""Spatial pyramid pooling: maxima over coarser and finer grids, one vector of fixed length for a region of any size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from delineate.checks import require
from delineate.ops.roi_align import checked_regions
from delineate.ops.roi_pool import roi_pool


def spatial_pyramid_pooling(
    features: Float[Tensor, "B C H W"],
    boxes: Float[Tensor, "R 4"] | None = None,
    images: Int64[Tensor, " R"] | None = None,
    *,
    levels: Sequence[int] = (1, 2, 3, 6),
    spatial_scale: float | int = 1.0,
) -> Float[Tensor, "R D"]:
    """The largest features of n x n bins for every n among ``levels``, in one vector for each window.

    Bin i of n covers the pixels floor(i L / n) to ceil((i + 1) L / n) - 1 of a window of L.

    Source: He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual Recognition", ECCV 2014,
        section 2.2 and figure 3; windows by the appendix of its version in PAMI 2015, see :func:`response_windows`.
    Differs: the released code lists the finest level first, and takes 0 for the maximum of what is below (its features
        come out of a ReLU). The bins of a box are rounded as :func:`~delineate.ops.roi_pool.roi_pool` rounds them.

    Args:
        features: half precision is computed in float32.
        boxes: xyxy in image pixels; without them the whole map of each image is the window.
        images: which image of the batch each box belongs to; with boxes only.
        levels: bins along each side: 1, 2, 3 and 6 in detection, in which case 50 bins x 256 channels = 12,800 numbers.
        spatial_scale: pixels of the map per image pixel; counts with boxes only.

    Returns:
        ``C * sum(n * n)`` numbers a window, level by level, in each a channel's n x n bins row by row.

    Raises:
        ArgumentError: when levels are none or below 1, boxes come without images, or either are not as above.

    Example:
        >>> line = torch.tensor([[[[4.0, 9.0, 7.0, 1.0]]]])
        >>> spatial_pyramid_pooling(line, levels=(1, 2)).tolist()
        [[9.0, 9.0, 7.0, 9.0, 7.0]]
    """
    require(len(levels) > 0 and min(levels) >= 1, "levels", "be numbers of bins along a side, from 1", tuple(levels))
    if boxes is None or images is None:
        require(
            boxes is None and images is None,
            "images",
            "be given with boxes, and only then",
            "boxes alone" if images is None else "images alone",
            "For the boxes of a single image pass zeros.",
        )
        vectors = [functional.adaptive_max_pool2d(features, level).flatten(1) for level in levels]
        return torch.cat(vectors, dim=1)
    _, boxes = checked_regions(features, boxes, images, spatial_scale)
    height, width = features.shape[2:]
    windows = response_windows(boxes, size=(height, width), spatial_scale=spatial_scale)
    pooled = [roi_pool(features, windows, images, output_size=level, spatial_scale=1) for level in levels]
    return torch.cat([bins.flatten(1) for bins in pooled], dim=1)


def response_windows(
    boxes: Float[Tensor, "R 4"], *, size: tuple[int, int], spatial_scale: float | int
) -> Float[Tensor, "R 4"]:
    """The first and last column and row of the map that belong to each box.

    The pixel x' of a map of stride S looks at the image around S x'. The paper projects the left and upper edge of a
    window to floor(x / S) + 1 and the right and lower edge to ceil(x / S) - 1: the pixels that look at a place strictly
    inside the window. A window from 0 therefore begins at pixel 1.

    Source: He et al., as :func:`spatial_pyramid_pooling`, appendix A of PAMI 2015.
    Differs: where a window is too small to have a pixel, one remains: the middle of the two crossed bounds rounded
        down, as in the released code; bounds outside the map move to its edge.

    Args:
        boxes: xyxy in image pixels.
        size: (height, width) of the map.
        spatial_scale: 1 / S.

    Returns:
        Whole numbers, both ends inclusive, of the boxes' type: left, top, right, bottom.

    Example:
        >>> boxes = torch.tensor([[0.0, 20.0, 224.0, 100.0], [33.0, 33.0, 40.0, 40.0]])
        >>> response_windows(boxes, size=(14, 14), spatial_scale=1 / 16).tolist()
        [[1.0, 2.0, 13.0, 6.0], [2.0, 2.0, 2.0, 2.0]]
    """
    scaled = boxes * spatial_scale
    first, last = scaled[:, :2].floor() + 1, scaled[:, 2:].ceil() - 1
    middle = ((first + last) / 2).floor()
    crossed = first > last
    height, width = size
    largest = boxes.new_tensor([width - 1, height - 1])
    bounds = [torch.where(crossed, middle, bound) for bound in (first, last)]
    return torch.cat([torch.minimum(bound.clamp(min=0), largest) for bound in bounds], dim=1)
