"""The LightningModule of a two-stage detector whose proposals alone learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from delineate.data.object_batches import ObjectBatch
from delineate.engine.objects import ObjectDetection
from delineate.metrics.detection_metric import BoxScores
from delineate.models.faster_rcnn import FasterRCNN
from delineate.structures.outputs import RegionOutputs

SCORED = 100  # proposals of an image, the best
SCORE = f"val/proposal_ar{SCORED}"


class ProposalLearning(ObjectDetection):
    """Train and validate proposals, whose regions nothing is said of yet.

    Boxes would say little: what is scored is how many objects the best proposals find, of whatever class.

    Args:
        model: a two-stage detector.
        arguments, options: of :class:`~delineate.engine.objects.ObjectDetection`.
    """

    model: FasterRCNN

    def __init__(self, model: FasterRCNN, *arguments: Any, **options: Any) -> None:
        super().__init__(model, *arguments, **options)
        self.scores = BoxScores(("object",))
        self.described = None

    def outputs(
        self, images: Tensor, sizes: list[tuple[int, int]], targets: list[dict[str, Tensor]] | None
    ) -> RegionOutputs:
        """The first stage alone."""
        return self.model.proposed(images, sizes)

    def validation_step(self, batch: ObjectBatch, batch_idx: int) -> None:
        """Score the best proposals of each image as boxes of one class."""
        outputs = self.outputs(self.inputs(batch.images), list(batch.sizes), None)
        predictions, targets = [], []
        for place, (target, index) in enumerate(zip(batch.targets, batch.indices, strict=True)):
            boxes = outputs.regions[outputs.images == place][:SCORED].float()
            # they come best first, and recall asks for no more than their order
            scores = torch.linspace(1, 0, len(boxes), device=boxes.device)
            labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            predictions.append({"boxes": boxes, "scores": scores, "labels": labels})
            truth = {key: target[key] for key in ("boxes", "area", "iscrowd")} | {"image_id": index}
            targets.append({**truth, "labels": torch.zeros_like(target["labels"])})
        self.scores.update(predictions, targets)

    def on_validation_epoch_end(self) -> None:
        """Log the recall; equal on every process."""
        self.log(SCORE, float(self.scores.compute()[f"ar{SCORED}"]), sync_dist=True)
        self.scores.reset()
