"""What a keypoint head learns: of each region that answers for an object, the place of each of its joints."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, over_ranks, ratio

ROUNDING = 1e-3  # pixels by which a joint on an edge may miss it


@torch.no_grad()
def region_keypoint_places(
    points: Float[Tensor, "R J 2"], labelled: Bool[Tensor, "R J"], regions: Float[Tensor, "R 4"], *, side: int
) -> tuple[Int64[Tensor, "R J"], Bool[Tensor, "R J"]]:
    """In which of a region's ``side`` x ``side`` places each joint lies, counted row by row, and which joints do.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 5 (a one-hot mask of one pixel), as released in Detectron.
    Differs: nothing; torchvision's ``keypoints_to_heatmap``. A joint on the right or lower edge is in the last place;
    here also when rounding puts it a thousandth of a pixel beyond an edge: boxes and joints that were scaled and
    mirrored with a picture meet on its border up to their last digit only.

    Args:
        points: x, y pixels of the joints of the object that each region answers for.
        labelled: whether a joint is known, seen or not.
        regions: xyxy pixels.
        side: of the map that learns it.

    Returns:
        Places, 0 for joints that are not labelled or lie outside the region; and which are and do not.

    Example:
        >>> points = torch.tensor([[[1.0, 1.0], [8.0, 3.9], [8.1, 4.0]]])
        >>> region = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
        >>> places, counted = region_keypoint_places(points, torch.ones(1, 3, dtype=torch.bool), region, side=4)
        >>> places.tolist(), counted.tolist()
        ([[0, 7, 0]], [[True, True, False]])
    """
    points = points.as_subclass(Tensor).to(regions)
    corners, ends = regions[:, None, :2], regions[:, None, 2:]
    places = ((points - corners) * (side / (ends - corners))).floor()
    places = torch.where((points - ends).abs() <= ROUNDING, side - 1, places)
    places = torch.where((points < corners) & (corners - points <= ROUNDING), 0, places)
    counted = labelled & ((places >= 0) & (places < side)).all(dim=-1)  # NaN, of a region without area, is neither
    whole = torch.where(counted[..., None], places, 0).long()
    return whole[..., 1] * side + whole[..., 0], counted


def region_keypoint_loss(
    logits: Float[Tensor, "P J S S"],
    places: Int64[Tensor, "_ _"],
    counted: Bool[Tensor, "_ _"],
    *,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy of a softmax over all places of each joint's map, the mean over the joints that count.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 5.
    Differs: nothing; torchvision's ``keypointrcnn_loss``, and Detectron's where it divides by visible joints.

    Args:
        logits: a map for each joint.
        places: where in its map each joint lies, see :func:`region_keypoint_places`.
        counted: which joints are learned.
        normaliser: takes numbers of joints to their means over processes.

    Returns:
        0 without a joint that counts, with a gradient of 0.

    Raises:
        ArgumentError: when places or ``counted`` are not one for each map.

    Example:
        >>> place, counted = torch.tensor([[3]]), torch.tensor([[True]])
        >>> region_keypoint_loss(torch.zeros(1, 1, 56, 56), place, counted)  # log(56 * 56)
        tensor(8.0507)
    """
    shape = tuple(logits.shape[:2])
    for name, given in (("places", places), ("counted", counted)):
        require(tuple(given.shape) == shape, name, f"be {shape}, one a map", tuple(given.shape))
    values = cross_entropy(full_precision(logits.flatten(2)[counted]), places[counted], reduction="none")
    return ratio(values.sum(), over_ranks(values.new_tensor(float(len(values))), normaliser))
