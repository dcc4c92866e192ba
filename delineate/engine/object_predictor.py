"""A trained detector, ready to use: pixels in, objects in image coordinates out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from delineate.data.object_augmentation import eval_fit, resolved
from delineate.data.placement import Placement
from delineate.engine.objects import decoding_of
from delineate.engine.predictor import Picture, Predictor, displayed
from delineate.models.mask_rcnn import DescribingRCNN
from delineate.ops.box_coding import clip_boxes
from delineate.postprocess.detection import detected_objects
from delineate.postprocess.mask_pasting import paste_masks
from delineate.postprocess.object_tiling import TileObjects, joined_objects
from delineate.postprocess.region_description import RegionDescription, described_regions
from delineate.postprocess.tiling import tile_windows
from delineate.structures.detections import Detections
from delineate.structures.scored_boxes import DetectionOptions, ScoredBoxes
from delineate.structures.word_tree import WordTree

SHOWN = 0.3
"""The score from which objects are shown to people where nobody says; what is measured has all of them."""

SPECIFIC = 0.5
"""How probable a word of a tree must be to be shown where nobody says."""


COCO_CHAINS = (
    ("left_ankle", "left_knee", "left_hip", "left_shoulder", "left_elbow", "left_wrist"),
    ("right_ankle", "right_knee", "right_hip", "right_shoulder", "right_elbow", "right_wrist"),
    ("left_shoulder", "left_ear", "left_eye", "nose", "right_eye", "right_ear", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "right_shoulder"),
)
"""Joints of COCO's persons that lines connect in pictures."""


class ObjectOptions(TypedDict, total=False):
    """Which of a detector's answers are kept; see :class:`~delineate.structures.scored_boxes.DetectionOptions`."""

    score_threshold: float | int
    iou_threshold: float | int
    most: int
    specific: float | int | None


class ObjectPredictor(Predictor):
    """Finds the objects of pictures.

    Args:
        arguments, options: of :class:`~delineate.engine.predictor.Predictor`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fit = eval_fit(resolved({"preset": "none", **self.card.fit}))

    def predict(  # type: ignore[override] # its options by name, where the base takes any
        self,
        image: Picture,
        *,
        tile: int | None = None,
        overlap: int = 64,
        name: str = "",
        **options: Unpack[ObjectOptions],
    ) -> Detections:
        """The objects of one picture, best first.

        Args:
            image: a file, a PIL image, an ``(H, W, C)`` uint8 array or a ``(C, H, W)`` uint8 tensor.
            tile: work through the picture in squares of this many pixels, each seen as a picture of its own.
            overlap: pixels that neighbouring tiles share.
            name: what the result is called; the file's stem when left out.
            options: ``score_threshold``, ``iou_threshold`` and ``most``; when left out what the model card says, else a
                score of 0.3 and the model's own. Of a model whose classes are a tree of words ``specific``: each box
                has the most specific word that is more probable than 0.5, or than this; None has every word.

        Raises:
            DataError: when a file cannot be read as an image, or is too large to take whole.
            ArgumentError: when a tile is not larger than its overlap, or an array has another shape.
        """
        pixels = self.pixels(image, large=tile is not None)
        shown = {"score_threshold": SHOWN, "specific": SPECIFIC if learnt_tree(self.model) is not None else None}
        decoding = decoding_of(self.model, shown, self.card.decoding, options)
        size = (pixels.shape[0], pixels.shape[1])
        if tile is None:
            found = self.found(pixels, decoding)
        else:
            windows = tile_windows(size, tile=tile, overlap=overlap)
            parts = (self.found(pixels, decoding, window) for window in windows)
            found = joined_objects(parts, size=size, iou_threshold=decoding.iou_threshold, most=None)
        return Detections.of(
            found.boxes,
            found.scores,
            found.labels,
            self.taxonomy,
            size=size,
            masks=found.masks,
            keypoints=found.keypoints,
            keypoint_names=self.card.keypoint_names,
            limbs=coco_limbs(self.card.keypoint_names),
            image=displayed(pixels),
            name=name or (Path(image).stem if isinstance(image, str | Path) else ""),
        )

    def found(
        self, pixels: np.ndarray, decoding: DetectionOptions, window: tuple[int, int, int, int] | None = None
    ) -> TileObjects:
        """The objects of one picture ``(H, W, C)``, or of a window of it, in the picture's pixels, best first.

        Args:
            pixels: of the whole picture.
            decoding: what is kept.
            window: top, left, bottom and right; None for the whole.
        """
        top, left, bottom, right = window = window or (0, 0, pixels.shape[0], pixels.shape[1])
        size = (bottom - top, right - left)
        image = torch.from_numpy(np.require(pixels[top:bottom, left:right], requirements=["C", "W"])).permute(2, 0, 1)
        placement = Placement((0, 0, *size), (0, 0, *size), size)
        if self.fit is not None:
            placement = self.fit.placement(size)
            image = self.fit.following.image(tv_tensors.Image(image), placement).as_subclass(Tensor)
        outputs = self.outputs(image[None])
        with torch.inference_mode():
            found = detected_objects(outputs, [placement.size], decoding)[0]
            found = ScoredBoxes(found.boxes.float(), found.scores.float(), found.labels)
            whole = placement.restored(found.boxes)  # what is seen of an object, its part of the frame included
            boxes = clip_boxes(whole, size)
            inside = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)  # not in the frame around a letterbox
            whole, boxes, found = whole[inside], boxes[inside], found.select(inside)
            described = RegionDescription()
            masks = None
            if isinstance(self._fast, DescribingRCNN):
                with self._in_precision():
                    described = described_regions(self._fast, outputs, [found], shown=[whole])[0]
                if described.masks is not None:
                    masks = paste_masks(described.masks, whole, size, rule=self._fast.pasting)
            keypoints = None
            if described.keypoints is not None:
                joints = described.keypoints.float()
                keypoints = (joints + joints.new_tensor([left, top, 0])).cpu().numpy()
            corners = boxes + boxes.new_tensor([left, top, left, top])
        return TileObjects(
            window,
            corners.cpu().numpy(),
            found.scores.cpu().numpy(),
            found.labels.cpu().numpy(),
            masks,
            keypoints,
        )


def learnt_tree(model: nn.Module) -> WordTree | None:
    """The tree of words that a model's classes are; None where they are classes like any others."""
    tree = getattr(model, "tree", None)
    return tree if isinstance(tree, WordTree) and not tree.is_flat else None


def coco_limbs(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs of joints that a line connects, of those of COCO's persons that are among the names.

    Example:
        >>> coco_limbs(("left_knee", "left_ankle", "tail"))
        ((1, 0),)
    """
    places = {name: place for place, name in enumerate(names)}
    limbs = [limb for chain in COCO_CHAINS for limb in pairwise(chain)]
    return tuple((places[a], places[b]) for a, b in limbs if a in places and b in places)
