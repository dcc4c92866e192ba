"""Joints from heat maps: torchvision's places and scores, and places by hand."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

from delineate.errors import ArgumentError
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
