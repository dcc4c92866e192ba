"""Learning on a word tree: from labels at any height of it, and from images whose objects have no boxes.

Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4, and the authors' code for details.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor
from torch.nn import functional

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Number
from delineate.ops.hierarchical_softmax import hierarchical_log_softmax
from delineate.structures.word_tree import WordTree

NO_WORD = -1  # 255, elsewhere the label to ignore, is a word of a large tree


def hierarchical_cross_entropy(
    logits: Float[Tensor, "*N K"], target: Integer[Tensor, "*M"], tree: WordTree, *, ignore_index: int = NO_WORD
) -> Float[Tensor, "*N"]:
    """The negative log-probability of each true word: its own conditional term and those of its ancestors.

    Nothing below the word is asked: an image that is labelled "dog" says nothing about breeds, so that their logits get
    no gradient.

    Source: the paper, section 4.
    Differs: nothing; computed in float32 whatever the logits' type, also under autocast.

    Args:
        logits: before the softmax of each group.
        target: labels of words, inner ones too, or ``ignore_index``.
        tree: of K words.
        ignore_index: the label whose rows get 0, with a zero gradient; no word.

    Returns:
        0 or more, in nats, a value for each label; sums and means are the caller's.

    Raises:
        ArgumentError: when the shapes disagree, ``ignore_index`` is a word, or (off the GPU, which would have to wait)
            on a label that is no word.

    Example:
        >>> tree = WordTree.from_paths(["animal/dog/terrier", "animal/dog/corgi", "animal/cat"])
        >>> labels = torch.tensor([tree.index("dog"), tree.index("corgi"), -1])
        >>> hierarchical_cross_entropy(torch.zeros(3, 5), labels, tree)  # log 2, log 2 + log 2
        tensor([0.6931, 1.3863, 0.0000])
    """
    require(
        not target.is_floating_point() and target.dtype != torch.bool and target.shape == logits.shape[:-1],
        "target",
        f"hold one integer label for each of {tuple(logits.shape[:-1])} rows of logits",
        f"{target.dtype} of shape {tuple(target.shape)}",
    )
    require(
        not 0 <= ignore_index < tree.num_classes,
        "ignore_index",
        f"lie outside the {tree.num_classes} words",
        ignore_index,
    )
    counted = target != ignore_index
    labels = torch.where(counted, target, 0).long()
    _check_words("target", labels, tree)
    with torch.autocast(logits.device.type, enabled=False):
        log_probs = hierarchical_log_softmax(full_precision(logits), tree)
        path = torch.from_numpy(tree.paths).to(labels.device, non_blocking=True)[labels]
        terms = log_probs.gather(-1, path.clamp(min=0))
        return torch.where((path >= 0) & counted[..., None], -terms, 0).sum(-1)


@torch.no_grad()
def best_box_for_class(
    logits: Float[Tensor, "B A K"],
    labels: Integer[Tensor, " I"],
    tree: WordTree,
    *,
    objectness_logits: Float[Tensor, "J M"] | None = None,
) -> Int64[Tensor, " B"]:
    """The box that an image's label is learnt at when the image has no boxes: the one most probably of that class.

    The label counts with its ancestors, so that the box for a terrier is one that is surely a dog. To learn from it:
    :func:`hierarchical_cross_entropy` of that box alone, and :func:`assumed_objectness` for its objectness.

    Source: the paper, section 4 ("the bounding box that predicts the highest probability for that class"); with
    ``objectness_logits`` the authors' code, which multiplies by the objectness.
    Differs: nothing.

    Args:
        logits: of every box, before the softmax of each group.
        labels: the word of each image.
        tree: of K words.
        objectness_logits: of every box, before the sigmoid; None leaves objectness out.

    Returns:
        The index of a box for each image, of equal ones the first.

    Raises:
        ArgumentError: when the shapes disagree, there is no box, or (off the GPU) on a label that is no word.

    Example:
        >>> tree = WordTree(("dog", "cat"), (-1, -1))
        >>> logits = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 9.0]]])
        >>> best_box_for_class(logits, torch.tensor([0]), tree)
        tensor([1])
    """
    words = f"have one logit for each of the tree's {tree.num_classes} words in the last axis"
    require(logits.shape[-1] == tree.num_classes, "logits", words, f"shape {tuple(logits.shape)}")
    require(logits.shape[1] > 0, "logits", "hold at least one box", f"shape {tuple(logits.shape)}")
    require(labels.shape == logits.shape[:1], "labels", f"be {len(logits)}, one an image", tuple(labels.shape))
    _check_words("labels", labels, tree)
    if objectness_logits is not None:
        shape = tuple(logits.shape[:2])
        require(
            objectness_logits.shape == shape, "objectness_logits", f"be {shape}", f"{tuple(objectness_logits.shape)}"
        )
    chosen = []
    for image, label in enumerate(labels.tolist()):
        scores = _path_log_probs(logits[image], label, tree)
        if objectness_logits is not None:
            scores = scores + functional.logsigmoid(full_precision(objectness_logits[image]))
        chosen.append(scores.argmax())
    return torch.stack(chosen) if chosen else labels.new_zeros(0, dtype=torch.int64)


def assumed_objectness(objectness: Float[Tensor, "*N"], *, iou: Number = 0.3) -> Float[Tensor, "*N"]:
    """What the objectness of a box without a true one should be, if it overlaps the object by at least ``iou``.

    Where the box is surer than that, the target is its own objectness: no error, no gradient.

    Source: the paper, section 4 (.3 IOU). Early revisions of the authors' code do the same; the last one leaves the
    objectness of that box alone, and every revision takes all other boxes of the image for empty.
    Differs: nothing.

    Args:
        objectness: 0 to 1, after the sigmoid.
        iou: the overlap that is assumed, 0 to 1.

    Returns:
        Targets without a gradient.

    Raises:
        ArgumentError: when ``iou`` is out of range.

    Example:
        >>> assumed_objectness(torch.tensor([0.1, 0.8]))
        tensor([0.3000, 0.8000])
    """
    require(0 <= iou <= 1, "iou", "lie in 0..1", iou)
    return objectness.detach().clamp(min=iou)


def _path_log_probs(logits: Float[Tensor, "A K"], label: int, tree: WordTree) -> Float[Tensor, " A"]:
    """The absolute log-probability of one word for each box, from the few groups on its path alone."""
    total = logits.new_zeros(len(logits), dtype=full_precision(logits[:0]).dtype)
    for word in (label, *tree.ancestors(label)):
        siblings = tree.members[int(tree.groups[word])]
        if len(siblings) > 1:
            members = full_precision(logits[:, list(siblings)])
            total = total + members.log_softmax(-1)[:, siblings.index(word)]
    return total


def _check_words(name: str, labels: Tensor, tree: WordTree) -> None:
    if labels.device.type != "cpu" or not labels.numel():
        return
    strange = labels[(labels < 0) | (labels >= tree.num_classes)]
    require(
        not len(strange),
        name,
        f"hold labels of the tree, 0..{tree.num_classes - 1}",
        sorted(set(strange.tolist()))[:8],
        "WordTree.combined gives those of a data set's classes.",
    )
