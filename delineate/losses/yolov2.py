"""The loss of YOLOv2 and YOLO9000: boxes and confidences of priors, classes, and images that are only named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from delineate.checks import require
from delineate.losses.grid_truths import GridTruths, first_of_each, grid_truths
from delineate.losses.hierarchical import assumed_objectness, best_box_for_class, hierarchical_cross_entropy
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, Number
from delineate.ops.box_coding import decode_yolov2_boxes, encode_yolov2_boxes, yolov2_values
from delineate.ops.boxes import BoxPairs, box_iou
from delineate.structures.outputs import GridOutputs


class YOLOv2Loss(nn.Module):
    """Squared errors of the prior that answers for each object and of all confidences, cross-entropy of its class.

    The prior that answers is, of those of the cell into which the object's centre falls, the one of the most similar
    shape. Its confidence learns how well its box overlaps the object; confidences of boxes that overlap no object by
    more than ``ignore`` learn 0, others learn nothing. Small boxes weigh more: their errors are multiplied by 2 less
    their share of the image.

    Where the classes are a tree of words, an object's class teaches its word and those above it, and nothing below. An
    image without boxes may then be named as a whole, by an "image_label" of its target: of all its boxes the one that
    most surely shows that word learns the word, and that its overlap with the object is ``assumed`` at least.

    Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, sections 2 and 4; the weights, the
    threshold, the factor of small boxes and the first images' pull towards the priors from the released network, and
    that objectness counts in the choice of the box for a named image.
    Differs: halves of squares, whose gradients the release writes down; meant over images. The pull towards the priors
    lasts for the first ``settling`` images that the loss has seen, which it keeps in its state. The other boxes of a
    named image learn nothing, as the paper says; the release takes them for empty.

    Args:
        coordinates: weight of the boxes' errors.
        objects: weight of the confidences of boxes that answer.
        no_objects: weight of the confidences of boxes that find nothing.
        classes: weight of the class.
        ignore: IoU with some object from which on a box that does not answer is not punished.
        settling: images for which boxes that do not answer are drawn towards their priors; 12,800 in the release.
        assumed: the overlap with the object that the chosen box of a named image learns to claim, if it claims less.

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
        assumed: Number = 0.3,
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
        require(0 <= assumed <= 1, "assumed", "lie in 0..1", assumed)
        self.weights = {"boxes": coordinates, "objects": objects, "no_objects": no_objects, "classes": classes}
        self.ignore = ignore
        self.settling = settling
        self.assumed = assumed
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.seen: Tensor

    def forward(
        self, outputs: GridOutputs, targets: Sequence[Mapping[str, Any]], *, normaliser: Normaliser | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """The weighted sum, as "loss"; and its parts "classes", "objects", "no_objects", "boxes" and "priors".

        Args:
            outputs: with priors.
            targets: "boxes" (xyxy pixels of the input), "labels" and perhaps "iscrowd" of each image; of one that is
                only named no boxes, and its word as "image_label" (an int64 scalar).
            normaliser: not needed: what is summed belongs to one image.

        Raises:
            ArgumentError: when there is not one target for each image, the outputs have no priors, or an image is named
                that has boxes, or though the classes are no tree.
        """
        del normaliser
        require(outputs.priors is not None, "outputs", "have priors", "none", "Take YOLOLoss for them.")
        assert outputs.priors is not None
        truths, crowds = grid_truths(outputs, targets)
        named = _named_images(outputs, targets)
        priors = outputs.priors.to(full_precision(outputs.values))
        answers = self._similar_prior(outputs, truths, priors)
        places = (truths.images * outputs.objectness.shape[1] + truths.cells) * len(priors) + answers
        first = first_of_each(places)
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
            quiet[named] = False
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
            "classes": self._class_errors(outputs, of_cells, truths.labels) / images,
        }
        if len(named):
            words, claims = self._named(outputs, targets, named)
            parts["classes"] = parts["classes"] + words / images
            parts["objects"] = parts["objects"] + claims / 2 / images
        total = torch.stack([self.weights[name] * value for name, value in parts.items()]).sum()
        if self.training and int(self.seen) < self.settling:
            free = torch.ones_like(quiet)
            free[named] = False
            free = free.flatten()
            free[places] = False
            middle = values.new_tensor([0.5, 0.5, 0.0, 0.0])
            pull = (values.flatten(0, 2)[free] - middle).square().sum() / 2 / images
            total = total + 0.01 * pull
            parts["priors"] = pull
        if self.training:
            self.seen += images
        return {"loss": total, **parts}

    def _class_errors(
        self, outputs: GridOutputs, logits: Float[Tensor, "T K"], labels: Int64[Tensor, " T"]
    ) -> Float[Tensor, ""]:
        """The cross-entropies of true classes, summed."""
        if outputs.tree is None:
            return cross_entropy(logits, labels, reduction="sum")
        return hierarchical_cross_entropy(logits, labels, outputs.tree).sum()

    def _named(
        self, outputs: GridOutputs, targets: Sequence[Mapping[str, Any]], images: Int64[Tensor, " I"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Of the best box of each named image the class's errors, and the squared ones of its objectness; summed."""
        assert outputs.tree is not None  # asked before
        labels = torch.stack([targets[image]["image_label"] for image in images.tolist()]).to(images.device)
        objectness = outputs.objectness[images].flatten(1)
        logits = outputs.logits[images].expand(-1, -1, outputs.objectness.shape[2], -1).flatten(1, 2)
        best = best_box_for_class(logits, labels, outputs.tree, objectness_logits=objectness)
        rows = torch.arange(len(images), device=images.device)
        found = full_precision(objectness)[rows, best].sigmoid()
        words = self._class_errors(outputs, logits[rows, best], labels)
        return words, (found - assumed_objectness(found, iou=self.assumed)).square().sum()

    def _similar_prior(self, outputs: GridOutputs, truths: GridTruths, priors: Tensor) -> Int64[Tensor, " T"]:
        """Of each object the prior whose shape overlaps it most, both centred on one point."""
        cell = priors.new_tensor([outputs.size[1] / outputs.grid[1], outputs.size[0] / outputs.grid[0]])
        sides = truths.boxes[:, 2:] - truths.boxes[:, :2]
        return box_iou(torch.cat([-sides, sides], 1), torch.cat([-priors * cell, priors * cell], 1)).argmax(1)

    def _finding_nothing(
        self, outputs: GridOutputs, values: Tensor, priors: Tensor, truths: GridTruths, crowds: Sequence[Tensor]
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


def _named_images(outputs: GridOutputs, targets: Sequence[Mapping[str, Any]]) -> Int64[Tensor, " I"]:
    """Which images have a word in place of boxes."""
    named = [image for image, target in enumerate(targets) if "image_label" in target]
    if named:
        advice = "YOLO9000's loss learns from whole images."
        require(outputs.tree is not None, "outputs", "have a tree of words for an image_label", "none", advice)
    for image in named:
        count = len(targets[image]["boxes"])
        require(count == 0, "targets", "have either boxes or an image_label", f"{count} boxes and a label")
    return torch.tensor(named, dtype=torch.int64, device=outputs.values.device)
