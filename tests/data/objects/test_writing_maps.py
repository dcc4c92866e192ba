"""Instance maps, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects.content import Content
from delineate.data.objects.writing_maps import write
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks


def content(masks, labels, classes=("object",), crowd=None):
    table = RLEMasks.from_rles([RLE.encode(np.array(mask)) for mask in masks])
    objects = Objects.of([0] * len(masks), labels, table.boxes(), masks=table, crowd=crowd)
    annotations = Annotations.of(("a", "b"), classes, objects, image_sizes=[(1, 4), (1, 2)])
    return Content(annotations, ("a.jpg", "b.jpg"), {"all": [0, 1]}, [None] * len(masks))


def read(path):
    with Image.open(path) as image:
        return np.array(image).tolist()


def test_the_smaller_is_on_top_and_what_is_covered_is_gone(tmp_path):
    things = content([[[1, 1, 1, 0]], [[0, 1, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 0, 1]]], [0] * 4, crowd=[0, 0, 0, 1])
    assert write(things, tmp_path) == 2
    assert read(tmp_path / "labels/a.png") == [[1, 3, 1, 0]]
    assert read(tmp_path / "labels/b.png") == [[0, 0]]
    assert things.losses == {
        "crowds and difficult objects, left out": 1,
        "objects that others cover whole, which are gone": 1,
        "masks that lose pixels to smaller objects over them": 1,
    }


def test_classes_do_not_cover_each_other(tmp_path):
    things = content([[[1, 1, 1, 0]], [[0, 1, 0, 0]]], [0, 2], ("cat", "cow", "dog"))
    assert write(things, tmp_path) == 2
    assert read(tmp_path / "labels/cat/a.png") == [[1, 1, 1, 0]]
    assert read(tmp_path / "labels/dog/a.png") == [[0, 1, 0, 0]]
    assert read(tmp_path / "labels/cat/b.png") == [[0, 0]]  # labelled, with nothing on it
    assert list((tmp_path / "labels/cow").iterdir()) == []
    assert things.losses == {}


def test_folders_that_would_be_one(tmp_path):
    with pytest.raises(DataError, match="classes must have names that differ by more than case"):
        write(content([[[1, 0, 0, 0]]], [0], ("cat", "Cat")), tmp_path)
