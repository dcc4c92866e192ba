"""Islands and holes of label maps, by hand; the kernel is compared with a twin in tests/kernels/test_regions.py."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from delineate.errors import ArgumentError
from delineate.postprocess.cleaning import fill_holes, remove_islands


def grid(text: str) -> np.ndarray:
    """Rows of digits, with x for the ignored label."""
    return np.array([[255 if c == "x" else int(c) for c in row] for row in text.split()], np.uint8)


def shown(labels: np.ndarray) -> str:
    return " ".join("".join("x" if v == 255 else str(v) for v in row) for row in labels)


def test_an_island_takes_the_label_of_most_of_its_border():
    # the 3 has two sides with 1 and one with 2
    assert shown(remove_islands(grid("1132 1122 1122"), min_area=2)) == "1122 1122 1122"
    assert shown(remove_islands(grid("1322 1122 1122"), min_area=2)) == "1122 1122 1122"  # a tie: the smaller label


def test_the_smallest_go_first_and_grow_together():
    # 2 has five pixels, but six when its turn comes: 3 has joined it before
    labels = grid("11111 12221 12321 11111")
    assert shown(remove_islands(labels, min_area=6)) == "11111 12221 12221 11111"
    assert shown(remove_islands(labels, min_area=7)) == "11111 11111 11111 11111"


def test_corners_count_with_eight():
    labels = grid("2111 1211 1121 1112")
    assert shown(remove_islands(labels, min_area=4)) == "1111 1111 1111 1111"
    assert shown(remove_islands(labels, min_area=4, connectivity=8)) == shown(labels)


def test_ignored_pixels_stay_and_give_nothing():
    labels = grid("xxx111 x2x131 xxx111")
    assert shown(remove_islands(labels, min_area=5)) == "xxx111 x2x111 xxx111"
    assert shown(remove_islands(labels, min_area=5, ignore_index=3)) == shown(labels).replace("2", "x")


def test_only_the_chosen_classes_go():
    labels = grid("11111 12131 11111")
    assert shown(remove_islands(labels, min_area=2, classes=[3])) == "11111 12111 11111"
    assert shown(remove_islands(labels, min_area=2, classes=[])) == shown(labels)


def test_a_hole_takes_the_label_around_it():
    labels = grid("00000 01110 01210 01110 00000")
    assert shown(fill_holes(labels, max_area=1)) == "00000 01110 01110 01110 00000"
    # nine pixels of 1 and 2, in 0: a hole of the background
    assert shown(fill_holes(labels, max_area=8)) == "00000 01110 01110 01110 00000"
    assert shown(fill_holes(labels, max_area=9)) == "00000 00000 00000 00000 00000"
    assert shown(fill_holes(labels, max_area=9, classes=[1])) == "00000 01110 01110 01110 00000"


@pytest.mark.parametrize("text", ["0111 0211 0111", "2111 1111 1111", "1111 1231 1111", "1111 1x21 1111"])
def test_what_is_open_at_the_edge_or_has_two_neighbours_is_no_hole(text):
    labels = grid(text)
    assert shown(fill_holes(labels, max_area=2)) == shown(labels)


def test_a_gap_at_a_corner_opens_a_hole_only_with_eight():
    labels = grid("0111 1021 1111")  # the 0 in the middle touches the 0 at the corner
    assert shown(fill_holes(grid("0111 1011 1111"), max_area=3)) == "0111 1111 1111"
    assert shown(fill_holes(grid("0111 1011 1111"), max_area=3, connectivity=8)) == "0111 1011 1111"
    assert shown(fill_holes(labels, max_area=3)) == shown(labels)


def test_holes_of_two_classes_equal_scipys():
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 60)), 1.5) > 0.5
    filled = ndimage.binary_fill_holes(mask)
    found = fill_holes(mask.astype(np.uint8), max_area=10_000, classes=[1])
    assert filled.sum() > mask.sum()
    # scipy fills all at once; here the islands in a hole go first (classes=[1] leaves them), so a nested one stays open
    nested = ndimage.binary_fill_holes(~mask) & mask & ~np.pad(np.zeros((58, 58), bool), 1, constant_values=True)
    parts, count = ndimage.label(~mask)
    for part in range(1, count + 1):
        hole = parts == part
        if filled[hole].all() and not (ndimage.binary_fill_holes(hole) & ~hole & nested).any():
            assert found[hole].all()
    assert (found.astype(bool) <= filled).all()


@pytest.mark.parametrize("clean", [lambda x: remove_islands(x, min_area=9), lambda x: fill_holes(x, max_area=9)])
def test_twice_is_once_and_types_stay(clean):
    noise = np.random.default_rng(0).integers(0, 4, (30, 40))
    noise[10:14, 5:9] = 255
    for kind in (np.uint8, np.int32, np.int64):
        once = clean(noise.astype(kind))
        assert once.dtype == kind
        assert (clean(once) == once).all()
        assert ((once == 255) == (noise == 255)).all()
        assert not (once == noise).all()
    assert clean(np.full((3, 3), 255)).tolist() == [[255] * 3] * 3
    assert clean(np.zeros((0, 3), np.uint8)).shape == (0, 3)
    assert (clean(noise * 1000 - 7 + 1) == clean(noise + 100) * 1000 - 100_000 - 6).all()  # only which are equal counts


def test_the_input_is_left_alone():
    labels = grid("111 121 111")
    remove_islands(labels, min_area=2)
    fill_holes(labels, max_area=2)
    assert shown(labels) == "111 121 111"


def test_errors_say_what_to_do():
    with pytest.raises(ArgumentError, match=r"connectivity must be 4 \(sides\) or 8 \(corners too\); got 6"):
        remove_islands(np.zeros((3, 3), np.uint8), min_area=1, connectivity=6)
    with pytest.raises(ArgumentError, match=r"min_area must be 0 pixels or more; got -1\."):
        remove_islands(np.zeros((3, 3), np.uint8), min_area=-1)
    with pytest.raises(ArgumentError, match=r"max_area must be 0 pixels or more; got -1\."):
        fill_holes(np.zeros((3, 3), np.uint8), max_area=-1)
