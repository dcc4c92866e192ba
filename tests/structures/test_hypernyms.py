"""One tree out of a graph in which words have several more general ones."""

from __future__ import annotations

import random

import pytest

from delineate.errors import ArgumentError
from delineate.structures.hypernyms import hypernym_tree


def test_words_with_one_path_come_first_and_draw_the_others_to_them():
    # by itself, "dog" would go by "pet", its first; but "wolf" has brought "canine" into the tree
    graph = {"dog": ["pet", "canine"], "pet": ["animal"], "canine": ["animal"], "wolf": ["canine"]}
    assert hypernym_tree(["dog"], graph).names == ("animal", "pet", "dog")
    tree = hypernym_tree(["dog", "wolf"], graph)
    assert tree.path(tree.index("dog")) == "animal/canine/dog"
    assert tree.names == ("animal", "canine", "wolf", "dog")


def test_the_path_that_adds_fewest_nodes_is_taken_though_it_is_longer_to_the_root():
    # the paper's case: one path adds three nodes, the other one alone
    graph = {
        "deep": ["e"], "e": ["d"], "d": ["c"], "c": ["root"],
        "word": ["x", "e"], "x": ["y"], "y": ["root"],
    }  # fmt: skip
    tree = hypernym_tree(["deep", "word"], graph)
    assert tree.path(tree.index("word")) == "root/c/d/e/word"
    assert "x" not in tree.names


def test_a_word_on_the_way_to_another_is_one_word():
    tree = hypernym_tree(["terrier", "dog"], {"terrier": ["dog"], "dog": ["animal"]})
    assert tree.names == ("animal", "dog", "terrier")


def test_paths_end_at_the_roots():
    graph = {"dog": ["animal"], "animal": ["object"], "object": ["entity"], "idea": ["entity"]}
    assert hypernym_tree(["dog"], graph).names[0] == "entity"
    assert hypernym_tree(["dog"], graph, roots={"object"}).names == ("object", "animal", "dog")
    with pytest.raises(ArgumentError, match=r"hypernyms must lead every word to one of the roots, object; got 'idea'"):
        hypernym_tree(["dog", "idea"], graph, roots={"object"})


def test_joining_the_tree_goes_before_a_root_of_its_own():
    graph = {"dog": ["animal"], "toy": ["thing", "pet"], "pet": ["animal"]}  # either way adds toy and one more
    tree = hypernym_tree(["dog", "toy"], graph)
    assert tree.path(tree.index("toy")) == "animal/pet/toy"
    assert tree.names.count("thing") == 0


def test_a_circle_in_the_graph_is_walked_round_once():
    graph = {"a": ["b", "c"], "b": ["a"], "c": ["top"]}
    assert hypernym_tree(["a"], graph).names == ("top", "c", "a")
    with pytest.raises(ArgumentError, match=r"lead every word to a word without hypernyms; got 'x', which no path"):
        hypernym_tree(["x"], {"x": ["y"], "y": ["x"]})


@pytest.mark.parametrize("seed", range(40))
def test_every_tree_follows_the_graph_and_holds_nothing_that_no_word_needs(seed):
    generator = random.Random(seed)
    names = [f"w{i}" for i in range(generator.randint(2, 9))]
    graph = {name: generator.sample(names[:i], generator.randint(1, min(i, 3))) for i, name in enumerate(names) if i}
    words = generator.sample(names, 1 if seed % 2 else generator.randint(2, len(names)))
    tree = hypernym_tree(words, graph)
    assert set(words) <= set(tree.names)
    for name, parent in zip(tree.names, tree.parents, strict=True):
        assert (tree.names[parent] in graph[name]) if parent >= 0 else name == "w0"
    assert {tree.names[leaf] for leaf in tree.leaves} <= set(words)
    if len(words) == 1:
        assert tree.num_classes == _fewest(words[0], graph)


def _fewest(word: str, graph: dict[str, list[str]]) -> int:
    return 1 + min((_fewest(one, graph) for one in graph.get(word, ())), default=0)


def test_words_given_twice_and_none():
    with pytest.raises(ArgumentError, match=r"words must not repeat a word; got dog\."):
        hypernym_tree(["dog", "dog"], {})
    with pytest.raises(ArgumentError, match=r"words must hold at least one word; got none\."):
        hypernym_tree([], {})
