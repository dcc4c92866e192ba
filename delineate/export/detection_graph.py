"""From a detector's outputs to objects, for a whole batch in one graph: no loop over images, and suppression by ONNX.

The same steps as :mod:`delineate.postprocess.detection` and the proposals of
:class:`~delineate.models.blocks.region_proposals.RegionProposalNetwork`, which go image by image. Here candidates stand
in rows of equal length, and where an image has fewer, the score of the others is minus infinity.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from delineate.models.blocks.region_proposals import RegionProposalNetwork
from delineate.models.faster_rcnn import FasterRCNN
from delineate.ops.box_coding import (
    clip_boxes,
    decode_boxes,
    decode_yolo_boxes,
    decode_yolov2_boxes,
    valid_boxes,
    yolov2_values,
)
from delineate.ops.padding import pad_to_multiple
from delineate.ops.suppression import nms
from delineate.postprocess.detection import SMALLEST, OneStageOutputs, class_scores
from delineate.structures.outputs import AnchorOutputs, RegionOutputs, SlotOutputs
from delineate.structures.scored_boxes import DetectionOptions

NOTHING = float("-inf")  # the score of a place without a candidate
LOWEST = float(np.finfo(np.float32).min)


class Objects(NamedTuple):
    """The objects of a batch, image by image, best first.

    Args:
        boxes: (N, 4), xyxy pixels of the images.
        scores: (N,).
        labels: (N,), object classes.
        images: (N,), which image of the batch each is in.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    images: Tensor


@torch.library.custom_op(
    "delineate::survivors",
    mutates_args=(),
    schema="(Tensor boxes, Tensor scores, float iou_threshold, int most) -> Tensor",
)
def survivors(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Which candidates non-maximum suppression leaves, each row of scores by itself.

    As an operator of its own it has a form in ONNX, :func:`survivors_in_onnx`, and a result whose shape is known.

    Args:
        boxes: (G, N, 4), xyxy pixels.
        scores: (G, C, N), minus infinity where there is no candidate.
        iou_threshold: of two boxes that overlap by more, the better one stays.
        most: of each row, the best ones.

    Returns:
        Booleans of the scores' shape.
    """
    survive = torch.zeros_like(scores, dtype=torch.bool)
    for group, row in np.ndindex(*scores.shape[:2]):
        values = scores[group, row]
        places = torch.where(values > NOTHING)[0]
        best = nms(boxes[group, places], values[places], iou_threshold=iou_threshold)[:most]
        survive[group, row, places[best]] = True
    return survive


@survivors.register_fake
def _survivors_shape(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def survivors_in_onnx(boxes: Any, scores: Any, iou_threshold: float, most: int) -> Any:
    """:func:`survivors` in ONNX's operators."""
    import onnx_ir
    from onnxscript import opset18

    op: Any = opset18  # traced: numbers and tensors of numbers stand for each other, which its types do not say
    chosen = op.NonMaxSuppression(boxes, scores, most, iou_threshold, LOWEST)  # group, row and place of each
    nobody = op.ConstantOfShape(op.Shape(scores), value=onnx_ir.tensor(np.array([False])))
    each = op.ConstantOfShape(op.Shape(chosen, start=0, end=1), value=onnx_ir.tensor(np.array([True])))
    return op.ScatterND(nobody, chosen, each)


def topk_in_onnx(values: Any, count: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """``torch.topk`` where also the count may depend on the images' size, which PyTorch's own form does not allow."""
    from onnxscript import opset18

    op: Any = opset18
    count = op.Reshape(count, op.Constant(value_ints=[1]))
    return op.TopK(values, count, axis=dim, largest=largest, sorted=sorted)


def clamp_in_onnx(values: Any, lowest: Any = None, highest: Any = None) -> Any:
    """``torch.clamp``, of which the same holds."""
    from onnxscript import opset18 as op

    bounds = [None if bound is None else op.CastLike(bound, values) for bound in (lowest, highest)]
    return op.Clip(values, *bounds)


def roi_pool_in_onnx(features: Any, rois: Any, spatial_scale: float, rows: int, columns: int) -> Any:
    """``torchvision.ops.roi_pool``; the places of the maxima, which it returns too, are not there and not used."""
    from onnxscript import INT32
    from onnxscript import opset18 as op

    pooled = op.MaxRoiPool(features, rois, pooled_shape=[rows, columns], spatial_scale=spatial_scale)
    return pooled, op.Cast(pooled, to=INT32.dtype)


def one_stage_objects(
    outputs: OneStageOutputs, size: tuple[int, int], options: DetectionOptions, threshold: Tensor
) -> Objects:
    """The objects that a one-stage detector's outputs mean.

    Args:
        outputs: of a batch.
        size: (height, width) of the images, without the padding that the model adds.
        options: what is kept, but for the score.
        threshold: of the score, a number.
    """
    scores = class_scores(outputs)
    boxes = clip_boxes(_all_boxes(outputs), size)
    if options.groups == "class":
        best, rows = scores.transpose(1, 2).topk(torch.sym_min(options.candidates, scores.shape[1]))  # B K M
        best = _above(best, threshold)
        candidates = _rows_of(boxes, rows.flatten(1))
        groups = candidates.unflatten(1, rows.shape[1:]).flatten(0, 1)
        survive = survivors(groups, best.flatten(0, 1)[:, None], float(options.iou_threshold), options.most)
        labels = torch.arange(rows.shape[1], device=rows.device)[:, None].expand_as(rows).flatten(1)
        return _listed(best.flatten(1), survive.view(rows.shape).flatten(1), candidates, labels, options.most)
    places = _best_of_levels(scores, outputs, options.candidates)
    rows, labels = torch.div(places, scores.shape[2], rounding_mode="floor"), places % scores.shape[2]
    best = _above(scores.flatten(1).gather(1, places), threshold)
    candidates = _rows_of(boxes, rows)
    classes = torch.arange(scores.shape[2], device=labels.device)
    own = torch.where(labels[:, None] == classes[:, None], best[:, None], NOTHING)  # B K M
    survive = survivors(candidates, own, float(options.iou_threshold), options.most).any(1)
    return _listed(best, survive, candidates, labels, options.most)


def two_stage_outputs(model: FasterRCNN, images: Tensor) -> tuple[RegionOutputs, Tensor, int]:
    """What the model returns for a batch in evaluation mode.

    Returns:
        The outputs, the rank of each region among its image's proposals, and how many ranks there are at most.
    """
    padded = pad_to_multiple(images, model.multiple, mode="constant")
    levels = model.neck(model.encoder(padded))
    outputs = model.proposals(levels, size=(padded.shape[-2], padded.shape[-1]))
    boxes, scores = _proposed(model.proposals, outputs, (images.shape[-2], images.shape[-1]))
    owners, ranks = torch.nonzero(scores > NOTHING, as_tuple=True)
    regions = boxes[owners, ranks]
    features = tuple(levels[: model.pooled_levels])
    hidden = model.box_head(model.pool(features, regions, owners))
    given = RegionOutputs(
        proposals=outputs,
        regions=regions,
        images=owners,
        logits=model.classes(hidden),
        deltas=model.boxes(hidden).unflatten(1, (-1, 4)),
        features=features,
    )
    return given, ranks, scores.shape[1]


def two_stage_objects(
    outputs: RegionOutputs,
    ranks: Tensor,
    count: int,
    size: tuple[int, int],
    options: DetectionOptions,
    threshold: Tensor,
) -> Objects:
    """The objects that a two-stage detector's outputs mean: every class of every region is a candidate.

    Args:
        outputs: of :func:`two_stage_outputs`.
        ranks: likewise.
        count: likewise.
        size: (height, width) of the images, without the padding that the model adds.
        options: what is kept, but for the score.
        threshold: of the score, a number.
    """
    batch, classes = outputs.proposals.logits.shape[0], outputs.logits.shape[1] - 1
    found = clip_boxes(decode_boxes(outputs.deltas[:, :-1], outputs.regions, weights=outputs.coding_weights), size)
    values = outputs.logits.float().softmax(-1)[:, :-1]
    values = torch.where(valid_boxes(found, SMALLEST), _above(values, threshold), NOTHING)
    places = (outputs.images, ranks)
    scores = values.new_full((batch, count, classes), NOTHING).index_put(places, values)
    boxes = found.new_zeros((batch, count, classes, 4)).index_put(places, found)
    groups = boxes.transpose(1, 2).flatten(0, 1)  # BK P 4
    rows = scores.transpose(1, 2).flatten(0, 1)
    survive = survivors(groups, rows[:, None], float(options.iou_threshold), options.most)
    survive = survive.view(batch, classes, count).transpose(1, 2)
    labels = torch.arange(classes, device=scores.device).expand_as(scores)
    return _listed(scores.flatten(1), survive.flatten(1), boxes.flatten(1, 2), labels.flatten(1), options.most)


def _proposed(network: RegionProposalNetwork, outputs: AnchorOutputs, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The best proposals of each image, (B, P, 4), and their scores, minus infinity where an image has fewer."""
    options, first = network.options, 0
    logits = outputs.logits.float()
    scores = logits[..., 0] if network.scoring == "sigmoid" else logits[..., 0] - logits[..., 1]
    boxes, values = [], []
    for count in outputs.levels:
        best, rows = scores.narrow(1, first, count).topk(torch.sym_min(options.before, count))
        rows = rows + first
        found = clip_boxes(decode_boxes(_rows_of(outputs.deltas, rows), outputs.anchors[rows]), size)
        best = torch.where(valid_boxes(found, options.min_size), best.sigmoid(), NOTHING)
        survive = survivors(found, best[:, None], float(options.iou_threshold), options.after)[:, 0]
        boxes.append(found)
        values.append(torch.where(survive, best, NOTHING))
        first += count
    joined = torch.cat(values, 1)
    best, places = joined.topk(torch.sym_min(options.after, joined.shape[1]))
    return _rows_of(torch.cat(boxes, 1), places), best


def _all_boxes(outputs: OneStageOutputs) -> Tensor:
    """(B, A, 4): xyxy pixels of every anchor, of every box of every cell, or of every slot."""
    if isinstance(outputs, AnchorOutputs):
        return decode_boxes(outputs.deltas, outputs.anchors[None], weights=outputs.coding_weights)
    if isinstance(outputs, SlotOutputs):
        height, width = outputs.size
        shares = outputs.likeliest_boxes.float()
        first, second = torch.minimum(shares[..., :2], shares[..., 2:]), torch.maximum(shares[..., :2], shares[..., 2:])
        return torch.cat((first, second), -1) * shares.new_tensor([width, height] * 2)
    cells = torch.arange(outputs.values.shape[1], device=outputs.values.device)[:, None]
    if outputs.priors is None:
        return decode_yolo_boxes(outputs.values, cells, size=outputs.size, grid=outputs.grid).flatten(1, 2)
    values = yolov2_values(outputs.values)
    return decode_yolov2_boxes(values, cells, outputs.priors, size=outputs.size, grid=outputs.grid).flatten(1, 2)


def _best_of_levels(scores: Tensor, outputs: OneStageOutputs, candidates: int) -> Tensor:
    """(B, M): places of the best scores of each level, as if scores were (B, A * K)."""
    classes = scores.shape[2]
    levels = outputs.levels if isinstance(outputs, AnchorOutputs) else (scores.shape[1],)
    places, first = [], 0
    for count in levels:
        own = scores.narrow(1, first, count).flatten(1)
        places.append(own.topk(torch.sym_min(candidates, count * classes)).indices + first * classes)
        first += count
    return torch.cat(places, 1)


def _above(scores: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(scores > threshold, scores, NOTHING)


def _rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """(B, M, 4): of each image's values (B, A, 4) these rows (B, M)."""
    return values.gather(1, rows[..., None].expand(-1, -1, 4))


def _listed(scores: Tensor, survive: Tensor, boxes: Tensor, labels: Tensor, most: int) -> Objects:
    """The best survivors of each image, of candidates (B, M), one after another."""
    best, places = torch.where(survive, scores, NOTHING).topk(torch.sym_min(most, scores.shape[1]))
    images, ranks = torch.nonzero(best > NOTHING, as_tuple=True)
    rows = places[images, ranks]
    return Objects(boxes[images, rows], best[images, ranks], labels[images, rows], images)
