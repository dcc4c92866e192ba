"""The embedded scenes: the same for everybody, exactly annotated, legible, and without side effects."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from delineate.data.digits import DIGITS, DigitScenes
from delineate.data.digits_scene import LUMA, PHOTO_REACH, VISIBLE_SHARE, Scene, sources
from delineate.errors import ArgumentError, UnknownNameError


def digest(scenes):
    return [(int(image.astype(np.int64).sum()), int(labels.sum())) for image, labels in map(scenes.read, range(4))]


def test_a_scene_depends_on_seed_split_and_index_only():
    scenes = DigitScenes("train")
    image, labels = scenes.read(7)
    again, labels_again = DigitScenes("train", length=9).read(7)
    assert np.array_equal(image, again)
    assert np.array_equal(labels, labels_again)
    for other in (DigitScenes("val"), DigitScenes("train", seed=1)):
        assert not np.array_equal(image, other.read(7)[0])
    assert not np.array_equal(image, scenes.read(8)[0])
    assert np.array_equal(scenes.read(-1)[0], scenes.read(len(scenes) - 1)[0])


def test_global_random_state_is_neither_read_nor_changed():
    np.random.seed(0)
    torch.manual_seed(0)
    first = DigitScenes("val")[1][0]
    after = np.random.get_state()[1].copy(), torch.get_rng_state()
    np.random.seed(0)
    torch.manual_seed(0)
    assert np.array_equal(after[0], np.random.get_state()[1])
    assert torch.equal(after[1], torch.get_rng_state())
    torch.manual_seed(99)
    assert torch.equal(DigitScenes("val")[1][0], first)


def test_the_interface():
    scenes = DigitScenes("val")
    assert (len(scenes), len(DigitScenes()), len(DigitScenes("test", length=3))) == (150, 7500, 3)
    assert scenes.taxonomy.names[0] == "background"
    assert scenes.taxonomy.names[10] == "nine"
    assert scenes.taxonomy.background == 0
    assert len(set(DIGITS.colours)) == 11
    assert (scenes.name, scenes.split, scenes.skipped) == ("digits", "val", [])
    assert scenes.files(12) == "digits/val/12"
    assert scenes.stem(12) == "val-00012"
    with pytest.raises(IndexError, match="150"):
        scenes.read(150)
    assert len(list(DigitScenes("val", length=2))) == 2


def test_an_item_agrees_with_itself():
    scenes = DigitScenes("train", size=(80, 120))
    for index in range(10):
        image, target = scenes[index]
        count = len(target["labels"])
        assert isinstance(image, tv_tensors.Image)
        assert image.shape == (3, 80, 120)
        assert image.dtype == target["semantic_mask"].dtype == target["masks"].dtype == torch.uint8
        assert target["masks"].shape == (count, 80, 120)
        assert target["boxes"].shape == (count, 4)
        assert target["boxes"].dtype == torch.float32
        assert target["labels"].dtype == torch.int64
        assert (target["image_id"], target["stem"]) == (index, f"train-{index:05d}")
        assert int(target["masks"].sum(0).max() if count else 0) <= 1  # visible parts do not overlap
        union = (target["masks"] * (target["labels"] + 1)[:, None, None]).sum(0)
        assert torch.equal(union, target["semantic_mask"].long())
        assert target["tags"].nonzero().flatten().tolist() == sorted(set(target["labels"].tolist()))
        for mask, box in zip(target["masks"], target["boxes"].tolist(), strict=True):
            rows, columns = torch.nonzero(mask.any(1)), torch.nonzero(mask.any(0))
            assert box == [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        read_image, read_labels = scenes.read(index)
        assert np.array_equal(read_image, image.permute(1, 2, 0).numpy())
        assert np.array_equal(read_labels, target["semantic_mask"].numpy())


def test_scenes_hold_three_to_five_digits_or_none():
    scenes = DigitScenes("train")
    counts = np.array([len(scenes.scene(index).classes) for index in range(400)])
    assert set(counts.tolist()) == {0, 3, 4, 5}
    assert 0.002 <= (counts == 0).mean() <= 0.04


def test_a_single_digit_is_the_rearmost_of_the_ordinary_scene():
    ordinary, single = DigitScenes("val", length=60), DigitScenes("val-single", length=60)
    assert (len(DigitScenes("train-single")), len(DigitScenes("test-single"))) == (7500, 150)
    assert (single.stem(3), single.files(3)) == ("val-single-00003", "digits/val-single/3")
    empty = 0
    for index in range(60):
        many, one = ordinary.scene(index), single.scene(index)
        assert len(one.classes) == 1
        assert (one.instances == 1).any()
        empty += len(many.classes) == 0
        if len(many.classes):
            assert one.classes[0] == many.classes[0]
            assert np.array_equal(one.extremes[0], many.extremes[0])
            assert (one.masks[0] >= many.masks[0]).all()  # nothing covers it
    assert empty < 10


def test_a_scene_without_objects_is_ordinary():
    scenes = DigitScenes("train")
    index = next(index for index in range(800) if len(scenes.scene(index).classes) == 0)
    _, target = scenes[index]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 96, 96)
    assert not target["semantic_mask"].any()
    assert not target["tags"].any()


def test_digits_are_large_enough_and_stand_out():
    scenes = DigitScenes("test")
    heights, steps = [], []
    for index in range(60):
        scene = scenes.scene(index)
        grey = scene.image @ LUMA
        labels = scene.masks
        for mask in labels:
            area = mask.sum()
            assert area >= 40  # no left-overs
            rows = np.flatnonzero(mask.any(1))
            heights.append(rows[-1] - rows[0] + 1)
            steps.append(abs(grey[mask].mean() - grey[scene.instances == 0].mean()))
    assert 34 <= np.median(heights) <= 50
    assert max(heights) <= 60
    assert np.median(steps) > 70
    assert VISIBLE_SHARE >= 0.2


def test_splits_share_no_digit_and_no_part_of_a_photo():
    seen: dict[bytes, str] = {}
    count = 0
    for split in ("train", "val", "test"):
        material = sources(split)
        assert all(len(samples) > 20 for samples in material.glyphs)
        for samples in material.glyphs:
            for glyph in samples:
                count += 1
                assert seen.setdefault(glyph.tobytes(), split) == split
    assert count == 1797
    widths = [[photo.width for photo in sources(split).photos] for split in ("train", "val", "test")]
    assert np.sum(widths, axis=0).tolist() == [640, 640]
    # every split's backgrounds are equally magnified, or training would not prepare for the others
    assert np.min(widths) == PHOTO_REACH


def test_greyscale_is_the_luminance():
    image, labels = DigitScenes("val").read(3)
    grey, same = DigitScenes("val", channels=1).read(3)
    assert grey.shape == (96, 96, 1)
    assert np.abs(grey[..., 0] - image @ LUMA).max() <= 0.51
    assert np.array_equal(labels, same)
    assert DigitScenes("val", channels=1)[3][0].shape == (1, 96, 96)


@pytest.mark.parametrize("size", [(32, 32), (33, 200), (200, 33), (160, 128)])
def test_any_size_from_32(size):
    scenes = DigitScenes("test", size=size)
    for index in range(4):
        image, labels = scenes.read(index)
        assert image.shape == (*size, 3)
        assert labels.shape == size


def test_digits_grow_with_the_scene():
    small, large = DigitScenes("train"), DigitScenes("train", size=(288, 288))
    shares = [np.mean([(scenes.read(index)[1] > 0).mean() for index in range(40)]) for scenes in (small, large)]
    assert shares[0] == pytest.approx(shares[1], rel=0.3)


def test_it_travels_to_workers_and_the_transform_is_applied():
    scenes = DigitScenes("val", length=4, transform=first_only)
    copy = pickle.loads(pickle.dumps(scenes))  # noqa: S301
    assert digest(copy) == digest(scenes)
    assert torch.equal(copy[2], scenes[2])
    context = multiprocessing.get_context("fork")
    loader = DataLoader(scenes, batch_size=2, num_workers=1, multiprocessing_context=context)
    batches = list(loader)
    assert torch.equal(torch.cat(batches), torch.stack([scenes[index] for index in range(4)]))


def first_only(image, target):
    assert "boxes" in target
    return image.as_subclass(torch.Tensor)


def test_scene_properties_by_hand():
    scene = Scene(np.zeros((1, 3, 3), np.uint8), np.array([[0, 2, 1]], np.uint8), np.array([9, 0]))
    assert scene.labels.tolist() == [[0, 1, 10]]
    assert scene.masks.tolist() == [[[False, False, True]], [[False, True, False]]]


def test_wrong_arguments_are_refused():
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'validation'"):
        DigitScenes("validation")
    with pytest.raises(UnknownNameError, match="Did you mean 'val-single'"):
        DigitScenes("val-singel")
    with pytest.raises(ArgumentError, match=r"size must be .height, width., each at least 32; got .8, 8."):
        DigitScenes(size=(8, 8))
    with pytest.raises(ArgumentError, match="channels must be 1 or 3; got 4"):
        DigitScenes(channels=4)
    with pytest.raises(ArgumentError, match="length must be 0 or more; got -1"):
        DigitScenes(length=-1)
    with pytest.raises(ArgumentError, match="seed must be 0 or more"):
        DigitScenes(seed=-1)
