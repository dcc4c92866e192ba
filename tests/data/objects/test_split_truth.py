"""A split as columns."""

from __future__ import annotations

from functools import partial

import pytest

from delineate.data.digits_objects import DigitObjects
from delineate.data.objects.split_truth import split_truth
from delineate.errors import UnknownNameError
from tests.data.object_folders import annotation, coco, picture


def test_what_training_has_of_it(tmp_path):
    root = tmp_path / "zoo"
    for i in range(5):
        picture(root / f"images/{i}.png")
    records = [annotation(i, i) for i in range(5)] + [annotation(9, 0, bbox=(1, 1, 0, 3))]
    coco(root / "annotations.json", [(i, f"{i}.png", 20, 30) for i in range(5)], records)
    whole = split_truth(root, "all")
    assert (whole.name, whole.annotations.num_images, whole.left_out, whole.columns) == ("zoo", 5, 1, ("boxes",))
    assert [split_truth(root, split).annotations.num_images for split in ("train", "val")] == [4, 1]
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'tests'"):
        split_truth(root, "tests")


def test_digits(monkeypatch):
    few = partial(DigitObjects, length=3, size=(64, 64))
    monkeypatch.setattr("delineate.data.digits_objects.DigitObjects", few)
    truth = split_truth("digits", "val")
    assert (truth.name, truth.annotations.num_images, truth.left_out) == ("digits", 3, 0)
