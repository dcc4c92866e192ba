"""A word tree as darknet's text, the form of YOLO9000's ``9k.tree``: ``name parent`` a line.

The labels are the numbers of the lines, from 0; the parent of a root is -1.
"""

from __future__ import annotations

from delineate.checks import require
from delineate.errors import DataError
from delineate.structures.word_tree import ROOT, WordTree, circular_labels

_LONGEST = 60  # characters of a line that an error shows


def tree_from_text(text: str, *, source: str = "the text") -> WordTree:
    r"""The tree that a text in darknet's form describes.

    Differs: the children of one parent always share a softmax. Darknet begins another one where they do not stand side
    by side, and takes an unreadable parent for a root.

    Args:
        text: what the file holds; blank lines at its end are no words.
        source: what to call it in an error.

    Raises:
        DataError: naming the line (they count from 1, as editors do), on a line of another form, a name twice, a parent
            that is no line, or words that are their own ancestors.

    Example:
        >>> tree_from_text("animal -1\ndog 0\ncat 0\n").path(2)
        'animal/cat'
    """
    lines = text.removeprefix("\ufeff").rstrip().split("\n")
    line_of: dict[str, int] = {}
    parents: list[int] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) != 2 or not _is_label(words[1]):
            got = f"'{line.strip()[:_LONGEST]}' in {source}, line {number}"
            raise DataError(f"line must be a name and the label of its parent (-1 for a root); got {got}.")
        name, parent = words[0], int(words[1])
        if name in line_of:
            got = f"'{name}' in lines {line_of[name]} and {number} of {source}"
            raise DataError(f"names must not repeat a word; got {got}. Keep one of them.")
        if not ROOT <= parent < len(lines):
            got = f"{parent} in {source}, line {number}"
            raise DataError(
                f"parent must be a label 0..{len(lines) - 1}, or -1 for a root; got {got}. Labels count lines from 0."
            )
        line_of[name] = number
        parents.append(parent)
    circle = circular_labels(parents)
    if circle:
        chain = " < ".join(f"{label + 1}" for label in [*circle, circle[0]][:8])
        raise DataError(f"parents must lead to a root; got a circle of lines, {chain}, in {source}.")
    return WordTree(tuple(line_of), tuple(parents))


def tree_text(tree: WordTree) -> str:
    r"""The tree in darknet's form.

    Raises:
        ArgumentError: on a name with blanks; when parents do not stand before their children, or siblings not side by
            side, as darknet would then read another tree.

    Example:
        >>> tree_text(WordTree(("animal", "dog"), (-1, 0)))
        'animal -1\ndog 0\n'
    """
    blank = next((name for name in tree.names if len(name.split()) != 1), "")
    require(not blank, "names", "hold no blanks", f"'{blank}'", "Write underscores in their place.")
    advice = "tree.grouped() does; it has other labels."
    require(tree.is_grouped, "tree", "have parents before children and siblings side by side", "another order", advice)
    return "".join(f"{name} {parent}\n" for name, parent in zip(tree.names, tree.parents, strict=True))


def _is_label(word: str) -> bool:
    digits = word.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 10
