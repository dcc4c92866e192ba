"""Darknet's text of a word tree, there and back, and lines that are none."""

from __future__ import annotations

import pytest

from delineate.errors import ArgumentError, DataError
from delineate.structures.darknet_tree import tree_from_text, tree_text
from delineate.structures.word_tree import WordTree
from tests.structures.word_trees import random_tree

TEXT = "n00002452 -1\nn00020827 -1\nn05220461 0\nn09225146 0\nn14877585 1\nn05538625 2\n"


def test_a_text_by_hand():
    tree = tree_from_text(TEXT)
    assert tree.names[:3] == ("n00002452", "n00020827", "n05220461")
    assert tree.parents == (-1, -1, 0, 0, 1, 2)
    assert tree.members == ((0, 1), (2, 3), (4,), (5,))
    assert tree_text(tree) == TEXT


@pytest.mark.parametrize("seed", range(25))
def test_a_trip_through_text_changes_nothing(seed):
    grouped = random_tree(seed).grouped()
    assert tree_from_text(tree_text(grouped)) == grouped


def test_other_line_ends_tabs_a_mark_and_blank_lines_at_the_end_are_read():
    assert tree_from_text("\ufeffa\t-1\r\nb  0\r\n\r\n \n") == WordTree(("a", "b"), (-1, 0))
    assert tree_from_text("b 1\na -1") == WordTree(("b", "a"), (1, -1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line must be a name and the label of its parent \(-1 for a root\); got '' in 9k\.tree, line 1\."),
        ("a -1\n\nb 0\n", r"got '' in 9k\.tree, line 2\."),
        ("a -1\nb\n", r"got 'b' in 9k\.tree, line 2\."),
        ("a -1\nhot dog 0\n", r"got 'hot dog 0' in 9k\.tree, line 2\."),
        ("a -1\nb 0.0\n", r"got 'b 0\.0' in 9k\.tree, line 2\."),
        ("a -1\nb ٠\n", r"got 'b ٠' in 9k\.tree, line 2\."),
        ("a -1\nb --1\n", r"got 'b --1' in 9k\.tree, line 2\."),
        (
            "a -1\nb 2\n",
            r"parent must be a label 0\.\.1, or -1 for a root; got 2 in 9k\.tree, line 2\. Labels count lines from 0\.",
        ),
        ("a -1\nb -2\n", r"got -2 in 9k\.tree, line 2\."),
        ("a -1\nb 0\nc 0\nb 2\n", r"names must not repeat a word; got 'b' in lines 2 and 4 of 9k\.tree\. Keep one"),
        (
            "a -1\nb 3\nc 1\nd 2\n",
            r"parents must lead to a root; got a circle of lines, 2 < 4 < 3 < 2, in 9k\.tree\.",
        ),
        ("a 0\n", r"got a circle of lines, 1 < 1, in 9k\.tree\."),
    ],
)
def test_bad_lines_are_named(text, message):
    with pytest.raises(DataError, match=message):
        tree_from_text(text, source="9k.tree")


def test_only_what_darknet_reads_as_the_same_tree_is_written():
    with pytest.raises(ArgumentError, match=r"names must hold no blanks; got 'hot dog'\. Write underscores"):
        tree_text(WordTree(("hot dog",), (-1,)))
    advice = r"siblings side by side; got another order\. tree\.grouped\(\) does; it has other labels\."
    for parents in [(1, -1), (-1, 0, -1)]:  # a child before its parent; siblings apart
        tree = WordTree(tuple("abc"[: len(parents)]), parents)
        with pytest.raises(ArgumentError, match=advice):
            tree_text(tree)
        assert tree_from_text(tree_text(tree.grouped())).grouped() == tree.grouped()
