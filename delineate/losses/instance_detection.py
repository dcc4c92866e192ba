"""Mask and Keypoint R-CNN's loss: Faster R-CNN's, and that of the masks or joints of the regions with an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from delineate.checks import require
from delineate.losses.region_detection import RegionDetectionLoss
from delineate.losses.region_keypoints import region_keypoint_loss, region_keypoint_places
from delineate.losses.region_masks import region_mask_loss, region_mask_targets
from delineate.losses.supervision import Normaliser, Number, check_number
from delineate.structures.outputs import RegionOutputs

Targets = Sequence[Mapping[str, Any]]


class InstanceDetectionLoss(nn.Module):
    """A two-stage detector's loss and, where its outputs have masks or keypoints, theirs.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3: the sum of the parts.
    Differs: nothing; masks and keypoints may be weighted, and either stage left out.

    Args:
        detection: the loss of proposals, classes and boxes; with its defaults and the two weights when None.
        proposals: weight of what the first stage learns, 0 for nothing, see
            :class:`~delineate.losses.region_detection.RegionDetectionLoss`.
        regions: likewise of the second stage, masks and joints among it.
        mask_weight: of the masks.
        keypoint_weight: of the joints.

    Raises:
        ArgumentError: when a weight is negative or not finite, or is given beside ``detection``, which has its own.
    """

    def __init__(
        self,
        detection: RegionDetectionLoss | None = None,
        *,
        proposals: Number = 1,
        regions: Number = 1,
        mask_weight: Number = 1,
        keypoint_weight: Number = 1,
    ) -> None:
        super().__init__()
        alone = detection is None or (proposals == 1 and regions == 1)
        got = f"proposals {proposals} and regions {regions}"
        require(alone, "detection", "have the weights of its halves itself", got, "Pass both to RegionDetectionLoss.")
        self.detection = RegionDetectionLoss(proposals=proposals, regions=regions) if detection is None else detection
        self.mask_weight = check_number("mask_weight", mask_weight, "be 0 or more", lambda v: v >= 0)
        self.keypoint_weight = check_number("keypoint_weight", keypoint_weight, "be 0 or more", lambda v: v >= 0)

    @property
    def proposals(self) -> float:
        """The weight of the first stage."""
        return self.detection.proposals

    @property
    def regions(self) -> float:
        """The weight of the second stage."""
        return self.detection.regions

    def forward(
        self,
        outputs: RegionOutputs,
        targets: Targets,
        *,
        sizes: Sequence[tuple[int, int]] | None = None,
        normaliser: Normaliser | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The sum to minimise, as "loss"; and its parts, before their weights.

        Args:
            outputs: of a model that was given the targets, whose regions are a sample.
            targets: as :class:`~delineate.losses.region_detection.RegionDetectionLoss` has them, and of each image with
                objects "masks" (N, H, W), 0 outside, or "keypoints" (N, J, 2) x, y pixels and "visibility" (N, J), 0
                where a joint is not labelled; these may be left out for images without objects.
            sizes: (height, width) of each image without padding, where the detector's loss needs them.
            normaliser: takes numbers of samples to their means over processes.

        Returns:
            The detector's parts, and "masks" or "keypoints" where the outputs have them.

        Raises:
            ArgumentError: when there is not one target for each image, regions were not sampled, or a target lacks what
                the outputs describe.
        """
        parts = self.detection(outputs, targets, sizes=sizes, normaliser=normaliser)
        total = parts["loss"]
        if not self.regions:
            return parts
        assert outputs.matches is not None  # the detector's loss has looked
        positive = outputs.matches >= 0
        regions = _Regions(outputs.regions[positive], outputs.images[positive], outputs.matches[positive])
        if outputs.masks is not None:
            parts["masks"] = regions.mask_loss(outputs.masks, targets, normaliser)
            total = total + self.regions * self.mask_weight * parts["masks"]
        if outputs.keypoints is not None:
            parts["keypoints"] = regions.keypoint_loss(outputs.keypoints, targets, normaliser)
            total = total + self.regions * self.keypoint_weight * parts["keypoints"]
        return {**parts, "loss": total}


class _Regions:
    """The regions that answer for an object, and what their images' targets say of it."""

    def __init__(self, boxes: Float[Tensor, "P 4"], images: Int64[Tensor, " P"], rows: Int64[Tensor, " P"]) -> None:
        self.boxes, self.images, self.rows = boxes, images, rows

    def mask_loss(
        self, logits: Float[Tensor, "P K S S"], targets: Targets, normaliser: Normaliser | None
    ) -> Float[Tensor, ""]:
        self._check("masks", logits)
        wanted = self.boxes.new_zeros(len(logits), *logits.shape[2:])
        labels = torch.zeros_like(self.rows)
        for image, own in self._by_image(len(targets)):
            target = targets[image]
            count, rows = len(target["boxes"]), self.rows[own]
            masks = _column(target, "masks", image)
            require(masks.ndim == 3 and len(masks) == count, "masks", f"be ({count}, H, W)", tuple(masks.shape))
            wanted[own] = region_mask_targets(masks, self.boxes[own], rows, side=logits.shape[-1])
            labels[own] = target["labels"].to(labels)[rows]
        return region_mask_loss(logits, wanted, labels, normaliser=normaliser)

    def keypoint_loss(
        self, logits: Float[Tensor, "P J S S"], targets: Targets, normaliser: Normaliser | None
    ) -> Float[Tensor, ""]:
        self._check("keypoints", logits)
        joints = logits.shape[1]
        points = self.boxes.new_zeros(len(logits), joints, 2)
        labelled = torch.zeros(len(logits), joints, dtype=torch.bool, device=self.boxes.device)
        for image, own in self._by_image(len(targets)):
            target, rows = targets[image], self.rows[own]
            count = len(target["boxes"])
            given, visibility = _column(target, "keypoints", image), _column(target, "visibility", image)
            advice = 'If a third column is the visibility, pass it as "visibility".' if given.shape[-1] == 3 else ""
            shape = (count, joints, 2)
            require(tuple(given.shape) == shape, "keypoints", f"be {shape} x, y pixels", tuple(given.shape), advice)
            require(tuple(visibility.shape) == shape[:2], "visibility", f"be {shape[:2]}", tuple(visibility.shape))
            points[own] = given.to(points)[rows]
            labelled[own] = (visibility > 0).to(labelled)[rows]
        places, counted = region_keypoint_places(points, labelled, self.boxes, side=logits.shape[-1])
        return region_keypoint_loss(logits, places, counted, normaliser=normaliser)

    def _check(self, name: str, logits: Tensor) -> None:
        count = len(self.rows)
        require(len(logits) == count, name, f"be {count}, one a region with an object", len(logits))

    def _by_image(self, count: int) -> list[tuple[int, Tensor]]:
        """Images with such regions, and their rows among them."""
        rows = [(image, torch.where(self.images == image)[0]) for image in range(count)]
        return [(image, own) for image, own in rows if len(own)]


def _column(target: Mapping[str, Any], name: str, image: int) -> Tensor:
    known = ", ".join(f'"{key}"' for key in target)
    require(name in target, "targets", f'have "{name}" where there are objects', f"{known} for image {image}")
    column: Tensor = target[name]
    return column.as_subclass(Tensor)
