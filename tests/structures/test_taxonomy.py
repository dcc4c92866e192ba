"""Class names, colours, and the label that means "look away"."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy, voc_colours

# VOC devkit: background, aeroplane, bicycle, bird, boat, bottle ... tv monitor
VOC = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128)}
VOC |= {8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}


def test_the_palette_is_that_of_the_devkit():
    colours = voc_colours(256)
    assert {label: colours[label] for label in VOC} == VOC
    assert len(set(colours)) == 256
    assert voc_colours(0) == ()


def test_colours_start_with_black_only_for_a_background():
    assert Taxonomy(("background", "cell"), background=0).colours == ((0, 0, 0), (128, 0, 0))
    assert Taxonomy(("road", "tree")).colours == ((128, 0, 0), (0, 128, 0))
    assert Taxonomy(("cell", "background"), background=1).colours == ((128, 0, 0), (0, 128, 0))


def test_labels_and_names():
    taxonomy = Taxonomy(("road", "tree", "sky"))
    assert taxonomy.num_classes == 3
    assert [taxonomy.index(name) for name in taxonomy.names] == [0, 1, 2]
    with pytest.raises(UnknownNameError, match=r"class must be a known name; got 'tre'. Did you mean 'tree'"):
        taxonomy.index("tre")


def test_numbered_classes():
    assert Taxonomy.numbered(2).names == ("class 0", "class 1")
    assert Taxonomy.numbered(255).ignore_index == 255
    assert Taxonomy.numbered(300).ignore_index == 65535


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"names": ()}, r"names must hold at least one class; got none\."),
        ({"names": ("a", "b", "a", "b")}, r"names must not repeat a class; got a, b\."),
        ({"names": ("a", "b"), "colours": ((0, 0, 0),)}, r"colours must be 2 RGB triples, one a class; got 1\."),
        ({"names": ("a",), "colours": ((0, 0, 256),)}, r"colours must be RGB triples from 0 to 255; got \(\(0, 0, 256"),
        ({"names": ("a",), "colours": ((-1, 0, 0),)}, "colours must be RGB triples"),
        ({"names": ("a", "b"), "ignore_index": 1}, r"ignore_index must lie outside the 2 class labels; got 1\."),
        ({"names": ("a", "b"), "background": 2}, r"background must be a class label or None; got 2\."),
        ({"names": ("a", "b"), "background": -1}, "background must be a class label"),
        (
            {"names": ("a", "b"), "labelled": (True,)},
            r"labelled must be 2 truth values, one a class and one of them true",
        ),
        ({"names": ("a", "b"), "labelled": (False, False)}, r"one of them true; got \(False, False\)\."),
    ],
)
def test_what_cannot_be_is_refused(options, text):
    with pytest.raises(ArgumentError, match=text):
        Taxonomy(**options)


@pytest.mark.parametrize("ignored", [-1, 2, 255, 65535])
def test_any_label_outside_the_classes_may_be_ignored(ignored):
    assert Taxonomy(("a", "b"), ignore_index=ignored).ignore_index == ignored


names = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6, unique=True)


@settings(max_examples=25, deadline=None)
@given(names, st.booleans(), st.integers(6, 300))
def test_a_trip_through_json_changes_nothing(names, background, ignored):
    taxonomy = Taxonomy(tuple(names), ignore_index=ignored, background=len(names) - 1 if background else None)
    again = Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict())))
    assert again == taxonomy
    assert hash(again) == hash(taxonomy)


def test_which_classes_are_labelled_travels_only_where_it_says_something():
    partly = Taxonomy(("a", "b"), labelled=(True, False))
    assert Taxonomy.from_dict(json.loads(json.dumps(partly.to_dict()))) == partly
    assert "labelled" not in Taxonomy(("a", "b")).to_dict()


def test_names_are_enough_to_read_one_back():
    assert Taxonomy.from_dict({"names": ["a", "b"]}) == Taxonomy(("a", "b"))
    with pytest.raises(KeyError):
        Taxonomy.from_dict({})


def test_numbers_of_any_kind_become_plain_ones():
    colours = tuple(tuple(row) for row in np.array([[1, 2, 3]], np.uint8).tolist())
    taxonomy = Taxonomy(("a",), colours=colours)
    assert json.loads(json.dumps(taxonomy.to_dict()))["colours"] == [[1, 2, 3]]


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        Taxonomy(("a",)).names = ("b",)
