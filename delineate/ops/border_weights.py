"""How near each pixel is to two objects at once: the weights that make a network learn the gaps between them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor

from delineate.checks import require
from delineate.kernels.nearest_regions import two_nearest_distances
from delineate.kernels.regions import connected_regions
from delineate.kernels.threads import run_pieces

REACH = 6.0  # sigmas; the weight of a pixel further off is below exp(-18), which float32 cannot add to 1


def border_weights(
    target: Integer[Tensor, "B H W"],
    *,
    sigma: float | int = 5.0,
    background: int | None = 0,
    ignore_index: int = 255,
) -> Float32[Tensor, "B H W"]:
    """``exp(-(d1 + d2)^2 / (2 sigma^2))``, d1 and d2 the distances to the borders of the two nearest objects.

    Source: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
        eq. 2, without w_c and w_0.
    Differs: an object is a connected region of one label (pixels that share a side); the paper's cells are told apart
        by their annotation. Exact up to d1 + d2 = 6 sigma, 0 beyond. As eq. 2 says, pixels inside an object count too,
        by their way out of it; some implementations weigh the background alone.

    Args:
        target: labels.
        sigma: pixels.
        background: the label that is no object; None where every label is one.
        ignore_index: the label of pixels that belong to nothing, and are weighed like any other.

    Returns:
        0..1 on the target's device; 0 where an image has fewer than two objects. Computed on the CPU, so that a target
        on a GPU is copied there and waited for.

    Raises:
        ArgumentError: when ``sigma`` is not positive.

    Example:
        >>> weights = border_weights(torch.tensor([[[1, 1, 0, 1, 1]]]))  # a gap of one pixel
        >>> weights.flatten().mul(1000).round().tolist()  # d1 + d2 = 1 + 3, 0 + 2, 1 + 1, 2 + 0, 3 + 1
        [726.0, 923.0, 923.0, 923.0, 726.0]
    """
    require(sigma > 0, "sigma", "be a positive number of pixels", sigma)
    labels = target.detach().cpu().numpy().astype(np.int32)
    nowhere = labels == ignore_index
    if background is not None:
        nowhere |= labels == background

    def weigh(image: int) -> np.ndarray:
        regions, _ = connected_regions(np.where(nowhere[image], -1, labels[image]), connectivity=4)
        distances = two_nearest_distances(np.where(nowhere[image], -1, regions), reach=REACH * sigma)
        total = distances[0] + distances[1]
        return np.exp(-np.square(total) / (2.0 * sigma * sigma)).astype(np.float32)

    weights = run_pieces(weigh, range(len(labels)))
    stacked = np.stack(weights) if weights else np.zeros(labels.shape, np.float32)
    return torch.from_numpy(stacked).to(target.device)
