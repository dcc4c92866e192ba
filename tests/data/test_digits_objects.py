"""The embedded scenes, object by object."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from delineate.data.digits import DigitScenes
from delineate.data.digits_objects import DigitObjects
from delineate.data.digits_scene import EXTREMES, Scene, extreme_pixels
from delineate.data.opening import open_dataset
from delineate.errors import UnknownNameError


def test_items_agree_with_the_scenes():
    scenes, digits = DigitScenes("val", size=(64, 80)), DigitObjects("val", size=(64, 80))
    for index in range(6):
        image, target = scenes[index]
        ours, found = digits[index]
        assert torch.equal(image, ours)
        for key in ("boxes", "masks", "labels", "area", "iscrowd"):
            assert torch.equal(found[key], target[key]), key
            assert found[key].dtype == target[key].dtype
        assert (found["image_id"], found["stem"]) == (target["image_id"], target["stem"])


def test_the_interface():
    digits = open_dataset("digits", split="val", task="objects", columns=["keypoints"])
    assert isinstance(digits, DigitObjects)
    assert (len(digits), digits.name, digits.skipped, digits.files(3)) == (150, "digits", [], "digits/val/3")
    assert (digits.taxonomy.names[0], digits.taxonomy.num_classes, digits.taxonomy.background) == ("zero", 10, None)
    assert digits.keypoint_names == EXTREMES == ("top", "right", "bottom", "left")
    assert list(digits[0][1]) == ["boxes", "labels", "keypoints", "visibility", "area", "iscrowd", "image_id", "stem"]
    copy = pickle.loads(pickle.dumps(digits))  # noqa: S301
    assert torch.equal(copy[2][1]["keypoints"], digits[2][1]["keypoints"])
    with pytest.raises(UnknownNameError, match="column"):
        DigitObjects(columns=["points"])


def test_truth_and_counts_are_those_of_the_items():
    digits = DigitObjects("test", length=6, size=(48, 48))
    truth = digits.truth()
    assert truth.num_images == 6
    assert digits.counts().tolist() == np.bincount(truth.objects.images, minlength=6).tolist()
    for index in range(6):
        rows = np.flatnonzero(truth.objects.images == index)
        assert np.array_equal(truth.objects.boxes[rows], digits.read(index)[1].boxes)


def test_a_single_split_has_one_object_an_image():
    digits = open_dataset("digits", split="test-single", task="objects", columns=["boxes"])
    assert (digits.split, len(digits), digits.files(2)) == ("test-single", 150, "digits/test-single/2")
    few = DigitObjects("test-single", length=20, size=(32, 32))
    assert few.counts().tolist() == [1] * 20
    assert len(few.truth().objects) == 20


def test_extreme_pixels_by_hand():
    mask = np.array([[0, 1, 1, 1, 0], [1, 1, 0, 0, 1], [0, 0, 1, 0, 0]], bool)
    assert extreme_pixels(mask).tolist() == [[2, 0], [4, 1], [2, 2], [0, 1]]
    assert extreme_pixels(np.ones((1, 1), bool)).tolist() == [[0, 0]] * 4


def test_a_covered_keypoint_is_hidden():
    instances = np.array([[1, 2], [1, 1]], np.uint8)
    extremes = np.array([[[1, 0], [1, 1], [0, 1], [0, 0]], [[1, 0]] * 4])
    points = Scene(np.zeros((2, 2, 3), np.uint8), instances, np.array([3, 4]), extremes).keypoints
    assert points[0].tolist() == [[1, 0, 1], [1, 1, 2], [0, 1, 2], [0, 0, 2]]
    assert points[1, :, 2].tolist() == [2, 2, 2, 2]


def test_keypoints_are_the_ends_of_what_is_seen_or_hidden():
    digits = DigitObjects("train", size=(96, 96))
    hidden = whole = 0
    for index in range(40):
        _, target = digits[index]
        for mask, points, seen in zip(target["masks"], target["keypoints"], target["visibility"], strict=True):
            columns, rows = points.long().unbind(1)
            assert torch.equal(mask[rows, columns] == 1, seen == 2)
            hidden += int((seen == 1).sum())
            there = torch.nonzero(mask)
            ends = [there[:, 0].min(), there[:, 1].max(), there[:, 0].max(), there[:, 1].min()]
            for way, (end, place) in enumerate(zip(ends, (rows[0], columns[1], rows[2], columns[3]), strict=True)):
                # the whole digit reaches at least as far as its visible part
                assert (place >= end) if way in (1, 2) else (place <= end)
                whole += int(place == end)
    assert hidden > 0
    assert whole > 400
