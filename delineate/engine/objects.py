"""The LightningModule of detectors: boxes, and masks or joints where the model describes what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from delineate.checks import require
from delineate.data.object_augmentation import ObjectAugmentation
from delineate.data.object_batches import ObjectBatch
from delineate.data.object_fits import multi_scale_size
from delineate.engine.learner import Learner
from delineate.engine.proposing import Proposer, left_out
from delineate.engine.recipe import Recipe
from delineate.engine.synchronisation import mean_over_processes
from delineate.metrics.detection_metric import BoxScores, KeypointScores, MaskScores
from delineate.models.faster_rcnn import FasterRCNN
from delineate.models.mask_rcnn import DescribingRCNN
from delineate.ops.matching import COCO_SIGMAS
from delineate.postprocess.detection import detected_objects
from delineate.postprocess.mask_pasting import paste_masks
from delineate.postprocess.region_description import described_regions
from delineate.registry import unknown_name
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.scored_boxes import DetectionOptions

SCORE_THRESHOLD = 0.01  # of what is scored: average precision wants all but the hopeless

OTHER_SIGMA = 0.05  # of joints of which nobody has measured how well people place them


class ObjectDetection(Learner):
    """Train and validate a detector.

    Validation scores boxes in the pictures that the model sees; an overlap of boxes is the same there as in the
    original picture, up to rounding.

    Args:
        model: images to outputs with anchors, cells or regions.
        losses: outputs and targets to named scalars, of which "loss" is minimised.
        recipe: of the run.
        augmentation: of the recipe.
        preprocessing: pixels to the model's input.
        class_names: one an object class.
        joints: of an object, where the model finds them.
        judged: the classes that the data have boxes of, where they are not all: no others are looked for in validation.
        proposer: a fixed detector whose proposals a two-stage model's regions are drawn from, in place of its own.
        total_steps: optimizer steps of the whole run.
        file_of: the file behind a sample index of the training split, for error messages.
    """

    def __init__(
        self,
        model: nn.Module,
        losses: nn.Module,
        *,
        recipe: Recipe,
        augmentation: ObjectAugmentation,
        preprocessing: Preprocessing,
        class_names: tuple[str, ...],
        total_steps: int,
        file_of: Callable[[int], str],
        joints: int = 0,
        proposer: Proposer | None = None,
        judged: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(model, recipe=recipe, preprocessing=preprocessing, total_steps=total_steps, file_of=file_of)
        self.losses = losses
        self.augmentation = augmentation
        self.proposer = proposer
        self.judged = judged
        self.frozen += [model.get_submodule(name).requires_grad_(False) for name in left_out(model, recipe)]
        self.train()
        self.scores = BoxScores(class_names)
        self.described = described_scores(model, class_names, joints)

    def training_step(self, batch: ObjectBatch, batch_idx: int) -> Tensor:
        """The loss of one batch; stops the run when it is not finite."""
        images, targets, sizes = self.inputs(batch.images), list(batch.targets), list(batch.sizes)
        if sides := self.augmentation.multi_scale:
            every = self.augmentation.multi_scale_every
            side = multi_scale_size(self.recipe.trainer.seed, self.current_epoch, batch_idx, sides, every)
            images, targets, sizes = resized(images, targets, sizes, side)
        outputs = self.outputs(images, sizes, targets)
        more = {"sizes": sizes} if isinstance(self.model, FasterRCNN) else {}
        return self.learnt(self.losses(outputs, targets, normaliser=mean_over_processes, **more), batch.indices)

    def outputs(self, images: Tensor, sizes: list[tuple[int, int]], targets: list[dict[str, Tensor]] | None) -> Any:
        """What the model says of images; with targets, what it learns from them."""
        if not isinstance(self.model, FasterRCNN):
            return self.model(images)
        proposals = None if self.proposer is None else self.proposer(images, sizes, training=self.training)
        return self.model(images, targets, sizes, proposals)

    def validation_step(self, batch: ObjectBatch, batch_idx: int) -> None:
        """Count what is found in one batch of validation images."""
        images = self.inputs(batch.images)
        scored = {"score_threshold": SCORE_THRESHOLD, "labels": self.judged}
        options = decoding_of(self.model, scored, self.recipe.chosen_decoding)
        sizes = list(batch.sizes)
        outputs = self.outputs(images, sizes, None)
        found = detected_objects(outputs, sizes, options)
        predictions: list[dict[str, Any]] = [
            {"boxes": one.boxes.float(), "scores": one.scores.float(), "labels": one.labels} for one in found
        ]
        targets = [
            {key: target[key] for key in ("boxes", "labels", "area", "iscrowd")} | {"image_id": index}
            for target, index in zip(batch.targets, batch.indices, strict=True)
        ]
        self.scores.update(predictions, targets)
        if self.described is None or not isinstance(self.model, DescribingRCNN):
            return
        for one, own, truth, true, size in zip(
            predictions, described_regions(self.model, outputs, found), targets, batch.targets, sizes, strict=True
        ):
            if own.masks is not None:
                one["masks"] = paste_masks(own.masks, one["boxes"], size)
                truth["masks"] = true["masks"]
            if own.keypoints is not None:
                one["keypoints"] = own.keypoints
                truth["keypoints"] = torch.cat([true["keypoints"], true["visibility"][..., None].float()], -1)
        self.described.update(predictions, targets)

    def on_validation_epoch_end(self) -> None:
        """Log what the whole validation split scored; equal on every process."""
        scores = self.scores.compute()
        for name in ("ap", "ap50", "ap75", "ar100"):
            self.log(f"val/{name}", float(scores[name]), sync_dist=True)
        self.scores.reset()
        if self.described is not None:
            kind = "mask" if isinstance(self.described, MaskScores) else "keypoint"
            scores = self.described.compute()
            for name in ("ap", "ap50", "ap75"):
                self.log(f"val/{kind}_{name}", float(scores[name]), sync_dist=True)
            self.described.reset()


def described_scores(model: nn.Module, class_names: Sequence[str], joints: int) -> MaskScores | KeypointScores | None:
    """What scores the masks or joints of a model; None for one of boxes alone."""
    if not isinstance(model, DescribingRCNN):
        return None
    if model.describes == "masks":
        return MaskScores(class_names)
    return KeypointScores(class_names, sigmas=joint_sigmas(joints))


def joint_sigmas(joints: int) -> tuple[float, ...]:
    """How far annotators are off at each joint, as a share of an object's size: COCO's for its 17, else 0.05."""
    return tuple(COCO_SIGMAS) if joints == len(COCO_SIGMAS) else (OTHER_SIGMA,) * joints


def decoding_of(model: nn.Module, *layers: Mapping[str, Any], **changes: Any) -> DetectionOptions:
    """How a model's outputs become objects: as its authors have it, with some of it changed.

    Args:
        model: whose ``decoding`` is the base.
        layers: changes, of which later ones win: what a purpose asks for, then what the recipe or the model card says,
            then what the caller was asked for.
        changes: the last of them.

    Example:
        >>> recipe = {"score_threshold": 0.2, "most": 10}
        >>> options = decoding_of(nn.Identity(), {"score_threshold": 0.01}, recipe, most=3)
        >>> options.score_threshold, options.iou_threshold, options.most
        (0.2, 0.5, 3)

    Raises:
        UnknownNameError: on a change of something else; names the nearest.
        ArgumentError: when a score or an overlap does not lie between 0 and 1.
    """
    options: DetectionOptions = getattr(model, "decoding", DetectionOptions())
    known = [field.name for field in fields(options)]
    for layer in (*layers, changes):
        for key in layer:
            if key not in known:
                raise unknown_name("option of a detector's prediction", key, known)
        options = replace(options, **layer)
    for key in ("score_threshold", "iou_threshold"):
        value = getattr(options, key)
        require(0 <= value <= 1, key, "lie between 0 and 1", value)
    return options


def resized(
    images: Tensor, targets: list[dict[str, Tensor]], sizes: list[tuple[int, int]], side: int
) -> tuple[Tensor, list[dict[str, Tensor]], list[tuple[int, int]]]:
    """A batch at another size: its longer side becomes ``side``, its shorter one keeps its share, to whole 32 pixels.

    Example:
        >>> target = {"boxes": torch.tensor([[8.0, 16.0, 32.0, 32.0]])}
        >>> images, targets, sizes = resized(torch.zeros(1, 3, 64, 128), [target], [(64, 128)], 256)
        >>> tuple(images.shape), targets[0]["boxes"].tolist(), sizes
        ((1, 3, 128, 256), [[16.0, 32.0, 64.0, 64.0]], [(128, 256)])
    """
    height, width = images.shape[-2:]
    zoom = side / max(height, width)
    high, wide = (max(32, round(length * zoom / 32) * 32) for length in (height, width))
    if (high, wide) == (height, width):
        return images, targets, sizes
    factors = torch.tensor([wide / width, high / height] * 2, device=images.device)
    moved = [
        {
            **target,
            "boxes": target["boxes"] * factors,
            **({"keypoints": target["keypoints"] * factors[:2]} if "keypoints" in target else {}),
        }
        for target in targets
    ]
    shown = [(round(h * high / height), round(w * wide / width)) for h, w in sizes]
    return interpolate(images, size=(high, wide), mode="bilinear", align_corners=False), moved, shown
