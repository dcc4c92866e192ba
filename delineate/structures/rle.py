"""Masks as run lengths, in COCO's compressed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from delineate.checks import require
from delineate.kernels import rle as kernels
from delineate.kernels.contours import outlines, texts_of_polygons

MOST_PIXELS = 2**31 - 1  # of a mask: COCO's own text is read in 32 bits
MOST_DISTANT = 2e8  # pixels from the origin to a corner: polygons are drawn in 32 bits, on a grid of fifths
MOST_CROSSINGS = 16_000_000  # of a mask's outlines with its columns: a second of work, and one of noise has fewer


@dataclass(frozen=True)
class RLE:
    """A binary mask as the lengths of its runs, down the columns, zeros first.

    Source: COCO API ``maskApi.c``, whose encoding, decoding, polygons and union this repeats run by run.
    Differs: malformed input is an error; the original reads past its end.

    Args:
        size: (height, width) of the mask.
        counts: COCO's compressed text, ASCII.

    Raises:
        ArgumentError: when the text is damaged, or its runs do not add up to the size.

    Example:
        >>> RLE.encode(np.array([[0, 1], [1, 1]]))
        RLE(size=(2, 2), counts='13')
        >>> RLE((2, 2), "13").area
        3
    """

    size: tuple[int, int]
    counts: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", checked_size(self.size))
        runs = kernels.text_counts(self.counts.encode("ascii")) if self.counts.isascii() else None
        require(runs is not None, "counts", "be COCO's compressed run lengths", f"'{self.counts[:40]}'")
        _require_sum(runs, self.size)

    @classmethod
    def encode(cls, mask: Bool[np.ndarray, "H W"] | Integer[np.ndarray, "H W"]) -> RLE:
        """The run lengths of a mask; every value but 0 counts as inside."""
        require(mask.ndim == 2, "mask", "be (H, W)", f"shape {mask.shape}")
        return cls((mask.shape[0], mask.shape[1]), kernels.counts_text(kernels.mask_counts(mask)).decode("ascii"))

    @classmethod
    def from_counts(cls, counts: Sequence[int] | Integer[np.ndarray, " N"], size: tuple[int, int]) -> RLE:
        """The mask of uncompressed run lengths, zeros first."""
        try:
            runs = np.asarray(counts, dtype=np.int64)
        except (OverflowError, TypeError, ValueError):
            runs = np.full(1, -1, np.int64)
        possible = runs.ndim == 1 and runs.size > 0 and bool(((runs >= 0) & (runs <= MOST_PIXELS)).all())
        require(possible, "counts", "be run lengths, none negative and all below 2**31", _shortened(counts))
        _require_sum(runs, checked_size(size))
        return cls(size, kernels.counts_text(runs).decode("ascii"))

    @classmethod
    def from_polygons(cls, polygons: Sequence[Sequence[float | int]], size: tuple[int, int]) -> RLE:
        """The union of polygons.

        Args:
            polygons: each ``[x0, y0, x1, y1, ...]`` in pixels, at least three corners; what lies outside is cut off.
            size: (height, width).

        Raises:
            ArgumentError: on no polygon, an odd number of coordinates, fewer than three corners, a value that is not
                finite or beyond 200 million pixels, or outlines that cross the image's columns 16 million times.

        Example:
            >>> RLE.from_polygons([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 3)).area
            4
        """
        height, width = checked_size(size)
        require(len(polygons) > 0, "polygons", "hold at least one polygon", "none")
        parts, crossings = [], 0.0
        for polygon in polygons:
            length = len(polygon)
            require(length % 2 == 0, "polygons", "have an even number of coordinates", f"{length} coordinates")
            require(length >= 6, "polygons", "have at least three corners", f"{length // 2} corners")
            corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
            require(bool(np.isfinite(corners).all()), "polygons", "be finite", _shortened(polygon))
            near = float(np.abs(corners).max()) <= MOST_DISTANT
            across = np.abs(np.diff(corners[:, 0], append=corners[0, 0])) if near else np.zeros(1)
            crossings += float((2 + np.minimum(across, width)).sum())
            require(
                near and crossings <= MOST_CROSSINGS,
                "polygons",
                f"lie near an image of {height} x {width}",
                _shortened(polygon),
            )
            parts.append(corners.reshape(-1))
        starts = np.cumsum([0, *map(len, parts)])
        whole = np.array([0, len(parts)]), np.array([[height, width]], np.int32)
        return cls(
            (height, width), texts_of_polygons(np.concatenate(parts), starts, *whole)[0].tobytes().decode("ascii")
        )

    @classmethod
    def from_coco(cls, segmentation: Mapping[str, Any] | Sequence[Any], size: tuple[int, int]) -> RLE:
        """The mask of a COCO ``segmentation``: polygons, or run lengths, compressed or not.

        Args:
            segmentation: a list of polygons, or ``{"size": [h, w], "counts": text | bytes | list}``.
            size: (height, width) of the image, which the run lengths must share.

        Raises:
            ArgumentError: when it is malformed or of another size.
        """
        if not isinstance(segmentation, Mapping):
            return cls.from_polygons(segmentation, size)
        require("counts" in segmentation, "segmentation", "have counts", f"keys {sorted(map(str, segmentation))}")
        stated = tuple(segmentation.get("size", size))
        require(stated == tuple(size), "segmentation", f"be of the image's size {tuple(size)}", stated)
        counts = segmentation["counts"]
        if isinstance(counts, bytes):
            counts = counts.decode("ascii", "replace")
        return cls(checked_size(size), counts) if isinstance(counts, str) else cls.from_counts(counts, size)

    @classmethod
    def union(cls, masks: Sequence[RLE]) -> RLE:
        """What lies in any of the masks, all of one size."""
        runs = kernels.union_counts(_runs_of_one_size(masks))
        return cls(masks[0].size, kernels.counts_text(runs).decode("ascii"))

    @classmethod
    def intersection(cls, masks: Sequence[RLE]) -> RLE:
        """What lies in all of the masks, all of one size."""
        runs = kernels.intersection_counts(_runs_of_one_size(masks))
        return cls(masks[0].size, kernels.counts_text(runs).decode("ascii"))

    def runs(self) -> Integer[np.ndarray, " N"]:
        """The run lengths, zeros first."""
        runs = kernels.text_counts(self.counts.encode("ascii"))
        assert runs is not None  # __post_init__ has read them
        return runs

    def decode(self) -> Bool[np.ndarray, "H W"]:
        """The mask."""
        return kernels.counts_mask(self.runs(), *self.size)

    @property
    def area(self) -> int:
        """The number of pixels inside."""
        return kernels.counts_area(self.runs())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x, y, width and height of the smallest box around the mask, zeros for an empty one.

        As pycocotools has it, a mask with a run that goes on from one column to the next is as high as its image.
        """
        return kernels.counts_box(self.runs(), self.size[0])

    def iou(self, other: RLE) -> float:
        """The share of the pixels in either mask that both have; NaN for two empty masks.

        Raises:
            ArgumentError: when the masks are of different sizes.

        Example:
            >>> RLE((2, 2), "13").iou(RLE((2, 2), "04"))
            0.75
        """
        both = self._shared_area(other)
        whole = self.area + other.area - both
        return both / whole if whole else float("nan")

    def coverage(self, other: RLE) -> float:
        """The share of this mask that lies in the other, which COCO takes for the IoU with a crowd; NaN when empty.

        Raises:
            ArgumentError: when the masks are of different sizes.
        """
        both, area = self._shared_area(other), self.area
        return both / area if area else float("nan")

    def _shared_area(self, other: RLE) -> int:
        require(other.size == self.size, "other", f"be of size {self.size}", other.size)
        return kernels.counts_area(kernels.intersection_counts([self.runs(), other.runs()]))

    def to_polygons(self) -> list[list[float]]:
        """The outlines as ``[x0, y0, x1, y1, ...]``, which :meth:`from_polygons` turns back into the very same mask.

        One polygon for each 4-connected component, along the edges of its pixels; a hole is part of the polygon around
        it, joined by a slit of no width. No corner lies between two others on one line. Empty for an empty mask.

        Example:
            >>> RLE.encode(np.array([[0, 1], [1, 1]])).to_polygons()
            [[1.0, 1.0, 1.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0, 0.0, 1.0]]
        """
        corners, starts = outlines(np.cumsum(self.runs()), *self.size)
        places = zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)
        return [corners[start:end].reshape(-1).tolist() for start, end in places]

    def to_coco(self) -> dict[str, Any]:
        """``{"size": [h, w], "counts": text}``, for COCO JSON and for pycocotools."""
        return {"size": list(self.size), "counts": self.counts}


def checked_size(size: Sequence[int]) -> tuple[int, int]:
    """``size`` as a positive (height, width) of less than 2**31 pixels; raises ArgumentError for anything else."""
    whole = len(size) == 2 and all(isinstance(length, (int, np.integer)) and length > 0 for length in size)
    require(whole, "size", "be a positive (height, width)", tuple(size))
    require(int(size[0]) * int(size[1]) <= MOST_PIXELS, "size", "have less than 2**31 pixels", tuple(size))
    return int(size[0]), int(size[1])


def _runs_of_one_size(masks: Sequence[RLE]) -> list[np.ndarray]:
    require(len(masks) > 0, "masks", "hold at least one mask", "none")
    sizes = {mask.size for mask in masks}
    require(len(sizes) == 1, "masks", "be of one size", sorted(sizes))
    return [mask.runs() for mask in masks]


def _require_sum(runs: np.ndarray | None, size: tuple[int, int]) -> None:
    total = 0 if runs is None else int(runs.sum())
    require(total == size[0] * size[1], "counts", f"sum to {size[0]} x {size[1]} pixels", total)


def _shortened(values: object) -> str:
    text = str(values)
    return text if len(text) <= 60 else f"{text[:57]}..."
