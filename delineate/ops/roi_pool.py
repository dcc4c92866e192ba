"""Maxima over a grid of bins in each box, as Fast R-CNN pools its regions.

A kernel works on the CPU, torchvision's operator on other devices and while a model is compiled or exported.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from delineate.kernels import roi_pool as kernels
from delineate.ops.roi_align import checked_regions, has_kernel, pair, with_images
from delineate.ops.torchvision_ops import torchvision_operator


def roi_pool(
    features: Float[Tensor, "B C H W"],
    boxes: Float[Tensor, "R 4"],
    images: Int64[Tensor, " R"],
    *,
    output_size: tuple[int, int] | int,
    spatial_scale: float | int,
) -> Float[Tensor, "R C PH PW"]:
    """The largest feature in every bin of every box.

    Corners are rounded to pixels of the map, both of which belong to the box; bins are cut at whole pixels, rounded
    outwards, so that neighbours may share a row or a column. What lies outside the map takes no part.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2.1.
    Differs: equal to ``torchvision.ops.roi_pool``, whose boxes carry the image's number in a first column. As there and
        in the paper's code, bounds of bins are products of floating point: of certain lengths (57 in 7 bins in float32)
        the last bin reaches a pixel too far. Grids of 1, 2, 3, 4 or 6 bins are exact.

    Args:
        features: half precision is computed in float32. On the CPU they are copied unless channels are last in memory.
        boxes: xyxy in image pixels; no gradient reaches them.
        images: which image of the batch each box belongs to.
        output_size: rows and columns of bins, or one number for both; 7 in the paper.
        spatial_scale: pixels of the map per image pixel; 1/16 in the paper.

    Returns:
        0 in bins without a pixel; channels last in memory. The gradient goes to the largest pixel of each bin.

    Raises:
        ArgumentError: when boxes, images or a size are not as above.

    Example:
        >>> line = torch.tensor([[[[4.0, 9.0, 7.0]]]])
        >>> box = torch.tensor([[1.0, 0.0, 2.0, 0.0]])
        >>> roi_pool(line, box, torch.tensor([0]), output_size=(1, 2), spatial_scale=1)
        tensor([[[[9., 7.]]]])
    """
    size = pair(output_size)
    working, boxes = checked_regions(features, boxes, images, spatial_scale)
    if not has_kernel(features):
        rois = with_images(boxes, images)
        pooled: Tensor = torchvision_operator("roi_pool")(working, rois, size, spatial_scale)
    else:
        pooled = _Pool.apply(working, boxes, images, size, float(spatial_scale))
    return pooled.to(features.dtype)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, boxes: Tensor, images: Tensor, size: tuple[int, int], scale: float
    ) -> Tensor:
        arrays = (part.detach().numpy() for part in (features.movedim(1, 3), boxes, images))
        pooled, places = kernels.roi_pool(*arrays, output_size=size, spatial_scale=scale)
        batch, _, height, width = features.shape
        ctx.places, ctx.images, ctx.size = places, images.numpy(), (batch, height, width)
        return torch.from_numpy(pooled).movedim(3, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        values = gradients[0].movedim(1, 3).numpy()
        features = kernels.roi_pool_adjoint(values, ctx.places, ctx.images, ctx.size)
        return torch.from_numpy(features).movedim(3, 1), None, None, None, None
