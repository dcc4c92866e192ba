import jaxtyping
import numpy as np
import pytest

from delineate.errors import ArgumentError
from delineate.structures.panoptic import PanopticAnnotations, PanopticClasses, PanopticMap, PanopticSegments

CLASSES = PanopticClasses(("person", "sky", "sea"), (True, False, False), (1, 187, 155))
IDS = np.array([[0, 7, 7], [66051, 7, 66051]])


def segments(**columns):
    return PanopticSegments.of(**{"ids": [66051, 7], "labels": [0, 2], **columns})


def test_a_map_by_hand():
    found = PanopticMap(IDS, segments(crowd=[True, False]), "beach")
    assert found.size == (2, 3)
    assert found.ids.dtype == np.int32
    assert found.areas.tolist() == [2, 3]
    picture, described = found.to_coco(CLASSES)
    assert picture.dtype == np.uint8
    assert picture[1].tolist() == [[3, 2, 1], [7, 0, 0], [3, 2, 1]]  # 66051 = 3 + 2 * 256 + 1 * 65536
    assert picture[0, 0].tolist() == [0, 0, 0]
    person = {"id": 66051, "category_id": 1, "area": 2, "bbox": [0, 1, 3, 1], "iscrowd": 1, "isthing": 1}
    sea = {"id": 7, "category_id": 155, "area": 3, "bbox": [1, 0, 2, 2], "iscrowd": 0, "isthing": 0}
    assert described == [person, sea]


def test_without_classes_a_label_is_its_category():
    found = PanopticMap(IDS, segments(scores=[0.5, 0.25]))
    assert [(s["category_id"], s["score"], "isthing" in s) for s in found.to_coco()[1]] == [
        (0, 0.5, False),
        (2, 0.25, False),
    ]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "uint32", "int64", "uint64"])
def test_any_integer_type_and_layout(dtype):
    ids = np.asfortranarray(np.array([[0, 7, 200], [200, 200, 7]], dtype))
    found = PanopticMap(ids, PanopticSegments.of(ids=[200, 7], labels=[0, 0]))
    assert found.ids.flags.c_contiguous
    assert found.ids.tolist() == ids.tolist()
    assert found.areas.tolist() == [3, 2]


def test_all_void():
    found = PanopticMap(np.zeros((3, 2), np.uint8), PanopticSegments.of(ids=[], labels=[]))
    assert found.areas.shape == (0,)
    picture, described = found.to_coco(CLASSES)
    assert not picture.any()
    assert described == []


def test_rows_of_ids():
    table = PanopticSegments.of(ids=[9, 2, 500], labels=[0, 0, 1])
    assert table.rows(np.array([500, 0, 2, 9, 3, 501])).tolist() == [2, -1, 1, 0, -1, -1]
    assert PanopticSegments.of(ids=[], labels=[]).rows(np.array([1, 0])).tolist() == [-1, -1]


def test_annotations():
    known = PanopticAnnotations("a.json", CLASSES, (5, "x"), ((2, 3), (0, 0)), ("5.png", "x.png"), (segments(),) * 2)
    assert len(known) == 2
    assert len(PanopticAnnotations("a.json", CLASSES, (), (), (), ())) == 0
    assert CLASSES.num_classes == 3
    assert PanopticClasses(("a", "b"), (True, True)).ids == (0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: segments(ids=[0, 7]), r"ids must be at least 1: 0 is void; got 0\."),
        (lambda: segments(ids=[7, 256**3]), r"ids must be at most 16777215, .*; got 16777216\."),
        (lambda: segments(ids=[7, 7]), r"ids must not repeat a segment; got 7\."),
        (lambda: segments(labels=[0, -1]), r"labels must be classes of at least 0; got -1\."),
        (lambda: segments(labels=[0]), r"labels must hold one row for each of 2 segments; got 1\."),
        (lambda: segments(crowd=[True]), r"crowd must hold one row for each of 2 segments; got 1\."),
        (lambda: segments(scores=[1, 2, 3]), r"scores must hold one row for each of 2 segments; got 3\."),
        (lambda: PanopticMap(IDS[0], segments()), r"ids must be \(H, W\); got shape \(3,\)\."),
        (lambda: PanopticMap(IDS[:0], segments()), r"ids must be \(H, W\); got shape \(0, 3\)\."),
        (lambda: PanopticMap(IDS / 2, segments()), r"ids must be integers; got float64\."),
        (lambda: PanopticMap(IDS + 2**32, segments()), r"ids must lie between 0 and .*; got 4294967296 at \(0, 0\)\."),
        (lambda: PanopticMap(np.full((1, 2), -4, np.int8), segments()), r"those of segments; got -4 at \(0, 0\)\."),
        (
            lambda: PanopticMap(IDS, segments(ids=[7, 8])),
            r"ids must be 0 \(void\) or those of segments; got 66051 at \(1, 0\)\. List the segment, or set its pixels",
        ),
        (
            lambda: PanopticMap(IDS, PanopticSegments.of(ids=[7, 8, 66051], labels=[0, 0, 0])),
            r"segments must each have pixels in ids; got none of segment 8\. Leave it out\.",
        ),
        (
            lambda: PanopticMap(IDS, segments(labels=[3, 0])).to_coco(CLASSES),
            r"labels must be classes 0 to 2; got 3\.",
        ),
        (lambda: PanopticClasses((), ()), r"names must hold at least one class; got none\."),
        (lambda: PanopticClasses(("a", "b"), (True,)), r"things must hold 2 flags, one a class; got 1\."),
        (lambda: PanopticClasses(("a", "a"), (True, True)), r"names must not repeat a class; got a\."),
        (lambda: PanopticClasses(("a", "b"), (True, True), (4, 4)), r"ids must not repeat an id; got 4\."),
        (lambda: PanopticClasses(("a", "b"), (True, True), (4,)), r"ids must hold 2 ids, one a class; got 1\."),
        (
            lambda: PanopticAnnotations("a", CLASSES, (5, 5), ((0, 0),) * 2, ("", ""), (segments(),) * 2),
            r"image_ids must not repeat an image; got 5\.",
        ),
        (
            lambda: PanopticAnnotations("a", CLASSES, (5,), ((0, 0),), (), (segments(),)),
            r"map_files must hold one entry for each of 1 images; got 0\.",
        ),
        (
            lambda: PanopticAnnotations("a", CLASSES, (5,), ((0, 0),), ("",), (segments(labels=[0, 3]),)),
            r"segments must have classes 0 to 2; got 3\.",
        ),
    ],
)
def test_errors_say_what_is_wrong(make, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    with pytest.raises(ArgumentError, match=message):
        make()
