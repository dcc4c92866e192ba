"""Checkerboards: where upsampling layers make them, and how much of a real output they are."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from delineate.checks import require


def overlap_map(kernel_size: int, stride: int, *, size: int = 8) -> Float[Tensor, "H W"]:
    """How many weights of a transposed convolution's kernel reach each pixel of its output.

    Where ``kernel_size`` is a multiple of ``stride``, all pixels away from the border get the same number. Where it is
    not, the numbers repeat every ``stride`` pixels: equal weights on an even input draw a checkerboard, which training
    has to unlearn.

    Source: Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.

    Args:
        kernel_size: of the transposed convolution, in output pixels.
        stride: how many times larger its output is.
        size: height and width of its input.

    Returns:
        ``(size - 1) * stride + kernel_size`` pixels in each direction, without padding.

    Raises:
        ArgumentError: when an argument is below 1.

    Example:
        >>> overlap_map(3, 2)[4:6, 4:8].tolist(), overlap_map(4, 2)[4:6, 4:8].tolist()
        ([[4.0, 2.0, 4.0, 2.0], [2.0, 1.0, 2.0, 1.0]], [[4.0, 4.0, 4.0, 4.0], [4.0, 4.0, 4.0, 4.0]])
    """
    _require_whole(kernel_size=kernel_size, stride=stride, size=size)
    weights = torch.ones(1, 1, kernel_size, kernel_size)
    return F.conv_transpose2d(torch.ones(1, 1, size, size), weights, stride=stride)[0, 0]


def resize_overlap_map(kernel_size: int, scale: int, *, size: int = 8) -> Float[Tensor, "H W"]:
    """How many weights reach each pixel when the input is enlarged first, and convolved then.

    All pixels away from the border get ``kernel_size ** 2``, whatever the kernel and the scale.

    Source: Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.

    Args:
        kernel_size: of the convolution, which is padded as if to keep the size.
        scale: how many times larger the output is; the input's values are repeated.
        size: height and width of the input.

    Returns:
        ``size * scale`` pixels in each direction, one less with an even kernel.

    Raises:
        ArgumentError: when an argument is below 1.

    Example:
        >>> resize_overlap_map(3, 2, size=2).tolist()
        [[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]
    """
    _require_whole(kernel_size=kernel_size, scale=scale, size=size)
    enlarged = F.interpolate(torch.ones(1, 1, size, size), scale_factor=float(scale), mode="nearest")
    weights = torch.ones(1, 1, kernel_size, kernel_size)
    return F.conv2d(enlarged, weights, padding=(kernel_size - 1) // 2)[0, 0]


def checkerboard_energy(
    output: Shaped[Tensor, "*planes H W"] | Shaped[np.ndarray, "*planes H W"], *, period: int = 2
) -> Float[Tensor, "*planes"]:
    """The share of an output's fine structure that repeats every ``period`` pixels, of each plane.

    The output minus its smooth part is the fine structure. The smooth part is the mean over ``period`` x ``period``
    pixels, taken twice, so that its window is centred: a constant and a ramp are smooth altogether, and a pattern that
    repeats every ``period`` pixels not at all. What the position modulo ``period``, row and column, explains of the
    fine structure's variance is returned: the variance between the ``period ** 2`` means over pixels of equal
    position, divided by the variance of all pixels. The ``period - 1`` border pixels, which have no smooth part, and
    what is left over of the last period do not count.

    Whole outputs are compared, not places: a checkerboard whose black and white change places halfway cancels. Noise
    has about ``(period ** 2 - 1) / pixels``.

    Source: the periodicity of Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016.
    Differs: they show pictures; the measure is ours.

    Args:
        output: a model's logits, probabilities or image; any dimensions before height and width. Each side has at least
            ``4 * period - 2`` pixels, which leave two periods.
        period: 2 for the last doubling of the resolution, 4 for the one before, and so on.

    Returns:
        0 to 1: 1 for what repeats every ``period`` pixels, 0 for a plane without fine structure. It does not change
        when the output is scaled, or a constant or a ramp added.

    Raises:
        ArgumentError: when ``period`` is below 2, or the output too small for it.

    Example:
        >>> rows, columns = torch.arange(8)[:, None], torch.arange(8)
        >>> ramp = 0.5 * rows + columns
        >>> checkerboard_energy(torch.stack([ramp, ramp + (rows + columns) % 2])).tolist()
        [0.0, 1.0]
    """
    require(period >= 2, "period", "be a whole number of at least 2", period)
    planes = torch.as_tensor(output)
    least = 4 * period - 2
    require(
        planes.ndim >= 2 and min(planes.shape[-2:]) >= least,
        "output",
        f"have at least {least} x {least} pixels for a period of {period}",
        f"shape {tuple(planes.shape)}",
    )
    rounding = torch.finfo(planes.dtype).eps if planes.is_floating_point() else 0.0
    planes = planes.detach().double()
    leading, (height, width) = planes.shape[:-2], planes.shape[-2:]
    planes = planes.reshape(-1, 1, height, width)
    smooth = F.avg_pool2d(F.avg_pool2d(planes, period, stride=1), period, stride=1)
    fine = planes[:, :, period - 1 : 1 - period, period - 1 : 1 - period] - smooth
    rows, columns = fine.shape[2] // period, fine.shape[3] // period
    fine = fine[:, 0, : rows * period, : columns * period].reshape(-1, rows, period, columns, period)
    fine = fine - fine.mean((1, 2, 3, 4), keepdim=True)
    explained = fine.mean((1, 3)).square().mean((1, 2))
    total = fine.square().mean((1, 2, 3, 4))
    # what is left of a ramp is rounding: of its own numbers, and of the means
    size = planes.abs().amax((1, 2, 3))
    nothing = total <= (8 * max(rounding, torch.finfo(torch.float64).eps) * size).square()
    # a NaN is not nothing: it stays one
    return torch.where(nothing, 0.0, explained / total).reshape(leading)


def _require_whole(**arguments: int) -> None:
    for name, value in arguments.items():
        require(value >= 1, name, "be a whole number of at least 1", value)
