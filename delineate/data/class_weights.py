"""Class weights from pixel counts, so that rare classes count for more in a loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delineate.checks import require

ENET_CONSTANT = 1.02


def median_frequency_weights(pixels: Sequence[int], pixels_where_present: Sequence[int]) -> list[float]:
    """Class weights ``median frequency / frequency``, where a class counts only in the images that show it.

    Source: Eigen, Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
    Convolutional Architecture", ICCV 2015, section 6.3.2; used by SegNet.
    Differs: nothing; pixels without a label count in the size of an image, as in SegNet's CamVid counts.

    Args:
        pixels: the number of pixels of each class.
        pixels_where_present: the number of pixels of all images in which the class occurs.

    Returns:
        1 for the class of median frequency, more for rarer ones; 0 for a class that never occurs, which no target pixel
        can ask for.

    Raises:
        ArgumentError: when no class occurs, or the two lengths differ.

    Example:
        >>> median_frequency_weights([10, 40, 5], [100, 100, 100])
        [1.0, 0.25, 2.0]
    """
    counts, present = np.asarray(pixels, np.float64), np.asarray(pixels_where_present, np.float64)
    require(counts.shape == present.shape, "pixels_where_present", f"hold {len(counts)} numbers", len(present))
    occurs = counts > 0
    require(bool(occurs.any()), "pixels", "hold a class that occurs", list(pixels))
    frequency = counts[occurs] / present[occurs]
    weights = np.zeros(len(counts))
    weights[occurs] = np.median(frequency) / frequency
    return weights.tolist()


def enet_weights(pixels: Sequence[int], *, constant: float = ENET_CONSTANT) -> list[float]:
    """Class weights ``1 / ln(c + p)`` with the class's share ``p`` of the labelled pixels.

    Source: Paszke, Chaurasia, Kim, Culurciello, "ENet: A Deep Neural Network Architecture for Real-Time Semantic
    Segmentation", 2016, section 5.2.
    Differs: nothing.

    Args:
        pixels: the number of pixels of each class, unlabelled pixels left out.
        constant: c, above 1; the paper's 1.02 bounds the weights to 1.42 .. 50.5.

    Raises:
        ArgumentError: when there are no pixels at all, or the constant is 1 or less.

    Example:
        >>> [round(weight, 3) for weight in enet_weights([99, 1])]
        [1.432, 33.831]
    """
    counts = np.asarray(pixels, np.float64)
    require(constant > 1, "constant", "be above 1", constant)
    require(bool(counts.sum() > 0), "pixels", "hold a class that occurs", list(pixels))
    return (1 / np.log(constant + counts / counts.sum())).tolist()
