import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as reference
from scipy import ndimage

from delineate.errors import ArgumentError
from delineate.structures.rle import RLE

triangle = st.lists(st.floats(-5, 45, width=32), min_size=6, max_size=6)


def test_a_square_by_hand():
    mask = np.zeros((3, 4), bool)
    mask[1:3, 1:3] = True
    runs = RLE.encode(mask)
    assert runs.runs().tolist() == [4, 2, 1, 2, 3]
    assert runs == RLE((3, 4), runs.counts) == RLE.from_counts([4, 2, 1, 2, 3], (3, 4))
    assert np.array_equal(runs.decode(), mask)
    assert runs.area == 4


@pytest.mark.parametrize("value", [0, 1])
def test_empty_and_full(value):
    runs = RLE.encode(np.full((5, 7), value, np.uint8))
    assert runs.area == 35 * value
    assert runs.counts == reference.encode(np.full((5, 7), value, np.uint8, order="F"))["counts"].decode()


def test_any_value_but_zero_is_inside_whatever_the_type():
    values = np.array([[0, 7], [-1, 0]])
    expected = RLE.encode(values != 0)
    for dtype in (np.int8, np.int32, np.int64):
        assert RLE.encode(values.astype(dtype)) == expected


def test_read_only_and_strided_masks_encode_alike():
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    view = mask[::2, ::3]
    view.flags.writeable = False
    assert RLE.encode(view) == RLE.encode(view.copy())


@settings(max_examples=60, deadline=None)
@given(st.lists(triangle, min_size=1, max_size=4))
def test_polygons_equal_pycocotools_merged(polygons):
    expected = reference.merge(reference.frPyObjects(polygons, 30, 40))
    assert RLE.from_polygons(polygons, (30, 40)).counts == expected["counts"].decode()


def test_coco_goes_there_and_back_and_into_json():
    runs = RLE.from_polygons([[1, 1, 9, 1, 9, 7]], (10, 12))
    written = json.loads(json.dumps(runs.to_coco()))
    assert RLE.from_coco(written, (10, 12)) == runs
    assert RLE.from_coco({"size": [10, 12], "counts": runs.counts.encode()}, (10, 12)) == runs
    assert RLE.from_coco({"size": [10, 12], "counts": runs.runs().tolist()}, (10, 12)) == runs
    assert RLE.from_coco([[1, 1, 9, 1, 9, 7]], (10, 12)) == runs
    assert reference.area(written) == runs.area


def test_real_annotations_equal_pycocotools(real_data):
    content = json.loads((real_data / "coco_tiny/annotations/instances_train2017.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    crowds = 0
    for annotation in content["annotations"]:
        size, outline = sizes[annotation["image_id"]], annotation["segmentation"]
        parts = reference.frPyObjects(outline, *size)
        expected = reference.merge(parts) if isinstance(parts, list) else parts
        crowds += annotation["iscrowd"]
        assert RLE.from_coco(outline, size).counts == expected["counts"].decode()
    assert crowds > 0


def test_union():
    left, right = np.zeros((2, 3, 3), bool)
    left[0], right[:, 2] = True, True
    assert np.array_equal(RLE.union([RLE.encode(left), RLE.encode(right)]).decode(), left | right)
    with pytest.raises(ArgumentError, match=r"masks must be of one size; got \[\(2, 3\), \(3, 3\)\]"):
        RLE.union([RLE.encode(left), RLE.encode(left[:2])])
    with pytest.raises(ArgumentError, match="masks must hold at least one mask"):
        RLE.union([])


def test_pickles():
    runs = RLE.encode(np.eye(4, dtype=np.uint8))
    assert pickle.loads(pickle.dumps(runs)) == runs  # noqa: S301


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RLE((2, 2), "1"), "counts must sum to 2 x 2 pixels; got 1"),
        (lambda: RLE((2, 2), "P"), "counts must be COCO's compressed run lengths; got 'P'"),
        (lambda: RLE((2, 2), "1é"), "counts must be COCO's compressed run lengths"),
        (lambda: RLE((2, 0), "0"), r"size must be a positive \(height, width\); got \(2, 0\)"),
        (lambda: RLE.from_counts([5, -1], (2, 2)), "counts must be run lengths, none negative"),
        (lambda: RLE.from_counts([1 << 70], (2, 2)), "counts must be run lengths, none negative"),
        (lambda: RLE.from_counts([], (2, 2)), "counts must be run lengths"),
        (lambda: RLE.from_counts([1 << 62] * 3 + [(1 << 62) + 4], (2, 2)), "all below"),  # their sum wraps to 4
        (lambda: RLE((1 << 31, 1), "0"), r"size must have less than 2\*\*31 pixels; got \(2147483648, 1\)"),
        (lambda: RLE.from_polygons([[0, 0, 1, 1, 2, 3]], (1 << 31, 1 << 31)), "size must have less"),
        (lambda: RLE.from_polygons([[0.0, 0, 1.8e308, 1, -1.8e308, 3]], (2, 2)), "polygons must be finite"),
        (lambda: RLE.from_polygons([[0.0, 0, 1.7e308, 1, -1.7e308, 3]], (2, 2)), "polygons must lie near an image"),
        (lambda: RLE.from_coco({"counts": "4", "size": [1, 4]}, (2, 2)), r"image's size \(2, 2\); got \(1, 4\)"),
        (lambda: RLE.from_coco({"size": [2, 2]}, (2, 2)), "segmentation must have counts"),
        (lambda: RLE.from_polygons([], (2, 2)), "polygons must hold at least one polygon"),
        (lambda: RLE.from_polygons([[]], (2, 2)), "polygons must have at least three corners; got 0"),
        (lambda: RLE.from_polygons([[0.0, 0, 1, 1]], (2, 2)), "polygons must have at least three corners; got 2"),
        (lambda: RLE.from_polygons([[0.0, 0, 1, 1, 2, 2, 3]], (2, 2)), "even number of coordinates; got 7"),
        (lambda: RLE.from_polygons([[0.0, 0, 1, 1, 2, float("nan")]], (2, 2)), "polygons must be finite"),
        (lambda: RLE.from_polygons([[0.0, 0, 1e12, 1, 2, 3]], (2, 2)), "polygons must lie near an image of 2 x 2"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_hostile_polygons_cost_no_more_than_the_columns_they_cross():
    """Pixel by pixel along their outlines this would not end while anybody waits."""
    assert RLE.from_polygons([[0.0, 0, 1e6, 1, 2, 3] * 5000], (4, 4)).area >= 0
    with pytest.raises(ArgumentError, match="lie near an image"):
        RLE.from_polygons([[0.0, 0, 1e6, 1, 2, 3] * 1000], (1, 30_000_000))


def test_many_polygons_make_the_mask_again():
    mask = np.random.default_rng(0).random((400, 400)) < 0.3
    polygons = RLE.encode(mask).to_polygons()
    assert RLE.from_polygons(polygons, mask.shape) == RLE.encode(mask)
    assert len(polygons) > 10_000


def test_intersection():
    left, right = np.zeros((2, 3, 3), bool)
    left[0], right[:, 2] = True, True
    assert np.array_equal(RLE.intersection([RLE.encode(left), RLE.encode(right)]).decode(), left & right)
    with pytest.raises(ArgumentError, match=r"masks must be of one size; got \[\(2, 3\), \(3, 3\)\]"):
        RLE.intersection([RLE.encode(left), RLE.encode(left[:2])])
    with pytest.raises(ArgumentError, match="masks must hold at least one mask"):
        RLE.intersection([])


def test_overlaps_by_hand():
    corner, row = RLE.encode(np.array([[0, 1], [1, 1]])), RLE.encode(np.array([[1, 1], [0, 0]]))
    assert corner.iou(row) == row.iou(corner) == 1 / 4
    assert (corner.coverage(row), row.coverage(corner)) == (1 / 3, 1 / 2)
    assert corner.iou(corner) == corner.coverage(corner) == 1
    empty = RLE.encode(np.zeros((2, 2), bool))
    assert empty.iou(corner) == corner.iou(empty) == corner.coverage(empty) == 0
    assert np.isnan([empty.iou(empty), empty.coverage(corner), empty.coverage(empty)]).all()
    with pytest.raises(ArgumentError, match=r"other must be of size \(2, 2\); got \(1, 4\)"):
        corner.iou(RLE((1, 4), "4"))


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9))))
def test_overlaps_and_boxes_equal_pycocotools(pair):
    masks = [RLE.encode(mask) for mask in pair]
    one, two = (mask.to_coco() for mask in masks)
    assert masks[0].box == tuple(reference.toBbox(one).tolist())
    if pair.any():
        assert masks[0].iou(masks[1]) == reference.iou([one], [two], [0])
    if pair[0].any():
        assert masks[0].coverage(masks[1]) == reference.iou([one], [two], [1])


def test_outlines_by_hand():
    assert RLE.encode(np.zeros((3, 4), bool)).to_polygons() == []
    assert RLE.encode(np.ones((3, 4), bool)).to_polygons() == [[4.0, 0.0, 4.0, 3.0, 0.0, 3.0, 0.0, 0.0]]
    apart = RLE.encode(np.eye(2, dtype=bool)).to_polygons()
    assert apart == [[1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [2.0, 1.0, 2.0, 2.0, 1.0, 2.0, 1.0, 1.0]]
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    (polygon,) = RLE.encode(ring).to_polygons()
    x, y = np.reshape(polygon, (-1, 2)).T
    assert 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) == 8  # the hole runs the other way


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    density=st.sampled_from([0.03, 0.3, 0.5, 0.7, 0.97]),
    smooth=st.sampled_from([0, 1]),
)
def test_outlines_are_filled_to_the_very_same_mask(seed, size, density, smooth):
    mask = np.random.default_rng(seed).random(size) < density
    if smooth:
        mask = np.repeat(np.repeat(mask, 3, axis=0), 2, axis=1)
    runs, polygons = RLE.encode(mask), RLE.encode(mask).to_polygons()
    assert len(polygons) == ndimage.label(mask)[1]
    if mask.any():
        assert RLE.from_polygons(polygons, mask.shape) == runs
        merged = reference.merge(reference.frPyObjects(polygons, *mask.shape))
        assert merged["counts"].decode() == runs.counts
    for polygon in polygons:
        corners = np.reshape(polygon, (-1, 2))
        steps = np.roll(corners, -1, axis=0) - corners
        assert ((steps == 0).sum(axis=1) == 1).all()  # along the edges, and never twice at one place
        assert ((steps[:, 0] == 0) != (np.roll(steps, -1, axis=0)[:, 0] == 0)).all()  # with a turn at every corner


def test_outlines_of_text_that_splits_its_runs():
    """Runs of length 0 between others are legal, though no encoder writes them."""
    split = RLE.from_counts([5, 2, 0, 1, 3, 0, 1], (4, 3))
    assert split.to_polygons() == RLE.encode(split.decode()).to_polygons()
    assert RLE.from_counts([4, 0, 8], (4, 3)).to_polygons() == []
