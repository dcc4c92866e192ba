"""Colours from a screen's RGB to CIE L*a*b*, in which equal distances look about equally different.

The steps are those of the standards: IEC 61966-2-1 undoes the screen's gamma and gives the tristimulus values, CIE 15
takes their cube roots. A byte has 256 values, so the first step is a table.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen

# sRGB's primaries and its white point D65 as tristimulus values X, Y, Z (rows) of red, green and blue
XYZ_OF_RGB = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)


def linear_light() -> np.ndarray:
    """The (256,) float64 share of full light that each byte of an sRGB image stands for.

    Source: IEC 61966-2-1:1999, section 5.2.
    Differs: nothing.

    Example:
        >>> round(float(linear_light()[128]), 4)
        0.2159
    """
    share = np.arange(256) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


@njit(nogil=True, cache=True)
def _response(share):
    """The cube root, but a straight line of the same slope near black."""
    edge = 6.0 / 29.0
    if share > edge * edge * edge:
        return np.cbrt(share)
    return share / (3.0 * edge * edge) + 4.0 / 29.0


@njit(nogil=True, cache=True)
def _lab(image, light, matrix, lab):
    height, width = image.shape[:2]
    for row in range(height):
        for column in range(width):
            red, green, blue = (
                light[image[row, column, 0]],
                light[image[row, column, 1]],
                light[image[row, column, 2]],
            )
            x = _response(matrix[0, 0] * red + matrix[0, 1] * green + matrix[0, 2] * blue)
            y = _response(matrix[1, 0] * red + matrix[1, 1] * green + matrix[1, 2] * blue)
            z = _response(matrix[2, 0] * red + matrix[2, 1] * green + matrix[2, 2] * blue)
            lab[row, column, 0] = 116.0 * y - 16.0
            lab[row, column, 1] = 500.0 * (x - y)
            lab[row, column, 2] = 200.0 * (y - z)


def lab_of_rgb(image: np.ndarray) -> np.ndarray:
    """The CIE 1976 L*a*b* colours of an sRGB image, seen under D65.

    Source: CIE 15:2018, section 8.2.1.
    Differs: nothing; the white point is the sum of the matrix's columns, so that a grey has a* = b* = 0.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        (H, W, 3) float32: L* 0 to 100, a* and b* about -110 to 110.

    Example:
        >>> lab_of_rgb(np.array([[[255, 0, 0]]], np.uint8)).round(2)[0, 0].tolist()
        [53.2400016784668, 80.08999633789062, 67.19999694824219]
    """
    matrix = np.array(XYZ_OF_RGB)
    matrix /= matrix.sum(axis=1, keepdims=True)
    lab = np.empty(image.shape, np.float32)
    _lab(frozen(image, np.uint8), frozen(linear_light()), frozen(matrix), lab)
    return lab
