"""A rectangle of the source in a rectangle of the result, and what follows."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from delineate.data.placement import Following, Placement, corners
from delineate.errors import ArgumentError
from tests.data.object_scenes import assert_together, random_scene, scene


def placed(sample, placement, **options):
    following = Following(**{"fill": (0,), **options})
    return following.image(sample[0], placement), following.target(sample[1], placement)


def test_points_and_boxes_move_there_and_back():
    placement = Placement((2, 4, 12, 24), (5, 0, 25, 30), (40, 30))
    assert placement.scale == (2.0, 1.5)
    boxes = torch.tensor([[4.0, 2.0, 24.0, 12.0], [0.0, 0.0, 8.0, 4.0]])
    moved = placement.moved(boxes)
    assert moved.tolist() == [[0, 5, 30, 25], [-6, 1, 6, 9]]
    assert placement.restored(moved).tolist() == boxes.tolist()
    points = torch.tensor([[[4.0, 2.0], [14.0, 7.0]]])
    assert placement.moved(points).tolist() == [[[0, 5], [15, 15]]]
    assert placement.restored(placement.moved(points)).tolist() == points.tolist()
    assert placement.moved(torch.zeros(0, 4)).shape == (0, 4)
    assert placement.shows(torch.tensor([[4.0, 2.0], [24.0, 12.0], [3.9, 5.0], [9.0, 12.1]])).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_visible_shares_by_hand():
    placement = Placement((0, 10, 20, 30), (0, 0, 20, 20), (20, 20))
    boxes = torch.tensor([[10.0, 0, 20, 10], [0, 0, 20, 10], [0, 0, 10, 10], [25, 15, 35, 25], [12, 3, 12, 9]])
    assert placement.visible(boxes).tolist() == [1.0, 0.5, 0.0, 0.25, 0.0]


@pytest.mark.parametrize(
    ("window", "size", "place", "expected"),
    [
        ((0, 0, 20, 30), (20, 30), None, ((0, 0, 20, 30), (0, 0, 20, 30))),
        ((5, 10, 15, 20), (40, 40), None, ((5, 10, 15, 20), (0, 0, 40, 40))),
        ((-10, -10, 30, 50), (40, 60), None, ((0, 0, 20, 30), (10, 10, 30, 40))),
        ((-10, -10, 30, 50), (20, 30), None, ((0, 0, 20, 30), (5, 5, 15, 20))),
        ((10, 20, 30, 40), (10, 10), (2, 0, 8, 10), ((10, 20, 20, 30), (2, 0, 5, 5))),
        ((40, 0, 60, 30), (20, 30), None, ((19, 0, 20, 30), (0, 0, 1, 30))),  # beside the picture: its nearest row
        ((-50, 0, -10, 30), (40, 30), None, ((0, 0, 1, 30), (39, 0, 40, 30))),
    ],
)
def test_windows_show_the_pictures_part_of_them(window, size, place, expected):
    placement = Placement.of_window(window, (20, 30), size, place)
    assert (placement.source, placement.place) == expected
    assert placement.size == size


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_everything_moves_together(masks, dtype):
    for _ in range(8):
        sample = random_scene(masks=masks, dtype=dtype)
        top, left = (int(value) for value in torch.randint(0, 20, (2,)))
        cropped = placed(sample, Placement((top, left, top + 40, left + 60), (3, 5, 43, 65), (50, 70)))
        assert_together(*cropped)
        assert cropped[0].dtype == dtype
        resized = placed(sample, Placement((top, left, top + 30, left + 40), (10, 0, 70, 100), (80, 100)))
        assert_together(*resized, tolerance=1.5)


def test_a_cut_object_is_measured_from_its_mask_and_a_whole_one_is_not():
    image, target = scene((10, 10, 30, 20), (40, 30, 60, 50))
    # an L: the right half of the first object is only its upper half
    target["masks"][0, 15:20, 20:30] = 0
    between = target["boxes"].as_subclass(Tensor) + torch.tensor([[0.0], [0.25]])  # annotated between the pixels
    target["boxes"] = tv_tensors.wrap(between, like=target["boxes"])
    expected = {"cut": [0, 0, 10, 5], "all": [0, 0, 10, 5], "none": [0, 0, 10, 10]}
    second = {"cut": 20.25, "all": 20.0, "none": 20.25}
    for measured in ("cut", "all", "none"):
        _, moved = placed((image, target), Placement((10, 20, 60, 90), (0, 0, 50, 70), (50, 70)), measured=measured)
        boxes = moved["boxes"].as_subclass(Tensor)
        assert boxes[0].tolist() == expected[measured]
        assert float(boxes[1, 0]) == second[measured]
        assert moved["area"].tolist() == [50, 400]


def test_other_box_formats_stay_what_they_are():
    image, target = scene((10, 10, 30, 20))
    for form in ("XYWH", "CXCYWH"):
        converted = functional.convert_bounding_box_format(target["boxes"], new_format=form)
        _, moved = placed((image, {**target, "boxes": converted}), Placement((0, 20, 60, 90), (0, 0, 60, 70), (60, 70)))
        assert moved["boxes"].format.name == form
        assert corners(moved["boxes"]).tolist() == [[0, 10, 10, 20]]


def test_who_leaves_and_who_stays():
    rectangles = ((0, 0, 10, 10), (20, 0, 40, 10), (50, 0, 60, 10), (22, 20, 42, 30))
    right_half = Placement((0, 30, 60, 90), (0, 0, 60, 60), (60, 60))
    sample = scene(*rectangles, crowds=(3,))
    before = copy.deepcopy(sample)
    image, moved = placed(sample, right_half)
    assert moved["labels"].tolist() == [1, 2, 3]
    assert_together(image, moved)
    image, moved = placed(sample, right_half, min_visible=0.7)
    assert moved["labels"].tolist() == [2, 3]  # the second has half left; so few are asked of a crowd
    assert moved["iscrowd"].tolist() == [False, True]
    assert moved["boxes"][1].tolist() == [0, 20, 12, 30]
    assert_together(image, moved)
    kept = torch.tensor([True, True, False, False])
    only = Following(fill=(0,)).target(sample[1], right_half, kept)
    assert only["labels"].tolist() == [1, 3]
    for key, value in before[1].items():  # a sample may be kept in memory
        assert torch.equal(sample[1][key], value) if isinstance(value, Tensor) else sample[1][key] == value


def test_points_that_left_are_not_visible_and_unlabelled_ones_stay_at_the_origin():
    sample = scene((20, 10, 40, 30))
    sample[1]["visibility"][0, 1] = 0
    _, moved = placed(sample, Placement((0, 30, 60, 90), (10, 10, 70, 70), (80, 80)))
    assert moved["visibility"].tolist() == [[0, 0, 2, 0]]
    assert moved["keypoints"].tolist() == [[[0, 0], [0, 0], [20, 40], [0, 0]]]


def test_areas_without_masks_keep_the_share_of_the_box_that_the_file_stated():
    image, target = scene((20, 10, 40, 30), masks=False)
    target["area"] = torch.tensor([100.0])  # a quarter of its box
    _, moved = placed((image, target), Placement((0, 30, 60, 90), (0, 0, 120, 180), (120, 180)))
    assert moved["area"].tolist() == [100 / 2 * 2 * 3]


def test_nobody_and_everybody_lost():
    right = Placement((0, 60, 60, 90), (0, 0, 30, 15), (30, 40))
    for sample in (scene(), scene((0, 0, 20, 20), (30, 5, 50, 40)), scene(masks=False)):
        image, moved = placed(sample, right)
        assert image.shape[-2:] == (30, 40)
        assert moved["boxes"].shape == (0, 4)
        assert moved["keypoints"].shape == (0, 4, 2)
        assert moved["tags"].sum() == 0
        assert_together(image, moved)
    image, moved = placed((scene()[0], {"stem": "a"}), right)
    assert moved == {"stem": "a"}


def test_fills():
    sample = scene((0, 0, 10, 10), size=(20, 20), channels=3)
    outside = Placement((0, 0, 20, 20), (0, 0, 20, 20), (20, 30))
    image, moved = placed(sample, outside, fill=(9, 8, 7), ignore_index=99)
    assert image[:, 0, 25].tolist() == [9, 8, 7]
    assert (moved["semantic_mask"][:, 20:] == 99).all()
    assert moved["masks"][:, :, 20:].sum() == 0
    assert isinstance(moved["masks"], tv_tensors.Mask)


def test_it_is_small_and_can_be_sent_to_workers():
    following = Following(0.3)
    sample, placement = scene((0, 0, 10, 10)), Placement((0, 0, 30, 30), (0, 0, 30, 30), (30, 30))
    following.target(sample[1], placement)
    again = pickle.loads(pickle.dumps(following))  # noqa: S301
    assert again == following
    assert again.target(sample[1], placement)["labels"].tolist() == [0]


def test_wrong_values_are_refused():
    with pytest.raises(ArgumentError, match=r"min_visible must lie between 0 and 1; got 2"):
        Following(2)
    with pytest.raises(ArgumentError, match=r"measured must be 'cut', 'all' or 'none'; got 'some'"):
        Following(measured="some")
    image, target = scene((0, 0, 10, 10))
    for key in ("boxes", "masks", "keypoints"):
        plain = {**target, key: target[key].as_subclass(Tensor)}
        with pytest.raises(ArgumentError, match=f"{key} must be a tv_tensor, which moves with the image; got Tensor"):
            placed((image, plain), Placement((0, 0, 30, 30), (0, 0, 30, 30), (30, 30)))
