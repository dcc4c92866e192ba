"""Word trees for tests: one of seven words, whose numbers are worked out by hand, and random ones."""

from __future__ import annotations

import random

from delineate.structures.word_tree import WordTree

NAMES = ("animal", "plant", "dog", "cat", "rose", "terrier", "corgi")
PARENTS = (-1, -1, 0, 0, 1, 2, 2)
TREE = WordTree(NAMES, PARENTS)


def random_tree(seed: int, most: int = 14) -> WordTree:
    """Any tree, its labels in any order."""
    generator = random.Random(seed)
    count = generator.randint(1, most)
    order = generator.sample(range(count), count)
    parents = [-1] * count
    for place in range(1, count):
        above = generator.randint(-1, place - 1)
        parents[order[place]] = -1 if above < 0 else order[above]
    return WordTree(tuple(f"w{label}" for label in range(count)), tuple(parents))
