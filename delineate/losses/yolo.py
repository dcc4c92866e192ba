"""The losses of YOLO and YOLOv2: squared errors of boxes, confidences and (YOLO) classes, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from delineate.checks import require
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, Number
from delineate.ops.box_coding import (
    box_cells,
    decode_yolo_boxes,
    decode_yolov2_boxes,
    encode_yolo_boxes,
    encode_yolov2_boxes,
    yolov2_values,
)
from delineate.ops.boxes import BoxPairs, box_iou
from delineate.ops.true_boxes import true_boxes
from delineate.structures.outputs import GridOutputs


class _Truths(NamedTuple):
    """The true boxes of a whole batch, and the image and cell of each."""

    boxes: Float[Tensor, "T 4"]
    labels: Int64[Tensor, " T"]
    images: Int64[Tensor, " T"]
    cells: Int64[Tensor, " T"]

    def select(self, rows: Tensor) -> _Truths:
        """These rows."""
        return _Truths(*(column[rows] for column in self))


class YOLOLoss(nn.Module):
    """Squared errors of the box that answers for each object, of all confidences, and of the classes of its cell.

    The box that answers is, of those of the cell into which the object's centre falls, the one that overlaps it most.
    Its confidence learns that overlap; all others learn 0. Of several objects in one cell the first counts.

    Source: Redmon et al., "You Only Look Once", CVPR 2016, section 2.2, eq. 3; summed over an image, meant over images.
    Differs: nothing in the equation. As in the release, the box nearest in position and size answers where none of the
    cell's overlaps the object.

    Args:
        coordinates: weight of the boxes' errors.
        no_object: weight of the confidences where no object is.

    Raises:
        ArgumentError: when a weight is negative.
    """

    def __init__(self, *, coordinates: Number = 5.0, no_object: Number = 0.5) -> None:
        super().__init__()
        require(coordinates >= 0, "coordinates", "be 0 or more", coordinates)
        require(no_object >= 0, "no_object", "be 0 or more", no_object)
        self.coordinates = coordinates
        self.no_object = no_object

    def forward(
        self, outputs: GridOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts "classes", "objects", "no_objects" and "boxes", not weighted.

        Args:
            outputs: without priors.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            normaliser: not needed: what is summed belongs to one image.

        Raises:
            ArgumentError: when there is not one target for each image, or the outputs have priors.
        """
        del normaliser
        require(outputs.priors is None, "outputs", "be relative to the image", "priors", "Take YOLOv2Loss for them.")
        truths, _ = _batch_truths(outputs, targets)
        truths = truths.select(_first_of_each(truths.images * outputs.objectness.shape[1] + truths.cells))
        values, objectness = full_precision(outputs.values), full_precision(outputs.objectness)
        at = values[truths.images, truths.cells]  # T P 4
        cells = truths.cells[:, None]
        wanted = encode_yolo_boxes(truths.boxes, truths.cells, size=outputs.size, grid=outputs.grid)
        with torch.no_grad():
            boxes = decode_yolo_boxes(at, cells, size=outputs.size, grid=outputs.grid)
            overlaps = BoxPairs(boxes, truths.boxes[:, None]).iou  # T P
            nearness = -(at - wanted[:, None]).square().sum(-1)
            answers = torch.where(overlaps.amax(1) > 0, overlaps.argmax(1), nearness.argmax(1))
            overlap = overlaps.gather(1, answers[:, None])[:, 0]
        responsible = torch.zeros_like(objectness, dtype=torch.bool)
        responsible[truths.images, truths.cells, answers] = True
        chosen = at[torch.arange(len(answers), device=at.device), answers]
        found = objectness[truths.images, truths.cells, answers]
        classes = full_precision(outputs.logits)[truths.images, truths.cells, 0]
        images = len(targets)
        parts = {
            "classes": (classes - one_hot(truths.labels, classes.shape[1])).square().sum() / images,
            "objects": (found - overlap).square().sum() / images,
            "no_objects": objectness[~responsible].square().sum() / images,
            "boxes": (chosen - wanted).square().sum() / images,
        }
        total = parts["classes"] + parts["objects"]
        return {"loss": total + self.no_object * parts["no_objects"] + self.coordinates * parts["boxes"], **parts}


class YOLOv2Loss(nn.Module):
    """Squared errors of the prior that answers for each object and of all confidences, cross-entropy of its class.

    The prior that answers is, of those of the cell into which the object's centre falls, the one of the most similar
    shape. Its confidence learns how well its box overlaps the object; confidences of boxes that overlap no object by
    more than ``ignore`` learn 0, others learn nothing. Small boxes weigh more: their errors are multiplied by 2 less
    their share of the image.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 2; the weights, the threshold, the
    factor of small boxes and the first images' pull towards the priors from the released network.
    Differs: halves of squares, whose gradients the release writes down; meant over images. The pull towards the priors
    lasts for the first ``settling`` images that the loss has seen, which it keeps in its state.

    Args:
        coordinates: weight of the boxes' errors.
        objects: weight of the confidences of boxes that answer.
        no_objects: weight of the confidences of boxes that find nothing.
        classes: weight of the class.
        ignore: IoU with some object from which on a box that does not answer is not punished.
        settling: images for which boxes that do not answer are drawn towards their priors; 12,800 in the release.

    Raises:
        ArgumentError: when a number is negative.
    """

    def __init__(
        self,
        *,
        coordinates: Number = 1.0,
        objects: Number = 5.0,
        no_objects: Number = 1.0,
        classes: Number = 1.0,
        ignore: Number = 0.6,
        settling: int = 12_800,
    ) -> None:
        super().__init__()
        given = {
            "coordinates": coordinates,
            "objects": objects,
            "no_objects": no_objects,
            "classes": classes,
            "ignore": ignore,
            "settling": settling,
        }
        for name, value in given.items():
            require(value >= 0, name, "be 0 or more", value)
        self.weights = {"boxes": coordinates, "objects": objects, "no_objects": no_objects, "classes": classes}
        self.ignore = ignore
        self.settling = settling
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.seen: Tensor

    def forward(
        self, outputs: GridOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted sum, as "loss"; and its parts "classes", "objects", "no_objects", "boxes" and "priors".

        Args:
            outputs: with priors.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image.
            normaliser: not needed: what is summed belongs to one image.

        Raises:
            ArgumentError: when there is not one target for each image, or the outputs have no priors.
        """
        del normaliser
        require(outputs.priors is not None, "outputs", "have priors", "none", "Take YOLOLoss for them.")
        assert outputs.priors is not None
        truths, crowds = _batch_truths(outputs, targets)
        priors = outputs.priors.to(full_precision(outputs.values))
        answers = self._similar_prior(outputs, truths, priors)
        places = (truths.images * outputs.objectness.shape[1] + truths.cells) * len(priors) + answers
        first = _first_of_each(places)
        truths, answers, places = truths.select(first), answers[first], places[first]
        values = yolov2_values(outputs.values)
        confidences = full_precision(outputs.objectness).sigmoid()
        at = values[truths.images, truths.cells, answers]
        chosen_priors = priors[answers]
        wanted = encode_yolov2_boxes(truths.boxes, truths.cells, chosen_priors, size=outputs.size, grid=outputs.grid)
        with torch.no_grad():
            box = decode_yolov2_boxes(at, truths.cells, chosen_priors, size=outputs.size, grid=outputs.grid)
            overlap = BoxPairs(box, truths.boxes).iou
            quiet = self._finding_nothing(outputs, values, priors, truths, crowds)
            quiet[truths.images, truths.cells, answers] = False
            sides = truths.boxes[:, 2:] - truths.boxes[:, :2]
            smallness = 2 - sides.prod(1) / (outputs.size[0] * outputs.size[1])
        logits = full_precision(outputs.logits)
        of_cells = logits.expand(-1, -1, len(priors), -1)[truths.images, truths.cells, answers]
        images = len(targets)
        squares = (at - wanted).square().sum(1) * smallness
        found = confidences[truths.images, truths.cells, answers]
        parts = {
            "boxes": squares.sum() / 2 / images,
            "objects": (found - overlap).square().sum() / 2 / images,
            "no_objects": confidences[quiet].square().sum() / 2 / images,
            "classes": cross_entropy(of_cells, truths.labels, reduction="sum") / images,
        }
        total = torch.stack([self.weights[name] * value for name, value in parts.items()]).sum()
        if self.training and int(self.seen) < self.settling:
            free = torch.ones_like(quiet).flatten()
            free[places] = False
            middle = values.new_tensor([0.5, 0.5, 0.0, 0.0])
            pull = (values.flatten(0, 2)[free] - middle).square().sum() / 2 / images
            total = total + 0.01 * pull
            parts["priors"] = pull
        if self.training:
            self.seen += images
        return {"loss": total, **parts}

    def _similar_prior(self, outputs: GridOutputs, truths: _Truths, priors: Tensor) -> Int64[Tensor, " T"]:
        """Of each object the prior whose shape overlaps it most, both centred on one point."""
        cell = priors.new_tensor([outputs.size[1] / outputs.grid[1], outputs.size[0] / outputs.grid[0]])
        sides = truths.boxes[:, 2:] - truths.boxes[:, :2]
        return box_iou(torch.cat([-sides, sides], 1), torch.cat([-priors * cell, priors * cell], 1)).argmax(1)

    def _finding_nothing(
        self, outputs: GridOutputs, values: Tensor, priors: Tensor, truths: _Truths, crowds: Sequence[Tensor]
    ) -> Bool[Tensor, "B S P"]:
        """Which boxes overlap no object by more than ``ignore`` and no crowd by half of themselves."""
        cells = torch.arange(values.shape[1], device=values.device)[:, None]
        boxes = decode_yolov2_boxes(values, cells, priors, size=outputs.size, grid=outputs.grid)
        quiet = torch.ones_like(boxes[..., 0], dtype=torch.bool)
        for image, crowd in enumerate(crowds):
            own = truths.boxes[truths.images == image]
            if len(own):
                flat = boxes[image].flatten(0, 1)
                quiet[image] = (box_iou(flat, own).amax(1) <= self.ignore).view(quiet.shape[1:])
            for group in crowd:
                corner = torch.maximum(boxes[image, ..., :2], group[:2])
                shared = (torch.minimum(boxes[image, ..., 2:], group[2:]) - corner).clamp(min=0).prod(-1)
                areas = (boxes[image, ..., 2:] - boxes[image, ..., :2]).prod(-1)
                quiet[image] &= shared <= areas / 2
        return quiet


def _batch_truths(
    outputs: GridOutputs, targets: Sequence[Mapping[str, Any]]
) -> tuple[_Truths, list[Float[Tensor, "C 4"]]]:
    """The objects of all images in one table, and the crowds of each."""
    require(len(targets) == len(outputs.values), "targets", f"be {len(outputs.values)}, one an image", len(targets))
    found = [true_boxes(target, num_classes=outputs.logits.shape[3]) for target in targets]
    boxes = torch.cat([truths.boxes for truths in found]).to(full_precision(outputs.values))
    counts = torch.tensor([len(truths.boxes) for truths in found], device=boxes.device)
    images = torch.arange(len(found), device=boxes.device).repeat_interleave(counts)
    cells = box_cells(boxes, size=outputs.size, grid=outputs.grid)
    labels = torch.cat([truths.labels for truths in found])
    return _Truths(boxes, labels, images, cells), [truths.crowds.to(boxes) for truths in found]


def _first_of_each(places: Int64[Tensor, " T"]) -> Int64[Tensor, " U"]:
    """The first row of each different place, in the order of the rows."""
    known, inverse = places.unique(return_inverse=True)
    rows = torch.arange(len(places), device=places.device)
    first = torch.full_like(known, len(places)).scatter_reduce(0, inverse, rows, "amin")
    return first.sort().values
