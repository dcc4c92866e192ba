"""Many masks as run lengths, back to back: what an evaluation of half a million masks holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, Integer, UInt8

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.kernels import contours, rle
from delineate.kernels import rle_masks as kernels
from delineate.structures.rle import MOST_CROSSINGS, MOST_DISTANT, MOST_PIXELS, RLE


class DamagedMaskError(ArgumentError):
    """A mask among many cannot be read; ``index`` and ``reason`` let a reader name it."""

    index: int = -1
    reason: str = ""


@dataclass(frozen=True, eq=False)
class RLEMasks:
    """Many masks in COCO's compressed form, of any sizes.

    Source: COCO API ``maskApi.c``, whose areas, boxes, polygons and union these repeat to the last bit.
    Differs: malformed input is an error; the box of a mask of zero-length runs only is zeros, as of any empty mask.

    Args:
        text: the compressed texts back to back, ASCII.
        offsets: where each text begins, and where the last ends.
        sizes: height and width of each mask.

    Raises:
        DamagedMaskError: when a text is damaged, or its runs do not add up to its size; it carries the index.
        ArgumentError: when the arrays do not fit each other, or a size is not positive or of 2**31 pixels or more.

    Example:
        >>> masks = RLEMasks.from_texts(["13", "4"], [(2, 2), (1, 4)])
        >>> masks.areas().tolist(), masks.boxes().tolist()
        ([3, 0], [[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
        >>> masks[0]
        RLE(size=(2, 2), counts='13')
    """

    text: UInt8[np.ndarray, " C"]
    offsets: Int64[np.ndarray, " N1"]
    sizes: Int32[np.ndarray, "N 2"]
    _areas: Int64[np.ndarray, " N"] = field(init=False, repr=False)
    _boxes: Float64[np.ndarray, "N 4"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        sizes = _require_arrays(self.text, self.offsets, self.sizes)
        damaged, areas, boxes = kernels.measures(self.text, self.offsets, sizes)
        if damaged >= 0:
            raise _damage(self.text, self.offsets, sizes, damaged)
        self._keep(self.text, self.offsets, sizes, areas, boxes)

    def _keep(self, *arrays: np.ndarray) -> None:
        for name, array in zip(("text", "offsets", "sizes", "_areas", "_boxes"), arrays, strict=True):
            view = np.ascontiguousarray(array).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def _grouped(self, order: np.ndarray, starts: np.ndarray) -> kernels.GroupedMasks:
        return kernels.GroupedMasks(self.text, self.offsets, self.sizes, self._areas, self._boxes, order, starts)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int | np.integer) -> RLE:
        """One mask; negative indices count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"mask {index} of {len(self)}")
        i = int(index) % len(self)
        text = self.text[self.offsets[i] : self.offsets[i + 1]].tobytes()
        return RLE((int(self.sizes[i, 0]), int(self.sizes[i, 1])), text.decode("ascii"))

    def __iter__(self) -> Iterator[RLE]:
        return (self[i] for i in range(len(self)))

    @classmethod
    def from_texts(cls, texts: Sequence[str], sizes: Integer[np.ndarray, "N 2"] | Sequence[Sequence[int]]) -> RLEMasks:
        """Masks of COCO's compressed texts, one a mask."""
        joined = "".join(texts)
        if not joined.isascii():
            index = next(i for i, text in enumerate(texts) if not text.isascii())
            raise _error(index, f"not run lengths: {texts[index][:40]!r}")
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
        return cls(np.frombuffer(joined.encode("ascii"), np.uint8), offsets, _sizes(sizes, len(texts)))

    @classmethod
    def from_rles(cls, masks: Sequence[RLE]) -> RLEMasks:
        """The masks of a list."""
        return cls.from_texts([mask.counts for mask in masks], [mask.size for mask in masks])

    @classmethod
    def from_counts(
        cls,
        counts: Integer[np.ndarray, " R"],
        starts: Integer[np.ndarray, " N1"],
        sizes: Integer[np.ndarray, "N 2"] | Sequence[Sequence[int]],
    ) -> RLEMasks:
        """Masks of uncompressed run lengths, zeros first.

        Args:
            counts: the runs of all masks.
            starts: where the runs of each mask begin in ``counts``, and where the last end.
            sizes: (height, width) of each mask.

        Raises:
            DamagedMaskError: when a run is negative, or the runs of a mask do not add up to its size.
        """
        _require_starts("starts", starts, len(counts))
        whole = _sizes(sizes, len(starts) - 1)
        outside = np.flatnonzero((counts < 0) | (counts > MOST_PIXELS))
        if len(outside):
            index = int(np.searchsorted(starts, outside[0], side="right")) - 1
            raise _error(index, f"not run lengths: {counts[outside[0]]}")
        return cls(*kernels.texts_of_counts(counts, starts), whole)

    @classmethod
    def from_polygons(
        cls,
        coordinates: Float64[np.ndarray, " P"],
        polygon_starts: Int64[np.ndarray, " Q1"],
        mask_starts: Int64[np.ndarray, " N1"],
        sizes: Integer[np.ndarray, "N 2"] | Sequence[Sequence[int]],
    ) -> RLEMasks:
        """Masks, each the union of its polygons; what lies outside an image is cut off.

        Args:
            coordinates: x, y, x, y ... of all polygons, in pixels.
            polygon_starts: where each polygon begins in ``coordinates``, and where the last ends.
            mask_starts: where the polygons of each mask begin in ``polygon_starts``, and where the last end.
            sizes: (height, width) of each mask.

        Raises:
            DamagedMaskError: when a mask has no polygon, or one with an odd number of coordinates, fewer than three
                corners, a value that is not finite, or an outline far longer than any picture's.

        Example:
            >>> corners = np.array([0.0, 0, 2, 0, 2, 2, 0, 2])
            >>> RLEMasks.from_polygons(corners, np.array([0, 8]), np.array([0, 1]), [(3, 3)]).areas()
            array([4])
        """
        _require_starts("polygon_starts", polygon_starts, len(coordinates))
        _require_starts("mask_starts", mask_starts, len(polygon_starts) - 1)
        whole = _sizes(sizes, len(mask_starts) - 1)
        _require_polygons(coordinates, polygon_starts, mask_starts, whole)
        return cls(*contours.texts_of_polygons(coordinates, polygon_starts, mask_starts, whole), whole)

    @classmethod
    def concatenate(cls, parts: Sequence[RLEMasks]) -> RLEMasks:
        """The masks of all parts, in order; none of no part."""
        shifts = np.cumsum([0, *(len(part.text) for part in parts)])
        return cls._trusted(
            np.concatenate([np.empty(0, np.uint8), *(part.text for part in parts)]),
            np.concatenate(
                [*(part.offsets[:-1] + shift for part, shift in zip(parts, shifts, strict=False)), shifts[-1:]]
            ),
            np.concatenate([np.empty((0, 2), np.int32), *(part.sizes for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part._areas for part in parts)]),
            np.concatenate([np.empty((0, 4)), *(part._boxes for part in parts)]),
        )

    @classmethod
    def _trusted(cls, *arrays: np.ndarray) -> RLEMasks:
        """Of texts that were checked before."""
        masks = object.__new__(cls)
        masks._keep(*arrays)
        return masks

    def select(self, indices: Integer[np.ndarray, " M"] | Bool[np.ndarray, " N"] | Sequence[int]) -> RLEMasks:
        """Some of the masks: by their indices, in that order, or where a boolean array is true."""
        chosen = np.asarray(indices) if len(indices) else np.empty(0, np.int64)
        try:
            places = np.arange(len(self))[chosen]
        except IndexError:
            raise ArgumentError(
                f"indices must name some of {len(self)} masks; got {_shortened(chosen)} of {chosen.dtype}."
            ) from None
        text, offsets = kernels.selected_text(self.text, self.offsets, places)
        return self._trusted(text, offsets, self.sizes[places], self._areas[places], self._boxes[places])

    def areas(self) -> Int64[np.ndarray, " N"]:
        """The number of pixels inside each mask."""
        return self._areas

    def boxes(self) -> Float64[np.ndarray, "N 4"]:
        """x, y, width and height of the smallest box around each mask, zeros for an empty one.

        As pycocotools has it, a mask with a run that goes on from one column to the next is as high as its image.
        """
        return self._boxes

    def boundaries(self, distances: Integer[np.ndarray, " N"] | None = None, *, ratio: float | int = 0.02) -> RLEMasks:
        """Each mask's pixels within a distance of its own outline.

        Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021,
        section 4; as its released code has it, with a square neighbourhood, and the image's frame part of the outline.
        Differs: nothing.

        Args:
            distances: in pixels, at least 1, one a mask; when None, ``ratio`` decides.
            ratio: the distance as a fraction of the image's diagonal; rounded to whole pixels, at least 1.

        Raises:
            ArgumentError: when the distances are not one a mask or below 1, or the ratio is not positive.

        Example:
            >>> RLEMasks.from_rles([RLE.encode(np.ones((4, 5), bool))]).boundaries()[0].decode().sum()
            np.int64(14)
        """
        if distances is None:
            require(0 < ratio < float("inf"), "ratio", "be positive", ratio)
            height, width = self.sizes.astype(np.float64).T
            distances = np.maximum(1, np.rint(ratio * np.sqrt(height**2 + width**2))).astype(np.int64)
        require(len(distances) == len(self), "distances", f"be one for each of {len(self)} masks", len(distances))
        require(bool((distances >= 1).all()), "distances", "be at least 1 pixel", int(np.min(distances, initial=1)))
        return type(self)(*contours.boundary_texts(self.text, self.offsets, self.sizes, distances), self.sizes)


def group_ious(
    detections: RLEMasks,
    truths: RLEMasks,
    crowd: Bool[np.ndarray, " T"],
    *,
    order: Integer[np.ndarray, " D"],
    starts: Integer[np.ndarray, " G1"],
    truth_order: Integer[np.ndarray, " E"],
    truth_starts: Integer[np.ndarray, " _"],
) -> tuple[Float64[np.ndarray, " P"], Int64[np.ndarray, " G1"]]:
    """The IoU of each detection with each truth of its group: of one image and one class.

    Source: COCO API ``maskApi.c``, ``rleIou``, whose values these are to the last bit.
    Differs: masks of different sizes share nothing (0), where the original has -1; runs of length 0 between others,
    which no encoder writes, change nothing, where the original may stop at them.

    Args:
        detections: predicted masks.
        truths: true masks.
        crowd: which truths are crowds; the IoU with one is the share of the detection that lies in it.
        order: indices of the detections of group 0, then of group 1 ...
        starts: where each group begins in ``order``, and where the last ends.
        truth_order: as ``order``, of the truths.
        truth_starts: as ``starts``, of the truths.

    Returns:
        The IoUs of all groups, in each its detections x its truths, row by row; 0 for a pair that shares nothing, two
        empty masks too. And where each group's block begins, and where the last ends.

    Raises:
        ArgumentError: when the arrays do not fit each other, or an index names no mask.

    Example:
        >>> masks = RLEMasks.from_texts(["13", "04"], [(2, 2), (2, 2)])
        >>> one = {"order": np.array([0, 1]), "starts": np.array([0, 2])}
        >>> crowd = np.array([False, False])
        >>> group_ious(masks, masks, crowd, **one, truth_order=one["order"], truth_starts=one["starts"])
        (array([1.  , 0.75, 0.75, 1.  ]), array([0, 4]))
    """
    require(len(crowd) == len(truths), "crowd", f"be one for each of {len(truths)} truths", len(crowd))
    require(len(starts) == len(truth_starts), "truth_starts", f"be of {len(starts)} places", len(truth_starts))
    for name, masks, places in (("order", detections, order), ("truth_order", truths, truth_order)):
        inside = not len(places) or (int(places.min()) >= 0 and int(places.max()) < len(masks))
        require(inside, name, f"name some of {len(masks)} masks", _shortened(places))
    _require_starts("starts", starts, len(order))
    _require_starts("truth_starts", truth_starts, len(truth_order))
    iou_starts = np.zeros(len(starts), np.int64)
    np.cumsum(np.diff(starts).astype(np.int64) * np.diff(truth_starts), out=iou_starts[1:])
    ious = kernels.grouped_ious(
        detections._grouped(order, starts),
        truths._grouped(truth_order, truth_starts),
        crowd,
        iou_starts,
    )
    return ious, iou_starts


def find_damage(
    text: UInt8[np.ndarray, " C"], offsets: Int64[np.ndarray, " N1"], sizes: Int32[np.ndarray, "N 2"]
) -> tuple[int, str] | None:
    """The first mask that cannot be read and why; None when every one can.

    Example:
        >>> find_damage(np.frombuffer(b"413", np.uint8), np.array([0, 1, 3]), np.array([[2, 2], [1, 3]], np.int32))
        (1, 'sums to 4, not 1 x 3 pixels')
    """
    _require_arrays(text, offsets, sizes)
    damaged = kernels.measures(text, offsets, sizes)[0]
    return (damaged, _damage(text, offsets, sizes, damaged).reason) if damaged >= 0 else None


def _damage(text: np.ndarray, offsets: np.ndarray, sizes: np.ndarray, index: int) -> DamagedMaskError:
    """What is wrong with a mask that the kernel refused."""
    one = text[offsets[index] : offsets[index + 1]].tobytes()
    runs = rle.text_counts(one)
    if runs is None:
        return _error(index, f"not run lengths: {one[:40].decode('ascii', 'replace')!r}")
    return _error(index, f"sums to {sum(runs.tolist())}, not {sizes[index, 0]} x {sizes[index, 1]} pixels")


def _error(index: int, reason: str) -> DamagedMaskError:
    error = DamagedMaskError(f"masks must be COCO's run lengths or polygons; got, for mask {index}: {reason}.")
    error.index, error.reason = index, reason
    return error


def _require_arrays(text: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The sizes as int32, when the arrays fit each other."""
    require(text.dtype == np.uint8 and text.ndim == 1, "text", "be (C,) uint8", f"{text.shape} {text.dtype}")
    _require_starts("offsets", offsets, len(text))
    return _sizes(sizes, len(offsets) - 1)


def _require_starts(name: str, starts: np.ndarray, end: int) -> None:
    whole = starts.ndim == 1 and len(starts) > 0 and np.issubdtype(starts.dtype, np.integer)
    holds = whole and starts[0] == 0 and starts[-1] == end and bool((starts[1:] >= starts[:-1]).all())
    require(holds, name, f"rise from 0 to {end}", _shortened(starts))


def _sizes(sizes: Any, number: int) -> np.ndarray:
    """``(N, 2)`` int32."""
    try:
        given = np.asarray(sizes if number else np.empty((len(sizes), 2), np.int32))
    except (TypeError, ValueError):  # rows of different lengths
        given = np.empty(0)
    pairs = given.ndim == 2 and given.shape[1] == 2 and np.issubdtype(given.dtype, np.integer)
    require(pairs, "sizes", "be whole (height, width) of each mask", _shortened(sizes))
    require(len(given) == number, "sizes", f"be one for each of {number} masks", len(given))
    wrong = np.flatnonzero((given < 1).any(axis=1) | (given > MOST_PIXELS).any(axis=1))
    if not len(wrong):
        wrong = np.flatnonzero(given[:, 0].astype(np.int64) * given[:, 1] > MOST_PIXELS)
    if len(wrong):
        size = tuple(given[wrong[0]].tolist())
        raise _error(int(wrong[0]), f"size {size} is not a positive (height, width) of less than 2**31 pixels")
    return given.astype(np.int32)


def _require_polygons(
    coordinates: np.ndarray, polygon_starts: np.ndarray, mask_starts: np.ndarray, sizes: np.ndarray
) -> None:
    """Polygons that can be drawn, and in a time that their masks are worth."""
    empty = np.flatnonzero(np.diff(mask_starts) == 0)
    if len(empty):
        raise _error(int(empty[0]), "no polygon")
    lengths = np.diff(polygon_starts)
    masks = np.repeat(np.arange(len(sizes)), np.diff(mask_starts))
    for wrong, reason in (
        (lengths % 2 == 1, "a polygon of {} coordinates, an odd number"),
        (lengths < 6, "a polygon of {} coordinates, fewer than three corners"),
    ):
        if wrong.any():
            polygon = int(np.argmax(wrong))
            raise _error(int(masks[polygon]), reason.format(lengths[polygon]))
    distant = ~(np.abs(coordinates) <= MOST_DISTANT)  # NaN too
    if distant.any():
        place = int(np.argmax(distant))
        polygon = int(np.searchsorted(polygon_starts, place, side="right")) - 1
        raise _error(int(masks[polygon]), f"a corner at {coordinates[place]}, which is not finite or far away")
    if not len(masks):
        return
    corners = lengths // 2
    x, first = coordinates[::2], polygon_starts[:-1] // 2
    following = np.append(x[1:], 0.0)
    following[first + corners - 1] = x[first]
    columns = 2 + np.minimum(np.abs(following - x), np.repeat(sizes[masks, 1], corners))
    crossings = np.bincount(np.repeat(masks, corners), columns, len(sizes))
    if crossings.max() > MOST_CROSSINGS:
        index = int(np.argmax(crossings > MOST_CROSSINGS))
        raise _error(index, f"an outline that crosses up to {crossings[index]:.0f} columns, far longer than any")


def _shortened(values: object) -> str:
    text = " ".join(str(values).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
