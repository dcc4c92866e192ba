"""Corners that files state, found again and believed only where they draw the mask."""

from __future__ import annotations

import json

import numpy as np

from delineate.data.objects.folder import read_objects
from delineate.data.objects.outlines import draws, source_outlines
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks
from tests.data.object_folders import annotation, coco, picture, text

SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 11.0, 2.0, 11.0]
OTHER = [14.3, 2.1, 21.7, 3.5, 24.9, 9.3]


def test_coco_by_number_even_where_numbers_repeat(tmp_path):
    picture(tmp_path / "images/a.png")
    crowd = {"size": [20, 30], "counts": [0, 600]}
    records = [
        annotation(5, 1, segmentation=[SQUARE]),
        annotation(5, 1, segmentation=[OTHER, SQUARE]),
        annotation(6, 1, bbox=(0, 0, 30, 20), segmentation=crowd, iscrowd=1),
    ]
    coco(tmp_path / "annotations.json", [(1, "a.png", 20, 30)], records)
    assert source_outlines(read_objects(tmp_path), tmp_path) == [[SQUARE], [OTHER, SQUARE], None]


def test_labelme_groups_and_rectangles(tmp_path):
    picture(tmp_path / "a.png")
    shapes = [
        {"label": "cat", "points": [[2, 3], [12, 3], [12, 11], [2, 11]], "group_id": 4, "shape_type": "polygon"},
        {"label": "dog", "points": [[5, 9], [1, 2]], "group_id": None, "shape_type": "rectangle"},
        {"label": "cat", "points": [[20, 3], [25, 3], [25, 11]], "group_id": 4, "shape_type": "polygon"},
        {"label": "sun", "points": [[20, 10], [20, 14]], "group_id": None, "shape_type": "circle"},
    ]
    text(tmp_path / "a.json", json.dumps({"shapes": shapes, "imagePath": "a.png", "imageHeight": 20, "imageWidth": 30}))
    folder = read_objects(tmp_path)
    cat, dog, sun = (source_outlines(folder, tmp_path)[i] for i in folder.annotations.objects.ids.argsort())
    assert cat == [SQUARE, [20.0, 3.0, 25.0, 3.0, 25.0, 11.0]]
    assert dog == [[1.0, 2.0, 5.0, 2.0, 5.0, 9.0, 1.0, 9.0]]
    assert sun is None  # a circle has no corners of its own


def test_yolo_fractions_lead_back_to_pixels(tmp_path):
    picture(tmp_path / "images/a.png")
    fractions = " ".join(str(value / side) for value, side in zip(OTHER, (30, 20) * 3, strict=True))
    text(tmp_path / "labels/a.txt", f"\n0 {fractions}\n")
    text(tmp_path / "data.yaml", "names: [cell]\n")
    assert source_outlines(read_objects(tmp_path), tmp_path) == [[OTHER]]


def test_boxes_have_none(tmp_path):
    picture(tmp_path / "images/a.png")
    coco(tmp_path / "annotations.json", [(1, "a.png", 20, 30)], [annotation(1, 1)])
    assert source_outlines(read_objects(tmp_path), tmp_path) == [None]


def test_an_outline_that_draws_another_mask_is_not_believed():
    mask = np.zeros((20, 30), bool)
    mask[3:11, 2:12] = True
    masks = RLEMasks.from_rles([RLE.encode(mask)] * 3)
    assert draws(masks, [[SQUARE], [OTHER], [[1e300, 0.0, 1.0, 1.0, 2.0, 0.0]]]) == [True, False, False]
    assert draws(masks.select([]), []) == []
