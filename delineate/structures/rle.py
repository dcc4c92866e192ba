"""Masks as run lengths, in COCO's compressed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Integer

from delineate.checks import require
from delineate.kernels import rle as kernels

_MOST_STEPS = 50_000_000  # of all outlines of a mask, in fifths of a pixel: a fraction of a second of work


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
        positive = runs.ndim == 1 and runs.size > 0 and bool((runs >= 0).all())
        require(positive, "counts", "be run lengths, none negative", _shortened(counts))
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
                finite, or an outline tens of times longer than any picture's.

        Example:
            >>> RLE.from_polygons([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 3)).area
            4
        """
        height, width = checked_size(size)
        require(len(polygons) > 0, "polygons", "hold at least one polygon", "none")
        parts, total = [], 0.0
        for polygon in polygons:
            length = len(polygon)
            require(length % 2 == 0, "polygons", "have an even number of coordinates", f"{length} coordinates")
            require(length >= 6, "polygons", "have at least three corners", f"{length // 2} corners")
            corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
            require(bool(np.isfinite(corners).all()), "polygons", "be finite", _shortened(polygon))
            total += 5 * float(np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum())
            require(
                total + float(np.abs(corners).max()) <= _MOST_STEPS,
                "polygons",
                f"lie near an image of {height} x {width}",
                _shortened(polygon),
            )
            parts.append(kernels.polygon_counts(corners, height, width))
        return cls((height, width), kernels.counts_text(kernels.union_counts(parts)).decode("ascii"))

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
        require(len(masks) > 0, "masks", "hold at least one mask", "none")
        sizes = {mask.size for mask in masks}
        require(len(sizes) == 1, "masks", "be of one size", sorted(sizes))
        runs = kernels.union_counts([mask.runs() for mask in masks])
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

    def to_coco(self) -> dict[str, Any]:
        """``{"size": [h, w], "counts": text}``, for COCO JSON and for pycocotools."""
        return {"size": list(self.size), "counts": self.counts}


def checked_size(size: Sequence[int]) -> tuple[int, int]:
    """``size`` as a positive (height, width); raises ArgumentError for anything else."""
    whole = len(size) == 2 and all(isinstance(length, (int, np.integer)) and length > 0 for length in size)
    require(whole, "size", "be a positive (height, width)", tuple(size))
    return int(size[0]), int(size[1])


def _require_sum(runs: np.ndarray | None, size: tuple[int, int]) -> None:
    total = 0 if runs is None else int(runs.sum())
    require(total == size[0] * size[1], "counts", f"sum to {size[0]} x {size[1]} pixels", total)


def _shortened(values: object) -> str:
    text = str(values)
    return text if len(text) <= 60 else f"{text[:57]}..."
