"""Learning on word trees: labels at any height, and images whose objects have no boxes."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.hierarchical import assumed_objectness, best_box_for_class, hierarchical_cross_entropy
from delineate.ops.hierarchical_softmax import absolute_log_probs, hierarchical_log_softmax
from delineate.structures.word_tree import WordTree
from tests.structures.word_trees import TREE, random_tree

# animal : plant = 3 : 1, dog : cat = 4 : 1, rose alone, terrier : corgi = 1 : 3
ODDS = torch.tensor([3.0, 1.0, 4.0, 1.0, 7.0, 1.0, 3.0], dtype=torch.float64)
ABSOLUTE = torch.tensor([0.75, 0.25, 0.6, 0.15, 0.25, 0.15, 0.45], dtype=torch.float64)


def test_by_hand():
    """The loss of every word is that of its absolute probability."""
    found = hierarchical_cross_entropy(ODDS.log().expand(7, 7), torch.arange(7), TREE)
    torch.testing.assert_close(found, -ABSOLUTE.log())


def test_the_gradient_reaches_the_word_and_what_is_above_it_alone():
    logits = ODDS.log().requires_grad_()
    hierarchical_cross_entropy(logits, torch.tensor(TREE.index("dog")), TREE).backward()
    # softmax less one-hot in the groups of dog and animal, nothing for rose, terrier and corgi
    expected = torch.tensor([0.75 - 1, 0.25, 0.8 - 1, 0.2, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_finite_differences(seed):
    tree = random_tree(seed)
    target = torch.randint(-1, tree.num_classes, (2, 3))
    logits = torch.randn(2, 3, tree.num_classes, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: hierarchical_cross_entropy(values, target, tree), (logits,))


@pytest.mark.parametrize("seed", range(10))
def test_equals_a_loop_over_the_ancestors(seed):
    tree = random_tree(seed)
    logits, target = torch.randn(6, tree.num_classes), torch.randint(0, tree.num_classes, (6,))
    found = hierarchical_cross_entropy(logits, target, tree)
    for row, label, value in zip(logits, target.tolist(), found, strict=True):
        expected = torch.zeros(())
        for word in (label, *tree.ancestors(label)):
            siblings = list(tree.members[tree.groups[word]])
            expected = expected + torch.nn.functional.cross_entropy(row[siblings], torch.tensor(siblings.index(word)))
        torch.testing.assert_close(value, expected)


def test_a_flat_tree_is_the_cross_entropy():
    tree, logits, target = WordTree(tuple("abcd"), (-1,) * 4), torch.randn(5, 4), torch.tensor([0, 3, 2, 2, 1])
    expected = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(hierarchical_cross_entropy(logits, target, tree), expected)


def test_ignored_rows_are_zero_with_a_zero_gradient():
    logits = torch.randn(3, 7, requires_grad=True)
    found = hierarchical_cross_entropy(logits, torch.tensor([-1, 6, 6]), TREE)
    assert found[0] == 0
    found.sum().backward()
    assert (logits.grad[0] == 0).all()
    assert (logits.grad[1] != 0).any()
    other = hierarchical_cross_entropy(logits, torch.tensor([255, 255, 255]), TREE, ignore_index=255)
    assert other.tolist() == [0, 0, 0]
    other.sum().backward()
    assert hierarchical_cross_entropy(torch.zeros(0, 7), torch.zeros(0, dtype=torch.int64), TREE).shape == (0,)


def test_half_precision_is_left_behind():
    logits, target = torch.randn(4, 7).bfloat16(), torch.tensor([0, 3, 5, 6])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = hierarchical_cross_entropy(logits, target, TREE)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hierarchical_cross_entropy(logits.float(), target, TREE))


def test_the_best_box_by_hand():
    # box 0 is surely a dog, and rather no terrier; box 1 a terrier among dogs, but hardly a dog; box 2 surely a plant
    probs = torch.tensor(
        [
            [0.9, 0.1, 0.9, 0.1, 1.0, 0.4, 0.6],
            [0.5, 0.5, 0.3, 0.7, 1.0, 0.9, 0.1],
            [0.01, 0.99, 0.5, 0.5, 1.0, 0.5, 0.5],
        ]
    )
    logits = probs.log()[None].expand(3, 3, 7)
    labels = torch.tensor([TREE.index("terrier"), TREE.index("rose"), TREE.index("cat")])
    # terrier: .9 .9 .4 = .324, .5 .3 .9 = .135, .0025; cat: .09, .35, .005
    assert best_box_for_class(logits, labels, TREE).tolist() == [0, 2, 1]
    # with objectness 1/2, 9/10, 1/10: terrier .162, .1215, .00025; rose .05, .45, .099
    objectness = torch.tensor([0.5, 0.9, 0.1]).logit().expand(3, 3)
    assert best_box_for_class(logits, labels, TREE, objectness_logits=objectness).tolist() == [0, 1, 1]


@pytest.mark.parametrize("seed", range(10))
def test_the_best_box_is_that_of_all_probabilities(seed):
    tree = random_tree(seed)
    logits = torch.randn(3, 9, tree.num_classes, dtype=torch.float64)
    objectness = torch.randn(3, 9, dtype=torch.float64)
    labels = torch.randint(0, tree.num_classes, (3,))
    probs = absolute_log_probs(hierarchical_log_softmax(logits, tree), tree).exp()
    of_label = probs[torch.arange(3), :, labels] * objectness.sigmoid()
    found = best_box_for_class(logits, labels, tree, objectness_logits=objectness)
    assert found.tolist() == of_label.argmax(1).tolist()
    assert found.dtype == torch.int64


def test_of_equal_boxes_the_first_and_no_images():
    assert best_box_for_class(torch.zeros(2, 4, 7), torch.tensor([3, 6]), TREE).tolist() == [0, 0]
    assert best_box_for_class(torch.zeros(0, 4, 7), torch.zeros(0, dtype=torch.int64), TREE).shape == (0,)


def test_one_step_at_the_best_box_makes_it_surer_of_the_label():
    logits = torch.randn(1, 5, 7, requires_grad=True)
    label = torch.tensor([TREE.index("corgi")])
    place = best_box_for_class(logits, label, TREE)
    before = hierarchical_cross_entropy(logits[0, place], label, TREE)
    before.sum().backward()
    assert logits.grad.abs().sum(-1).nonzero()[:, 1].tolist() == place.tolist()
    after = hierarchical_cross_entropy((logits - 0.1 * logits.grad)[0, place], label, TREE)
    assert (after < before).all()


def test_assumed_objectness():
    objectness = torch.tensor([0.0, 0.1, 0.3, 0.8], requires_grad=True)
    target = assumed_objectness(objectness)
    assert target.tolist() == pytest.approx([0.3, 0.3, 0.3, 0.8])
    assert not target.requires_grad
    ((objectness - target) ** 2).sum().backward()
    assert objectness.grad.tolist() == pytest.approx([-0.6, -0.4, 0, 0])
    assert assumed_objectness(torch.zeros(2), iou=0.5).tolist() == [0.5, 0.5]
    with pytest.raises(ArgumentError, match=r"iou must lie in 0\.\.1; got 30\."):
        assumed_objectness(objectness, iou=30)


def test_errors():
    logits = torch.zeros(2, 7)
    with pytest.raises(
        ArgumentError,
        match=r"target must hold labels of the tree, 0\.\.6; got \[-2, 7\]\. WordTree\.combined gives those",
    ):
        hierarchical_cross_entropy(logits, torch.tensor([7, -2]), TREE)
    with pytest.raises(ArgumentError, match=r"ignore_index must lie outside the 7 words; got 6\."):
        hierarchical_cross_entropy(logits, torch.tensor([0, 1]), TREE, ignore_index=6)
    with pytest.raises(ArgumentError, match=r"target must hold one integer label for each of \(2,\) rows"):
        hierarchical_cross_entropy(logits, torch.tensor([0]), TREE)
    boxes = torch.zeros(2, 4, 7)
    with pytest.raises(ArgumentError, match=r"labels must hold labels of the tree, 0\.\.6; got \[7\]"):
        best_box_for_class(boxes, torch.tensor([0, 7]), TREE)
    with pytest.raises(ArgumentError, match=r"logits must hold at least one box; got shape \(2, 0, 7\)"):
        best_box_for_class(boxes[:, :0], torch.tensor([0, 1]), TREE)
    with pytest.raises(ArgumentError, match=r"logits must have one logit for each of the tree's 7 words"):
        best_box_for_class(boxes[..., :6], torch.tensor([0, 1]), TREE)
    with pytest.raises(ArgumentError, match=r"labels must be 2, one an image; got \(3,\)\."):
        best_box_for_class(boxes, torch.tensor([0, 1, 2]), TREE)
    with pytest.raises(ArgumentError, match=r"objectness_logits must be \(2, 4\); got \(2, 5\)\."):
        best_box_for_class(boxes, torch.tensor([0, 1]), TREE, objectness_logits=torch.zeros(2, 5))
