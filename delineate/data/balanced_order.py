"""How often each sample should come so that every class comes as often, from the pixels of each class in each image."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int64

from delineate.checks import require
from delineate.data.statistics import ReadableDataset, labelled_pixels
from delineate.kernels.threads import available_processors

SAMPLINGS = ("uniform", "class_balanced")


def class_balanced_weights(pixels: Int64[np.ndarray, "N K"]) -> list[float]:
    """How often each image should come: the chance that it is drawn when a class is drawn first.

    Each class that occurs is drawn as often. Then one of the images that show it, in proportion to its pixels of it:
    a random crop of an image with more of them is likelier to hold some.

    Source: class-aware sampling of Shen, Lin, Huang, "Relay Backpropagation for Effective Learning of Deep
        Convolutional Neural Networks", ECCV 2016.
    Differs: an image shows several classes, and its weight is the sum over them.

    Args:
        pixels: of each class in each image.

    Returns:
        One weight an image, 1 in sum; 0 for an image without a labelled pixel.

    Raises:
        ArgumentError: when no class occurs.

    Example:
        >>> class_balanced_weights(np.array([[90, 0], [90, 10]]))
        [0.25, 0.75]
    """
    totals = pixels.sum(axis=0)
    occurs = totals > 0
    require(bool(occurs.any()), "pixels", "hold a class that occurs", totals.tolist())
    weights: list[float] = (pixels[:, occurs] / totals[occurs]).mean(axis=1).tolist()
    return weights


def image_class_pixels(samples: ReadableDataset) -> Int64[np.ndarray, "N K"]:
    """The labelled pixels of each class in each image; every image is read once, in threads.

    Raises:
        DataError: when an image or a mask cannot be read, naming it.
    """
    pool = ThreadPoolExecutor(min(8, available_processors()), thread_name_prefix="delineate-reading")
    try:
        rows = pool.map(lambda index: labelled_pixels(samples.read(index)[1], samples.taxonomy), range(len(samples)))
        return np.stack(list(rows))
    finally:
        pool.shutdown(cancel_futures=True)
