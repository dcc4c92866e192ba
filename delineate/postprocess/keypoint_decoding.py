"""Heat maps of a region's joints to their places in the picture."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from delineate.checks import require
from delineate.ops.boxes import check_boxes


@torch.no_grad()
def decode_keypoints(maps: Float[Tensor, "N J S S"], boxes: Float[Tensor, "_ 4"]) -> Float[Tensor, "N J 3"]:
    """x, y and score of each joint: the largest value of its map, resized to the pixels of its box.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 5, as released in Detectron: bicubic, to the box's sides rounded
    up; a joint is in the middle of its pixel.
    Differs: nothing; torchvision's ``heatmaps_to_keypoints``, whose third number is 1 and whose scores are a second
    result. One region's maps are resized at a time, which bounds the memory.

    Args:
        maps: logits of each joint's places, before a softmax.
        boxes: xyxy pixels of the picture that the maps were made for: the network's input. Places are found to its
            pixels; map them back together with the boxes.

    Returns:
        Scores are the resized map's value: a logit, comparable between joints and regions. Boxes below a pixel count as
        one.

    Raises:
        ArgumentError: when there is not one box for each region, or a box is not finite.

    Example:
        >>> maps = torch.zeros(1, 1, 4, 4)
        >>> maps[0, 0, 1, 2] = 5.0
        >>> decode_keypoints(maps, torch.tensor([[10.0, 20.0, 14.0, 24.0]]))
        tensor([[[12.5000, 21.5000,  5.0000]]])
    """
    check_boxes("boxes", boxes)
    require(maps.ndim == 4, "maps", "be (N, J, S, S), one for each joint of a box", f"shape {tuple(maps.shape)}")
    require(len(maps) == len(boxes), "maps", f"be {len(boxes)}, one a box", len(maps))
    maps, boxes = (value if value.dtype == torch.float64 else value.float() for value in (maps, boxes))
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    places, scores = [], []
    for values, (width, height) in zip(maps, _whole(sides), strict=True):
        resized = interpolate(values[:, None], size=(height, width), mode="bicubic", align_corners=False)
        best, place = resized.flatten(1).max(dim=1)
        places.append(torch.stack([place % width, torch.div(place, width, rounding_mode="floor")], dim=1))
        scores.append(best)
    if not scores:
        return maps.new_zeros(0, maps.shape[1], 3)
    corrections = sides / sides.ceil()
    points = (torch.stack(places).to(boxes) + 0.5) * corrections[:, None] + boxes[:, None, :2]
    return torch.cat([points.to(maps), torch.stack(scores)[..., None]], dim=-1)


def _whole(sides: Tensor) -> list[tuple[int, int]]:
    """Sides rounded up; one wait for the device in all."""
    listed = sides.tolist()
    finite = all(math.isfinite(side) for pair in listed for side in pair)
    require(finite, "boxes", "be finite", "NaN or infinity")
    return [(math.ceil(width), math.ceil(height)) for width, height in listed]
