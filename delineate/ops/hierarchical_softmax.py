"""Probabilities on a word tree: a softmax among siblings, products along the way from the root, the word to answer.

Groups of siblings are many and small (YOLO9000: thousands), so they are taken together in a few dense tables; no loop
is longer than the tree is deep. The result of a training step does not depend on the order of additions.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from delineate.checks import require
from delineate.structures.word_tree import WordTree

Number = int | float


def hierarchical_log_softmax(logits: Float[Tensor, "*N K"], tree: WordTree) -> Float[Tensor, "*N K"]:
    """The log-probability of each word given its parent: a softmax over every group of siblings.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4.
    Differs: nothing; the roots are a group as well, as in the authors' code.

    Args:
        logits: before the softmax, in the precision to compute in.
        tree: of K words.

    Returns:
        0 or less; 0 for a word without siblings.

    Raises:
        ArgumentError: when the last axis is not one logit a word.

    Example:
        >>> tree = WordTree.from_paths(["animal/dog", "animal/cat"])
        >>> hierarchical_log_softmax(torch.tensor([5.0, 0.0, 0.0]), tree).exp()
        tensor([1.0000, 0.5000, 0.5000])
    """
    _check_words("logits", logits, tree)
    padded = functional.pad(logits, (0, 1), value=-torch.inf)  # the last fills the tables and has probability 0
    parts, places = [], np.empty(tree.num_classes + 1, np.int64)
    start = 0
    for _, table in tree.sibling_tables:
        rows = padded.index_select(-1, _on(logits, table.reshape(-1)))
        parts.append(rows.unflatten(-1, table.shape).log_softmax(-1).flatten(-2))
        places[table.reshape(-1)] = np.arange(start, start + table.size)
        start += table.size
    return torch.cat(parts, dim=-1).index_select(-1, _on(logits, places[:-1]))


def absolute_log_probs(log_probs: Float[Tensor, "*N K"], tree: WordTree) -> Float[Tensor, "*N K"]:
    """The log-probability of each word: the sum of its own and its ancestors' conditional ones.

    Source: the same, section 4.
    Differs: nothing; in logarithms.

    Args:
        log_probs: given the parent, from :func:`hierarchical_log_softmax`.
        tree: of K words.

    Returns:
        0 or less, and never more than the parent's. Over the leaves, the probabilities add up to 1.

    Raises:
        ArgumentError: when the last axis is not one value a word.

    Example:
        >>> tree = WordTree.from_paths(["animal/dog/terrier", "animal/dog/corgi", "animal/cat"])
        >>> absolute_log_probs(hierarchical_log_softmax(torch.zeros(5), tree), tree).exp()
        tensor([1.0000, 0.5000, 0.5000, 0.2500, 0.2500])
    """
    _check_words("log_probs", log_probs, tree)
    place_in_level = np.zeros(tree.num_classes, np.int64)
    parents, levels = np.array(tree.parents, np.int64), []
    above = None
    for depth in range(tree.paths.shape[1]):
        labels = np.flatnonzero(tree.depths == depth)
        own = log_probs.index_select(-1, _on(log_probs, labels))
        above = own if above is None else own + above.index_select(-1, _on(own, place_in_level[parents[labels]]))
        place_in_level[labels] = np.arange(len(labels))
        levels.append((labels, above))
    order = np.argsort(np.concatenate([labels for labels, _ in levels]))
    return torch.cat([values for _, values in levels], dim=-1).index_select(-1, _on(log_probs, order))


def predict_down(
    probs: Float[Tensor, "*N K"], tree: WordTree, *, threshold: Number = 0.5
) -> tuple[Int64[Tensor, "*N"], Float[Tensor, "*N"]]:
    """The most specific word that is still probable enough: from the root, the best child again and again.

    Source: the same, section 4; the authors' code for its details: the threshold must be exceeded, and the best root is
    the answer even where it does not exceed it.
    Differs: nothing.

    Args:
        probs: of each word given its parent: :func:`hierarchical_log_softmax` and an exponential.
        tree: of K words.
        threshold: for the absolute probability, 0 to 1. The lower, the more specific the answers.

    Returns:
        The label, and its absolute probability, at most ``threshold`` only for a root. Of equal children the first.

    Raises:
        ArgumentError: when the last axis is not one value a word, the threshold is out of range, or (off the GPU) the
            values are no probabilities.

    Example:
        >>> tree = WordTree.from_paths(["animal/dog/terrier", "animal/dog/corgi", "animal/cat"])
        >>> probs = torch.tensor([1.0, 0.8, 0.2, 0.6, 0.4])
        >>> [predict_down(probs, tree, threshold=value) for value in (0.4, 0.5)]
        [(tensor(3), tensor(0.4800)), (tensor(1), tensor(0.8000))]
    """
    _check_words("probs", probs, tree)
    require(0 <= threshold <= 1, "threshold", "lie in 0..1", threshold)
    if probs.device.type == "cpu" and probs.numel():
        least, most = (value.item() for value in torch.aminmax(probs))
        require(least >= 0 and most <= 1.001, "probs", "lie in 0..1", f"{least:g}..{most:g}", "Pass log_probs.exp().")
    best = _best_members(probs, tree)
    below = _on(probs, tree.child_groups)
    words = best[..., 0]
    absolute = probs.gather(-1, words[..., None])[..., 0]
    for _ in range(tree.paths.shape[1] - 1):
        groups = below[words]  # of their children; -1 for a leaf
        children = best.gather(-1, groups.clamp(min=0)[..., None])[..., 0]
        further = absolute * probs.gather(-1, children[..., None])[..., 0]
        goes = (groups >= 0) & (further > threshold)  # a word that stays once fails this test every time
        words, absolute = torch.where(goes, children, words), torch.where(goes, further, absolute)
    return words, absolute


def _best_members(probs: Float[Tensor, "*N K"], tree: WordTree) -> Int64[Tensor, "*N G"]:
    """The most probable word of each group."""
    padded = functional.pad(probs, (0, 1), value=-1.0)
    parts = []
    for _, table in tree.sibling_tables:
        members = _on(probs, table)
        rows = padded.index_select(-1, members.flatten()).unflatten(-1, table.shape)
        places = rows.argmax(-1)
        parts.append(members.expand(*rows.shape).gather(-1, places[..., None])[..., 0])
    order = np.argsort(np.concatenate([groups for groups, _ in tree.sibling_tables]))
    return torch.cat(parts, dim=-1).index_select(-1, _on(probs, order))


def _check_words(name: str, values: Tensor, tree: WordTree) -> None:
    words = f"have one value for each of the tree's {tree.num_classes} words in the last axis"
    require(values.ndim > 0 and values.shape[-1] == tree.num_classes, name, words, f"shape {tuple(values.shape)}")


def _on(values: Tensor, indices: np.ndarray) -> Tensor:
    # copied from pageable memory, which may be left at once; the GPU's queue is not waited for
    return torch.from_numpy(indices).to(values.device, non_blocking=True)
