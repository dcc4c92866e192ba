"""A tree of words in a file, in either form."""

from __future__ import annotations

from pathlib import Path

import pytest

from delineate.data.word_tree_file import read_word_tree
from delineate.errors import DataError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_name_the_words_above_as_well(tmp_path: Path) -> None:
    tree = read_word_tree(written(tmp_path, "\ufeffanimal/dog/big terrier\n\nanimal/cat\n"))
    assert tree.to_paths() == ("animal", "animal/dog", "animal/cat", "animal/dog/big terrier")


def test_darknets_form_is_known_and_grouped(tmp_path: Path) -> None:
    tree = read_word_tree(written(tmp_path, "dog 2\nrose -1\nanimal -1\ncat 2\n"))
    assert tree.to_paths() == ("rose", "animal", "animal/dog", "animal/cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tree must have a path a line, such as animal/dog; got an empty file"),
        ("animal//dog", r"paths must have a word between two strokes; got 'animal//dog'. It stands in '.*words.txt'"),
        ("dog/terrier\ncat/terrier", "words must have one parent; got 'terrier'"),
        ("dog 7\n", "parent must be a label"),
    ],
)
def test_what_is_no_tree_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_word_tree(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tree must be a text file; got '.*nowhere.txt' \(No such file"):
        read_word_tree(tmp_path / "nowhere.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="it is not UTF-8"):
        read_word_tree(tmp_path / "bytes.txt")
