"""Maps pasted at their boxes: the pixels of torch's sampler, masks by hand, boxes of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample
from torchvision.models.detection.roi_heads import paste_masks_in_image

from delineate.errors import ArgumentError, UnknownNameError
from delineate.postprocess.mask_pasting import paste_masks
from delineate.structures.rle_masks import RLEMasks


def pixels(masks: RLEMasks) -> Tensor:
    return torch.from_numpy(np.stack([mask.decode() for mask in masks]))


def boxes_around(size: tuple[int, int], count: int = 120) -> Tensor:
    """Of sides from a third of a pixel to more than the picture's, most of them partly outside."""
    whole = torch.tensor([size[1], size[0]])
    centres = (torch.rand(count, 2) * 1.4 - 0.2) * whole
    sides = torch.exp(torch.rand(count, 2) * 6 - 1)
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    touches = (boxes[:, 2:] > 0).all(dim=1) & (boxes[:, :2] < whole).all(dim=1)
    return boxes[touches]


def sampled(maps: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The value of every box's map at the middle of every pixel, as Detectron2 reads it."""
    centres, sides = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    places = torch.stack([columns, rows], dim=-1)[None]
    grid = (places - centres[:, None, None]) / sides[:, None, None] * 2
    return grid_sample(maps[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]


@pytest.mark.parametrize("size", [(37, 53), (100, 70), (6, 150)])
@pytest.mark.parametrize("side", [28, 14, 3, 1])
def test_pixels_are_those_of_a_sampler(size: tuple[int, int], side: int) -> None:
    boxes = boxes_around(size)
    maps = torch.rand(len(boxes), side, side)
    theirs = sampled(maps, boxes, size)
    found = pixels(paste_masks(maps, boxes, size))
    clear = (theirs - 0.5).abs() > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(found[clear], (theirs > 0.5)[clear])
    assert 0 < found.float().mean() < 0.5


@pytest.mark.parametrize("side", [28, 14, 3, 1])
def test_whole_pixels_are_torchvisions(side: int) -> None:
    size = (37, 53)
    boxes = boxes_around(size)
    maps = torch.rand(len(boxes), side, side)
    theirs = paste_masks_in_image(maps[:, None], boxes, size)[:, 0]
    found = pixels(paste_masks(maps, boxes, size, rule="whole_pixels"))
    clear = (theirs - 0.5).abs() > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(found[clear], (theirs > 0.5)[clear])
    assert not torch.equal(found, pixels(paste_masks(maps, boxes, size)))


def test_a_rule_that_nobody_knows() -> None:
    with pytest.raises(UnknownNameError, match=r"rule must be a known name; got 'centers'\. Did you mean 'centres'\?"):
        paste_masks(torch.ones(1, 2, 2), torch.tensor([[0.0, 0.0, 2.0, 2.0]]), (4, 4), rule="centers")


def test_smooth_maps_at_another_threshold() -> None:
    size = (90, 120)
    boxes = boxes_around(size)
    coarse = torch.rand(len(boxes), 1, 4, 4)
    maps = torch.nn.functional.interpolate(coarse, size=28, mode="bicubic").clamp(0, 1)[:, 0]
    theirs = sampled(maps, boxes, size)
    for threshold in (0.2, 0.7):
        found = pixels(paste_masks(maps, boxes, size, threshold=threshold))
        clear = (theirs - threshold).abs() > 1e-5
        assert torch.equal(found[clear], (theirs > threshold)[clear])


def test_by_hand() -> None:
    # a map of 2 x 2 on a box of 4 x 4: its places end at 4, 6 and 8. The middle of pixel 4 lies a quarter of a place
    # from the border, at 0.75 of what is inside, and that of pixel 3 as far outside of it
    mask = paste_masks(torch.ones(1, 2, 2), torch.tensor([[4.0, 4.0, 8.0, 8.0]]), (12, 14))[0].decode()
    expected = np.zeros((12, 14), bool)
    expected[4:8, 4:8] = True  # the corners too: 0.75 * 0.75 is above a half
    np.testing.assert_array_equal(mask, expected)


def test_a_mask_of_ones_is_its_box() -> None:
    left, top, width, height = (torch.randint(0, 20, (50,)) + low for low in (0, 0, 1, 1))
    boxes = torch.stack([left, top, left + width, top + height], dim=1)
    found = paste_masks(torch.ones(50, 28, 28), boxes.float(), (40, 40))
    np.testing.assert_array_equal(found.boxes(), torch.stack([left, top, width, height], dim=1))
    # rounded corners: less than a place of 28
    assert (found.areas() >= 0.97 * (width * height).numpy()).all()


def test_a_box_of_a_pixel_and_one_without_area_are_a_pixel() -> None:
    boxes = torch.tensor([[3.0, 2.0, 4.0, 3.0], [3.2, 2.2, 3.2, 2.2], [5.0, 5.0, 4.0, 4.5]])
    found = paste_masks(torch.ones(3, 28, 28), boxes, (9, 9))
    assert found.boxes().tolist() == [[3, 2, 1, 1], [3, 2, 1, 1], [4, 4, 1, 1]]


def test_boxes_outside_have_empty_masks_and_those_across_an_edge_are_cut() -> None:
    boxes = torch.tensor([[-30.0, 2, -20, 9], [2, 40, 9, 50], [-1e9, -1e9, -1e8, -1e8], [-4, -4, 4, 4]])
    found = paste_masks(torch.ones(4, 28, 28), boxes, (10, 12))
    assert found.areas().tolist()[:3] == [0, 0, 0]
    assert found.boxes()[3].tolist() == [0, 0, 4, 4]
    huge = paste_masks(torch.ones(1, 28, 28), torch.tensor([[-1e9, -1e9, 1e9, 1e9]]), (10, 12))
    assert huge.areas().tolist() == [120]


def test_no_object_is_no_mask() -> None:
    assert len(paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 5))) == 0


def test_half_precision_and_double_boxes() -> None:
    maps, boxes = torch.rand(5, 28, 28).bfloat16(), boxes_around((40, 40))[:5]
    half, whole = (paste_masks(given, boxes, (40, 40)) for given in (maps, maps.float()))
    assert half.text.tobytes() == whole.text.tobytes()
    double = paste_masks(maps, boxes.double(), (40, 40))
    assert double.text.tobytes() == whole.text.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    maps, boxes = torch.zeros(2, 4, 4), torch.zeros(2, 4)
    with pytest.raises(ArgumentError, match="maps must be 1, one a box; got 2"):
        paste_masks(maps, boxes[:1], (5, 5))
    with pytest.raises(ArgumentError, match="boxes must be finite; got NaN or infinity"):
        paste_masks(maps, boxes * float("nan"), (5, 5))
    with pytest.raises(ArgumentError, match=r"size must be a positive \(height, width\); got \(0, 5\)"):
        paste_masks(maps, boxes, (0, 5))
    with pytest.raises(ArgumentError, match="threshold must lie between 0 and 1; got 2"):
        paste_masks(maps, boxes, (5, 5), threshold=2)
