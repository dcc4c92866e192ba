"""The masks or joints of what a two-stage network detected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.postprocess.keypoint_decoding import decode_keypoints
from delineate.structures.outputs import RegionOutputs
from delineate.structures.scored_boxes import ScoredBoxes

MOST_REGIONS = 256  # of one pass through the head: the maps of thousands would not fit
FINEST = 448  # pixels of a box's longer side that joints are looked for on: eight to each of a map's places


@runtime_checkable
class DescribingModel(Protocol):
    """A network with one more head for regions, such as Mask R-CNN.

    Args:
        describes: what its maps are: "masks" or "keypoints".
    """

    describes: str

    def described(
        self, outputs: RegionOutputs, boxes: Float[Tensor, "N 4"], images: Int64[Tensor, " N"]
    ) -> Float[Tensor, "N K S S"]:
        """The head's maps of these boxes of these images."""
        ...


@dataclass(frozen=True)
class RegionDescription:
    """What a head says of the objects of one image, in their order.

    Args:
        masks: probabilities, of each object's own class, over its box; see
            :func:`~delineate.postprocess.mask_pasting.paste_masks`.
        keypoints: x, y and score of each joint, in pixels of the network's input, or of the picture that was given.
    """

    masks: Float[Tensor, "N S S"] | None = None
    keypoints: Float[Tensor, "N J 3"] | None = None

    def select(self, rows: Int64[Tensor, " M"] | Bool[Tensor, " N"]) -> RegionDescription:
        """The objects of these rows, in this order."""
        return RegionDescription(
            masks=None if self.masks is None else self.masks[rows],
            keypoints=None if self.keypoints is None else self.keypoints[rows],
        )


@torch.no_grad()
def described_regions(
    model: DescribingModel,
    outputs: RegionOutputs,
    found: Sequence[ScoredBoxes],
    *,
    shown: Sequence[Float[Tensor, "_ 4"]] | None = None,
) -> list[RegionDescription]:
    """The masks or joints of what was found in each image.

    The features are read where the network saw the objects, so the boxes are those of its input. Masks stay small maps,
    because their pixels belong in the original picture: map the boxes back, then paste. Joints are found to a pixel,
    which should be the picture's too: pass the boxes that were mapped back as ``shown``.

    Source: He et al., "Mask R-CNN", ICCV 2017, section 3.1 ("Inference"): the head reads the boxes that were detected,
    not the proposals, and of its masks the one of the predicted class counts.
    Differs: nothing.

    Args:
        model: whose head describes regions.
        outputs: of this model, without targets.
        found: the objects of each image, boxes in pixels of the input.
        shown: their boxes in pixels of the picture, as far as they lie outside of it too; joints are then pixels of the
            picture, as in Detectron. Those of the input when left out, as in torchvision, which costs small persons in
            pictures that the network saw shrunk.

    Returns:
        One for each image.

    Raises:
        ArgumentError: when there is not one result for each image, or one box for each object, or the model describes
            something else.

    Example:
        >>> from delineate.models.mask_rcnn import mask_rcnn
        >>> from delineate.postprocess.mask_pasting import paste_masks
        >>> small = {"encoder": "resnet18", "channels": 8, "hidden": 8, "head_channels": 8}
        >>> model = mask_rcnn(3, **small).eval()
        >>> boxes = torch.tensor([[4.0, 4.0, 40.0, 30.0]])
        >>> found = [ScoredBoxes(boxes, torch.ones(1), torch.tensor([2]))]
        >>> description = described_regions(model, model(torch.zeros(1, 3, 64, 64)), found)[0]
        >>> description.masks.shape
        torch.Size([1, 28, 28])
        >>> paste_masks(description.masks, 2 * boxes, (128, 128)).sizes.tolist()  # in a picture twice as large
        [[128, 128]]
    """
    count = len(outputs.proposals.logits)
    require(len(found) == count, "found", f"be {count}, one an image", len(found))
    if model.describes not in ("masks", "keypoints"):
        raise ArgumentError(f'model must describe "masks" or "keypoints"; got "{model.describes}".')
    numbers = [len(one) for one in found]
    boxes = torch.cat([one.boxes for one in found])
    owners = torch.arange(count, device=boxes.device)
    images = owners.repeat_interleave(torch.tensor(numbers, device=boxes.device))
    labels = torch.cat([one.labels for one in found])
    places = boxes
    if shown is not None:
        counted = [len(one) for one in shown]
        require(counted == numbers, "shown", f"hold {numbers} boxes, one an object", counted)
        places = torch.cat(list(shown))
    parts = zip(*(column.split(MOST_REGIONS) for column in (boxes, images, labels, places)), strict=True)
    answers = torch.cat([_answers(model, outputs, *part, finest=None if shown is None else FINEST) for part in parts])
    return [RegionDescription(**{model.describes: own}) for own in answers.split(numbers)]


def _answers(
    model: DescribingModel,
    outputs: RegionOutputs,
    boxes: Tensor,
    images: Tensor,
    labels: Tensor,
    places: Tensor,
    *,
    finest: int | None,
) -> Float[Tensor, "N _ _"]:
    maps = model.described(outputs, boxes, images)
    if model.describes == "keypoints":
        if finest is None:
            return decode_keypoints(maps, places)
        # a person of a large picture would be thousands of pixels for each of the joints
        longest = (places[:, 2:] - places[:, :2]).amax(dim=1)
        zooms = (finest / longest.clamp(min=finest))[:, None]
        joints = decode_keypoints(maps, places * zooms)
        return torch.cat([joints[..., :2] / zooms[..., None].to(joints), joints[..., 2:]], dim=-1)
    own = maps[torch.arange(len(labels), device=labels.device), labels]
    return (own if own.dtype == torch.float64 else own.float()).sigmoid()
