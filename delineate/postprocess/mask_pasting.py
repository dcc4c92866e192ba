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
from delineate.registry import unknown_name
from delineate.structures.rle import checked_size
from delineate.structures.rle_masks import RLEMasks


def paste_masks(
    maps: Float[Tensor, "N S S"],
    boxes: Float[Tensor, "_ 4"],
    size: tuple[int, int],
    *,
    threshold: float | int = 0.5,
    rule: str = "centres",
) -> RLEMasks:
    """The pixels of a picture where each box's map is above the threshold.

    Boxes and size are those of the picture that the mask is for: where a network saw it resized, map its boxes back
    first and paste then, so that outlines are as fine as the picture.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3.1 ("Inference"): resized to the box and cut at 0.5.
    Differs: by "centres" a pixel has the map's value at its middle, read bilinearly, with zeros around the map, as in
    Detectron2. By "whole_pixels", the rule of Detectron's release, which maskrcnn-benchmark and torchvision repeat, the
    map and its box grow by a border first, and the box is cut to whole pixels, of which the last is part of it: masks
    become a pixel wider and move by up to half of one. A head that had learnt every nucleus of the Data Science Bowl's
    pictures to the last bit would have a mask AP of 0.74 by that rule, and 1.00 by the other; but weights that were
    published with it were also learnt from targets half a pixel away.

    Args:
        maps: probabilities, the map of one class for each object.
        boxes: xyxy pixels of the picture; what lies outside is cut off, and what is less than a pixel wide or high is
            drawn as if it were one.
        size: (height, width) of the picture.
        threshold: a probability, 0 to 1; pixels with exactly it are outside.
        rule: "centres" or "whole_pixels".

    Returns:
        One mask for each box, of the picture's size, perhaps empty.

    Raises:
        UnknownNameError: on another rule.
        ArgumentError: when there is not one box for each map, maps are not square, a box is not finite, or size or
            threshold are out of their range.

    Example:
        >>> maps = torch.tensor([[[0.9, 0.1], [0.9, 0.9]]])
        >>> mask = paste_masks(maps, torch.tensor([[2.0, 2.0, 6.0, 6.0]]), (8, 8))[0]
        >>> for row in mask.decode():
        ...     print("".join("-#"[int(inside)] for inside in row))
        --------
        --------
        --##----
        --##----
        --####--
        --####--
        --------
        --------
    """
    height, width = checked_size(size)
    require(0 <= threshold <= 1, "threshold", "lie between 0 and 1", threshold)
    if rule not in RULES:
        raise unknown_name("rule", rule, RULES)
    check_boxes("boxes", boxes)
    square = maps.ndim == 3 and maps.shape[1] == maps.shape[2] > 0
    require(square, "maps", "be (N, S, S), one a box", f"shape {tuple(maps.shape)}")
    require(len(maps) == len(boxes), "maps", f"be {len(boxes)}, one a box", len(maps))
    found = boxes.detach().cpu()
    corners = (found if found.dtype == torch.float64 else found.float()).numpy()
    require(bool(np.isfinite(corners).all()), "boxes", "be finite", "NaN or infinity")
    grids = RULES[rule](corners, maps.shape[-1])
    texts = pasted_texts(maps.detach().cpu().float().numpy(), grids, (height, width), float(threshold))
    return RLEMasks(*texts, np.tile(np.array([[height, width]], np.int32), (len(boxes), 1)))


def _centred(boxes: np.ndarray, side: int) -> np.ndarray:
    """Origin x, y and step x, y of each box's pixels in its map with a border, read at the middles of pixels."""
    corners = boxes.astype(np.float64)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 1)
    steps = side / sides  # places of the map a pixel
    return np.concatenate([(corners[:, 2:] + corners[:, :2] - sides) / 2 - 1 / steps, steps], axis=1)


def _whole(boxes: np.ndarray, side: int) -> np.ndarray:
    """The same, of boxes that grew with the border and were cut to whole pixels; in the boxes' type, as torch does."""
    half = boxes.dtype.type(0.5)
    centres = (boxes[:, 2:] + boxes[:, :2]) * half
    halves = (boxes[:, 2:] - boxes[:, :2]) * half * boxes.dtype.type((side + 2) / side)
    first = np.trunc(centres - halves).astype(np.float64)
    last = np.trunc(centres + halves).astype(np.float64)
    return np.concatenate([first, (side + 2) / np.maximum(last - first + 1, 1)], axis=1)


RULES = {"centres": _centred, "whole_pixels": _whole}
