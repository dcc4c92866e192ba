"""Pictures as arrays, in the one form that everything which compares colours needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from delineate.checks import require


def pixel_array(image: Any) -> UInt8[np.ndarray, "H W C"]:
    """The pixels of a picture, 0 to 255, with an axis for the channels.

    Args:
        image: an array ``(H, W, C)`` or ``(H, W)`` of uint8, or a PIL image.

    Raises:
        ArgumentError: on other numbers: colours of 0 to 1 would all look alike to what expects 0 to 255.

    Example:
        >>> pixel_array(np.zeros((2, 3), np.uint8)).shape
        (2, 3, 1)
    """
    pixels = np.asarray(image)
    require(
        pixels.dtype == np.uint8 and pixels.ndim in (2, 3),
        "image",
        "be uint8 pixels of 0 to 255, (H, W, C) or (H, W)",
        f"{pixels.dtype} of shape {pixels.shape}",
        "Scale 0 to 1 by 255 and convert: (image * 255).round().astype(np.uint8).",
    )
    return pixels[..., None] if pixels.ndim == 2 else pixels


def check_pixels(images: Tensor) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless a batch of pictures holds pixels of 0 to 255."""
    require(
        not images.is_floating_point() and images.ndim == 4,
        "images",
        "be uint8 pixels of 0 to 255, (B, C, H, W)",
        f"{str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}",
        "Pass them as they were read, before the network's normalisation.",
    )
