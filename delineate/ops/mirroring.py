"""Continuing an image beyond its borders as in a mirror, however small the image."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

Length = int | torch.SymInt  # the second while a model is exported with dynamic size


def mirrored_positions(
    length: Length, before: Length, after: Length, *, device: torch.device | None = None
) -> Int64[Tensor, " L"]:
    """Which of ``length`` pixels a mirror shows at each of the positions ``-before .. length + after - 1``.

    Args:
        length: number of pixels, at least 1.
        before: positions in front of the first pixel.
        after: positions behind the last.
        device: of the result.

    Example:
        >>> mirrored_positions(3, 3, 4).tolist()
        [1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    """
    # 0 1 2 1 | 0 1 2 1 | ...; "1 // length" makes the period of a single pixel 1, and stays symbolic for export
    period: Any = 2 * length - 2 + 1 // length
    position = torch.arange(before + length + after, device=device) - before
    position = position - position // period * period  # a remainder with a symbolic divisor has no ONNX form
    return torch.minimum(position, period - position)


def mirror_pad(
    images: Shaped[Tensor, "B C H W"], padding: tuple[Length, Length, Length, Length]
) -> Shaped[Tensor, "B C PH PW"]:
    """The images continued beyond their borders by mirroring, again and again where they are smaller than the border.

    Source: Ronneberger et al., "U-Net", MICCAI 2015, figure 2.
    Differs: ``torch.nn.functional.pad(mode="reflect")`` gives the same values, but for narrower borders than the image.

    Args:
        images: at least 1 x 1 pixels.
        padding: pixels to add (left, right, top, bottom), in the order of ``torch.nn.functional.pad``.

    Example:
        >>> mirror_pad(torch.tensor([[[[1, 2, 3]]]]), (2, 4, 0, 1)).tolist()
        [[[[3, 2, 1, 2, 3, 2, 1, 2, 3], [3, 2, 1, 2, 3, 2, 1, 2, 3]]]]
    """
    left, right, top, bottom = padding
    rows = mirrored_positions(images.shape[2], top, bottom, device=images.device)
    columns = mirrored_positions(images.shape[3], left, right, device=images.device)
    return images.index_select(2, rows).index_select(3, columns)
