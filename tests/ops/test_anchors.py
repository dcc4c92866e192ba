from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from delineate.errors import ArgumentError
from delineate.ops.anchors import (
    SSD300_COCO,
    SSD300_PAPER,
    SSD300_VOC,
    SSD512_COCO,
    SSD512_VOC,
    YOLO9000_PRIORS,
    YOLOV2_VOC_PRIORS,
    DefaultBoxes,
    anchors_inside,
    base_anchors,
    grid_anchors,
    pyramid_anchors,
    rpn_base_anchors,
    ssd_default_boxes,
)

MATLAB = [
    [-83, -39, 100, 56],
    [-175, -87, 192, 104],
    [-359, -183, 376, 200],
    [-55, -55, 72, 72],
    [-119, -119, 136, 136],
    [-247, -247, 264, 264],
    [-35, -79, 52, 96],
    [-79, -167, 96, 184],
    [-167, -343, 184, 360],
]
SSD300_SIZES = [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]
SSD512_SIZES = [(side, side) for side in (64, 32, 16, 8, 4, 2, 1)]
OCTAVES = [tuple(int(x * 2 ** (k / 3)) for k in range(3)) for x in (32, 64, 128, 256, 512)]


def torchvisions(generator, sizes, over):
    images = ImageList(torch.zeros(1, 1, *over), [over])
    return generator(images, [torch.zeros(1, 1, *size) for size in sizes])[0]


def test_the_nine_of_the_release():
    """Printed with corners that count from 1 and belong to the box: the left and upper edge lies one lower."""
    edges = torch.tensor(MATLAB, dtype=torch.float32) - torch.tensor([1, 1, 0, 0])
    assert torch.equal(rpn_base_anchors(), edges)
    centres = (edges[:, :2] + edges[:, 2:]) / 2
    assert torch.equal(centres, torch.full((9, 2), 8.0))  # of the first cell


def test_counts_of_faster_rcnn():
    anchors = grid_anchors(rpn_base_anchors(), size=(38, 63), stride=16)
    assert anchors.shape == (21_546, 4)
    corners = (torch.tensor(MATLAB) - 1)[None, None]  # from 0, as the release has them
    right, down = torch.arange(63)[None, :, None] * 16, torch.arange(38)[:, None, None] * 16
    across = (corners[..., 0] + right >= 0) & (corners[..., 2] + right < 1000)
    inside = across & (corners[..., 1] + down >= 0) & (corners[..., 3] + down < 600)
    assert torch.equal(anchors_inside(anchors, (600, 1000)), inside.flatten())
    assert int(inside.sum()) == 8151  # the paper says "roughly 6000"


def test_grid_by_hand():
    base = torch.tensor([[0.0, 0, 2, 2], [-1, -1, 1, 1]])
    found = grid_anchors(base, size=(2, 2), stride=(10, 100))
    expected = [[0, 0, 2, 2], [-1, -1, 1, 1], [100, 0, 102, 2], [99, -1, 101, 1]]
    expected += [[0, 10, 2, 12], [-1, 9, 1, 11], [100, 10, 102, 12], [99, 9, 101, 11]]
    assert found.tolist() == expected
    assert torch.equal(grid_anchors(base, size=(2, 2), over=(21, 201)), found)
    assert grid_anchors(base.double(), size=(1, 1), stride=8).dtype == torch.float64
    assert grid_anchors(base.bfloat16(), size=(1, 300), stride=8)[-1, 0] == 299 * 8 - 1  # not on bfloat16's raster


@pytest.mark.parametrize("over", [(800, 1344), (800, 1333), (301, 203)])
def test_pyramid_equals_torchvision(over):
    strides = (4, 8, 16, 32, 64)
    sizes = [(math.ceil(over[0] / stride), math.ceil(over[1] / stride)) for stride in strides]
    ratios = (0.5, 1.0, 2.0)
    bases = [base_anchors([8 * stride], ratios) for stride in strides]
    theirs = torchvisions(AnchorGenerator(tuple((8 * s,) for s in strides), (ratios,) * 5), sizes, over)
    assert torch.equal(torch.cat(pyramid_anchors(bases, sizes, over=over)), theirs)
    if over == (800, 1344):
        assert len(theirs) == 268_569


@pytest.mark.parametrize(("over", "count"), [((800, 1344), 201_600), ((800, 1333), 200_700)])
def test_retinanet_equals_torchvision(over, count):
    sizes = [(math.ceil(over[0] / stride), math.ceil(over[1] / stride)) for stride in (8, 16, 32, 64, 128)]
    ratios = (0.5, 1.0, 2.0)
    found = torch.cat(pyramid_anchors([base_anchors(octave, ratios) for octave in OCTAVES], sizes, over=over))
    assert found.shape == (count, 4)
    assert torch.equal(found, torchvisions(AnchorGenerator(tuple(OCTAVES), (ratios,) * 5), sizes, over))


def test_bases_that_are_not_rounded_keep_area_and_ratio():
    base = base_anchors([32, 50.5], [0.5, 1, 3], whole=False)
    width, height = (base[:, 2:] - base[:, :2]).unbind(dim=1)
    torch.testing.assert_close((width * height).sqrt(), torch.tensor([32, 50.5] * 3))
    torch.testing.assert_close(height / width, torch.tensor([0.5, 0.5, 1, 1, 3, 3]))


def test_ssd_equals_torchvision():
    generator = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2], [2]], scales=list(SSD300_COCO.scales), steps=list(SSD300_COCO.strides)
    )
    theirs = torchvisions(generator, SSD300_SIZES, (300, 300))
    found = ssd_default_boxes(SSD300_COCO, SSD300_SIZES, over=(300, 300), most=1)
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-4)
    wide = ssd_default_boxes(SSD300_COCO, SSD300_SIZES, over=(300, 300))
    sides = [(boxes[-2, 2] - boxes[-2, 0]).item() for boxes in (found, wide)]  # a scale of 0.87 at a ratio of 2
    assert sides == pytest.approx([300, 300 * 0.87 * math.sqrt(2)])


@pytest.mark.parametrize("shapes", [SSD300_VOC, SSD300_PAPER, SSD300_COCO])
def test_ssd300_has_8732(shapes):
    assert ssd_default_boxes(shapes, SSD300_SIZES, over=(300, 300)).shape == (8_732, 4)


@pytest.mark.parametrize("shapes", [SSD512_VOC, SSD512_COCO])
def test_ssd512_has_24564(shapes):
    assert ssd_default_boxes(shapes, SSD512_SIZES, over=(512, 512)).shape == (24_564, 4)


def test_the_release_sides_in_pixels():
    """min_size and max_size of the released VOC networks: the small square is the first, the large one the second."""
    for shapes, sizes, side, smallest, largest in (
        (SSD300_VOC, SSD300_SIZES, 300, (30, 60, 111, 162, 213, 264), (60, 111, 162, 213, 264, 315)),
        (
            SSD512_VOC,
            SSD512_SIZES,
            512,
            (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8),
            (76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6),
        ),
    ):
        boxes, start = ssd_default_boxes(shapes, sizes, over=(side, side)), 0
        for place, (small, large) in enumerate(zip(smallest, largest, strict=True)):
            ratios = 2 + 2 * len(shapes.aspect_ratios[place])
            widths = boxes[start : start + 2, 2] - boxes[start : start + 2, 0]
            assert widths.tolist() == pytest.approx([small, math.sqrt(small * large)], rel=1e-5)
            centre = (boxes[start, :2] + boxes[start, 2:]) / 2
            assert centre.tolist() == pytest.approx([shapes.strides[place] / 2] * 2, abs=1e-4)
            start += ratios * sizes[place][0] * sizes[place][1]


def test_ssd_in_an_image_that_is_not_square():
    shapes = DefaultBoxes((0.5, 0.5), ((),), (10,))
    assert ssd_default_boxes(shapes, [(1, 1)], over=(10, 40)).tolist() == [[-5, 2.5, 15, 7.5]] * 2


def test_priors_of_yolo():
    assert [len(YOLOV2_VOC_PRIORS), len(YOLO9000_PRIORS)] == [5, 3]
    areas = [width * height for width, height in YOLOV2_VOC_PRIORS]
    assert areas == sorted(areas)


def test_inside():
    anchors = torch.tensor([[0.0, 0, 8, 4], [0, 0, 8.5, 4], [0, -1, 8, 3], [0, 1, 8, 5]])
    assert anchors_inside(anchors, (4, 8)).tolist() == [True, False, False, False]
    assert anchors_inside(anchors, (4, 8), margin=1).tolist() == [True] * 4


def test_errors():
    base = torch.zeros(1, 4)
    with pytest.raises(ArgumentError, match=r"stride must be given, or else over; got neither\. Pass the stride, or"):
        grid_anchors(base, size=(2, 2))
    with pytest.raises(ArgumentError, match=r"over; got both"):
        grid_anchors(base, size=(2, 2), stride=3, over=(8, 8))
    with pytest.raises(ArgumentError, match=r"over must be at least the map's size \(8, 8\); got \(4, 16\)"):
        grid_anchors(base, size=(8, 8), over=(4, 16))
    with pytest.raises(ArgumentError, match=r"sizes must be numbers above 0; got \[32, 0\]"):
        base_anchors([32, 0])
    with pytest.raises(ArgumentError, match=r"bases must be 2, one for each size; got 1"):
        pyramid_anchors([base], [(1, 1), (2, 2)], over=(8, 8))
    with pytest.raises(ArgumentError, match=r"sizes must be 6, one a map; got \[\(38, 38\)\]"):
        ssd_default_boxes(SSD300_VOC, [(38, 38)], over=(300, 300))
    with pytest.raises(ArgumentError, match=r"scales must be 2, one a map and one more; got 1"):
        DefaultBoxes((0.1,), ((2.0,),), (8,))
