"""A class for every pixel of one image: what a semantic model predicts, and what can be made of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from PIL import Image

from delineate.checks import require
from delineate.errors import MissingDependencyError
from delineate.files import replaced_file
from delineate.structures.legend import with_legend
from delineate.structures.rle import RLE
from delineate.structures.taxonomy import Taxonomy

VOID_COLOUR = (224, 224, 192)  # the Pascal VOC palette's entry for "look away"


@dataclass(frozen=True, eq=False)
class SemanticMap:
    """The class of every pixel, with the image it was found in.

    Args:
        labels: ``(H, W)`` labels of the taxonomy, or its ``ignore_index``; stored as bytes, as int32 above 255 classes.
        taxonomy: names and colours of the labels.
        image: ``(H, W, 3)`` RGB bytes.
        scores: ``(H, W)`` probability of the label at each pixel.
        name: what to call it, the file's stem as a rule.

    Raises:
        ArgumentError: on sizes that do not match, or a label outside the taxonomy.

    Example:
        >>> found = SemanticMap(np.array([[0, 1], [1, 1]]), Taxonomy(("background", "cell"), background=0))
        >>> found.pixels()
        {'background': 1, 'cell': 3}
    """

    labels: Integer[np.ndarray, "H W"]
    taxonomy: Taxonomy
    image: UInt8[np.ndarray, "H W 3"] | None = None
    scores: Float32[np.ndarray, "H W"] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        require(labels.ndim == 2 and labels.size > 0, "labels", "be (H, W)", f"shape {labels.shape}")
        require(np.issubdtype(labels.dtype, np.integer), "labels", "be integers", labels.dtype)
        classes, ignored = self.taxonomy.num_classes, self.taxonomy.ignore_index
        known = (labels >= 0) & (labels < classes) | (labels == ignored)
        require(
            bool(known.all()),
            "labels",
            f"be classes 0 to {classes - 1} or {ignored}",
            f"{labels[~known][0]} at {tuple(np.argwhere(~known)[0].tolist())}" if not known.all() else "",
        )
        narrow = classes <= 255 and 0 <= ignored <= 255
        object.__setattr__(self, "labels", np.ascontiguousarray(labels, np.uint8 if narrow else np.int32))
        if self.image is not None:
            image = np.asarray(self.image)
            fits = image.shape == (*labels.shape, 3) and image.dtype == np.uint8
            require(fits, "image", f"be {(*labels.shape, 3)} RGB bytes", f"{image.shape} {image.dtype}")
        if self.scores is not None:
            scores = np.asarray(self.scores)
            require(scores.shape == labels.shape, "scores", f"be {labels.shape}", scores.shape)
            object.__setattr__(self, "scores", np.ascontiguousarray(scores, np.float32))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.labels.shape[0], self.labels.shape[1]

    def pixels(self) -> dict[str, int]:
        """The number of pixels of each class that occurs, in label order."""
        inside = self.labels[self.labels != self.taxonomy.ignore_index]
        counts = np.bincount(inside.ravel(), minlength=self.taxonomy.num_classes)
        return {name: int(count) for name, count in zip(self.taxonomy.names, counts, strict=True) if count}

    def colour_map(self) -> UInt8[np.ndarray, "H W 3"]:
        """Each pixel in the colour of its class; ignored pixels in Pascal VOC's cream."""
        return self._palette()[self._palette_index()]

    def overlay(self, alpha: float | int = 0.5) -> UInt8[np.ndarray, "H W 3"]:
        """The image with its classes laid over it in colour; background and ignored pixels stay as they are.

        Args:
            alpha: 0 shows the image only, 1 the colours only.

        Returns:
            RGB bytes; the plain :meth:`colour_map` when there is no image.

        Raises:
            ArgumentError: when ``alpha`` lies outside 0 to 1.
        """
        require(0 <= alpha <= 1, "alpha", "lie between 0 and 1", alpha)
        if self.image is None:
            return self.colour_map()
        shown = self.labels != self.taxonomy.ignore_index
        if self.taxonomy.background is not None:
            shown &= self.labels != self.taxonomy.background
        weight = round(alpha * 256)
        mixed = (self.image.astype(np.uint16) * (256 - weight) + self.colour_map().astype(np.uint16) * weight) >> 8
        return np.where(shown[..., None], mixed.astype(np.uint8), self.image)

    def plot(self, alpha: float | int = 0.5) -> Image.Image:
        """A picture: the overlay, enlarged where it is small, beside a legend of its classes and their shares."""
        labelled = sum(self.pixels().values())
        entries = [
            (self.taxonomy.colours[self.taxonomy.index(name)], name, count / labelled)
            for name, count in self.pixels().items()
            if self.image is None or self.taxonomy.index(name) != self.taxonomy.background
        ]
        return with_legend(Image.fromarray(self.overlay(alpha)), entries)

    def to_png(self, path: str | Path) -> None:
        """Write the labels as a PNG with a palette, as Pascal VOC does; 16 bits without one above 255 classes.

        An ``ignore_index`` that no such pixel can hold (-1, say) is written as the largest value, 255 or 65535.
        """
        if self.taxonomy.num_classes <= 255:
            picture = Image.fromarray(self._palette_index().astype(np.uint8))
            picture.putpalette(self._palette().tobytes())
        else:
            require(self.taxonomy.num_classes <= 65535, "labels", "fit 16 bits", f"{self.taxonomy.num_classes} classes")
            ignored = self.taxonomy.ignore_index
            ignored = ignored if 0 <= ignored <= 65535 else 65535
            labels = np.where(self.labels == self.taxonomy.ignore_index, ignored, self.labels)
            picture = Image.fromarray(labels.astype(np.uint16))
        with replaced_file(path) as temporary:
            picture.save(temporary, format="PNG", compress_type=zlib.Z_RLE)  # of runs: smaller, in half the time

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: one run-length mask for each class that occurs, the background left out.

        Args:
            image_id: the image's id in the COCO file that the result is for.

        Returns:
            Dictionaries with ``image_id``, ``category_id`` (the label), ``segmentation``, ``area``, ``bbox`` (x, y,
            width, height) and, where there are scores, their mean over the mask as ``score``.
        """
        results = []
        for label in self._objects():
            mask = self.labels == label
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            x, y = int(columns[0]), int(rows[0])
            result = {
                "image_id": image_id,
                "category_id": label,
                "segmentation": RLE.encode(mask).to_coco(),
                "area": int(mask.sum()),
                "bbox": [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1],
            }
            if self.scores is not None:
                result["score"] = float(self.scores[mask].mean(dtype=np.float64))
            results.append(result)
        return results

    def to_supervision(self) -> Any:
        """``supervision.Detections`` with one mask for each class that occurs, the background left out.

        Raises:
            MissingDependencyError: when the supervision library is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingDependencyError(
                "to_supervision needs the supervision library. Install it with: pip install 'delineate[supervision]'"
            ) from error
        found = self._objects()
        if not found:
            return supervision.Detections.empty()
        results = self.to_coco(0)
        boxes = np.array([result["bbox"] for result in results], np.float32)
        boxes[:, 2:] += boxes[:, :2]
        return supervision.Detections(
            xyxy=boxes,
            mask=np.stack([self.labels == label for label in found]),
            confidence=None if self.scores is None else np.array([r["score"] for r in results], np.float32),
            class_id=np.array(found),
            data={"class_name": np.array([self.taxonomy.names[label] for label in found])},
        )

    def _objects(self) -> list[int]:
        """The labels that occur, without background and ignored pixels."""
        left_out = (self.taxonomy.ignore_index, self.taxonomy.background)
        return [int(label) for label in np.unique(self.labels) if label not in left_out]

    def _palette(self) -> np.ndarray:
        """Colours by :meth:`_palette_index`."""
        palette = np.zeros((max(256, self.taxonomy.num_classes + 1), 3), np.uint8)
        palette[: self.taxonomy.num_classes] = self.taxonomy.colours
        palette[self._void_index()] = VOID_COLOUR
        return palette

    def _void_index(self) -> int:
        ignored, classes = self.taxonomy.ignore_index, self.taxonomy.num_classes
        if classes > 255:
            return classes
        return ignored if classes <= ignored <= 255 else 255

    def _palette_index(self) -> np.ndarray:
        """Labels, with the ignored ones at :meth:`_void_index`."""
        return np.where(self.labels == self.taxonomy.ignore_index, self._void_index(), self.labels)
