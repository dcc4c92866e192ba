"""A tree of words: classes and the more general classes above them, as siblings that exclude one another.

Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4 (WordTree).
Differs: WordNet itself is not read; a tree is a list of parents, of paths, a graph of hypernyms
(:mod:`delineate.structures.hypernyms`) or darknet's text (:mod:`delineate.structures.darknet_tree`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.registry import unknown_name
from delineate.structures.taxonomy import Taxonomy

ROOT = -1  # the parent of a root


@dataclass(frozen=True)
class WordTree:
    """Words and their parents: word ``i`` is ``names[i]``, label ``i`` of a network, and a child of ``parents[i]``.

    The children of one parent exclude one another and share a softmax; so do the roots. A word says nothing about those
    below it: what is called a dog may be of any breed.

    Args:
        names: one a word, in label order; no name twice.
        parents: the label of the parent of each, -1 for a root; in any order, though darknet wants that of
            :meth:`grouped`.

    Raises:
        ArgumentError: on a name twice, a parent that does not exist, or words that are their own ancestors.

    Example:
        >>> tree = WordTree(("animal", "dog", "cat", "terrier"), (-1, 0, 0, 1))
        >>> tree.ancestors(3), tree.leaves, tree.groups.tolist()
        ((1, 0), (2, 3), [0, 1, 1, 2])
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "parents", tuple(int(parent) for parent in self.parents))
        count = len(self.names)
        require(count > 0, "names", "hold at least one word", "none")
        require(all(name.strip() for name in self.names), "names", "not be blank", "a blank one")
        doubled = [name for name, times in Counter(self.names).items() if times > 1]
        require(not doubled, "names", "not repeat a word", ", ".join(doubled[:8]))
        require(len(self.parents) == count, "parents", f"hold {count} labels, one a word", len(self.parents))
        for name, parent in zip(self.names, self.parents, strict=True):
            inside = ROOT <= parent < count
            require(inside, "parents", f"be labels 0..{count - 1}, or -1 for a root", f"{parent} for '{name}'")
        circle = circular_labels(self.parents)
        chain = " < ".join(self.names[label] for label in [*circle, *circle[:1]][:8])
        require(not circle, "parents", "lead to a root", f"a circle, {chain}", "Cut it at one place.")

    @property
    def num_classes(self) -> int:
        """The number of words, inner ones included: the length of a network's class output."""
        return len(self.names)

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """The labels of words without children."""
        return tuple(np.flatnonzero(self.child_groups < 0).tolist())

    @cached_property
    def groups(self) -> Int64[np.ndarray, " K"]:
        """The softmax that each word belongs to: 0 for the roots, the others numbered in order of their first label."""
        numbers = {ROOT: 0}
        return np.array([numbers.setdefault(parent, len(numbers)) for parent in self.parents], np.int64)

    @cached_property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The labels of each group, ascending."""
        members: list[list[int]] = [[] for _ in range(int(self.groups.max()) + 1)]
        for label, group in enumerate(self.groups.tolist()):
            members[group].append(label)
        return tuple(map(tuple, members))

    @cached_property
    def child_groups(self) -> Int64[np.ndarray, " K"]:
        """The group of each word's children; -1 for a leaf."""
        groups, parents = np.full(self.num_classes, -1, np.int64), np.array(self.parents, np.int64)
        groups[parents[parents >= 0]] = self.groups[parents >= 0]
        return groups

    @cached_property
    def paths(self) -> Int64[np.ndarray, "K D"]:
        """Each word and its ancestors, from the word upwards; -1 behind the root."""
        parents = np.array([*self.parents, ROOT], np.int64)  # its last, which -1 finds, for what lies above a root
        steps = [np.arange(self.num_classes, dtype=np.int64)]
        while (above := parents[steps[-1]]).max() >= 0:
            steps.append(above)
        return np.stack(steps, axis=1)

    @cached_property
    def depths(self) -> Int64[np.ndarray, " K"]:
        """How many ancestors each word has."""
        return (self.paths >= 0).sum(axis=1).astype(np.int64) - 1

    @cached_property
    def sibling_tables(self) -> tuple[tuple[Int64[np.ndarray, " G"], Int64[np.ndarray, "G S"]], ...]:
        """The groups in a few tables, those of similar size together: their numbers, and a row of labels for each.

        A row is filled up to a power of two with ``num_classes``, so that less than half of a table is idle, while one
        table as wide as the largest group would be idle almost everywhere.
        """
        by_width: dict[int, list[int]] = {}
        for group, labels in enumerate(self.members):
            by_width.setdefault(1 << (len(labels) - 1).bit_length(), []).append(group)
        tables = []
        for width, numbers in sorted(by_width.items()):
            rows = np.full((len(numbers), width), self.num_classes, np.int64)
            for row, group in zip(rows, numbers, strict=True):
                row[: len(self.members[group])] = self.members[group]
            tables.append((np.array(numbers, np.int64), rows))
        return tuple(tables)

    @property
    def is_flat(self) -> bool:
        """Whether every word is a root, so that the words are classes like any others."""
        return max(self.parents) == ROOT

    def index(self, name: str) -> int:
        """The label of a word; an unknown one raises UnknownNameError with the nearest."""
        if name not in self._labels:
            raise unknown_name("word", name, self.names)
        return self._labels[name]

    def ancestors(self, label: int) -> tuple[int, ...]:
        """The labels above a word, its parent first and its root last; none for a root."""
        self._check_label(label)
        return tuple(place for place in self.paths[label, 1:].tolist() if place != ROOT)

    def children(self, label: int) -> tuple[int, ...]:
        """The labels right below a word, ascending."""
        self._check_label(label)
        group = int(self.child_groups[label])
        return () if group < 0 else self.members[group]

    def path(self, label: int) -> str:
        """A word with its ancestors, "animal/dog/terrier"."""
        return "/".join(self.names[place] for place in [*reversed(self.ancestors(label)), label])

    def to_paths(self) -> tuple[str, ...]:
        """The path of every word in label order: of a tree that :attr:`is_grouped`, :meth:`from_paths` reads it back.

        Raises:
            ArgumentError: on a name with a stroke, which a path could not tell from two names.

        Example:
            >>> WordTree(("animal", "dog", "cat"), (-1, 0, 0)).to_paths()
            ('animal', 'animal/dog', 'animal/cat')
        """
        stroke = next((name for name in self.names if "/" in name), "")
        require(not stroke, "names", "hold no strokes", f"'{stroke}'", "Write underscores in their place.")
        return tuple(self.path(label) for label in range(self.num_classes))

    def taxonomy(self) -> Taxonomy:
        """The words as the classes of a data set."""
        return Taxonomy(self.names, ignore_index=255 if self.num_classes <= 255 else 65535)

    @property
    def is_grouped(self) -> bool:
        """Whether parents stand before their children and siblings side by side, as in darknet's files."""
        groups = self.groups
        changes = 1 + int((groups[1:] != groups[:-1]).sum())
        return changes == len(self.members) and all(parent < label for label, parent in enumerate(self.parents))

    def grouped(self) -> WordTree:
        """The same words, with other labels, such that it :attr:`is_grouped`; itself where it is."""
        if self.is_grouped:
            return self
        order = list(self.members[0])
        for label in order:  # which grows: level after level
            order.extend(self.children(label))
        new = {old: label for label, old in enumerate(order)} | {ROOT: ROOT}
        return WordTree(tuple(self.names[old] for old in order), tuple(new[self.parents[old]] for old in order))

    @classmethod
    def from_parents(cls, pairs: Iterable[tuple[str, str | None]]) -> WordTree:
        """A tree of (name, name of the parent) pairs, None for a root, in label order.

        Raises:
            ArgumentError: naming the entry (they count from 0), on a word given twice or with two parents, a parent
                that is no word, or words that are their own ancestors.

        Example:
            >>> WordTree.from_parents([("dog", "animal"), ("animal", None)]).parents
            (1, -1)
        """
        listed = list(pairs)
        labels: dict[str, int] = {}
        for label, (name, parent) in enumerate(listed):
            if name in labels:
                first = f"below {listed[labels[name]][1]} in entry {labels[name]}"
                got = f"'{name}' {first} and below {parent} in entry {label}"
                raise ArgumentError(f"words must be given once, with one parent; got {got}. Keep one of them.")
            labels[name] = label
        for label, (name, parent) in enumerate(listed):
            if parent is not None and parent not in labels:
                raise ArgumentError(f"{unknown_name('parent', parent, labels)} It is that of '{name}', entry {label}.")
        return cls(tuple(labels), tuple(ROOT if parent is None else labels[parent] for _, parent in listed))

    @classmethod
    def from_paths(cls, paths: Iterable[str]) -> WordTree:
        """A tree of paths from a root, "animal/dog/terrier"; the words on the way need no path of their own.

        Args:
            paths: siblings keep the order in which they are first met; those of a set are in alphabetical order.

        Raises:
            ArgumentError: on a path with an empty part, and on a word in two places.

        Example:
            >>> WordTree.from_paths({"animal/dog/terrier", "animal/cat"}).names
            ('animal', 'cat', 'dog', 'terrier')
        """
        parents: dict[str, str | None] = {}
        first: dict[str, str] = {}
        for path in sorted(paths) if isinstance(paths, AbstractSet) else paths:
            words = path.split("/")
            require(all(word.strip() for word in words), "paths", "have a word between two strokes", f"'{path}'")
            for word, parent in zip(words, [None, *words], strict=False):
                if parents.setdefault(word, parent) != parent:
                    raise ArgumentError(
                        f"words must have one parent; got '{word}' in '{first[word]}' and in '{path}'. Keep one path."
                    )
                first.setdefault(word, path)
        return cls.from_parents(parents.items()).grouped()

    def combined(
        self, taxonomies: Sequence[Taxonomy], *, aliases: Mapping[str, str] | None = None
    ) -> tuple[Int64[np.ndarray, " _"], ...]:
        """The label in this tree of each class of several data sets: one label space for all of them.

        A data set of boxes may name an inner word (COCO's "dog") and one of whole images the leaves below it: a loss
        that asks for a word and its ancestors alone takes both.

        Args:
            taxonomies: the data sets' classes.
            aliases: the word for a class of another name, {"aeroplane": "airplane"}.

        Returns:
            One array a data set, with the label of each of its classes; -1 for its background, which is no word.

        Raises:
            UnknownNameError: on a class that is no word, with the nearest.
            ArgumentError: when two classes of a data set are the same word.

        Example:
            >>> tree = WordTree.from_paths(["animal/dog/terrier", "animal/cat"])
            >>> [labels.tolist() for labels in tree.combined([Taxonomy(("cat", "dog")), Taxonomy(("terrier",))])]
            [[2, 1], [3]]
        """
        words = aliases or {}
        combined = []
        for taxonomy in taxonomies:
            background = taxonomy.background
            labels = [
                ROOT if label == background else self.index(words.get(name, name))
                for label, name in enumerate(taxonomy.names)
            ]
            doubled = [self.names[label] for label, times in Counter(labels).items() if label != ROOT and times > 1]
            require(not doubled, "classes", "be different words", f"two that are '{doubled[0] if doubled else ''}'")
            combined.append(np.array(labels, np.int64))
        return tuple(combined)

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {name: label for label, name in enumerate(self.names)}

    def _check_label(self, label: int) -> None:
        require(0 <= label < self.num_classes, "label", f"be a word, 0..{self.num_classes - 1}", label)


def circular_labels(parents: Sequence[int]) -> list[int]:
    """Labels that are their own ancestors, each followed by its parent; none in a tree.

    Example:
        >>> circular_labels([-1, 3, 1, 2]), circular_labels([-1, 0])
        ([1, 3, 2], [])
    """
    done: set[int] = {ROOT}
    for start in range(len(parents)):
        chain: dict[int, None] = {}
        label = start
        while label not in done and label not in chain:
            chain[label] = None
            label = parents[label]
        if label in chain:
            listed = list(chain)
            return listed[listed.index(label) :]
        done.update(chain)
    return []
