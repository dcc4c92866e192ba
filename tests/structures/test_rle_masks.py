import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from delineate.errors import ArgumentError
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import DamagedMaskError, RLEMasks, find_damage, group_ious

shapes = [RLE.encode(np.tri(4, 5, k, dtype=bool)) for k in (-9, 0, 9)]  # empty, a triangle, full


def texts(masks):
    return [mask.counts for mask in masks]


def test_masks_there_and_back():
    masks = RLEMasks.from_rles(shapes)
    assert len(masks) == 3
    assert list(masks) == [masks[0], masks[1], masks[-1]] == shapes
    assert masks.areas().tolist() == [mask.area for mask in shapes] == [0, 10, 20]
    assert masks.boxes().tolist() == [[0, 0, 0, 0], [0, 0, 4, 4], [0, 0, 5, 4]]
    for index in (3, -4):
        with pytest.raises(IndexError, match="of 3"):
            masks[index]


def test_nothing_can_be_written():
    masks = RLEMasks.from_rles(shapes)
    for array in (masks.text, masks.offsets, masks.sizes, masks.areas(), masks.boxes()):
        assert not array.flags.writeable


def test_pickles():
    assert list(pickle.loads(pickle.dumps(RLEMasks.from_rles(shapes)))) == shapes  # noqa: S301


def test_select_and_concatenate():
    masks = RLEMasks.from_rles(shapes)
    for chosen, expected in (
        (np.array([2, 0, 2]), [2, 0, 2]),
        (np.array([False, True, True]), [1, 2]),
        (np.array([-1]), [2]),
        ([], []),
    ):
        part = masks.select(chosen)
        assert list(part) == [shapes[i] for i in expected]
        assert np.array_equal(part.areas(), masks.areas()[expected])
        assert np.array_equal(part.boxes(), masks.boxes()[expected])
    both = RLEMasks.concatenate([masks, masks.select([]), masks.select([1])])
    assert list(both) == [*shapes, shapes[1]]
    assert both.areas().tolist() == [0, 10, 20, 10]
    assert len(RLEMasks.concatenate([])) == len(RLEMasks.from_texts([], [])) == 0
    for wrong in (np.array([3]), np.array([True, False])):
        with pytest.raises(ArgumentError, match="indices must name some of 3 masks"):
            masks.select(wrong)


def test_from_counts():
    runs = [mask.runs() for mask in shapes]
    masks = RLEMasks.from_counts(np.concatenate(runs), np.cumsum([0, *map(len, runs)]), [(4, 5)] * 3)
    assert list(masks) == shapes
    assert list(RLEMasks.from_counts(np.array([20], np.uint32), np.array([0, 1]), [(4, 5)])) == shapes[:1]


def test_from_polygons_is_the_union_of_each_masks_own():
    polygons = [[0.0, 0, 2, 0, 2, 2, 0, 2], [3.0, 1, 5, 1, 5, 4], [1.0, 1, 4, 1, 4, 3, 1, 3]]
    coordinates, starts = np.concatenate(polygons), np.array([0, 8, 14, 22])
    masks = RLEMasks.from_polygons(coordinates, starts, np.array([0, 2, 3]), [(4, 6), (3, 3)])
    assert list(masks) == [RLE.from_polygons(polygons[:2], (4, 6)), RLE.from_polygons(polygons[2:], (3, 3))]
    assert len(RLEMasks.from_polygons(np.empty(0), np.array([0]), np.array([0]), [])) == 0


def test_real_annotations_equal_pycocotools(real_data):
    import json

    content = json.loads((real_data / "coco_tiny/annotations/instances_train2017.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    outlines = [record for record in content["annotations"] if isinstance(record["segmentation"], list)]
    polygons = [polygon for record in outlines for polygon in record["segmentation"]]
    own = [sizes[record["image_id"]] for record in outlines]
    masks = RLEMasks.from_polygons(
        np.concatenate(polygons),
        np.cumsum([0, *map(len, polygons)]),
        np.cumsum([0, *(len(record["segmentation"]) for record in outlines)]),
        own,
    )
    expected = [
        reference.merge(reference.frPyObjects(record["segmentation"], *size))
        for record, size in zip(outlines, own, strict=True)
    ]
    assert texts(masks) == [one["counts"].decode() for one in expected]
    assert np.array_equal(masks.areas(), [reference.area(one) for one in expected])
    assert np.array_equal(masks.boxes(), [reference.toBbox(one) for one in expected])
    assert all(RLE.from_polygons(mask.to_polygons(), mask.size) == mask for mask in masks if mask.area)


def test_boundaries_reach_two_hundredths_of_the_diagonal():
    """A diagonal of 500 makes 10 pixels, one of 25 makes half a pixel: 0 when rounded to even, and so 1."""
    masks = RLEMasks.from_rles([RLE.encode(np.ones((300, 400), bool)), RLE.encode(np.ones((15, 20), bool))])
    assert masks.boundaries().areas().tolist() == [300 * 400 - 280 * 380, 15 * 20 - 13 * 18]
    assert masks.boundaries(ratio=0.04).areas().tolist() == [300 * 400 - 260 * 360, 15 * 20 - 13 * 18]
    assert masks.boundaries(np.array([1, 3])).areas().tolist() == [300 * 400 - 298 * 398, 15 * 20 - 9 * 14]
    assert masks.boundaries(np.array([150, 2**40])).areas().tolist() == masks.areas().tolist()
    assert len(masks.select([]).boundaries()) == 0


def test_group_ious():
    masks = RLEMasks.from_rles(shapes)
    everything = {"order": np.arange(3), "starts": np.array([0, 3]), "truth_order": np.array([2, 1])}
    crowd = np.array([False, False, True])
    ious, starts = group_ious(masks, masks, crowd, **everything, truth_starts=np.array([0, 2]))
    coco = [mask.to_coco() for mask in shapes]
    assert np.array_equal(ious.reshape(3, 2), reference.iou(coco, [coco[2], coco[1]], [1, 0]))
    assert starts.tolist() == [0, 6]
    two = {"starts": np.array([0, 1, 3]), "truth_starts": np.array([0, 2, 2])}
    ious, starts = group_ious(masks, masks, crowd, **(everything | two))
    assert (ious.tolist(), starts.tolist()) == ([0, 0], [0, 2, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crowd": np.array([True])}, "crowd must be one for each of 3 truths; got 1"),
        ({"order": np.array([0, 3, 1])}, r"order must name some of 3 masks; got \[0 3 1\]"),
        ({"truth_order": np.array([0, -1, 1])}, "truth_order must name some of 3 masks"),
        ({"starts": np.array([0, 2])}, r"starts must rise from 0 to 3; got \[0 2\]"),
        ({"truth_starts": np.array([1, 3])}, "truth_starts must rise from 0 to 3"),
        ({"truth_starts": np.array([0, 1, 3])}, "truth_starts must be of 2 places; got 3"),
    ],
)
def test_errors_of_groups(change, message):
    masks, columns = RLEMasks.from_rles(shapes), {"order": np.arange(3), "starts": np.array([0, 3])}
    good = {"crowd": np.zeros(3, bool), **columns, **{f"truth_{name}": array for name, array in columns.items()}}
    group_ious(masks, masks, **good)
    with pytest.raises(ArgumentError, match=message):
        group_ious(masks, masks, **(good | change))


def triangles(number, coordinates=(0.0, 0, 3, 0, 3, 3)):
    return np.tile(np.array(coordinates), number), len(coordinates) * np.arange(number + 1), np.arange(number + 1)


@pytest.mark.parametrize(
    ("call", "index", "reason"),
    [
        (lambda: RLEMasks.from_texts(["4", "P"], [(2, 2)] * 2), 1, "not run lengths: 'P'"),
        (lambda: RLEMasks.from_texts(["4", "4", "4é"], [(2, 2)] * 3), 2, "not run lengths: '4é'"),
        (lambda: RLEMasks.from_texts(["4", "13"], [(2, 2), (3, 2)]), 1, "sums to 4, not 3 x 2 pixels"),
        (lambda: RLEMasks.from_texts(["4", "5"], [(2, 2), (2, 2)]), 1, "sums to 5, not 2 x 2 pixels"),
        (lambda: RLEMasks.from_texts(["4", ""], [(2, 2), (2, 2)]), 1, "sums to 0, not 2 x 2 pixels"),
        (lambda: RLEMasks.from_texts(["4", "4"], [(2, 2), (0, 2)]), 1, r"size \(0, 2\) is not a positive"),
        (lambda: RLEMasks.from_texts(["4"], [(2**16, 2**15)]), 0, r"size \(65536, 32768\) is not a positive"),
        (lambda: RLEMasks.from_texts(["4"], [(2**40, 1)]), 0, "less than 2"),
        (lambda: RLEMasks.from_counts(np.array([4, -4, 8]), np.array([0, 1, 3]), [(2, 2)] * 2), 1, "lengths: -4"),
        (lambda: RLEMasks.from_counts(np.array([4, 2**31]), np.array([0, 1, 2]), [(2, 2)] * 2), 1, "lengths: 21"),
        (lambda: RLEMasks.from_counts(np.array([4, 3]), np.array([0, 1, 2]), [(2, 2)] * 2), 1, "sums to 3"),
        (lambda: RLEMasks.from_polygons(*triangles(2)[:2], np.array([0, 2, 2]), [(2, 2)] * 2), 1, "no polygon"),
        (lambda: RLEMasks.from_polygons(*triangles(1, [0.0] * 7), [(2, 2)]), 0, "7 coordinates, an odd number"),
        (lambda: RLEMasks.from_polygons(*triangles(1, [0.0] * 4), [(2, 2)]), 0, "4 coordinates, fewer than three"),
        (lambda: RLEMasks.from_polygons(*triangles(2, [0.0] * 5 + [np.nan]), [(2, 2)] * 2), 0, "corner at nan"),
        (lambda: RLEMasks.from_polygons(*triangles(1, [0.0] * 5 + [-3e8]), [(2, 2)]), 0, "corner at -300000000.0"),
        (
            lambda: RLEMasks.from_polygons(*triangles(1, [0.0, 0, 9e7, 1, 0, 2]), [(1, 2**30)]),
            0,
            "crosses up to 180000006 columns",
        ),
    ],
)
def test_the_damaged_mask_is_named(call, index, reason):
    with pytest.raises(DamagedMaskError, match=f"got, for mask {index}: .*{reason}") as caught:
        call()
    assert caught.value.index == index
    assert caught.value.reason in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RLEMasks.from_texts(["4"], [(2, 2)] * 2), "sizes must be one for each of 1 masks; got 2"),
        (lambda: RLEMasks.from_texts(["4"], [(2,)]), "sizes must be whole"),
        (lambda: RLEMasks.from_texts(["4"], [(2**70, 2)]), "sizes must be whole"),
        (lambda: RLEMasks.from_texts(["4", "4"], [(2, 2), (2, 2, 2)]), "sizes must be whole"),
        (
            lambda: RLEMasks(np.zeros(3, np.uint8), np.array([0, 2]), np.ones((1, 2), np.int32)),
            r"offsets must rise from 0 to 3; got \[0 2\]",
        ),
        (
            lambda: RLEMasks(np.zeros(3, np.uint8), np.array([0, 4, 3]), np.ones((2, 2), np.int32)),
            "offsets must rise from 0 to 3",
        ),
        (
            lambda: RLEMasks(np.zeros(0, np.uint8), np.empty(0, np.int64), np.ones((0, 2), np.int32)),
            "offsets must rise from 0 to 0",
        ),
        (lambda: RLEMasks.from_counts(np.array([4]), np.array([1, 1]), [(2, 2)]), "starts must rise from 0 to 1"),
        (lambda: RLEMasks.from_polygons(*triangles(2)[:2], np.array([0, 1]), [(2, 2)]), "mask_starts must rise"),
        (lambda: RLEMasks.from_rles(shapes).boundaries(np.array([1])), "distances must be one for each of 3 masks"),
        (
            lambda: RLEMasks.from_rles(shapes).boundaries(np.array([1, 0, 1])),
            "distances must be at least 1 pixel; got 0",
        ),
        (lambda: RLEMasks.from_rles(shapes).boundaries(ratio=0), "ratio must be positive; got 0"),
        (lambda: RLEMasks.from_rles(shapes).boundaries(ratio=float("nan")), "ratio must be positive; got nan"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_find_damage():
    sizes = np.array([[2, 2], [2, 2]], np.int32)
    assert find_damage(np.frombuffer(b"413", np.uint8), np.array([0, 1, 3]), sizes) is None
    assert find_damage(np.frombuffer(b"41P", np.uint8), np.array([0, 1, 3]), sizes) == (1, "not run lengths: '1P'")


sizes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(2**31 - 1, 1), (1, 2**31 - 1), (46340, 46341), (2**15, 2**15)]),
)


def read(text, size):
    """The runs and the mask of one text, by the single reader and by that of many; None where both refuse it."""
    try:
        one = RLE(size, text.decode("latin-1"))
    except ArgumentError:
        one = None
    offsets, column = np.array([0, len(text)]), np.array([size], np.int32)
    try:
        many = RLEMasks(np.frombuffer(text, np.uint8), offsets, column)
    except ArgumentError:
        many = None
    assert (one is None) == (many is None)
    return one, many


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=60), st.text("".join(map(chr, range(48, 112))), max_size=60).map(str.encode)), sizes
)
@example(b"o" * 60, (1, 1))
@example(b"", (1, 1))
def test_any_bytes_are_read_or_refused_alike_and_at_once(text, size):
    tracemalloc.start()
    one, many = read(text, size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22  # an image of 2**31 pixels asks for no more than one of 4
    if one is not None:
        assert one.area == many.areas()[0]
        assert one.box == tuple(many.boxes()[0].tolist())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
@settings(max_examples=300, deadline=None)
@given(st.data(), st.tuples(st.integers(1, 30), st.integers(1, 30)), st.integers(0, 2**32 - 1))
def test_damaged_texts_are_refused_or_other_masks(data, size, seed):
    mask = np.random.default_rng(seed).random(size) < 0.3
    text = RLE.encode(mask).counts.encode()
    place = data.draw(st.integers(0, len(text)))
    way = data.draw(st.sampled_from(["cut", "extended", "changed"]))
    extra = data.draw(st.binary(min_size=1, max_size=3))
    damaged = {
        "cut": text[:place],
        "extended": text + extra,
        "changed": text[:place] + extra + text[place + len(extra) :],
    }
    one, many = read(damaged[way], size)
    if one is not None:
        decoded = one.decode()
        assert decoded.sum() == one.area == many.areas()[0] == reference.area(one.to_coco())
        assert np.array_equal(decoded, reference.decode(one.to_coco()))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=0, max_size=16),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_any_numbers_are_polygons_or_refused_alike(coordinates, size):
    try:
        one = RLE.from_polygons([coordinates], size)
    except ArgumentError:
        one = None
    column = np.array(coordinates, np.float64)
    try:
        many = RLEMasks.from_polygons(column, np.array([0, len(column)]), np.array([0, 1]), [size])
    except ArgumentError:
        many = None
    assert (one is None) == (many is None)
    if one is not None:
        assert many[0] == one
