"""A word tree out of a graph of hypernyms, in which a word may have several more general ones right above it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.structures.word_tree import WordTree

Above = Callable[[str], Collection[str]]


def hypernym_tree(
    words: Sequence[str], hypernyms: Mapping[str, Collection[str]], *, roots: Collection[str] = ()
) -> WordTree:
    """A tree that holds these words and grows as little as possible beyond them.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4: words with a single path to the
    root first; for each of the others, of its paths the one that adds the fewest nodes to the tree.
    Differs: the paper leaves open in which order the others are taken: here, that of ``words``. Of paths that add
    equally few, one that joins the tree goes before one with a root of its own, then the hypernyms listed first.

    Args:
        words: what the tree must hold.
        hypernyms: the more general words right above each; none, or no entry, for a word at the top.
        roots: where paths end even if there is something above ("physical object"); when empty, the words at the top.

    Returns:
        A tree whose parents stand before their children and siblings side by side; the words on the paths are in it.

    Raises:
        ArgumentError: on a word given twice, or one that no path connects to a root.

    Example:
        >>> graph = {"dog": ["canine", "pet"], "canine": ["animal"], "pet": ["animal"], "cat": ["pet"]}
        >>> tree = hypernym_tree(["dog", "cat"], graph)  # "canine" would be one more
        >>> tree.path(tree.index("dog"))
        'animal/pet/dog'
    """
    require(len(words) > 0, "words", "hold at least one word", "none")
    doubled = [word for word, times in Counter(words).items() if times > 1]
    require(not doubled, "words", "not repeat a word", ", ".join(doubled[:8]))
    ends = frozenset(roots)

    def above(word: str) -> Collection[str]:
        return () if word in ends else hypernyms.get(word, ())

    single = {word for word in words if _has_one_path(word, above)}
    parents: dict[str, str | None] = {}
    for word in sorted(words, key=lambda word: word not in single):  # stable: each kind in the order given
        path = _cheapest_path(word, above, parents, ends)
        if not path:
            where = f"one of the roots, {', '.join(sorted(ends)[:5])}" if ends else "a word without hypernyms"
            raise ArgumentError(f"hypernyms must lead every word to {where}; got '{word}', which no path leads there.")
        parents.update(pairwise(path))
        parents.setdefault(path[-1], None)
    return WordTree.from_parents(parents.items()).grouped()


def _has_one_path(word: str, above: Above) -> bool:
    seen = set()
    while word not in seen:
        seen.add(word)
        next_words = set(above(word))
        if not next_words:
            return True
        if len(next_words) > 1:
            return False
        (word,) = next_words
    return False


def _cheapest_path(word: str, above: Above, placed: Mapping[str, str | None], ends: Collection[str]) -> list[str]:
    """From the word to the nearest one in the tree, or to a root that is not; [] when neither can be reached.

    What lies above a word of the tree is decided and costs nothing, so that no longer path need be looked at.
    """
    below: dict[str, str | None] = {word: None}
    steps = {word: 0}
    waiting = deque([word])
    root: str | None = None
    while waiting:
        here = waiting.popleft()
        if root is not None and steps[here] > steps[root] + 1:  # a root is itself one node more
            break
        if here in placed:
            root = here
            break
        next_words = above(here)
        if root is None and not next_words and (not ends or here in ends):
            root = here
        for one in next_words:
            if one not in below:
                below[one], steps[one] = here, steps[here] + 1
                waiting.append(one)
    path: list[str] = []
    while root is not None:
        path.append(root)
        root = below[root]
    return path[::-1]
