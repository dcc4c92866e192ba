"""Words below words: labels, groups, paths, and what is no tree."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from delineate.errors import ArgumentError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy
from delineate.structures.word_tree import WordTree, circular_labels
from tests.structures.word_trees import NAMES, TREE, random_tree


def test_a_tree_of_seven_words_by_hand():
    assert TREE.num_classes == 7
    assert TREE.leaves == (3, 4, 5, 6)
    assert TREE.groups.tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert TREE.members == ((0, 1), (2, 3), (4,), (5, 6))
    assert TREE.child_groups.tolist() == [1, 2, 3, -1, -1, -1, -1]
    assert TREE.depths.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert TREE.paths.tolist() == [
        [0, -1, -1],
        [1, -1, -1],
        [2, 0, -1],
        [3, 0, -1],
        [4, 1, -1],
        [5, 2, 0],
        [6, 2, 0],
    ]
    assert TREE.ancestors(5) == (2, 0)
    assert TREE.ancestors(1) == ()
    assert TREE.children(2) == (5, 6)
    assert TREE.children(3) == ()
    assert TREE.path(6) == "animal/dog/corgi"
    assert TREE.index("rose") == 4
    assert TREE.is_grouped


def test_one_word_is_a_tree():
    tree = WordTree(("thing",), (-1,))
    assert tree.leaves == (0,)
    assert tree.paths.tolist() == [[0]]
    assert tree.members == ((0,),)
    assert tree.grouped() is tree


def test_tables_hold_every_group_once_and_are_at_most_half_idle():
    tree = WordTree(tuple("abcdefghij"), (-1, 0, 0, 0, 0, 0, 1, 1, 2, 6))  # groups of 1, 5, 2, 1, 1
    tables = tree.sibling_tables
    assert [rows.shape for _, rows in tables] == [(3, 1), (1, 2), (1, 8)]
    assert tables[-1][1].tolist() == [[1, 2, 3, 4, 5, 10, 10, 10]]
    for numbers, rows in tables:
        for group, row in zip(numbers.tolist(), rows.tolist(), strict=True):
            assert tuple(label for label in row if label != 10) == tree.members[group]


@pytest.mark.parametrize("seed", range(25))
def test_what_is_derived_agrees_with_the_parents(seed):
    tree = random_tree(seed)
    for label, parent in enumerate(tree.parents):
        above = tree.ancestors(label)
        assert len(above) == tree.depths[label]
        assert above == (() if parent < 0 else (parent, *tree.ancestors(parent)))
        assert (label in tree.leaves) == (label not in tree.parents) == (tree.children(label) == ())
        assert label in tree.members[tree.groups[label]]
        assert tree.groups[label] == (0 if parent < 0 else tree.child_groups[parent])
    assert sum(rows.size - (rows == tree.num_classes).sum() for _, rows in tree.sibling_tables) == tree.num_classes


@pytest.mark.parametrize("seed", range(25))
def test_grouping_changes_labels_alone(seed):
    tree = random_tree(seed)
    grouped = tree.grouped()
    assert grouped.is_grouped
    assert grouped.grouped() is grouped
    assert sorted(map(grouped.path, range(grouped.num_classes))) == sorted(map(tree.path, range(tree.num_classes)))
    assert WordTree.from_paths({tree.path(label) for label in tree.leaves}).num_classes == tree.num_classes


def test_labels_of_another_order_are_kept():
    tree = WordTree.from_parents([("corgi", "dog"), ("dog", "animal"), ("animal", None), ("cat", "animal")])
    assert tree.parents == (1, 2, -1, 2)
    assert tree.groups.tolist() == [1, 2, 0, 2]
    assert not tree.is_grouped
    assert tree.grouped().names == ("animal", "dog", "cat", "corgi")


def test_paths_name_the_words_on_the_way():
    assert WordTree.from_paths(["plant/rose", "animal/dog/terrier", "animal/dog", "animal/cat"]).names == (
        "plant",
        "animal",
        "rose",
        "dog",
        "cat",
        "terrier",
    )
    assert WordTree.from_paths({"b", "a"}).names == ("a", "b")


def test_a_trip_through_pickle_changes_nothing():
    TREE.paths  # noqa: B018 (what is kept beside the fields must travel or be made anew)
    again = pickle.loads(pickle.dumps(TREE))  # noqa: S301
    assert again == TREE
    assert hash(again) == hash(TREE)
    np.testing.assert_array_equal(again.paths, TREE.paths)


def test_the_words_are_a_taxonomy():
    assert TREE.taxonomy().names == NAMES
    many = WordTree(tuple(f"w{label}" for label in range(300)), (-1,) * 300)
    assert many.taxonomy().ignore_index == 65535  # 255 is a word


def test_data_sets_share_the_labels_of_a_tree():
    boxes = Taxonomy(("background", "dog", "housecat"), background=0)
    images = Taxonomy(("corgi", "rose", "terrier"))
    of_boxes, of_images = TREE.combined([boxes, images], aliases={"housecat": "cat"})
    assert of_boxes.tolist() == [-1, 2, 3]
    assert of_images.tolist() == [6, 4, 5]
    assert TREE.combined([]) == ()
    with pytest.raises(UnknownNameError, match=r"word must be a known name; got 'terier'. Did you mean 'terrier'\?"):
        TREE.combined([Taxonomy(("terier",))])
    with pytest.raises(ArgumentError, match=r"classes must be different words; got two that are 'dog'\."):
        TREE.combined([Taxonomy(("dog", "hound"))], aliases={"hound": "dog"})


@pytest.mark.parametrize(
    ("names", "parents", "text"),
    [
        ((), (), r"names must hold at least one word; got none\."),
        (("a", " "), (-1, 0), r"names must not be blank"),
        (("a", "b", "a"), (-1, 0, 0), r"names must not repeat a word; got a\."),
        (("a", "b"), (-1,), r"parents must hold 2 labels, one a word; got 1\."),
        (("a", "b"), (-1, 2), r"parents must be labels 0\.\.1, or -1 for a root; got 2 for 'b'\."),
        (("a", "b"), (-2, 0), r"or -1 for a root; got -2 for 'a'\."),
        (("a", "b"), (-1, 1), r"parents must lead to a root; got a circle, b < b\. Cut it"),
        (("a", "b", "c", "d"), (-1, 3, 1, 2), r"got a circle, b < d < c < b\. Cut it at one place\."),
    ],
)
def test_what_is_no_tree_is_refused(names, parents, text):
    with pytest.raises(ArgumentError, match=text):
        WordTree(names, parents)


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([], "names must hold at least one word"),
        (
            [("a", None), ("b", "a"), ("b", "a")],
            r"words must be given once, with one parent; got 'b' below a in entry 1 and below a in entry 2\. Keep one",
        ),
        ([("a", None), ("c", None), ("b", "a"), ("b", "c")], "got 'b' below a in entry 2 and below c in entry 3"),
        (
            [("animal", None), ("dog", "anmal")],
            r"parent must be a known name; got 'anmal'. Did you mean 'animal'\? It is that of 'dog', entry 1\.",
        ),
        ([("a", "b"), ("b", "a")], "parents must lead to a root; got a circle, a < b < a"),
    ],
)
def test_pairs_that_are_no_tree_are_refused(pairs, text):
    with pytest.raises(ArgumentError, match=text):
        WordTree.from_parents(pairs)


@pytest.mark.parametrize(
    ("paths", "text"),
    [
        (["a//b"], r"paths must have a word between two strokes; got 'a//b'\."),
        (["a/"], "got 'a/'"),
        (["animal/dog", "pet/dog"], r"words must have one parent; got 'dog' in 'animal/dog' and in 'pet/dog'\. Keep"),
        (["a/b/a"], "words must have one parent; got 'a' in 'a/b/a' and in 'a/b/a'"),
        ([], "names must hold at least one word"),
    ],
)
def test_paths_that_are_no_tree_are_refused(paths, text):
    with pytest.raises(ArgumentError, match=text):
        WordTree.from_paths(paths)


def test_labels_and_names_that_do_not_exist():
    with pytest.raises(UnknownNameError, match=r"word must be a known name; got 'dogg'. Did you mean 'dog'\?"):
        TREE.index("dogg")
    for ask in (TREE.ancestors, TREE.children, TREE.path):
        with pytest.raises(ArgumentError, match=r"label must be a word, 0\.\.6; got 7\."):
            ask(7)
        with pytest.raises(ArgumentError, match=r"got -1\."):
            ask(-1)


def test_circles():
    assert circular_labels([]) == []
    assert circular_labels([-1, 0, 1]) == []
    assert circular_labels([1, 2, 1]) == [1, 2]  # what only leads into the circle is not on it
    deep = [*range(1, 20_000), -1]
    assert circular_labels(deep) == []


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        TREE.names = ("a",)  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(20))
def test_paths_of_a_grouped_tree_are_read_back(seed):
    tree = random_tree(seed).grouped()
    assert WordTree.from_paths(list(tree.to_paths())) == tree


def test_a_stroke_in_a_name_has_no_path():
    with pytest.raises(ArgumentError, match="names must hold no strokes; got 'cat/dog'"):
        WordTree(("cat/dog",), (-1,)).to_paths()


def test_roots_alone_are_flat():
    assert WordTree(("dog", "cat"), (-1, -1)).is_flat
    assert not TREE.is_flat
