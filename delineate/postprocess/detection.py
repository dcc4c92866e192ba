"""A detector's outputs to the objects of each image: scores, the best candidates, their boxes, suppression.

Source: Girshick et al., "Rich Feature Hierarchies", CVPR 2014, section 2 (suppression within a class); the limits per
feature map and per image: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4.1; one word a box,
down a tree: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4, and its release.
Differs: nothing; the same steps in the same order as torchvision's RetinaNet (groups of a level) and SSD (of a class).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.ops.box_coding import (
    clip_boxes,
    decode_boxes,
    decode_yolo_boxes,
    decode_yolov2_boxes,
    valid_boxes,
    yolov2_values,
)
from delineate.ops.hierarchical_softmax import absolute_log_probs, hierarchical_log_softmax, predict_down
from delineate.ops.suppression import batched_nms, nms
from delineate.structures.outputs import AnchorOutputs, GridOutputs, RegionOutputs, SlotOutputs
from delineate.structures.scored_boxes import DetectionOptions, ScoredBoxes

OneStageOutputs = AnchorOutputs | GridOutputs | SlotOutputs

GROUPS = ("level", "class")
SMALLEST = 1e-2  # side of a region's box, in pixels
WITHOUT_TREE = "be left out for a model whose classes are no tree of words"


def detected_boxes(
    outputs: OneStageOutputs,
    sizes: Sequence[tuple[int, int]],
    options: DetectionOptions = DetectionOptions(),  # noqa: B008 - frozen
) -> list[ScoredBoxes]:
    """The objects of each image, best first.

    Args:
        outputs: of a one-stage detector.
        sizes: (height, width) of each image, without padding; boxes are cut to it.
        options: what is kept.

    Returns:
        One for each image; boxes in pixels of the network's input.

    Raises:
        ArgumentError: when there is not one size for each image, a group or label is unknown, or one word a box is
            asked of a model without a tree of words.
    """
    require(len(sizes) == len(outputs.logits), "sizes", f"be {len(outputs.logits)}, one an image", len(sizes))
    require(options.groups in GROUPS, "groups", 'be "level" or "class"', f'"{options.groups}"')
    if options.specific is not None:
        return [_down_the_tree(outputs, image, size, options) for image, size in enumerate(sizes)]
    if isinstance(outputs, GridOutputs) and outputs.tree is not None:
        # thousands of words at every box: an image at a time
        return [_kept(outputs, image, _image_scores(outputs, image), size, options) for image, size in enumerate(sizes)]
    scores = class_scores(outputs)
    return [
        _kept(outputs, image, rows, size, options) for image, (rows, size) in enumerate(zip(scores, sizes, strict=True))
    ]


def detected_regions(
    outputs: RegionOutputs,
    sizes: Sequence[tuple[int, int]],
    options: DetectionOptions = DetectionOptions(),  # noqa: B008 - frozen
) -> list[ScoredBoxes]:
    """The objects of each image, best first: every class of every region is a candidate.

    Source: Girshick, "Fast R-CNN", ICCV 2015, section 2; thresholds and limits as in torchvision.
    Differs: nothing.

    Args:
        outputs: of a two-stage detector, without targets.
        sizes: (height, width) of each image, without padding; boxes are cut to it.
        options: what is kept; all candidates of an image are compared.

    Raises:
        ArgumentError: when there is not one size for each image, or a label is unknown, or one word a box is asked for.
    """
    count = len(outputs.proposals.logits)
    require(len(sizes) == count, "sizes", f"be {count}, one an image", len(sizes))
    require(options.specific is None, "specific", WITHOUT_TREE, options.specific)
    scores = _wanted(_full_precision(outputs.logits).softmax(-1)[:, :-1], options)
    boxes = decode_boxes(outputs.deltas[:, :-1], outputs.regions, weights=outputs.coding_weights)
    found = []
    for image, size in enumerate(sizes):
        own = outputs.images == image
        rows, labels = torch.where(scores[own] > options.score_threshold)
        values = scores[own][rows, labels]
        cut = clip_boxes(boxes[own][rows, labels], size)
        valid = valid_boxes(cut, SMALLEST)
        candidates = ScoredBoxes(cut[valid], values[valid], labels[valid])
        kept = batched_nms(candidates.boxes, candidates.scores, candidates.labels, iou_threshold=options.iou_threshold)
        found.append(candidates.select(kept[: options.most]))
    return found


def detected_objects(
    outputs: OneStageOutputs | RegionOutputs,
    sizes: Sequence[tuple[int, int]],
    options: DetectionOptions = DetectionOptions(),  # noqa: B008 - frozen
) -> list[ScoredBoxes]:
    """The objects of each image, of either kind of detector: :func:`detected_boxes` or :func:`detected_regions`."""
    if isinstance(outputs, RegionOutputs):
        return detected_regions(outputs, sizes, options)
    return detected_boxes(outputs, sizes, options)


def class_scores(outputs: OneStageOutputs) -> Float[Tensor, "B A K"]:
    """The probability of each class at every anchor, at every box of every cell, or in every slot, without background.

    YOLO's is that of the object times that of the class (Redmon et al., CVPR 2016, eq. 1); of a tree of words, that of
    the word with all above it. A slot holds one object: all but its likeliest class have 0.
    """
    logits = _full_precision(outputs.logits)
    if isinstance(outputs, AnchorOutputs):
        return logits.sigmoid() if outputs.scoring == "sigmoid" else logits.softmax(-1)[..., :-1]
    if isinstance(outputs, SlotOutputs):
        scores = logits.softmax(-1)[..., : outputs.num_classes]
        if outputs.objectness is not None:
            scores = scores * _full_precision(outputs.objectness).sigmoid()[..., None]
        chosen = outputs.likeliest[..., None]
        return torch.zeros_like(scores).scatter(-1, chosen, scores.gather(-1, chosen))
    objectness = _full_precision(outputs.objectness)
    if outputs.priors is None:
        return (objectness[..., None] * logits).flatten(1, 2)
    if outputs.tree is None:
        return (objectness.sigmoid()[..., None] * logits.softmax(-1)).flatten(1, 2)
    words = absolute_log_probs(hierarchical_log_softmax(logits, outputs.tree), outputs.tree)
    return (objectness.sigmoid()[..., None] * words.exp()).flatten(1, 2)


def decoded_boxes(outputs: OneStageOutputs, image: int, rows: Int64[Tensor, " N"]) -> Float[Tensor, "N 4"]:
    """The boxes of these anchors, cells' boxes or slots of one image, in xyxy pixels, not cut to it."""
    if isinstance(outputs, AnchorOutputs):
        return decode_boxes(outputs.deltas[image, rows], outputs.anchors[rows], weights=outputs.coding_weights)
    if isinstance(outputs, SlotOutputs):
        height, width = outputs.size
        shares = _full_precision(outputs.likeliest_boxes[image, rows])
        # a network that has learned little may swap the corners
        first, second = torch.minimum(shares[:, :2], shares[:, 2:]), torch.maximum(shares[:, :2], shares[:, 2:])
        return torch.cat((first, second), 1) * shares.new_tensor([width, height] * 2)
    boxes = outputs.values.shape[2]
    cells = torch.div(rows, boxes, rounding_mode="floor")
    values = outputs.values[image].flatten(0, 1)[rows]
    if outputs.priors is None:
        return decode_yolo_boxes(values, cells, size=outputs.size, grid=outputs.grid)
    priors = outputs.priors[rows % boxes]
    return decode_yolov2_boxes(yolov2_values(values), cells, priors, size=outputs.size, grid=outputs.grid)


def _kept(
    outputs: OneStageOutputs,
    image: int,
    scores: Float[Tensor, "A K"],
    size: tuple[int, int],
    options: DetectionOptions,
) -> ScoredBoxes:
    classes = scores.shape[1]
    found = torch.cat(list(_candidates(outputs, _wanted(scores, options), options)))
    rows, labels = torch.div(found, classes, rounding_mode="floor"), found % classes
    boxes = clip_boxes(decoded_boxes(outputs, image, rows), size)
    candidates = ScoredBoxes(boxes, scores.flatten()[found], labels)
    kept = batched_nms(boxes, candidates.scores, labels, iou_threshold=options.iou_threshold)
    return candidates.select(kept[: options.most])


def _candidates(
    outputs: OneStageOutputs, scores: Float[Tensor, "A K"], options: DetectionOptions
) -> Iterator[Int64[Tensor, " _"]]:
    """Places in the flattened scores, the best of each group."""
    anchors, classes = scores.shape
    if options.groups == "level":
        levels = outputs.levels if isinstance(outputs, AnchorOutputs) else (anchors,)
        first = 0
        for count in levels:
            yield first * classes + _best(scores[first : first + count].flatten(), options)
            first += count
        return
    above = scores > options.score_threshold
    crowded = above.sum(0) > options.candidates
    # all classes that are not too many at once: of thousands, or of few objects, that is nearly all
    labels, rows = torch.where((above & ~crowded).T)
    yield rows * classes + labels
    for label in torch.where(crowded)[0].tolist():
        yield _best(scores[:, label], options) * classes + label


def _best(scores: Float[Tensor, " N"], options: DetectionOptions) -> Int64[Tensor, " M"]:
    places = torch.where(scores > options.score_threshold)[0]
    best = scores[places].topk(min(options.candidates, len(places))).indices
    return places[best]


def _image_scores(outputs: GridOutputs, image: int) -> Float[Tensor, "A K"]:
    own = slice(image, image + 1)
    parts = {name: getattr(outputs, name)[own] for name in ("logits", "objectness", "values")}
    return class_scores(replace(outputs, **parts))[0]


def _down_the_tree(
    outputs: OneStageOutputs, image: int, size: tuple[int, int], options: DetectionOptions
) -> ScoredBoxes:
    """The boxes of one image with their objectness as the score, each with the most specific word that is sure."""
    tree = outputs.tree if isinstance(outputs, GridOutputs) else None
    assert options.specific is not None
    require(tree is not None, "specific", WITHOUT_TREE, options.specific)
    require(0 <= options.specific <= 1, "specific", "lie in 0..1", options.specific)
    assert isinstance(outputs, GridOutputs)
    assert tree is not None
    scores = _full_precision(outputs.objectness[image]).flatten().sigmoid()
    rows = _best(scores, options)
    logits = outputs.logits[image].expand(-1, outputs.objectness.shape[2], -1).flatten(0, 1)[rows]
    probs = hierarchical_log_softmax(_full_precision(logits), tree).exp()
    labels, _ = predict_down(probs, tree, threshold=options.specific)
    candidates = ScoredBoxes(clip_boxes(decoded_boxes(outputs, image, rows), size), scores[rows], labels)
    if options.labels is not None:
        candidates = candidates.select(_known_labels(options.labels, tree.num_classes, labels)[labels])
    # whatever their words: a terrier and the dog that it is are one object
    kept = nms(candidates.boxes, candidates.scores, iou_threshold=options.iou_threshold)
    return candidates.select(kept[: options.most])


def _wanted(scores: Float[Tensor, "N K"], options: DetectionOptions) -> Float[Tensor, "N K"]:
    """The scores, with those of classes that are not looked for below any threshold."""
    if options.labels is None:
        return scores
    return scores.masked_fill(~_known_labels(options.labels, scores.shape[1], scores), -torch.inf)


def _known_labels(labels: Sequence[int], classes: int, like: Tensor) -> Bool[Tensor, " K"]:
    """Which classes are among the labels."""
    strange = [label for label in labels if not 0 <= label < classes]
    require(not strange, "labels", f"be classes, 0..{classes - 1}", strange[:8])
    known = torch.zeros(classes, dtype=torch.bool, device=like.device)
    known[list(labels)] = True
    return known


def _full_precision(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
