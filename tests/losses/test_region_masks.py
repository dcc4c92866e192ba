"""What a mask head learns, and its loss: torchvision's numbers, and shares by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.models.detection.roi_heads import maskrcnn_loss, project_masks_on_boxes

from delineate.errors import ArgumentError
from delineate.losses.region_masks import region_mask_loss, region_mask_targets

MASKS = torch.rand(4, 40, 50, generator=torch.Generator().manual_seed(0)).gt(0.4).to(torch.uint8)
ROWS = torch.tensor([3, 0, 0, 3, 1])  # nothing answers for the third


def regions(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(count, 2, generator=generator) * 40 - 10
    return torch.cat([corners, corners + 1 + torch.rand(count, 2, generator=generator) * 40], dim=1)


@pytest.mark.parametrize("side", [28, 7])
def test_targets_are_torchvisions_half_a_pixel_back(side: int) -> None:
    found = region_mask_targets(MASKS, regions(), ROWS, side=side)
    torch.testing.assert_close(found, project_masks_on_boxes(MASKS, regions() - 0.5, ROWS, side))
    assert 0 < found.mean() < 1


def test_what_is_learnt_lies_where_it_was() -> None:
    """A disc in the middle of its box is learnt in the middle: there is no drift of half a pixel."""
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    centres, radii = torch.tensor([[20, 30], [33, 38], [40, 22]]), torch.tensor([5, 11, 16])
    away = (columns - centres[:, 0, None, None]) ** 2 + (rows - centres[:, 1, None, None]) ** 2
    boxes = torch.cat([centres - radii[:, None], centres + radii[:, None]], 1).float()
    maps = region_mask_targets(away < radii[:, None, None] ** 2, boxes, torch.arange(3), side=28)
    assert 0.7 < maps.mean() < 0.85  # a quarter of pi
    for mirrored in (maps.flip(1), maps.flip(2), maps.transpose(1, 2)):
        torch.testing.assert_close(mirrored, maps)


def test_every_value_but_0_is_inside() -> None:
    expected = region_mask_targets(MASKS, regions(), ROWS, side=7)
    for masks in (MASKS.bool(), MASKS * 255, tv_tensors.Mask(MASKS)):
        assert torch.equal(region_mask_targets(masks, regions(), ROWS, side=7), expected)


def test_a_region_that_covers_half_its_object_sees_that_half() -> None:
    masks = torch.zeros(1, 16, 16, dtype=torch.bool)
    masks[0, :, 8:] = True
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 16.0]])
    found = region_mask_targets(masks, boxes, torch.tensor([0, 0]), side=4)
    assert found[0].max() == 0
    assert found[1].min() == 1


def test_no_region_has_no_target() -> None:
    none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert region_mask_targets(MASKS, *none, side=28).shape == (0, 28, 28)
    assert region_mask_targets(MASKS[:0], *none, side=28).shape == (0, 28, 28)


def test_loss_is_torchvisions() -> None:
    labels = [torch.tensor([2, 0, 1, 1]), torch.tensor([0, 2])]
    boxes, rows = [regions(5), regions(3)], [ROWS, torch.tensor([1, 1, 0])]
    masks = [MASKS, MASKS[1:3]]
    logits = torch.randn(8, 3, 14, 14, requires_grad=True)
    expected = maskrcnn_loss(logits, [one - 0.5 for one in boxes], masks, labels, rows)  # see the targets
    wanted = torch.cat([region_mask_targets(*one, side=14) for one in zip(masks, boxes, rows, strict=True)])
    own = torch.cat([column[index] for column, index in zip(labels, rows, strict=True)])
    found = region_mask_loss(logits, wanted, own)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs)
    others = torch.ones(8, 3, dtype=torch.bool).scatter(1, own[:, None], False)
    assert ours[others].abs().max() == 0  # classes do not compete


def test_gradient_in_double_precision() -> None:
    logits = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    wanted, labels = torch.rand(2, 3, 3), torch.tensor([1, 0])
    assert torch.autograd.gradcheck(lambda given: region_mask_loss(given, wanted, labels), (logits,))


def test_perfect_maps_cost_nothing_and_half_precision_is_summed_in_full() -> None:
    wanted = MASKS[:2, :14, :14].float()
    logits = ((wanted - 0.5) * 80)[:, None].bfloat16()
    found = region_mask_loss(logits, wanted, torch.zeros(2, dtype=torch.int64))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(0, abs=1e-6)


def test_no_region_costs_nothing_and_has_a_gradient() -> None:
    logits = torch.zeros(0, 3, 28, 28, requires_grad=True)
    found = region_mask_loss(logits, torch.zeros(0, 28, 28), torch.zeros(0, dtype=torch.int64))
    assert found.item() == 0
    found.backward()
    assert logits.grad is not None


def test_what_does_not_fit_is_refused() -> None:
    logits, labels = torch.zeros(2, 3, 4, 4), torch.tensor([0, 1])
    with pytest.raises(ArgumentError, match=r"wanted must be \(2, 4, 4\), a map a region; got \(2, 5, 5\)"):
        region_mask_loss(logits, torch.zeros(2, 5, 5), labels)
    with pytest.raises(ArgumentError, match="labels must be 2, one a region; got 1"):
        region_mask_loss(logits, torch.zeros(2, 4, 4), labels[:1])
