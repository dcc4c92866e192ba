"""Whether boxes can be what they are read as: mistakes that break no format, and would only show as low figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from delineate.errors import DataError

_FEWEST = 10  # boxes: fewer may really be that small
_FARTHEST = 1.5  # a relative coordinate of a box that leaves its image
_SMALLEST = 4  # pixels: in smaller images boxes of a pixel are to be expected


def require_pixels(boxes: Float64[np.ndarray, "N 4"], sizes: Int64[np.ndarray, "N 2"], path: str | Path) -> None:
    """DataError where all of at least ten boxes are as relative ones, fractions of their images.

    Args:
        boxes: x, y, width, height, meant to be pixels.
        sizes: (height, width) of each box's image; zeros where it is not known, and then the box is no evidence.
        path: the file or folder, for the error's text.
    """
    judged = (sizes > _SMALLEST).all(axis=1)
    count = int(judged.sum())
    if count < _FEWEST or not 0 < np.abs(boxes).max() <= _FARTHEST:
        return
    raise DataError(
        f"boxes must be pixels; all {len(boxes)} lie within 0..1.5, as relative ones do, in {path}. Multiply them by "
        "the widths and heights of their images, or say that they are relative where the format has a choice."
    )
