"""What a keypoint head learns, and its loss: torchvision's numbers, and places by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection.roi_heads import keypointrcnn_loss, keypoints_to_heatmap

from delineate.errors import ArgumentError
from delineate.losses.region_keypoints import region_keypoint_loss, region_keypoint_places


def people(count: int = 40, joints: int = 5, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Joints on whole and half pixels, many of them on an edge of their region or outside; visibility; regions."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 20, (count, 2), generator=generator).float()
    sides = torch.randint(0, 12, (count, 2), generator=generator).float()
    shares = torch.randint(-1, 6, (count, joints, 2), generator=generator) / 4
    points = corners[:, None] + shares * sides[:, None]
    visibility = torch.randint(0, 3, (count, joints), generator=generator)
    return points, visibility, torch.cat([corners, corners + sides], dim=1)


@pytest.mark.parametrize("side", [56, 3])
def test_places_are_torchvisions(side: int) -> None:
    points, visibility, boxes = people()
    assert (boxes[:, 2:] == boxes[:, :2]).any()  # regions without width or height are among them
    both = torch.cat([points, visibility[..., None]], dim=-1)
    places, counted = keypoints_to_heatmap(both, boxes, side)
    found = region_keypoint_places(tv_tensors.KeyPoints(points, canvas_size=(40, 40)), visibility > 0, boxes, side=side)
    assert torch.equal(found[0], places)
    assert torch.equal(found[1], counted.bool())
    assert 0.2 < found[1].float().mean() < 0.8


def test_edges_belong_to_the_region() -> None:
    points = torch.tensor([[[2.0, 2.0], [10.0, 10.0], [9.99, 2.0], [6.0, 6.0], [1.99, 5.0], [5.0, 10.01]]])
    region = torch.tensor([[2.0, 2.0, 10.0, 10.0]])
    places, counted = region_keypoint_places(points, torch.ones(1, 6, dtype=torch.bool), region, side=2)
    assert places.tolist() == [[0, 3, 1, 3, 0, 0]]
    assert counted.tolist() == [[True, True, True, True, False, False]]


def test_loss_is_torchvisions() -> None:
    parts = [people(6, seed=1), people(9, seed=2)]
    rows = [torch.tensor([5, 0, 0, 2]), torch.tensor([8, 8, 1])]
    boxes = [part[2][index] for part, index in zip(parts, rows, strict=True)]
    truths = [torch.cat([points, visibility[..., None]], dim=-1) for points, visibility, _ in parts]
    logits = torch.randn(7, 5, 8, 8, requires_grad=True)
    expected = keypointrcnn_loss(logits, boxes, truths, rows)
    answered = torch.cat([truth[index] for truth, index in zip(truths, rows, strict=True)])
    places, counted = region_keypoint_places(answered[..., :2], answered[..., 2] > 0, torch.cat(boxes), side=8)
    assert 0 < counted.sum() < counted.numel()
    found = region_keypoint_loss(logits, places, counted)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_gradient_in_double_precision() -> None:
    logits = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    places, counted = torch.tensor([[0, 8], [4, 4]]), torch.tensor([[True, True], [False, True]])
    assert torch.autograd.gradcheck(lambda given: region_keypoint_loss(given, places, counted), (logits,))


def test_knowing_nothing_costs_the_logarithm_of_the_places_and_knowing_all_nothing() -> None:
    places, counted = torch.tensor([[5, 0]]), torch.tensor([[True, False]])
    logits = torch.zeros(1, 2, 4, 4).bfloat16()
    assert float(region_keypoint_loss(logits, places, counted)) == pytest.approx(math.log(16))
    logits[0, 0, 1, 1] = 50
    logits[0, 1] = float("nan")  # a joint that does not count cannot spoil anything
    found = region_keypoint_loss(logits, places, counted)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(0, abs=1e-6)


def test_nothing_that_counts_costs_nothing_and_has_a_gradient() -> None:
    for count in (0, 2):
        logits = torch.zeros(count, 3, 4, 4, requires_grad=True)
        nothing = torch.zeros(count, 3, dtype=torch.int64)
        found = region_keypoint_loss(logits, nothing, nothing.bool())
        assert found.item() == 0
        found.backward()
        assert logits.grad is not None
        assert not logits.grad.any()


def test_what_does_not_fit_is_refused() -> None:
    places = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ArgumentError, match=r"places must be \(2, 3\), one a map; got \(2, 2\)"):
        region_keypoint_loss(torch.zeros(2, 3, 4, 4), places[:, :2], places.bool())
    with pytest.raises(ArgumentError, match=r"counted must be \(2, 3\), one a map; got \(1, 3\)"):
        region_keypoint_loss(torch.zeros(2, 3, 4, 4), places, places[:1].bool())
