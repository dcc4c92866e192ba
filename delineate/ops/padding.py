"""Padding to a size a network can halve, and cropping back. Sizes stay symbolic, so that both export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional as F

from delineate.checks import require


def pad_to_multiple(
    images: Shaped[Tensor, "B C H W"], multiple: int, *, mode: str = "replicate"
) -> Shaped[Tensor, "B C PH PW"]:
    """The images, made larger at the bottom and the right until both sides are multiples of ``multiple``.

    Nothing moves: pixel (y, x) stays at (y, x), so that :func:`crop_to_size` undoes it.

    Args:
        images: of any size from 1 x 1.
        multiple: of pixels; at least 1.
        mode: "replicate" continues the border pixels, "constant" puts zeros.

    Returns:
        Fewer than ``multiple`` rows and columns more; equal to ``images`` where the size fits already.

    Raises:
        ArgumentError: when ``multiple`` is below 1.

    Example:
        >>> import torch
        >>> tuple(pad_to_multiple(torch.zeros(1, 3, 33, 64), 32).shape)
        (1, 3, 64, 64)
    """
    require(multiple >= 1, "multiple", "be at least 1", multiple)
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple), mode=mode)


def crop_to_size(
    images: Shaped[Tensor, "B C H W"], size: torch.Size | Sequence[int], *, offset: Sequence[int] = (0, 0)
) -> Shaped[Tensor, "B C h w"]:
    """The ``size`` pixels of the images that start at ``offset``: a view, not a copy.

    Args:
        images: at least ``offset + size`` large.
        size: height and width to keep.
        offset: row and column of the first pixel kept.

    Example:
        >>> import torch
        >>> crop_to_size(torch.arange(6.0).view(1, 1, 2, 3), (1, 2), offset=(1, 1)).flatten().tolist()
        [4.0, 5.0]
    """
    # not a slice: its size would be a minimum, and an exported graph could not tell that it is the input's
    return images.narrow(-2, offset[0], size[0]).narrow(-1, offset[1], size[1])
