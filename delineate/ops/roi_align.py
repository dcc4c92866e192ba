"""Bilinear pooling of boxes into grids of one size, from one map or a feature pyramid.

On the CPU a kernel works on channels-last maps; on other devices, and while a model is compiled or exported,
torchvision's operator does, which gives the same values. Any number of derivatives exist on the CPU, one elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.kernels import roi_align as kernels
from delineate.ops.torchvision_ops import torchvision_operator

_LEVEL_MARGIN = 1e-6  # a box of exactly the canonical size must not fall a level for a rounding error


def roi_align(
    features: Float[Tensor, "B C H W"],
    boxes: Float[Tensor, "R 4"],
    images: Int64[Tensor, " R"],
    *,
    output_size: tuple[int, int] | int,
    spatial_scale: float | int,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Float[Tensor, "R C PH PW"]:
    """The features of every box on a grid of bins, each the mean of bilinear samples; nothing is rounded.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3 and figure 3.
    Differs: equal to ``torchvision.ops.roi_align``, whose boxes carry the image's number in a first column and whose
        ``aligned`` is off by default. Samples up to a pixel outside the map take the value at its edge, others are 0.

    Args:
        features: half precision is computed in float32. On the CPU they are copied unless channels are last in memory.
        boxes: xyxy in image pixels; no gradient reaches them. A box with a side of 0 or less gives 0 where samples are
            adaptive and ``aligned``; so does one that is not finite.
        images: which image of the batch each box belongs to.
        output_size: rows and columns of bins, or one number for both.
        spatial_scale: pixels of the map per image pixel, 1 / stride.
        sampling_ratio: samples of a bin along each side; 0 takes as many as a bin has pixels, rounded up (torchvision
            writes 0 or -1), which is what the published models of Detectron do.
        aligned: the value of a pixel stands in its middle, so that a box of whole pixels has the mean of these pixels.
            Without it, as in the first release of Detectron and the weights that torchvision publishes, boxes lie half
            a pixel of the map too far to the lower right and are at least one pixel of the map wide and high.

    Returns:
        Channels last in memory: ready for the convolutions of a mask head, a copy away from a fully connected one.

    Raises:
        ArgumentError: when boxes, images, a size or the ratio are not as above.

    Example:
        >>> corners = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
        >>> boxes = torch.tensor([[0.0, 0.0, 16.0, 16.0], [8.0, 0.0, 16.0, 8.0]])
        >>> roi_align(corners, boxes, torch.tensor([0, 0]), output_size=1, spatial_scale=1 / 8).flatten()
        tensor([1.5000, 1.0000])
    """
    working, boxes = checked_regions(features, boxes, images, spatial_scale)
    size = _grid(output_size, sampling_ratio)
    if not has_kernel(features):
        return _by_torchvision(working, boxes, images, size, spatial_scale, sampling_ratio, aligned).to(features.dtype)
    only = torch.zeros_like(images)
    regions = _regions(boxes, images, only, (float(spatial_scale),), size, sampling_ratio, aligned)
    pooled: Tensor = _Pool.apply(regions, working)
    return pooled.to(features.dtype)


def pyramid_levels(
    boxes: Float[Tensor, "R 4"],
    *,
    canonical_size: float | int = 224,
    canonical_level: int = 4,
    lowest: int,
    highest: int,
) -> Int64[Tensor, " R"]:
    """The level k of a feature pyramid, of stride 2 ** k, whose pixels suit the size of each box.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, eq. 1.
    Differs: as in Detectron and torchvision 1e-6 is added before rounding down, and levels that do not exist become the
        nearest that does. torchvision's ``LevelMapper`` counts from the lowest level.

    Args:
        boxes: xyxy in image pixels.
        canonical_size: the side of a square that belongs to the canonical level: ImageNet's crop.
        canonical_level: the last stage but one of a ResNet, which Faster R-CNN pools from.
        lowest: level, 2 in the paper.
        highest: level, 5 in the paper.

    Returns:
        From ``lowest`` to ``highest``; boxes without an area belong to the lowest.

    Raises:
        ArgumentError: when ``highest`` is below ``lowest``, or ``canonical_size`` is not positive.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 224, 224], [0, 0, 223, 223], [0, 0, 900, 900], [0, 0, 9, 9]])
        >>> pyramid_levels(boxes, lowest=2, highest=5).tolist()
        [4, 3, 5, 2]
    """
    require(highest >= lowest, "highest", f"be at least the lowest level, {lowest}", highest)
    require(canonical_size > 0, "canonical_size", "be positive", canonical_size)
    sides = (boxes[:, 2:] - boxes[:, :2]).detach().clamp(min=0)
    if boxes.dtype not in (torch.float32, torch.float64):
        sides = sides.float()
    level = canonical_level + torch.log2((sides[:, 0] * sides[:, 1]).sqrt() / canonical_size)
    return torch.floor(level + _LEVEL_MARGIN).nan_to_num(lowest).clamp(lowest, highest).long()


def pyramid_roi_align(
    features: Sequence[Tensor],
    boxes: Float[Tensor, "R 4"],
    images: Int64[Tensor, " R"],
    *,
    strides: Sequence[int],
    output_size: tuple[int, int] | int,
    sampling_ratio: int = 0,
    aligned: bool = True,
    canonical_size: float | int = 224,
    canonical_level: int = 4,
) -> Float[Tensor, "R C PH PW"]:
    """:func:`roi_align` of every box from that map of a feature pyramid which :func:`pyramid_levels` names.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, section 4.2.
    Differs: equal to ``torchvision.ops.MultiScaleRoIAlign`` with ``aligned=False``; the strides are told, not guessed
        from the size of the images.

    Args:
        features: maps (B, C, H, W) from the finest; of one type, number of images and number of channels.
        boxes: xyxy in image pixels.
        images: which image of the batch each box belongs to.
        strides: of the maps, powers of 2 each twice the one before.
        output_size: rows and columns of bins, or one number for both.
        sampling_ratio: see :func:`roi_align`; torchvision's published models have 2.
        aligned: see :func:`roi_align`; torchvision's published models are without.
        canonical_size: see :func:`pyramid_levels`.
        canonical_level: see :func:`pyramid_levels`.

    Returns:
        In the order of the boxes; channels last in memory.

    Raises:
        ArgumentError: when maps and strides do not fit each other, or an argument is not as :func:`roi_align` has it.

    Example:
        >>> maps = [torch.full((1, 1, 64 // s, 64 // s), float(s)) for s in (4, 8)]
        >>> boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 10.0, 10.0]])
        >>> pyramid_roi_align(
        ...     maps, boxes, torch.tensor([0, 0]), strides=(4, 8), output_size=1, canonical_size=32, canonical_level=3
        ... ).flatten()
        tensor([8., 4.])
    """
    _check_pyramid(features, strides)
    lowest = int(math.log2(strides[0]))
    checked = [
        checked_regions(level, boxes, images, 1 / stride) for level, stride in zip(features, strides, strict=True)
    ]
    maps, boxes = [level for level, _ in checked], checked[0][1]
    size = _grid(output_size, sampling_ratio)
    levels = pyramid_levels(
        boxes,
        canonical_size=canonical_size,
        canonical_level=canonical_level,
        lowest=lowest,
        highest=lowest + len(maps) - 1,
    )
    if has_kernel(maps[0]):
        scales = tuple(1 / stride for stride in strides)
        regions = _regions(boxes, images, levels - lowest, scales, size, sampling_ratio, aligned)
        pooled: Tensor = _Pool.apply(regions, *maps)
        return pooled.to(features[0].dtype)
    pooled = maps[0].new_zeros(boxes.shape[0], maps[0].shape[1], *size)
    for place, (level, stride) in enumerate(zip(maps, strides, strict=True)):
        own = torch.where(levels == lowest + place)[0]
        part = _by_torchvision(level, boxes[own], images[own], size, 1 / stride, sampling_ratio, aligned)
        pooled = pooled.index_copy(0, own, part)
    return pooled.to(features[0].dtype)


def _check_pyramid(features: Sequence[Tensor], strides: Sequence[int]) -> None:
    require(
        len(features) == len(strides) > 0,
        "strides",
        f"have one number for each of the {len(features)} maps",
        tuple(strides),
    )
    fit = all(stride > 0 and stride & (stride - 1) == 0 for stride in strides) and all(
        coarse == 2 * fine for fine, coarse in pairwise(strides)
    )
    require(fit, "strides", "be powers of 2, each twice the one before", tuple(strides), "Leave out other maps.")
    first = features[0]  # compared one by one: sizes that an export leaves open cannot be put in a set
    require(
        all(
            level.shape[:2] == first.shape[:2] and level.dtype == first.dtype and level.device == first.device
            for level in features
        ),
        "features",
        "have the same number of images and channels, type and device on every level",
        [(tuple(level.shape), level.dtype) for level in features],
    )


def has_kernel(features: Tensor) -> bool:
    """Whether the kernels of this house can read the features: in host memory, and values rather than a graph."""
    return features.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def pair(output_size: tuple[int, int] | int) -> tuple[int, int]:
    """Rows and columns of bins, checked."""
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    require(rows >= 1 and columns >= 1, "output_size", "be at least 1 x 1 bins", output_size)
    return rows, columns


def checked_regions(
    features: Tensor, boxes: Tensor, images: Tensor, spatial_scale: float | int
) -> tuple[Tensor, Tensor]:
    """Features and boxes in the type that bins are computed in, float32 at least, once all is as it must be.

    Args:
        features: (B, C, H, W), at least one pixel.
        boxes: (R, 4).
        images: (R,).
        spatial_scale: positive.

    Raises:
        ArgumentError: when something is not.
    """
    shape = tuple(boxes.shape)
    advice = "If column 0 is the image, pass boxes[:, 1:] and images=boxes[:, 0].long()."
    require(
        len(shape) == 2 and shape[1] == 4,
        "boxes",
        "be (R, 4) xyxy pixels",
        f"shape {shape}",
        advice if shape[1:] == (5,) else "",
    )
    require(
        tuple(images.shape) == shape[:1], "images", "have one number for each box", f"{tuple(images.shape)} for {shape}"
    )
    require(features.shape[2] > 0 and features.shape[3] > 0, "features", "have a pixel", tuple(features.shape))
    require(
        boxes.device == features.device == images.device,
        "boxes and images",
        f"be where the features are, on {features.device}",
        f"{boxes.device} and {images.device}",
    )
    require(
        math.isfinite(spatial_scale) and spatial_scale > 0,
        "spatial_scale",
        "be positive: 1 / stride of the map",
        spatial_scale,
    )
    if has_kernel(features) and len(boxes):  # elsewhere a look at the values would wait for the device
        low, high = (int(bound) for bound in torch.aminmax(images))
        batch = features.shape[0]
        require(low >= 0 and high < batch, "images", f"be from 0 to {batch - 1}", f"{low} to {high}")
    kind = torch.float64 if features.dtype == torch.float64 else torch.float32
    return features.to(kind), boxes.detach().to(kind)


def with_images(boxes: Tensor, images: Tensor) -> Tensor:
    """``(R, 5)``: the image's number, then the box, as torchvision's operators have it."""
    return torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)


def _grid(output_size: tuple[int, int] | int, sampling_ratio: int) -> tuple[int, int]:
    require(
        sampling_ratio >= 0,
        "sampling_ratio",
        "be at least 0",
        sampling_ratio,
        "For as many samples as a bin has pixels, pass 0.",
    )
    return pair(output_size)


def _by_torchvision(
    features: Tensor,
    boxes: Tensor,
    images: Tensor,
    size: tuple[int, int],
    scale: float | int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    operator = torchvision_operator("roi_align")
    pooled: Tensor = operator(features, with_images(boxes, images), size, scale, sampling_ratio, aligned)
    return pooled


def _regions(
    boxes: Tensor,
    images: Tensor,
    maps: Tensor,
    scales: Sequence[float],
    size: tuple[int, int],
    sampling_ratio: int,
    aligned: bool,
) -> kernels.Regions:
    return kernels.Regions(boxes.numpy(), images.numpy(), maps.numpy(), scales, size, sampling_ratio, aligned)


class _Pool(torch.autograd.Function):
    """Maps to bins. Its gradient is its transpose, whose gradient it is in turn."""

    @staticmethod
    def forward(ctx: Any, regions: kernels.Regions, *maps: Tensor) -> Tensor:
        ctx.regions = regions
        ctx.sizes = [(level.shape[0], *level.shape[2:]) for level in maps]
        pooled = kernels.roi_align([level.detach().movedim(1, 3).numpy() for level in maps], regions)
        return torch.from_numpy(pooled).movedim(3, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Spread.apply(gradients[0], ctx.regions, ctx.sizes)


class _Spread(torch.autograd.Function):
    """Bins to maps, the transpose of ``_Pool``."""

    @staticmethod
    def forward(
        ctx: Any, pooled: Tensor, regions: kernels.Regions, sizes: list[tuple[int, int, int]]
    ) -> tuple[Tensor, ...]:
        ctx.regions = regions
        maps = kernels.roi_align_adjoint(pooled.detach().movedim(1, 3).numpy(), regions, sizes)
        return tuple(torch.from_numpy(level).movedim(3, 1) for level in maps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Pool.apply(ctx.regions, *gradients), None, None
