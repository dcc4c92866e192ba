"""Distance maps of label maps: how far each pixel is from the outline of each class, and on which side."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Integer
from torch import Tensor

from delineate.kernels.distance_transform import distance_transform
from delineate.kernels.threads import run_pieces


def signed_distances(
    target: Integer[Tensor, "B H W"], *, num_classes: int, ignore_index: int = 255
) -> Float32[Tensor, "B K H W"]:
    """The exact Euclidean distance of every pixel from the outline of each class: positive outside, negative inside.

    The outline runs along pixels' sides, half a pixel from the centres beside it: a pixel outside has the distance to
    the nearest pixel of the class less one half, one inside the negative of that to the nearest pixel of another class.

    Args:
        target: labels; those that are no class belong to no class.
        num_classes: maps an image.
        ignore_index: pixels of unknown class; they make no outline, but have distances themselves.

    Returns:
        Pixels, on the target's device; 0 everywhere for a class that an image lacks, or that fills all that is known of
        it: it has no outline there. Computed on the CPU, so that a target on a GPU is copied there and waited for.

    Example:
        >>> signed_distances(torch.tensor([[[0, 0, 1, 1]]]), num_classes=2)[0, 1].tolist()
        [[1.5, 0.5, -0.5, -1.5]]
    """
    labels = target.detach().cpu().numpy()
    maps = np.zeros((labels.shape[0], num_classes, *labels.shape[1:]), np.float32)

    def measure(image: int) -> None:
        known = labels[image] != ignore_index
        for label in np.unique(labels[image][known]):
            inside = known & (labels[image] == label)
            outside = known & ~inside
            if 0 <= label < num_classes and outside.any():
                to_class, to_others = distance_transform(inside)[0], distance_transform(outside)[0]
                maps[image, label] = np.where(to_class > 0, to_class - 0.5, np.where(inside, 0.5 - to_others, 0))

    run_pieces(measure, range(len(labels)))
    return torch.from_numpy(maps).to(target.device)
