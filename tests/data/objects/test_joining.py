"""Outlines of one polygon."""

from __future__ import annotations

import numpy as np

from delineate.data.objects.joining import joined_outlines, one_polygon
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

SIZE = (24, 31)


def same(polygon, row):
    return polygon


def test_any_mask_is_drawn_again_by_one_polygon():
    generator = np.random.default_rng(0)
    masks = [RLE.encode(generator.random(SIZE) < share) for share in (0.02, 0.3, 0.5, 0.9, 1.0)]
    polygons, changed = joined_outlines(RLEMasks.from_rles(masks), [None] * len(masks), same)
    assert changed == 0  # nothing was stated
    assert [RLE.from_polygons([polygon], SIZE) for polygon in polygons] == masks


def test_parts_keep_their_corners_unless_they_overlap():
    one, two, over = [1.5, 2, 9, 2.25, 8, 9], [12.0, 3, 20, 3, 20, 9.5], [4.0, 1, 12, 1, 12, 9, 4, 9]
    outlines = [[one], [one, two], [one, over]]
    masks = RLEMasks.from_rles([RLE.from_polygons(outline, SIZE) for outline in outlines])
    polygons, changed = joined_outlines(masks, outlines, same)
    assert polygons[0] == one
    assert polygons[1] == [*one, *one[:2], *two, *two[:2]]
    assert changed == 1
    assert [RLE.from_polygons([polygon], SIZE) for polygon in polygons] == list(masks)


def test_a_rounding_that_changes_the_mask_is_seen():
    masks = RLEMasks.from_rles([RLE.from_polygons([[1.0, 2, 9, 2, 9, 9, 1, 9]], SIZE)])
    polygons, changed = joined_outlines(
        masks, [[[1.0, 2, 9, 2, 9, 9, 1, 9]]], lambda polygon, row: [v + 1 for v in polygon]
    )
    assert changed == 1
    assert RLE.from_polygons(polygons, SIZE) == masks[0]


def test_corners_beyond_the_image_go_to_its_frame():
    assert one_polygon([[-3, 5, 40, 5, 40, 50]], np.array([31, 24])) == [0.0, 5.0, 31.0, 5.0, 31.0, 24.0]
