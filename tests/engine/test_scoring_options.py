"""Options that make no sense are refused before anything is read; those that do can be written down."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from delineate.engine.scoring_options import check_object_options, finite_options, plain_options
from delineate.errors import ArgumentError

SOUND = {"iou_thresholds": [0.5], "area_ranges": {"all": (0, 1e10)}, "max_detections": [1, 100]}


def test_sensible_options_pass():
    check_object_options(**SOUND)
    check_object_options(**{**SOUND, "iou_thresholds": (0, 1), "max_detections": range(1, 4)})
    check_object_options(**{**SOUND, "area_ranges": {"all": (0, math.inf), "x1": (5, 5)}})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("iou_thresholds", [], r"iou_thresholds must be at least one number from 0 to 1; got \[\]\."),
        ("iou_thresholds", [0.5, 50], r"iou_thresholds must be .*; got \[0.5, 50\]\."),
        ("iou_thresholds", [math.nan], r"iou_thresholds must be .*; got \[nan\]\."),
        (
            "max_detections",
            (),
            r"max_detections must be whole numbers of at least 1, below 2\*\*31; got \(\)\. Leave it out",
        ),
        (
            "max_detections",
            [0, 10],
            r"max_detections must be whole numbers of at least 1, below 2\*\*31; got \[0, 10\]\.",
        ),
        ("area_ranges", {}, r"area_ranges must name at least one range; got \{\}\. Leave it out"),
        ("area_ranges", {"all": (9, 4)}, r"area_ranges\['all'\] must be \(least, largest\) areas; got \(9, 4\)\."),
        ("area_ranges", {"all": (math.nan, 4)}, r"area_ranges\['all'\] must be \(least, largest\) areas"),
        ("area_ranges", {"iou50": (0, 4)}, r"names other than numbers and iou50, iou75; got 'iou50'\."),
        ("area_ranges", {"100": (0, 4)}, r"names other than numbers and iou50, iou75; got '100'\."),
        ("area_ranges", {" ": (0, 4)}, r"names other than numbers and iou50, iou75; got ' '\."),
    ],
)
def test_each_is_refused_by_name(option, value, message):
    with pytest.raises(ArgumentError, match=message):
        check_object_options(**{**SOUND, option: value})


def test_whatever_was_set_can_be_written():
    options = {
        "path": Path("a.txt"),
        "array": np.array([0.5, 0.75]),
        "number": np.float64(0.5),
        "ranges": {"all": (0, np.int64(4))},
        "several": (1, [np.float32(0.5)], range(2)),
        "none": None,
        "flag": True,
    }
    plain = plain_options(options)
    assert plain == {
        "path": "a.txt",
        "array": [0.5, 0.75],
        "number": 0.5,
        "ranges": {"all": [0, 4]},
        "several": [1, [0.5], [0, 1]],
        "none": None,
        "flag": True,
    }
    assert json.loads(json.dumps(plain)) == plain
    assert type(plain["number"]) is float


def test_infinity_is_text():
    finite = finite_options({"ranges": {"all": [-math.inf, math.inf], "x": [1, 2.5]}, "name": "inf"})
    assert finite == {"ranges": {"all": ["-inf", "inf"], "x": [1, 2.5]}, "name": "inf"}
    json.dumps(finite, allow_nan=False)
