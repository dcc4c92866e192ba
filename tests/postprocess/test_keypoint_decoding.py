"""Joints from heat maps: torchvision's places and scores, and places by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from delineate.errors import ArgumentError
from delineate.losses.region_keypoints import region_keypoint_places
from delineate.postprocess.keypoint_decoding import decode_keypoints


@pytest.mark.parametrize("joints", [1, 5])
def test_places_and_scores_are_torchvisions(joints: int) -> None:
    corners = torch.rand(12, 2) * 50
    sides = torch.exp(torch.rand(12, 2) * 6 - 1)  # below a pixel, below the map's size and above it
    boxes = torch.cat([corners, corners + sides], dim=1)
    maps = torch.randn(12, joints, 20, 20)
    places, scores = heatmaps_to_keypoints(maps, boxes)
    found = decode_keypoints(maps, boxes)
    torch.testing.assert_close(found[..., :2], places[..., :2])
    torch.testing.assert_close(found[..., 2], scores)


def test_a_peak_stands_in_the_middle_of_its_pixel() -> None:
    maps = torch.full((2, 2, 8, 8), -9.0)
    maps[0, 0, 2, 5] = maps[0, 1, 7, 0] = maps[1, 0, 0, 0] = maps[1, 1, 7, 7] = 3.0
    boxes = torch.tensor([[10.0, 20.0, 18.0, 28.0], [0.0, 0.0, 7.5, 8.0]])
    found = decode_keypoints(maps, boxes)
    assert found[0].tolist() == [[15.5, 22.5, 3.0], [10.5, 27.5, 3.0]]  # a pixel of the map is one of the box
    # 7.5 pixels are resized to 8, and half a pixel of these 8 is 7.5 / 16
    assert found[1].tolist() == [[7.5 / 16, 0.5, 3.0], [7.5 * 15 / 16, 7.5, 3.0]]


def maps_of(places: Tensor, counted: Tensor, side: int) -> Tensor:
    """What a network that has learned its targets by heart would say."""
    hot = torch.nn.functional.one_hot(places, side * side).float() * counted[..., None]
    return 20 * hot.unflatten(2, (side, side))


def people(count: int = 300) -> tuple[Tensor, Tensor]:
    """Boxes no smaller than their maps, whose single places a resize to fewer pixels could miss, and joints in them."""
    corners = torch.rand(count, 2) * 40
    sides = 56 + 80 * torch.rand(count, 2)
    return torch.cat([corners, corners + sides], 1), corners[:, None] + sides[:, None] * torch.rand(count, 4, 2)


def test_joints_come_back_without_a_shift_to_any_side() -> None:
    """A network that answers perfectly is off by half a place of its map and half a pixel at most, and never aside.

    In the outermost places, whose peak the resize draws to the border, by a place.
    """
    boxes, points = people()
    places, counted = region_keypoint_places(points, torch.ones(points.shape[:2], dtype=torch.bool), boxes, side=56)
    assert counted.all()
    found = decode_keypoints(maps_of(places, counted, 56), boxes)[..., :2]
    place = ((boxes[:, 2:] - boxes[:, :2]) / 56)[:, None]
    cells = torch.stack([places % 56, places // 56], -1)
    inner = (cells > 0) & (cells < 55)
    off = found - points
    assert torch.where(inner, off.abs() - place / 2 - 0.5, off.abs() - place).max() < 0.01
    assert inner.float().mean() > 0.9
    assert off.mean(dim=(0, 1)).abs().max() < 0.1


def test_a_mirrored_picture_gives_mirrored_joints() -> None:
    boxes, points = people()
    width = 256.0
    mirrored = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    other = torch.stack([width - points[..., 0], points[..., 1]], -1)
    known = torch.ones(points.shape[:2], dtype=torch.bool)
    one, two = (
        decode_keypoints(maps_of(*region_keypoint_places(joints, known, regions, side=56), 56), regions)[..., :2]
        for joints, regions in ((points, boxes), (other, mirrored))
    )
    back = torch.stack([width - two[..., 0], two[..., 1]], -1)
    # of two pixels as near to a place the first one counts, seen from either side, and so for two places
    assert (back - one).abs().max() < 1 + 136 / 56
    assert (back - one).mean(dim=(0, 1)).abs().max() < 0.1


def test_joints_on_the_border_are_learnt_from_either_side() -> None:
    """A person cut by the left edge has joints at x = 0; mirrored and resized they are at the width, up to rounding."""
    for zoom in (1.0, 1333 / 640, 0.3, 1 / 3):
        width = 640 * zoom
        box = torch.tensor([[0.0, 10.0 * zoom, 64.0 * zoom, 90.0 * zoom]])
        joint = torch.tensor([[[0.0, 51.0 * zoom]]])
        mirrored = torch.tensor([[640.0 - 64.0, 10.0, 640.0, 90.0]]) * zoom
        for off in (0.0, 5e-5, -5e-5):
            left = region_keypoint_places(joint + off, torch.ones(1, 1, dtype=torch.bool), box, side=56)
            right = region_keypoint_places(
                torch.tensor([[[width + off, 51.0 * zoom]]]), torch.ones(1, 1, dtype=torch.bool), mirrored, side=56
            )
            assert left[1].all()
            assert right[1].all()
            assert (int(left[0]) % 56, int(right[0]) % 56) == (0, 55)
            assert int(left[0]) // 56 == int(right[0]) // 56


def test_no_object_and_boxes_without_area() -> None:
    assert decode_keypoints(torch.zeros(0, 17, 56, 56), torch.zeros(0, 4)).shape == (0, 17, 3)
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert decode_keypoints(maps, torch.tensor([[3.0, 4.0, 3.0, 4.0]]))[0, 0, :2].tolist() == [3.5, 4.5]


def test_half_precision_is_resized_in_full() -> None:
    maps, boxes = torch.randn(3, 2, 8, 8).bfloat16(), torch.tensor([[1.0, 2.0, 30.0, 40.0]]).repeat(3, 1)
    found = decode_keypoints(maps, boxes)
    assert found.dtype == torch.float32
    assert torch.equal(found, decode_keypoints(maps.float(), boxes))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match="maps must be 1, one a box; got 2"):
        decode_keypoints(torch.zeros(2, 1, 4, 4), torch.zeros(1, 4))
    with pytest.raises(ArgumentError, match="boxes must be finite; got NaN or infinity"):
        decode_keypoints(torch.zeros(1, 1, 4, 4), torch.tensor([[0.0, 0.0, float("inf"), 4.0]]))
