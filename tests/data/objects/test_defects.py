"""Records that cannot be used, taken out one kind at a time."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from delineate.data.objects.defects import RecordError, corners_inside, object_problems, without_bad_records
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def test_reading_goes_on_without_bad_records():
    values = np.array([4, -1, 7, 30, -5, 2])
    calls = []

    def read(left):
        calls.append(left.tolist())
        kept = values[left]
        for wrong, kind in ((kept < 0, "negative"), (kept > 20, "large")):
            if wrong.any():
                raise RecordError(np.flatnonzero(wrong), lambda i: f"got {kept[i]}", kind)
        return kept.sum()

    problems = []
    total, left = without_bad_records(read, len(values), problems, "a.json")
    assert (total, left.tolist()) == (13, [0, 2, 5])
    assert [(problem.kind, problem.message, problem.file) for problem in problems] == [
        ("negative", "got -1", "a.json"),
        ("negative", "got -5", "a.json"),
        ("large", "got 30", "a.json"),
    ]
    assert len(calls) == 3  # a kind at a time, not a record at a time


def test_other_errors_end_it():
    def read(left):
        raise DataError("the file is gone")

    with pytest.raises(DataError, match="the file is gone"):
        without_bad_records(read, 3, [])


def test_a_record_error_is_about_its_first_record_and_may_know_the_file():
    error = RecordError([3, 8], "record {} is wrong".format, "odd", "{}.txt".format)
    assert isinstance(error, DataError)
    assert str(error) == "record 3 is wrong"
    sent = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(sent), str(sent)) == (DataError, str(error))
    assert [problem.file for problem in error.problems("other")] == ["3.txt", "8.txt"]


def objects(*boxes, images=None, labels=None, **more):
    count = len(boxes)
    return Annotations.of(
        ["a", "b"],
        ["cat", "dog"],
        Objects.of(images or [0] * count, labels or [0] * count, boxes, **more),
        image_sizes=[(20, 30), (5, 5)],
    )


def judged(annotations):
    usable, problems = object_problems(annotations, ["a.xml", "b.xml"], "object")
    return usable.tolist(), [(problem.severity, problem.kind) for problem in problems]


def test_boxes_at_the_borders_are_fine():
    assert judged(objects((0, 0, 30, 20), (-0.9, -0.9, 31.8, 21.8), (29.9, 19.9, 0.1, 0.1))) == ([True] * 3, [])
    assert judged(objects()) == ([], [])


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((30, 0, 5, 5), "outside"),
        ((-5, 0, 5, 5), "outside"),
        ((0, 20, 5, 5), "outside"),
        ((0, -5, 5, 5), "outside"),
        ((1, 1, 0, 5), "zero-area"),
        ((1, 1, 5, 0), "zero-area"),
        ((9, 9, -5, 5), "swapped-corners"),
        ((29.9999999, 1, 5, 9), "zero-area"),  # nothing is left of it in single precision
        ((3, -4.995, 5, 5), "zero-area"),
        ((20, 1, 4980, 9), "mostly-outside"),
        ((-6, 1, 11, 9), "mostly-outside"),
    ],
)
def test_boxes_that_cannot_be_used(box, kind):
    assert judged(objects((1, 1, 4, 4), box)) == ([True, False], [("error", kind)])


def test_each_object_is_refused_once_and_repeats_are_of_image_class_and_box():
    same = (1, 1, 3, 3)
    truth = objects(same, same, same, (1, 1, 0, 0), (1, 1, 0, 0), images=[0, 1, 0, 0, 0], labels=[0, 0, 1, 0, 0])
    assert judged(truth) == ([True, True, True, False, False], [("error", "zero-area")] * 2)
    assert judged(objects(same, same, same)) == ([True] * 3, [("warning", "duplicate")] * 2)


def test_a_message_names_file_record_image_and_box():
    problem = object_problems(objects((1, 1, 4, 4), (40, 0.5, 5, 5), ids=[7, 8]), ["a.xml", "b.xml"], "object")[1][0]
    assert problem.file == "a.xml"
    assert problem.message == "object 8 of a lies outside the 30 x 20 image, x 40, y 0.5, width 5, height 5"


def test_what_leaves_the_image_by_less_than_half_stays():
    assert judged(objects((-5, 1, 10, 9), (25, 10, 6, 9))) == ([True, True], [("warning", "leaves-image")] * 2)


def test_boxes_as_training_has_them():
    boxes, sizes = np.array([[-2.0, 3, 14, 8], [63.999999, 1, 5, 9]]), np.array([[9, 30], [64, 64]])
    inside = corners_inside(boxes, sizes)
    assert inside.dtype == np.float32
    assert inside.tolist() == [[0, 3, 12, 9], [64, 1, 64, 10]]
    assert corners_inside(np.zeros((0, 4)), np.zeros((0, 2), np.int64)).shape == (0, 4)
