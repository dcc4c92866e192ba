import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as reference

from delineate.kernels import rle

masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12))


def naive_counts(mask):
    """Runs down the columns, zeros first, one pixel at a time."""
    counts, value = [0], False
    for pixel in mask.T.reshape(-1):
        if bool(pixel) != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return counts


def test_runs_go_down_the_columns_and_start_with_zeros():
    mask = np.array([[1, 0, 0], [1, 0, 1]], np.uint8)
    assert rle.mask_counts(mask).tolist() == [0, 2, 3, 1]
    assert rle.counts_text(np.array([0, 2, 3, 1])) == b"023O"
    assert rle.text_counts(b"023O").tolist() == [0, 2, 3, 1]


@settings(max_examples=60, deadline=None)
@given(masks)
def test_runs_and_text_equal_the_naive_ones_and_pycocotools(mask):
    counts = rle.mask_counts(mask)
    assert counts.tolist() == naive_counts(mask)
    assert rle.counts_text(counts) == reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert np.array_equal(rle.counts_mask(counts, *mask.shape), mask)
    assert rle.counts_area(counts) == mask.sum()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 1 << 40), min_size=1, max_size=30))
def test_text_is_read_back(counts):
    assert rle.text_counts(rle.counts_text(np.array(counts))).tolist() == counts


def test_the_longest_runs_have_room():
    longest = (1 << 63) - 1
    assert len(rle.counts_text(np.array([longest, 0, longest, 0, 0]))) == 13 + 1 + 13 + 1 + 13


@pytest.mark.parametrize("text", [b"P", b"\x00", b"0 0", b"ooooooooooooooooooooo", b"0O", b"\xff"])
def test_damaged_text_is_refused_not_read_past_its_end(text):
    assert rle.text_counts(text) is None


def test_no_text_is_no_runs():
    assert rle.text_counts(b"").tolist() == []


def test_painting_is_decoding_with_a_value():
    columns = np.full(6, 9, np.int32)
    rle.paint(np.array([1, 2, 3]), columns, 4)
    assert columns.tolist() == [9, 4, 4, 9, 9, 9]


corner = st.tuples(*[st.one_of(st.integers(-8, 40), st.floats(-50, 90, width=32))] * 2)


@settings(max_examples=150, deadline=None)
@given(st.lists(corner, min_size=3, max_size=8), st.integers(1, 33), st.integers(1, 33))
def test_polygon_runs_equal_pycocotools(corners, height, width):
    flat = [float(value) for point in corners for value in point]
    counts = rle.polygon_counts(np.array(flat).reshape(-1, 2), height, width)
    assert rle.counts_text(counts) == reference.frPyObjects([flat], height, width)[0]["counts"]


def test_a_polygon_that_crosses_every_column_often_outgrows_the_first_guess():
    height, width = 2, 40
    zigzag = np.array([[x, y] for turn in range(60) for x, y in ((0, 0), (width, 1 + turn % 2))], np.float64)
    expected = reference.frPyObjects([zigzag.reshape(-1).tolist()], height, width)[0]["counts"]
    assert rle.counts_text(rle.polygon_counts(zigzag, height, width)) == expected


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(2, 4), st.integers(1, 7), st.integers(1, 7))))
def test_union_equals_the_union_of_masks_and_pycocotools(stack):
    union = rle.union_counts([rle.mask_counts(mask) for mask in stack])
    assert np.array_equal(rle.counts_mask(union, *stack.shape[1:]), stack.any(axis=0))
    parts = [reference.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in stack]
    assert rle.counts_text(union) == reference.merge(parts)["counts"]


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(2, 4), st.integers(1, 7), st.integers(1, 7))))
def test_intersection_equals_the_intersection_of_masks_and_pycocotools(stack):
    shared = rle.intersection_counts([rle.mask_counts(mask) for mask in stack])
    assert np.array_equal(rle.counts_mask(shared, *stack.shape[1:]), stack.all(axis=0))
    parts = [reference.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in stack]
    assert rle.counts_text(shared) == reference.merge(parts, True)["counts"]


def test_a_box_by_hand():
    assert rle.counts_box(np.array([5, 2, 1, 1, 3]), 4) == (1, 0, 2, 3)  # rows 1 and 2 of column 1, row 0 of column 2
    assert rle.counts_box(np.array([3, 2, 7]), 4) == (0, 0, 2, 4)  # row 3 of column 0 and row 0 of column 1: one run
    assert rle.counts_box(np.array([5, 0, 7]), 4) == rle.counts_box(np.array([12]), 4) == (0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_boxes_equal_pycocotools(mask):
    expected = reference.toBbox(reference.encode(np.asfortranarray(mask.astype(np.uint8))))
    assert rle.counts_box(rle.mask_counts(mask), mask.shape[0]) == tuple(expected.tolist())


@pytest.mark.parametrize("seed", range(4))
def test_long_steep_and_flat_edges_equal_pycocotools(seed):
    """Edges far beyond the image, of every slope, on and off the grid of fifths."""
    generator = np.random.default_rng(seed)
    for reach in (30, 3000, 100_000):
        for corners in generator.uniform(-reach, reach, (20, 4, 2)).round(seed):
            expected = reference.frPyObjects([corners.reshape(-1).tolist()], 37, 53)[0]["counts"]
            assert rle.counts_text(rle.polygon_counts(corners, 37, 53)) == expected
