"""Counts over objects."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from delineate.data.object_statistics import object_statistics
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def few(**more):
    objects = Objects.of(
        images=[0, 0, 0, 2, 2],
        labels=[0, 0, 2, 0, 2],
        boxes=[[0, 0, 10, 20], [0, 0, 40, 40], [0, 0, 96, 96], [0, 0, 20, 10], [0, 0, 50, 50]],
        crowd=[False, False, False, False, True],
        **more,
    )
    sizes = [(100, 200), (100, 200), (50, 60)]
    return Annotations.of(("a", "b", "c"), ("cat", "cow", "dog"), objects, image_sizes=sizes, keypoint_names=["nose"])


def test_by_hand():
    counted = object_statistics(few(), name="zoo", split="train")
    assert counted.objects == (3, 0, 1)
    assert counted.images_with_class == (2, 0, 1)
    assert counted.by_size.tolist() == [[2, 1, 0], [0, 0, 0], [0, 0, 1]]  # 96 x 96 is large
    assert counted.median_sizes[0].tolist() == [20, 20]
    assert counted.median_ratios[0] == 1
    assert math.isnan(counted.median_ratios[1])
    assert counted.per_image.tolist() == [3, 0, 1]
    assert (counted.images, counted.empty_images, counted.uncounted) == (3, 1, 1)
    assert counted.image_sizes == (((100, 200), 2), ((50, 60), 1))
    assert counted.relative.tolist() == pytest.approx([0.01, 0.08, 0.4608, 200 / 3000])
    assert counted.rows()[0][:7] == ["cat", 3, 2, 75.0, 2, 1, 0]
    assert counted.summary().splitlines() == [
        "3 images; 2 of 100 x 200 (height x width), and 1 other size",
        "4 objects, 1.3 an image (median 1, most 3); images without any: 1",
        "50 % small, 25 % medium, 25 % large; width / height 0.57 to 1.85 for 9 in 10, median 1.00",
        "crowds and difficult objects, not counted here: 1",
    ]
    plain = json.loads(json.dumps(counted.to_dict(), allow_nan=False))
    assert plain["objects_per_image"] == {"0": 1, "1": 1, "3": 1}
    assert plain["classes"][1] == {
        "name": "cow",
        "objects": 0,
        "images": 0,
        "share": 0.0,
        "small": 0,
        "medium": 0,
        "large": 0,
        "median_width": None,
        "median_height": None,
        "median_ratio": None,
    }


def test_stated_areas_and_keypoints_count():
    points = np.zeros((5, 1, 3))
    points[[0, 3, 4], 0, 2] = 2
    counted = object_statistics(few(areas=[1, 1, 1, 1, 1], keypoints=points))
    assert counted.by_size.sum(axis=0).tolist() == [4, 0, 0]
    assert counted.keypoints == (("nose", 2),)
    assert "keypoints labelled: nose 2" in counted.summary()


def test_nothing_at_all(tmp_path):
    none = Annotations.of((), ("cat",), Objects.of([], [], []))
    counted = object_statistics(none)
    assert (counted.objects, counted.images, counted.empty_images) == ((0,), 0, 0)
    assert "0 objects" in counted.summary()
    json.dumps(counted.to_dict(), allow_nan=False)
    counted.plot(tmp_path / "none.png")


def test_the_plot(tmp_path):
    object_statistics(few(), name="zoo", split="train").plot(tmp_path / "zoo.png")
    with Image.open(tmp_path / "zoo.png") as drawn:
        assert drawn.width > 800
        assert len(np.unique(np.array(drawn.convert("L")))) > 50  # there is something on it
