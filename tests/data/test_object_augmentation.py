"""Presets, what overrides them, the errors, and whole pipelines on real objects."""

from __future__ import annotations

import pickle

import msgspec
import pytest
import torch
from torch import Tensor

from delineate.data.mosaic import MixUp, Mosaic, ObjectCopyPaste
from delineate.data.object_augmentation import (
    PRESETS,
    ObjectAugmentation,
    augmentation_preset,
    eval_fit,
    eval_transform,
    resolved,
    train_mixings,
    train_transform,
)
from delineate.data.placement import Following
from delineate.errors import ArgumentError, RecipeError, UnknownNameError
from tests.data.object_scenes import CORNERS, assert_together, random_scene, scene


def test_every_preset_carries_its_name_and_the_default_is_medium():
    assert list(PRESETS) == ["none", "light", "medium", "strong", "ssd"]
    assert [preset.preset for preset in PRESETS.values()] == list(PRESETS)
    assert ObjectAugmentation() == augmentation_preset("medium") == resolved({})
    with pytest.raises(UnknownNameError, match="Did you mean 'strong'"):
        augmentation_preset("strnog")


@pytest.mark.parametrize("preset", list(PRESETS))
def test_plain_values_and_back(preset):
    options = resolved({"preset": preset})
    assert resolved(options.to_dict()) == options
    assert msgspec.convert(msgspec.yaml.decode(msgspec.yaml.encode(options.to_dict())), ObjectAugmentation) == options


def test_given_values_replace_the_presets_and_nothing_else():
    got = resolved({"preset": "ssd", "size": [512, 512], "iou_overlaps": [0, 1], "multi_scale": [320, 352]})
    assert got.size == (512, 512)
    assert got.iou_overlaps == (0.0, 1.0)
    assert got.multi_scale == (320, 352)
    assert (got.expand, got.iou_crop, got.fit) == (0.5, 1.0, "stretch")
    assert resolved({"preset": "none", "fit": "shortest", "shortest": [600]}).longest == 1333


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"preset": "sdd"}, r"augmentation.preset must be a known preset; got 'sdd'. Did you mean 'ssd'\?"),
        ({"mosiac": 1}, r"augmentation.mosiac must be a known key; got 'mosiac'. Did you mean 'mosaic'\?"),
        ({"qqqq": 1}, r"augmentation.qqqq must be a known key; got 'qqqq'. Known: preset, fit, size"),
        ({"mosaic": "yes"}, r"augmentation.mosaic must be a number; got 'yes'\."),
        ({"mosaic": 2}, r"augmentation.mosaic must lie between 0 and 1; got 2.0\."),
        ({"blur": float("nan")}, "augmentation.blur must be 0 or more; got nan"),
        ({"size": 300}, r"augmentation.size must be \[height, width\] in whole pixels, or null; got 300\."),
        ({"size": [0, 3]}, r"augmentation.size must be \[height, width\], both positive; got \(0, 3\)"),
        ({"preset": "ssd", "size": None}, r"augmentation.size must be \[height, width\] to stretch to; got null"),
        ({"fit": "zoom"}, r"augmentation.fit must be 'canvas', 'stretch' or 'shortest'; got 'zoom'\."),
        ({"fit": "shortest", "size": [3, 3]}, "augmentation.size must be null where fit is 'shortest'"),
        ({"fit": "shortest"}, r"augmentation.scale must be \[1, 1\] where fit is 'shortest'; got \[0.5, 1.5\]"),
        ({"scale": [2, 1]}, r"augmentation.scale must be \[smallest, largest\], both positive; got \[2.0, 1.0\]"),
        ({"shortest": []}, r"augmentation.shortest must be positive lengths, at least one; got \[\]"),
        ({"longest": 0}, "augmentation.longest must be positive; got 0"),
        ({"expand_ratio": 0.5}, "augmentation.expand_ratio must be 1 or more; got 0.5"),
        (
            {"iou_overlaps": [2]},
            r"augmentation.iou_overlaps must be numbers between 0 and 1, at least one; got \[2.0\]",
        ),
        ({"measured": "some"}, "augmentation.measured must be 'cut', 'all' or 'none'; got 'some'"),
        ({"multi_scale": [0]}, r"augmentation.multi_scale must be positive sides; got \[0\]"),
        ({"multi_scale_every": 0}, "augmentation.multi_scale_every must be positive; got 0"),
        ({"rotate90": 3}, "augmentation.rotate90 must be true or false; got 3"),
    ],
)
def test_wrong_values_name_their_key(values, text):
    with pytest.raises(RecipeError, match=text):
        resolved(values)


def test_a_record_made_by_hand_is_checked_too():
    with pytest.raises(RecipeError, match=r"augmentation\.fit must be"):
        ObjectAugmentation(fit="zoom")
    with pytest.raises(RecipeError, match=r"augmentation\.measured must be"):
        ObjectAugmentation(measured="zoom")


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_keeps_pixels_and_objects_together(preset):
    # colours would hide which pixel is whose
    colourless = {"photometric": 0, "blur": 0, "noise": 0, "rotate90": True, "flip_vertical": 0.5}
    options = resolved({"preset": preset, "size": [120, 120], **colourless})
    transform = pickle.loads(pickle.dumps(train_transform(options, keypoint_names=CORNERS, fill=(0,))))  # noqa: S301
    for round_ in range(4):
        count = round_ % 4
        image, target = transform(*random_scene(count, masks=round_ % 2 == 0))
        assert image.shape == (max(count, 1), 120, 120)
        # what is small has few pixels to say where its edges are
        sizes = target["boxes"].as_subclass(Tensor)
        large = not len(sizes) or float((sizes[:, 2:] - sizes[:, :2]).min()) > 8
        if large:
            assert_together(image, target, 4.0)
        assert len(target["labels"]) <= count


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_preset_with_its_mixings_repeats_a_seed(preset, channels):
    options = resolved({"preset": preset, "size": [64, 64]})
    transform, mixings = train_transform(options), train_mixings(options)
    samples = [scene((10, 10, 40, 50), channels=channels) for _ in range(4)]
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        mixed = transform(*samples[0])
        for mixing in mixings:
            mixed = mixing(mixed, *(transform(*sample) for sample in samples[1 : 1 + mixing.partners]))
        results.append(mixed)
    assert results[0][0].shape == (channels, 64, 64)
    assert results[0][0].dtype == torch.uint8
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1]["boxes"], results[1][1]["boxes"])
    assert preset == "none" or not torch.equal(results[0][0], results[2][0])


def test_shorter_sides_leave_every_picture_a_size_of_its_own():
    options = resolved({"preset": "none", "fit": "shortest", "shortest": [30, 40], "longest": 55})
    transform = train_transform(options, fill=(0,))
    assert {tuple(transform(*scene())[0].shape[-2:]) for _ in range(12)} == {(30, 45), (37, 55)}
    assert eval_fit(options).placement((60, 60)).size == (40, 40)
    assert {tuple(eval_transform(options)(*scene())[0].shape[-2:]) for _ in range(5)} == {(37, 55)}


def test_the_canvas_of_ssd_keeps_its_colour():
    options = resolved({"preset": "ssd", "expand": 1.0, "iou_crop": 0, "photometric": 1.0})
    corners = set()
    for _ in range(4):
        image, target = train_transform(options)(*scene((0, 0, 90, 60), channels=3))
        empty = target["masks"].as_subclass(Tensor).sum(dim=0) == 0
        corners |= {tuple(colour) for colour in image.as_subclass(Tensor)[:, empty].unique(dim=1).T.tolist()}
    assert corners == {(124, 116, 104)}


def test_mixings_are_what_the_recipe_names():
    assert train_mixings(resolved({})) == ()
    options = resolved({"copy_paste": 0.25, "mosaic": 0.5, "mosaic_scale": [1, 1], "mixup": 1, "min_visible": 0.2})
    following = Following(0.2)
    got = train_mixings(options, fill=following.fill)
    assert [type(mixing) for mixing in got] == [ObjectCopyPaste, Mosaic, MixUp]
    assert [mixing.probability for mixing in got] == [0.25, 0.5, 1.0]
    assert got[1].scale == (1.0, 1.0)
    assert all(mixing.following == following for mixing in got)


def test_none_and_eval_change_nothing():
    image, target = random_scene(3)
    for options in (augmentation_preset("none"), resolved({"preset": "strong"})):
        for transform in (train_transform(augmentation_preset("none")), eval_transform(options)):
            got, moved = transform(image, target)
            assert torch.equal(got, image)
            assert all(torch.equal(moved[key], value) for key, value in target.items() if isinstance(value, Tensor))
    assert eval_fit(resolved({})) is None
    floats = random_scene(3, dtype=torch.float32)
    assert eval_transform(resolved({}))(*floats)[0].dtype == torch.uint8


def test_evaluation_shows_the_size_of_training():
    image, target = eval_transform(resolved({"preset": "strong", "size": [96, 96]}), fill=(0,))(*random_scene(3))
    assert image.shape == (3, 96, 96)
    assert_together(image, target, 1.0)
    assert eval_fit(resolved({"preset": "ssd"})).placement((10, 20)).place == (0, 0, 300, 300)


def test_key_points_without_a_partner_are_refused():
    with pytest.raises(ArgumentError, match="come in pairs of left and right; got 'left_eye' alone"):
        train_transform(resolved({}), keypoint_names=("left_eye", "nose"))
