"""Priors of box sizes for a detector's anchors, from the boxes of a data set by k-means on overlaps.

Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 2 (dimension clusters).
Differs: the paper says neither how clustering starts nor how a centre follows its boxes. As in AlexeyAB's darknet, a
centre is the mean of its boxes. That program starts from random boxes and leaves a centre that lost all its boxes where
it was; here a start is spread as in k-means++, such a centre moves to the box that is met worst, and the best of some
starts counts. A mean minimises squares, not 1 - IoU: the mean overlap need not rise with every round, and other sizes
may overlap a little better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from delineate.checks import require
from delineate.kernels.threads import run_pieces
from delineate.structures.annotations import Annotations

Number = int | float

_CHUNK = 1 << 13  # boxes at once: their few columns stay in the cache
_SAMPLE = 20_000  # boxes that starts are tried on; all of them only refine the best start
_MOST_ROUNDS = 300
_SETTLED = 1e-4  # a change of a side, relative to it, that no anchor can feel


@dataclass(frozen=True, eq=False)
class AnchorPriors:
    """Priors and how well they fit.

    Args:
        sizes: width and height of each, by rising area.
        shares: of the boxes that each prior fits best, 0 to 1.
        mean_iou: the mean over boxes of the overlap with the best prior, 0 to 1, both at one corner.
        boxes: how many boxes there were.
    """

    sizes: Float64[np.ndarray, "P 2"]
    shares: Float64[np.ndarray, " P"]
    mean_iou: float
    boxes: int


def anchor_priors(sizes: Float64[np.ndarray, "N 2"], count: int, *, seed: int = 0, restarts: int = 10) -> AnchorPriors:
    """The ``count`` sizes that boxes overlap best with, by k-means with the distance 1 - IoU.

    Args:
        sizes: width and height of each box, in any unit; positive.
        count: how many priors; the paper takes 5.
        seed: of the starts; the same boxes and seed give the same priors.
        restarts: how many starts are tried.

    Returns:
        In the unit of ``sizes``. A million boxes take seconds.

    Raises:
        ArgumentError: on sizes that are not positive and finite, or fewer different ones than ``count``.

    Example:
        >>> boxes = np.array([[10.0, 10.0], [12.0, 10.0], [100.0, 50.0], [100.0, 54.0]])
        >>> priors = anchor_priors(boxes, 2)
        >>> priors.sizes.tolist(), round(priors.mean_iou, 4)
        ([[11.0, 10.0], [100.0, 52.0]], 0.9376)
    """
    columns = _checked_columns("sizes", sizes)
    require(count >= 1, "count", "be at least 1", count)
    require(restarts >= 1, "restarts", "be at least 1", restarts)
    boxes = columns.shape[1]
    different = len(np.unique(columns[0] + 1j * columns[1])) if boxes else 0
    require(different >= count, "count", f"be at most the number of different box sizes, {different}", count)
    generator = np.random.default_rng(seed)
    sample = columns if boxes <= _SAMPLE else columns[:, np.sort(generator.choice(boxes, _SAMPLE, replace=False))]
    starts = [_spread_start(sample, count, generator) for _ in range(restarts)]
    found = [_clustered(sample, start) for start in starts]
    priors = max(found, key=lambda centres: _fit(sample, centres).mean_iou)
    if boxes > _SAMPLE:
        priors = _clustered(columns, priors)
    priors = priors[np.lexsort((priors[:, 0], priors[:, 0] * priors[:, 1]))]
    fit = _fit(columns, priors)
    return AnchorPriors(priors, fit.counts / boxes, fit.mean_iou, boxes)


def mean_best_iou(sizes: Float64[np.ndarray, "N 2"], priors: Float64[np.ndarray, "P 2"]) -> float:
    """The mean over boxes of the IoU with the best prior, both at one corner; NaN without boxes.

    Args:
        sizes: width and height of each box; positive.
        priors: in the same unit; positive, at least one.

    Raises:
        ArgumentError: on sizes that are not positive and finite, or no prior.

    Example:
        >>> mean_best_iou(np.array([[2.0, 2.0], [4.0, 4.0]]), np.array([[2.0, 2.0]]))
        0.625
    """
    columns, centres = _checked_columns("sizes", sizes), _checked_columns("priors", priors).T
    require(len(centres) > 0, "priors", "hold at least one size", "none")
    return _fit(columns, centres).mean_iou


def box_sizes(
    annotations: Annotations,
    input_size: tuple[int, int],
    *,
    stride: Number = 1,
    images: Sequence[int] | Int64[np.ndarray, " I"] | None = None,
) -> Float64[np.ndarray, "N 2"]:
    """Width and height of the boxes of a data set when every image is stretched to a network's input.

    Crowds, ignored (difficult) objects and boxes without an area are left out.

    Args:
        annotations: with the sizes of the images.
        input_size: (height, width) of the network's input.
        stride: of the unit; 1 for pixels, 32 for YOLOv2's cells.
        images: indices of those that count, such as a split's; all when None.

    Raises:
        ArgumentError: on an image with boxes whose size is not known.

    Example:
        >>> from delineate.structures.objects import Objects
        >>> objects = Objects.of(images=[0], labels=[0], boxes=[[5, 5, 50, 20]])
        >>> annotations = Annotations.of(("a",), ("cell",), objects, image_sizes=[(100, 200)])
        >>> box_sizes(annotations, (416, 416), stride=32).tolist()
        [[3.25, 2.6]]
    """
    sides, of_image = _sides(annotations, images)
    height, width = _checked_input(input_size, stride)
    return sides * (np.array([width, height]) / of_image / stride)


def letterboxed_box_sizes(
    annotations: Annotations,
    input_size: tuple[int, int],
    *,
    stride: Number = 1,
    images: Sequence[int] | Int64[np.ndarray, " I"] | None = None,
) -> Float64[np.ndarray, "N 2"]:
    """As :func:`box_sizes`, when every image keeps its aspect and just fits into the input.

    Example:
        >>> from delineate.structures.objects import Objects
        >>> objects = Objects.of(images=[0], labels=[0], boxes=[[5, 5, 50, 20]])
        >>> annotations = Annotations.of(("a",), ("cell",), objects, image_sizes=[(100, 200)])
        >>> letterboxed_box_sizes(annotations, (416, 416), stride=32).tolist()
        [[3.25, 1.3]]
    """
    sides, of_image = _sides(annotations, images)
    height, width = _checked_input(input_size, stride)
    return sides * ((np.array([width, height]) / of_image).min(axis=1, keepdims=True) / stride)


def describe_priors(priors: AnchorPriors, *, input_size: tuple[int, int], stride: Number = 1) -> str:
    """A few lines for a terminal: each prior in pixels and cells, how many boxes it fits best, and darknet's line.

    Args:
        priors: in units of ``stride`` pixels.
        input_size: (height, width) that the boxes were scaled to.
        stride: as for :func:`box_sizes`.

    Example:
        >>> priors = AnchorPriors(np.array([[1.25, 2.0], [3.0, 4.5]]), np.array([0.25, 0.75]), 0.61, 8)
        >>> print(describe_priors(priors, input_size=(416, 416), stride=32))
        2 priors of 8 boxes at 416 x 416 (height x width), mean IoU 61.0 %
          pixels 40.0 x 64.0 (width x height), cells 1.2500 x 2.0000, 25.0 % of the boxes
          pixels 96.0 x 144.0 (width x height), cells 3.0000 x 4.5000, 75.0 % of the boxes
        anchors = 1.2500,2.0000, 3.0000,4.5000
    """
    height, width = _checked_input(input_size, stride)
    count = len(priors.sizes)
    lines = [
        f"{count} prior{'s' if count != 1 else ''} of {priors.boxes:,} boxes at {height} x {width} (height x width), "
        f"mean IoU {100 * priors.mean_iou:.1f} %"
    ]
    for (wide, high), share in zip(priors.sizes.tolist(), priors.shares.tolist(), strict=True):
        cells = f", cells {wide:.4f} x {high:.4f}" if stride != 1 else ""
        lines.append(
            f"  pixels {wide * stride:.1f} x {high * stride:.1f} (width x height){cells}, "
            f"{100 * share:.1f} % of the boxes"
        )
    lines.append("anchors = " + ", ".join(f"{wide:.4f},{high:.4f}" for wide, high in priors.sizes.tolist()))
    return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class _Fit:
    """What one pass over all boxes finds: the nearest centre of each, and the sums that move the centres."""

    nearest: Int64[np.ndarray, " N"]
    ious: Float64[np.ndarray, " N"]
    counts: Int64[np.ndarray, " P"]
    sums: Float64[np.ndarray, "P 2"]
    mean_iou: float


def _fit(columns: Float64[np.ndarray, "2 N"], centres: Float64[np.ndarray, "P 2"]) -> _Fit:
    boxes = columns.shape[1]
    nearest, ious = np.zeros(boxes, np.int64), np.zeros(boxes)

    def fill(chunk: slice) -> tuple[np.ndarray, np.ndarray]:
        widths, heights = columns[:, chunk]
        areas, best, label = widths * heights, ious[chunk], nearest[chunk]
        for number, (width, height) in enumerate(centres.tolist()):
            shared = np.minimum(widths, width) * np.minimum(heights, height)
            iou = shared / (areas + width * height - shared)
            better = iou > best  # of equal ones the first
            np.copyto(label, number, where=better)
            np.copyto(best, iou, where=better)
        sums = [np.bincount(label, side, len(centres)) for side in (widths, heights)]
        return np.bincount(label, minlength=len(centres)), np.stack(sums, axis=1)

    # pieces do not depend on the number of threads, nor does the order of additions
    parts = run_pieces(fill, [slice(start, start + _CHUNK) for start in range(0, boxes, _CHUNK)])
    counts, sums = np.zeros(len(centres), np.int64), np.zeros((len(centres), 2))
    for more_counts, more_sums in parts:
        counts += more_counts
        sums += more_sums
    return _Fit(nearest, ious, counts, sums, float(ious.mean()) if boxes else math.nan)


def _clustered(columns: Float64[np.ndarray, "2 N"], centres: Float64[np.ndarray, "P 2"]) -> Float64[np.ndarray, "P 2"]:
    """Where these centres come to rest: each at the mean of the boxes that it fits best."""
    before = None
    for _ in range(_MOST_ROUNDS):
        fit = _fit(columns, centres)
        if before is not None and np.array_equal(before, fit.nearest):
            break
        moved = fit.sums / np.maximum(fit.counts, 1)[:, None]
        empty = np.flatnonzero(fit.counts == 0)
        met = fit.ious
        for number in empty:  # each further one is not next to the last
            moved[number] = columns[:, met.argmin()]
            met = np.maximum(met, _fit(columns, moved[number, None]).ious)
        rests = len(empty) == 0 and bool((np.abs(moved - centres) <= _SETTLED * centres).all())
        before, centres = fit.nearest, moved
        if rests:
            break
    return centres


def _spread_start(
    columns: Float64[np.ndarray, "2 N"], count: int, generator: np.random.Generator
) -> Float64[np.ndarray, "P 2"]:
    """Boxes as first centres: each further one drawn the likelier, the worse the others fit it (k-means++)."""
    boxes = columns.shape[1]
    chosen = [int(generator.integers(boxes))]
    far = np.ones(boxes)
    while len(chosen) < count:
        far = np.minimum(far, 1 - _fit(columns, columns[:, chosen[-1:]].T).ious)
        total = np.cumsum(np.maximum(far, 0))
        place = int(np.searchsorted(total, generator.random() * total[-1], side="right"))
        chosen.append(min(place, boxes - 1))
    return columns[:, chosen].T.copy()


def _checked_columns(name: str, sizes: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, "2 N"]:
    rows = np.asarray(sizes, np.float64)
    require(rows.ndim == 2 and rows.shape[1] == 2, name, "be (N, 2), width and height", f"shape {rows.shape}")
    good = np.isfinite(rows).all(axis=1) & (rows > 0).all(axis=1)
    wrong = np.flatnonzero(~good)
    got = f"{rows[wrong[0]].tolist()} in row {wrong[0]}" if len(wrong) else ""
    require(not len(wrong), name, "be positive and finite", got, "Leave out boxes without an area.")
    return np.ascontiguousarray(rows.T)


def _checked_input(input_size: tuple[int, int], stride: Number) -> tuple[int, int]:
    require(min(input_size) > 0, "input_size", "be a positive (height, width)", input_size)
    require(stride > 0, "stride", "be positive", stride)
    return input_size


def _sides(
    annotations: Annotations, images: Sequence[int] | Int64[np.ndarray, " I"] | None
) -> tuple[Float64[np.ndarray, "N 2"], Float64[np.ndarray, "N 2"]]:
    """(width, height) of each box that counts, and of its image."""
    objects = annotations.objects
    kept: Bool[np.ndarray, " N"] = ~objects.crowd & ~objects.ignored & (objects.boxes[:, 2:] > 0).all(axis=1)
    if images is not None:
        kept &= np.isin(objects.images, np.asarray(images, np.int64))
    of_image = annotations.image_sizes[objects.images[kept]][:, ::-1].astype(np.float64)
    unknown = np.flatnonzero((of_image <= 0).any(axis=1))
    if len(unknown):
        image = annotations.image_ids[int(objects.images[kept][unknown[0]])]
        require(False, "annotations", "state the size of every image", f"none for '{image}'", "Read it from the image.")
    return objects.boxes[kept, 2:], of_image
