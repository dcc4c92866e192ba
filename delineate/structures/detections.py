"""The objects found in one image: what a detector predicts, and what can be made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from delineate.checks import require
from delineate.errors import MissingDependencyError
from delineate.structures.legend import enlarged
from delineate.structures.rle_masks import RLEMasks
from delineate.structures.taxonomy import Colour, Taxonomy, voc_colours

_PAPER = (255, 255, 255)
_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)
_MANY = 24  # objects, beyond which captions would hide what they name


@dataclass(frozen=True, eq=False)
class Detections:
    """Objects with their classes and scores, best first, in the image's own coordinates.

    Args:
        boxes: xyxy pixels.
        scores: 0 to 1, falling.
        labels: of the taxonomy, which has no background.
        taxonomy: names and colours of the labels.
        size: (height, width) of the image.
        masks: one an object, of the image's size; None for boxes alone.
        keypoints: x, y and score of each joint; None without.
        keypoint_names: one a joint.
        limbs: pairs of joints that a line connects in pictures.
        image: ``(H, W, 3)`` RGB bytes.
        name: what to call it, the file's stem as a rule.

    Raises:
        ArgumentError: on columns of different lengths, numbers that are not finite, or a label outside the taxonomy.

    Example:
        >>> found = Detections.of([[0, 0, 4, 5], [2, 2, 3, 3]], [0.4, 0.9], [0, 0], Taxonomy(("cell",)), size=(8, 8))
        >>> found.counts(), found.scores.tolist()
        ({'cell': 2}, [0.8999..., 0.4000...])
    """

    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    taxonomy: Taxonomy
    size: tuple[int, int]
    masks: RLEMasks | None = None
    keypoints: Float32[np.ndarray, "N P 3"] | None = None
    keypoint_names: tuple[str, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()
    image: UInt8[np.ndarray, "H W 3"] | None = None
    name: str = ""

    @classmethod
    def of(
        cls, boxes: Any, scores: Any, labels: Any, taxonomy: Taxonomy, *, size: tuple[int, int], **columns: Any
    ) -> Detections:
        """Detections of anything NumPy reads as columns of these, in any order; objects of equal scores keep theirs."""
        scores = np.asarray(scores, np.float32).reshape(-1)
        found = cls(
            boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
            scores=scores,
            labels=np.asarray(labels, np.int64).reshape(-1),
            taxonomy=taxonomy,
            size=size,
            **columns,
        )
        return found.select(np.argsort(-scores, kind="stable"))

    def __post_init__(self) -> None:
        count = len(self.scores)
        for name in ("boxes", "labels", "masks", "keypoints"):
            column = getattr(self, name)
            fits = column is None or len(column) == count
            condition = f"hold one row for each of {count} objects"
            require(fits, name, condition, None if column is None else len(column))
        for name in ("boxes", "scores", "keypoints"):
            column = getattr(self, name)
            require(column is None or bool(np.isfinite(column).all()), name, "be finite numbers", "NaN or infinity")
        known = (self.labels >= 0) & (self.labels < self.taxonomy.num_classes)
        last = self.taxonomy.num_classes - 1
        require(bool(known.all()), "labels", f"be classes 0 to {last}", self.labels[~known][:1])
        if self.image is not None:
            fits = self.image.shape == (*self.size, 3) and self.image.dtype == np.uint8
            require(fits, "image", f"be {(*self.size, 3)} RGB bytes", f"{self.image.shape} {self.image.dtype}")

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, rows: Integer[np.ndarray, " M"] | Bool[np.ndarray, " N"]) -> Detections:
        """The objects of these rows, in this order."""
        return replace(
            self,
            boxes=self.boxes[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks.select(rows),
            keypoints=None if self.keypoints is None else self.keypoints[rows],
        )

    def above(self, score: float | int) -> Detections:
        """The objects whose score is at least ``score``."""
        return self.select(self.scores >= score)

    def counts(self) -> dict[str, int]:
        """The number of objects of each class that occurs, in label order."""
        counted = Counter(self.labels.tolist())
        return {self.taxonomy.names[label]: counted[label] for label in sorted(counted)}

    def overlay(self, alpha: float | int = 0.4) -> UInt8[np.ndarray, "H W 3"]:
        """The image with every object's mask laid over it and its box and joints drawn, the best on top.

        Args:
            alpha: of the masks; 0 shows the image only, 1 the colours only.

        Returns:
            RGB bytes; on white when there is no image.

        Raises:
            ArgumentError: when ``alpha`` lies outside 0 to 1.
        """
        return np.asarray(self._drawn(alpha, enlarge=False))

    def plot(self, alpha: float | int = 0.4) -> Image.Image:
        """A picture: the overlay, enlarged where it is small, each object with its class and score."""
        return self._drawn(alpha, enlarge=True)

    def to_coco(self, image_id: int, *, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO results, one an object.

        Args:
            image_id: the image's id in the COCO file that the result is for.
            category_ids: what that file calls each label; the labels themselves when left out.

        Returns:
            Dictionaries with ``image_id``, ``category_id``, ``bbox`` (x, y, width, height) and ``score``; with masks
            also ``segmentation`` (run lengths), with joints ``keypoints`` (x, y, score of each).
        """
        ids = range(self.taxonomy.num_classes) if category_ids is None else category_ids
        results: list[dict[str, Any]] = []
        for place, (box, score, label) in enumerate(zip(self.boxes, self.scores, self.labels, strict=True)):
            left, top, right, bottom = (float(value) for value in box)
            result = {
                "image_id": image_id,
                "category_id": int(ids[int(label)]),
                "bbox": [left, top, right - left, bottom - top],
                "score": float(score),
            }
            if self.masks is not None:
                result["segmentation"] = self.masks[place].to_coco()
            if self.keypoints is not None:
                result["keypoints"] = [float(value) for value in self.keypoints[place].ravel()]
            results.append(result)
        return results

    def to_supervision(self) -> Any:
        """``supervision.Detections`` with boxes, scores, classes and masks.

        Raises:
            MissingDependencyError: when the supervision library is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingDependencyError(
                "to_supervision needs the supervision library. Install it with: pip install 'delineate[supervision]'"
            ) from error
        if not len(self):
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=self.boxes,
            mask=None if self.masks is None else np.stack([mask.decode() for mask in self.masks]),
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": np.array([self.taxonomy.names[label] for label in self.labels])},
        )

    def _colours(self) -> list[Colour]:
        """One an object: its class's, or where there is one class only, a different one for neighbours in the list."""
        if self.taxonomy.num_classes > 1:
            return [self.taxonomy.colours[label] for label in self.labels]
        palette = voc_colours(22)[1:]
        return [palette[place % len(palette)] for place in range(len(self))]

    def _drawn(self, alpha: float | int, *, enlarge: bool) -> Image.Image:
        require(0 <= alpha <= 1, "alpha", "lie between 0 and 1", alpha)
        base = np.full((*self.size, 3), _PAPER, np.uint8) if self.image is None else self.image.copy()
        colours = self._colours()
        for place in range(len(self) - 1, -1, -1) if self.masks is not None else ():
            assert self.masks is not None
            inside = self.masks[place].decode()
            mixed = base[inside] * (1 - alpha) + np.array(colours[place]) * alpha
            base[inside] = np.round(mixed).astype(np.uint8)
        picture, factor = enlarged(Image.fromarray(base)) if enlarge else (Image.fromarray(base), 1)
        draw = ImageDraw.Draw(picture)
        line = max(1, round(min(picture.size) / 250))
        font = ImageFont.load_default(size=max(10, round(min(picture.size) / 45)))
        for place in range(len(self) - 1, -1, -1):
            left, top, right, bottom = (float(value) * factor for value in self.boxes[place])
            if right > left and bottom > top:
                ends = max(left, right - 1), max(top, bottom - 1)  # a box below a pixel is a dot
                draw.rectangle((left, top, *ends), outline=colours[place], width=line)
            if self.keypoints is not None:
                self._draw_joints(draw, place, factor, colours[place], line)
            if enlarge and (text := self._caption(place, right - left, font)):
                _chip(draw, (left, top), text, colours[place], font)
        return picture

    def _caption(self, place: int, width: float, font: Any) -> str:
        """Class and score; among many objects only what is no wider than the box, so that it hides no neighbour."""
        name, score = self.taxonomy.names[self.labels[place]], f"{self.scores[place]:.2f}"
        if len(self) <= _MANY:
            return f"{name} {score}"
        return next((text for text in (f"{name} {score}", score) if font.getlength(text) + 4 <= width), "")

    def _draw_joints(self, draw: ImageDraw.ImageDraw, place: int, factor: int, colour: Colour, line: int) -> None:
        assert self.keypoints is not None
        joints = [(float(x) * factor, float(y) * factor, score > 0) for x, y, score in self.keypoints[place]]
        for first, second in self.limbs:
            if joints[first][2] and joints[second][2]:
                draw.line((*joints[first][:2], *joints[second][:2]), fill=colour, width=line)
        radius = 1.5 * line
        for x, y, seen in joints:
            if seen:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline=_LIGHT)


def _chip(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: Colour, font: Any) -> None:
    """The text on its colour above the corner, or inside where that would lie outside the picture."""
    width, height = font.getlength(text) + 4, font.size + 3
    x = max(0.0, min(corner[0], draw.im.size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    ink = _DARK if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else _LIGHT
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    draw.text((x + 2, y + height / 2), text, fill=ink, font=font, anchor="lm")
