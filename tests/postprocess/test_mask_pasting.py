"""Maps pasted at their boxes: torchvision's pixels, masks by hand, boxes of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from delineate.errors import ArgumentError
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
    # torchvision fails where nothing of a box is in the picture
    touches = (boxes[:, 2:] > 0).all(dim=1) & (boxes[:, :2] < whole).all(dim=1)
    return boxes[touches]


@pytest.mark.parametrize("size", [(37, 53), (100, 70), (6, 150)])
@pytest.mark.parametrize("side", [28, 14, 3, 1])
def test_pixels_are_torchvisions(size: tuple[int, int], side: int) -> None:
    boxes = boxes_around(size)
    maps = torch.rand(len(boxes), side, side)
    theirs = paste_masks_in_image(maps[:, None], boxes, size)[:, 0]
    found = pixels(paste_masks(maps, boxes, size))
    clear = (theirs - 0.5).abs() > 1e-5
    assert clear.float().mean() > 0.99
    assert torch.equal(found[clear], (theirs > 0.5)[clear])
    assert 0 < found.float().mean() < 0.5


def test_smooth_maps_at_another_threshold_are_torchvisions() -> None:
    size = (90, 120)
    boxes = boxes_around(size)
    coarse = torch.rand(len(boxes), 1, 4, 4)
    maps = torch.nn.functional.interpolate(coarse, size=28, mode="bicubic").clamp(0, 1)
    theirs = paste_masks_in_image(maps, boxes, size)[:, 0]
    for threshold in (0.2, 0.7):
        found = pixels(paste_masks(maps[:, 0], boxes, size, threshold=threshold))
        clear = (theirs - threshold).abs() > 1e-5
        assert torch.equal(found[clear], (theirs > threshold)[clear])


def test_by_hand() -> None:
    # with a border the map is 4 x 4, over a box that has grown from 4 to 8 to 2 to 10, which is 9 pixels. The third of
    # them, 4, lies at 2.5 * 4 / 9 - 0.5 = 0.61 between the border's 0 and the map's 1, as does 8 from the other side
    mask = paste_masks(torch.ones(1, 2, 2), torch.tensor([[4.0, 4.0, 8.0, 8.0]]), (12, 14))[0].decode()
    expected = np.zeros((12, 14), bool)
    expected[4:9, 4:9] = True
    for corner in ((4, 4), (4, 8), (8, 4), (8, 8)):
        expected[corner] = False  # 0.61 * 0.61 is below a half
    np.testing.assert_array_equal(mask, expected)


def test_a_box_of_a_pixel_and_one_without_area_are_a_pixel() -> None:
    boxes = torch.tensor([[3.0, 2.0, 4.0, 3.0], [3.2, 2.2, 3.2, 2.2], [5.0, 5.0, 4.0, 4.5]])
    found = paste_masks(torch.ones(3, 28, 28), boxes, (9, 9))
    assert found.boxes()[1].tolist() == [3, 2, 1, 1]
    # grown by a fourteenth, the first reaches from 2.96 to 4.04: cut to 2 to 4, of which the rule counts the last
    assert found.boxes()[0].tolist() == [2, 1, 3, 3]
    assert found.areas()[2] == 1


def test_boxes_outside_have_empty_masks_and_those_across_an_edge_are_cut() -> None:
    boxes = torch.tensor([[-30.0, 2, -20, 9], [2, 40, 9, 50], [-1e9, -1e9, -1e8, -1e8], [-4, -4, 4, 4]])
    found = paste_masks(torch.ones(4, 28, 28), boxes, (10, 12))
    assert found.areas().tolist()[:3] == [0, 0, 0]
    assert found.boxes()[3].tolist() == [0, 0, 5, 5]
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
