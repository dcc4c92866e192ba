"""Probabilities on word trees: a softmax among siblings, products down to a word, the walk from the root."""

from __future__ import annotations

import math

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.ops.hierarchical_softmax import absolute_log_probs, hierarchical_log_softmax, predict_down
from delineate.structures.word_tree import WordTree
from tests.structures.word_trees import TREE, random_tree

# animal : plant = 3 : 1, dog : cat = 4 : 1, rose alone, terrier : corgi = 1 : 3
ODDS = torch.tensor([3.0, 1.0, 4.0, 1.0, 7.0, 1.0, 3.0], dtype=torch.float64)
GIVEN_PARENT = [0.75, 0.25, 0.8, 0.2, 1.0, 0.25, 0.75]
ABSOLUTE = [0.75, 0.25, 0.6, 0.15, 0.25, 0.15, 0.45]
SEEDS = range(20)


def answers(threshold: float) -> tuple[str, float]:
    word, prob = predict_down(torch.tensor(GIVEN_PARENT), TREE, threshold=threshold)
    return TREE.names[int(word)], round(float(prob), 6)


def test_by_hand():
    log_probs = hierarchical_log_softmax(ODDS.log(), TREE)
    assert log_probs.exp().tolist() == pytest.approx(GIVEN_PARENT)
    assert absolute_log_probs(log_probs, TREE).exp().tolist() == pytest.approx(ABSOLUTE)


def test_the_walk_by_hand():
    assert answers(0.4) == ("corgi", 0.45)
    assert answers(0.5) == ("dog", 0.6)
    assert answers(0.7) == ("animal", 0.75)
    assert answers(0.8) == ("animal", 0.75)  # the best root, though it is not probable enough
    assert answers(0) == ("corgi", 0.45)
    assert answers(1) == ("animal", 0.75)


def test_the_threshold_must_be_exceeded():
    tree = WordTree(("a", "b", "c"), (-1, 0, 0))
    probs = torch.tensor([1.0, 0.5, 0.5])
    assert predict_down(probs, tree, threshold=0.5)[0] == 0
    assert predict_down(probs, tree, threshold=0.499)[0] == 1  # of equal children the first


@pytest.mark.parametrize("seed", SEEDS)
def test_a_softmax_for_each_group(seed):
    tree = random_tree(seed)
    logits = 3 * torch.randn(4, 2, tree.num_classes, dtype=torch.float64)
    found = hierarchical_log_softmax(logits, tree)
    for labels in tree.members:
        torch.testing.assert_close(found[..., list(labels)], logits[..., list(labels)].log_softmax(-1))
    assert (found <= 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_along_the_way_up(seed):
    tree = random_tree(seed)
    log_probs = hierarchical_log_softmax(3 * torch.randn(5, tree.num_classes), tree)
    found = absolute_log_probs(log_probs, tree)
    for label in range(tree.num_classes):
        expected = log_probs[:, [label, *tree.ancestors(label)]].sum(-1)
        torch.testing.assert_close(found[:, label], expected)
    parents = torch.tensor(tree.parents)
    below = parents >= 0
    assert (found[:, below] <= found[:, parents[below]]).all()  # exactly, whatever is rounded
    torch.testing.assert_close(found[:, list(tree.leaves)].exp().sum(-1), torch.ones(5))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.4, 0.9])
def test_the_walk_equals_one_step_by_step(seed, threshold):
    tree = random_tree(seed)
    probs = hierarchical_log_softmax(2 * torch.randn(3, 4, tree.num_classes), tree).exp()
    words, found = predict_down(probs, tree, threshold=threshold)
    assert words.dtype == torch.int64
    for row, word, prob in zip(probs.flatten(0, 1), words.flatten(), found.flatten(), strict=True):
        here = max(tree.members[0], key=lambda label: row[label])
        so_far = row[here]
        while tree.children(here):
            child = max(tree.children(here), key=lambda label: row[label])
            if so_far * row[child] <= threshold:
                break
            here, so_far = child, so_far * row[child]
        assert int(word) == here
        assert prob == so_far


def test_a_flat_tree_is_a_softmax_and_a_chain_is_certain():
    flat, logits = WordTree(tuple("abcde"), (-1,) * 5), torch.randn(3, 5)
    torch.testing.assert_close(hierarchical_log_softmax(logits, flat), logits.log_softmax(-1))
    torch.testing.assert_close(absolute_log_probs(logits.log_softmax(-1), flat), logits.log_softmax(-1))
    chain = WordTree(tuple("abc"), (-1, 0, 1))
    log_probs = hierarchical_log_softmax(torch.randn(2, 3), chain)
    assert (log_probs == 0).all()
    assert predict_down(log_probs.exp(), chain, threshold=0.99)[0].tolist() == [2, 2]


def test_a_shift_of_one_group_changes_nothing():
    logits = torch.randn(7, dtype=torch.float64)
    shifted = logits.clone()
    shifted[[5, 6]] += 100
    torch.testing.assert_close(hierarchical_log_softmax(shifted, TREE), hierarchical_log_softmax(logits, TREE))


def test_large_logits_stay_finite():
    found = hierarchical_log_softmax(torch.tensor([1e4, -1e4, 0.0, 3e4, 1e30, 0.0, 0.0]), TREE)
    assert found.isfinite().all()
    assert found[4] == 0


@pytest.mark.parametrize("seed", range(4))
def test_gradients_are_those_of_finite_differences(seed):
    tree = random_tree(seed)
    logits = torch.randn(2, tree.num_classes, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: hierarchical_log_softmax(values, tree), (logits,))
    assert torch.autograd.gradcheck(lambda values: absolute_log_probs(values, tree), (logits,))


def test_no_rows_and_half_precision():
    empty = torch.zeros(0, 7)
    assert hierarchical_log_softmax(empty, TREE).shape == (0, 7)
    assert absolute_log_probs(empty, TREE).shape == (0, 7)
    words, probs = predict_down(empty, TREE)
    assert words.shape == probs.shape == (0,)
    assert hierarchical_log_softmax(torch.zeros(2, 7, dtype=torch.bfloat16), TREE).dtype == torch.bfloat16


def test_a_tree_of_thousands():
    """The size of YOLO9000's: 9,418 words."""
    tree = WordTree(tuple(f"w{i}" for i in range(9418)), tuple(-1 if i < 4 else (i - 4) // 5 for i in range(9418)))
    log_probs = hierarchical_log_softmax(torch.randn(3, 9418), tree)
    torch.testing.assert_close(log_probs[:, 4:9].exp().sum(-1), torch.ones(3))
    absolute = absolute_log_probs(log_probs, tree)
    torch.testing.assert_close(absolute[:, list(tree.leaves)].exp().sum(-1), torch.ones(3))
    words, probs = predict_down(log_probs.exp(), tree, threshold=0.0)
    torch.testing.assert_close(probs.log(), absolute.gather(-1, words[:, None])[:, 0])
    assert set(words.tolist()) <= set(tree.leaves)


def test_errors():
    words = r"have one value for each of the tree's 7 words in the last axis; got shape \(2, 6\)"
    with pytest.raises(ArgumentError, match=f"logits must {words}"):
        hierarchical_log_softmax(torch.zeros(2, 6), TREE)
    with pytest.raises(ArgumentError, match=f"log_probs must {words}"):
        absolute_log_probs(torch.zeros(2, 6), TREE)
    with pytest.raises(ArgumentError, match=f"probs must {words}"):
        predict_down(torch.zeros(2, 6), TREE)
    with pytest.raises(ArgumentError, match=r"threshold must lie in 0\.\.1; got 1\.5\."):
        predict_down(torch.ones(7), TREE, threshold=1.5)
    with pytest.raises(ArgumentError, match=r"probs must lie in 0\.\.1; got -0\.\d+\.\.0\. Pass log_probs\.exp\(\)\."):
        predict_down(hierarchical_log_softmax(torch.zeros(7), TREE), TREE)
    with pytest.raises(ArgumentError, match=r"probs must lie in 0\.\.1; got nan"):
        predict_down(torch.full((7,), math.nan), TREE)
