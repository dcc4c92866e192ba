"""Objects turn as their pictures do."""

from __future__ import annotations

import numpy as np
import pytest

from delineate.data.image_io import turned
from delineate.data.objects.upright import turned_objects, turned_points
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

SIZE = (7, 11)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_mask_box_and_keypoints_turn_together(orientation):
    mask = np.zeros(SIZE, bool)
    mask[1:4, 2:9] = True
    mask[5, 2] = True
    pixel = np.zeros(SIZE, bool)
    pixel[5, 2] = True
    one = Objects.of(
        [0], [0], [[2, 1, 7, 5]], masks=RLEMasks.from_rles([RLE.encode(mask)]), keypoints=[[[2, 5, 2], [0, 0, 0]]]
    )
    found = turned_objects(one, np.array([orientation]), np.array([SIZE]))
    upright = turned(mask, orientation)
    assert np.array_equal(found.masks[0].decode(), upright)
    rows, columns = np.nonzero(upright)
    spanned = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert found.boxes[0].tolist() == spanned
    (row, column), *_ = np.argwhere(turned(pixel, orientation))
    assert found.keypoints[0].tolist() == [[column, row, 2], [0, 0, 0]]  # what is not labelled stays where it is


def test_only_objects_on_turned_pictures_move():
    boxes = np.array([[0.1, 0.2, 0.3, 0.4], [1, 1, 2, 2]])
    both = Objects.of([0, 1], [0, 0], boxes)
    assert turned_objects(both, np.array([1, 1]), np.array([SIZE] * 2)) is both
    found = turned_objects(both, np.array([1, 3]), np.array([SIZE] * 2)).boxes
    assert found[0].tolist() == boxes[0].tolist()
    assert found[1].tolist() == [8, 4, 2, 2]


def test_no_points():
    assert turned_points(np.zeros((0, 3, 2)), np.zeros(0, np.int64), np.zeros((0, 2), np.int64)).shape == (0, 3, 2)
