"""The mask of each box: its map of probabilities, resized to the box and cut at a threshold, as run lengths.

Run lengths are made without a picture of floats for each object: a hundred objects of a photograph need a few megabytes
instead of hundreds.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from delineate.checks import require
from delineate.kernels.mask_pasting import pasted_texts
from delineate.ops.boxes import check_boxes
from delineate.structures.rle import checked_size
from delineate.structures.rle_masks import RLEMasks


def paste_masks(
    maps: Float[Tensor, "N S S"],
    boxes: Float[Tensor, "_ 4"],
    size: tuple[int, int],
    *,
    threshold: float | int = 0.5,
) -> RLEMasks:
    """The pixels of a picture where each box's map is above the threshold.

    Boxes and size are those of the picture that the mask is for: where a network saw it resized, map its boxes back
    first and paste then, so that outlines are as fine as the picture.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3.1 ("Inference"), by the rule of Detectron's release, which
    maskrcnn-benchmark and torchvision repeat: the map gets a border of zeros, its box grows with it and is cut to whole
    pixels, of which the last is part of it, and the map is resized to them bilinearly.
    Differs: nothing; of torchvision's ``paste_masks_in_image(...) > 0.5`` only pixels whose value is the threshold but
    for rounding may differ.

    Args:
        maps: probabilities, the map of one class for each object.
        boxes: xyxy pixels of the picture; what lies outside is cut off, one without area is a pixel wide.
        size: (height, width) of the picture.
        threshold: a probability, 0 to 1; pixels with exactly it are outside.

    Returns:
        One mask for each box, of the picture's size, perhaps empty.

    Raises:
        ArgumentError: when there is not one box for each map, maps are not square, a box is not finite, or size or
            threshold are out of their range.

    Example:
        >>> maps = torch.tensor([[[0.9, 0.1], [0.9, 0.9]]])
        >>> mask = paste_masks(maps, torch.tensor([[2.0, 2.0, 6.0, 6.0]]), (8, 8))[0]
        >>> for row in mask.decode():
        ...     print("".join("-#"[int(inside)] for inside in row))
        --------
        --------
        ---#----
        --###---
        --####--
        --#####-
        ---###--
        --------
    """
    height, width = checked_size(size)
    require(0 <= threshold <= 1, "threshold", "lie between 0 and 1", threshold)
    check_boxes("boxes", boxes)
    square = maps.ndim == 3 and maps.shape[1] == maps.shape[2] > 0
    require(square, "maps", "be (N, S, S), one a box", f"shape {tuple(maps.shape)}")
    require(len(maps) == len(boxes), "maps", f"be {len(boxes)}, one a box", len(maps))
    found = boxes.detach().cpu()
    corners = (found if found.dtype == torch.float64 else found.float()).numpy()
    require(bool(np.isfinite(corners).all()), "boxes", "be finite", "NaN or infinity")
    grids = _grids(corners, maps.shape[-1])
    texts = pasted_texts(maps.detach().cpu().float().numpy(), grids, (height, width), float(threshold))
    return RLEMasks(*texts, np.tile(np.array([[height, width]], np.int32), (len(boxes), 1)))


def _grids(boxes: np.ndarray, side: int) -> np.ndarray:
    """Origin x, y and step x, y of each box's pixels in its map with a border; in the boxes' type, as torch does."""
    centres = (boxes[:, 2:] + boxes[:, :2]) * boxes.dtype.type(0.5)
    halves = (boxes[:, 2:] - boxes[:, :2]) * boxes.dtype.type(0.5) * boxes.dtype.type((side + 2) / side)
    first = np.trunc(centres - halves).astype(np.float64)
    last = np.trunc(centres + halves).astype(np.float64)
    return np.concatenate([first, (side + 2) / np.maximum(last - first + 1, 1)], axis=1)
