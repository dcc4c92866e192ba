"""A tree of words in a file: a path a line, "animal/dog/terrier", or darknet's ``name parent``."""

from __future__ import annotations

from pathlib import Path

from delineate.errors import ArgumentError, DataError
from delineate.structures.darknet_tree import tree_from_text
from delineate.structures.word_tree import WordTree


def read_word_tree(path: str | Path) -> WordTree:
    """The tree of a text file, with labels such that it is grouped.

    A file whose every line is a name without blanks and a whole number is darknet's, in which the number is the line of
    the parent; any other has a path a line, in which words may have blanks. Blank lines do not count.

    Args:
        path: the file.

    Raises:
        DataError: naming the file, when it cannot be read, has no line, or its lines are no tree.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise DataError(f"tree must be a text file; got '{path}' ({why}).") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(f"tree must have a path a line, such as animal/dog; got an empty file, '{path}'.")
    if all(_is_darknets(line) for line in lines):
        return tree_from_text(text, source=str(path)).grouped()
    try:
        return WordTree.from_paths(lines)
    except ArgumentError as error:
        raise DataError(f"{error} It stands in '{path}'.") from None


def _is_darknets(line: str) -> bool:
    words = line.split()
    return len(words) == 2 and words[1].removeprefix("-").isdecimal()
