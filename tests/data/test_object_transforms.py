"""What every transform of objects shares, several in one pass, mirrors and quarter turns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from delineate.data.object_fits import LetterBox, ScaleJitter, ShortestSide, Stretch
from delineate.data.object_transforms import ObjectFlip, ObjectQuarterTurn, ObjectView, flip_pairs
from delineate.data.object_windows import Expand, IoUCrop
from delineate.data.placement import Following
from delineate.errors import ArgumentError
from tests.data.object_scenes import CORNERS, PAIRS, assert_together, random_scene, scene

BLACK = Following(fill=(0,))
# how far an edge may lie from its pixels: 0 where whole pixels move, about a pixel where they are resized
TRANSFORMS = {
    "expand": (lambda: Expand(1.0, ratio=3.0, following=BLACK), 0.0),
    "iou crop": (lambda: IoUCrop(following=BLACK), 0.0),
    "stretch": (lambda: Stretch((70, 50), following=BLACK), 1.0),
    "letterbox": (lambda: LetterBox((100, 110), following=BLACK), 1.0),
    "shortest": (lambda: ShortestSide((50, 75), longest=110, following=BLACK), 1.0),
    "jitter": (lambda: ScaleJitter((80, 80), scale=(0.6, 2.0), following=BLACK), 2.0),
    "own jitter": (lambda: ScaleJitter(scale=(0.6, 2.0), following=BLACK), 2.0),
    "ssd": (lambda: ObjectView([Expand(ratio=2.0), IoUCrop()], Stretch((120, 120)), following=BLACK), 4.0),
    "two windows": (lambda: ObjectView([Expand(ratio=2.0), IoUCrop()], following=BLACK), 0.0),
    "flip": (lambda: ObjectFlip(flip_pairs=PAIRS), 0.0),
    "vertical flip": (lambda: ObjectFlip(direction="vertical"), 0.0),
    "quarter turn": (lambda: ObjectQuarterTurn(), 1e-3),
}


@pytest.mark.parametrize("kind", list(TRANSFORMS))
def test_everything_moves_together(kind):
    make, tolerance = TRANSFORMS[kind]
    transform = make()
    for round_ in range(6):
        size = (64, 64) if round_ % 2 else (60, 90)
        options = {"masks": round_ % 3 > 0, "dtype": torch.float32 if round_ % 4 == 3 else torch.uint8}
        image, target = transform(*random_scene(size=size, **options))
        assert_together(image, target, tolerance)


@pytest.mark.parametrize("kind", list(TRANSFORMS))
def test_an_image_without_objects_is_an_image(kind):
    transform = TRANSFORMS[kind][0]()
    for masks in (True, False):
        image, target = transform(*scene(masks=masks, channels=3))
        assert image.shape[0] == 3
        assert target["boxes"].shape == (0, 4)
        assert_together(image, target)
    alone = transform(scene(channels=3)[0])
    assert isinstance(alone, tv_tensors.Image)
    _, bare = transform(scene()[0], {"stem": "a"})
    assert bare == {"stem": "a"}


@pytest.mark.parametrize("kind", list(TRANSFORMS))
def test_a_seed_repeats_the_sample(kind):
    transform, sample = TRANSFORMS[kind][0](), random_scene(size=(64, 64))
    results = []
    for seed in (3, 3):
        torch.manual_seed(seed)
        results.append([transform(*sample) for _ in range(3)])
    for (image, target), (again, target_again) in zip(*results, strict=True):
        assert torch.equal(image, again)
        assert all(torch.equal(target[k], v) for k, v in target_again.items() if isinstance(v, Tensor))


def test_one_pass_is_the_steps_one_after_another():
    sample = random_scene()
    windows, fit = [Expand(1.0, following=BLACK), IoUCrop(overlaps=(0.0,), following=BLACK)], Stretch((40, 40))
    for seed in range(5):
        torch.manual_seed(seed)
        image, target = ObjectView(windows, fit, following=BLACK)(*sample)
        torch.manual_seed(seed)
        stepwise, steps = sample
        for step in (*windows, fit):
            stepwise, steps = step(stepwise, steps)
        assert torch.equal(target["labels"], steps["labels"])
        difference = (target["boxes"].as_subclass(Tensor) - steps["boxes"].as_subclass(Tensor)).abs()
        assert len(difference) == 0 or float(difference.max()) <= 2
        assert (image.int() - stepwise.int()).abs().float().mean() < 12  # edges by up to a pixel


def test_names_say_what_changes_places():
    assert flip_pairs(("nose", "left_eye", "right_eye")) == ((1, 2),)
    assert flip_pairs(CORNERS) == PAIRS
    assert flip_pairs(("Right Hip", "bright_spot", "Left Hip", "right", "left")) == ((2, 0), (4, 3))
    assert flip_pairs(()) == ()
    for names in (("left_eye", "right_ear"), ("right_eye",)):
        with pytest.raises(
            ArgumentError, match=f"keypoint names must come in pairs of left and right; got '{names[0]}"
        ):
            flip_pairs(names)


def test_mirrors_by_hand():
    sample = scene((10, 20, 30, 26))
    sample[1]["visibility"] = torch.tensor([[2, 1, 0, 2]])
    _, mirrored = ObjectFlip(1.0, flip_pairs=PAIRS)(*sample)
    assert mirrored["boxes"].tolist() == [[60, 20, 80, 26]]
    # left_top again is the left one at the top; right_bottom was not labelled, so left_bottom is not
    assert mirrored["keypoints"].tolist() == [[[60, 20], [80, 20], [80, 26], [0, 0]]]
    assert mirrored["visibility"].tolist() == [[1, 2, 2, 0]]
    _, upside = ObjectFlip(1.0, direction="vertical", flip_pairs=PAIRS)(*sample)
    assert upside["boxes"].tolist() == [[10, 34, 30, 40]]
    assert upside["keypoints"].tolist() == [[[30, 40], [10, 40], [10, 34], [0, 0]]]
    _, plain = ObjectFlip(1.0)(*sample)
    assert plain["keypoints"].tolist() == [[[80, 20], [60, 20], [0, 0], [80, 26]]]
    assert plain["visibility"].tolist() == [[2, 1, 0, 2]]


def test_two_mirrors_are_none_and_none_is_none():
    sample = random_scene()
    for direction in ("horizontal", "vertical"):
        flip = ObjectFlip(1.0, direction=direction, flip_pairs=PAIRS)
        image, target = flip(*flip(*sample))
        assert torch.equal(image, sample[0])
        assert all(torch.equal(target[k], v) for k, v in sample[1].items() if isinstance(v, Tensor))
    assert ObjectFlip(0.0)(*sample)[0] is sample[0]
    shares = [not torch.equal(ObjectFlip(0.3)(sample[0]), sample[0]) for _ in range(400)]
    assert 90 < sum(shares) < 150


def test_quarter_turns_leave_unseen_points_at_the_origin():
    sample = scene((10, 20, 30, 26), size=(64, 64))
    sample[1]["visibility"] = torch.tensor([[2, 1, 0, 2]])
    sample[1]["keypoints"][0, 2] = 0
    seen = {tuple(ObjectQuarterTurn()(*sample)[1]["keypoints"][0, 2].tolist()) for _ in range(20)}
    assert seen == {(0.0, 0.0)}


def test_wrong_inputs_are_refused():
    image, target = scene((0, 0, 10, 10))
    with pytest.raises(ArgumentError, match=r"image must be a tv_tensors.Image; got Tensor. Put v2.ToImage"):
        Stretch((4, 4))(image.as_subclass(Tensor), target)
    with pytest.raises(ArgumentError, match=r"masks must have the image's \(height, width\) \(60, 90\); got \(5, 5\)"):
        Stretch((4, 4))(image, {**target, "masks": tv_tensors.Mask(torch.zeros(1, 5, 5))})
    with pytest.raises(ArgumentError, match=r"p must lie between 0 and 1; got 1.5"):
        ObjectFlip(1.5)
    with pytest.raises(ArgumentError, match=r"direction must be 'horizontal' or 'vertical'; got diagonal"):
        ObjectFlip(direction="diagonal")
    with pytest.raises(ArgumentError, match=r"flip_pairs must be below 4, the key points; got \(0, 9\)"):
        ObjectFlip(1.0, flip_pairs=((0, 9),))(image, target)
