"""The loss of YOLO: squared errors of boxes, confidences and classes, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn.functional import one_hot

from delineate.checks import require
from delineate.losses.grid_truths import first_of_each, grid_truths
from delineate.losses.precision import full_precision
from delineate.losses.supervision import Normaliser, Number
from delineate.ops.box_coding import decode_yolo_boxes, encode_yolo_boxes
from delineate.ops.boxes import BoxPairs
from delineate.structures.outputs import GridOutputs


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
        truths, _ = grid_truths(outputs, targets)
        truths = truths.select(first_of_each(truths.images * outputs.objectness.shape[1] + truths.cells))
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
