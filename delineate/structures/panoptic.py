"""A segment for every pixel: the map of one image, its segments, and what a file says about many images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Integer, UInt8

from delineate.checks import require
from delineate.kernels import panoptic as kernels

VOID = 0  # the id of pixels that belong to no segment
MAX_ID = 256**3 - 1  # what the three bytes of a PNG's pixel hold


@dataclass(frozen=True)
class PanopticClasses:
    """Classes of things, which are counted one by one, and of stuff, which has no instances.

    Args:
        names: one a class, all different.
        things: which classes are things.
        ids: what files call each class; numbers from 0 when left out.

    Raises:
        ArgumentError: on no class, a name or id that repeats, or columns of different lengths.

    Example:
        >>> PanopticClasses(("person", "sky"), (True, False), (1, 187)).num_classes
        2
    """

    names: tuple[str, ...]
    things: tuple[bool, ...]
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        require(count > 0, "names", "hold at least one class", "none")
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(count)))
        require(len(self.things) == count, "things", f"hold {count} flags, one a class", len(self.things))
        require(len(self.ids) == count, "ids", f"hold {count} ids, one a class", len(self.ids))
        require(len(set(self.names)) == count, "names", "not repeat a class", _repeated(self.names))
        require(len(set(self.ids)) == count, "ids", "not repeat an id", _repeated(self.ids))

    @property
    def num_classes(self) -> int:
        """The number of classes, things and stuff together."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class PanopticSegments:
    """The segments of one image as columns, in the order of the file.

    Args:
        ids: what the map calls each segment, 1 to 16,777,215, each once.
        labels: which class, from 0.
        crowd: true segments that stand for a group.
        scores: the confidence of predicted segments, or None.

    Raises:
        ArgumentError: on columns of different lengths, or an id that repeats or is out of range.

    Example:
        >>> len(PanopticSegments.of(ids=[7, 300], labels=[0, 2]))
        2
    """

    ids: Int64[np.ndarray, " S"]
    labels: Int64[np.ndarray, " S"]
    crowd: Bool[np.ndarray, " S"]
    scores: Float32[np.ndarray, " S"] | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[int] | Integer[np.ndarray, " S"],
        labels: Sequence[int] | Integer[np.ndarray, " S"],
        crowd: Any = None,
        scores: Any = None,
    ) -> PanopticSegments:
        """Segments of anything NumPy reads as columns of these; what is left out takes its default."""
        return cls(
            ids=np.asarray(ids, np.int64).reshape(-1),
            labels=np.asarray(labels, np.int64).reshape(-1),
            crowd=np.zeros(len(ids), bool) if crowd is None else np.asarray(crowd, bool).reshape(-1),
            scores=None if scores is None else np.asarray(scores, np.float32).reshape(-1),
        )

    def __post_init__(self) -> None:
        count = len(self.ids)
        for name in ("labels", "crowd", "scores"):
            column = getattr(self, name)
            fits = column is None or len(column) == count
            require(fits, name, f"hold one row for each of {count} segments", None if column is None else len(column))
        if count == 0:
            return
        low, high = int(self.ids.min()), int(self.ids.max())
        require(low > VOID, "ids", "be at least 1: 0 is void", low)
        require(high <= MAX_ID, "ids", f"be at most {MAX_ID}, what a pixel of a PNG holds", high)
        ordered = np.sort(self.ids)
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        require(len(repeated) == 0, "ids", "not repeat a segment", int(repeated[0]) if len(repeated) else None)
        require(int(self.labels.min()) >= 0, "labels", "be classes of at least 0", int(self.labels.min()))

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        """The row of each id, -1 for an id that is none of a segment, void included."""
        if len(self) == 0:
            return np.full(len(ids), -1, np.int64)
        order = np.argsort(self.ids)
        rows = order[np.minimum(np.searchsorted(self.ids, ids, sorter=order), len(order) - 1)]
        return np.where(self.ids[rows] == ids, rows, -1)


@dataclass(frozen=True, eq=False)
class PanopticMap:
    """The segment of every pixel of one image, true or predicted.

    Args:
        ids: ``(H, W)`` ids of segments, 0 for void; stored as int32.
        segments: each segment that the map shows, and no other.
        name: what to call it, the file's stem as a rule.
        areas: computed: the pixels of each segment.

    Raises:
        ArgumentError: on an id that is not a segment's, and on a segment without pixels.

    Example:
        >>> found = PanopticMap(np.array([[0, 7], [7, 300]]), PanopticSegments.of(ids=[7, 300], labels=[0, 2]))
        >>> found.areas
        array([2, 1])
    """

    ids: Integer[np.ndarray, "H W"]
    segments: PanopticSegments
    name: str = ""
    areas: Int64[np.ndarray, " S"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        given = np.asarray(self.ids)
        require(given.ndim == 2 and given.size > 0, "ids", "be (H, W)", f"shape {given.shape}")
        require(np.issubdtype(given.dtype, np.integer), "ids", "be integers", given.dtype)
        ids: Int32[np.ndarray, "H W"] = np.ascontiguousarray(given, np.int32)
        if given.dtype.itemsize > 2 and given.dtype != np.int32:  # a type that int32 does not hold
            wide = (given < VOID) | (given > MAX_ID)
            require(not wide.any(), "ids", f"lie between 0 and {MAX_ID}", _first(given, wide))
        present, _, pixels = kernels.pair_counts(ids, ids)
        rows = self.segments.rows(present)
        unlisted = present[(rows < 0) & (present != VOID)]
        if len(unlisted):
            got = _first(ids, ids.view(np.uint32) == unlisted[0])
            require(False, "ids", "be 0 (void) or those of segments", got, "List the segment, or set its pixels to 0.")
        areas = np.zeros(len(self.segments), np.int64)
        areas[rows[rows >= 0]] = pixels[rows >= 0]
        empty = self.segments.ids[areas == 0]
        if len(empty):
            require(False, "segments", "each have pixels in ids", f"none of segment {empty[0]}", "Leave it out.")
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "areas", areas)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.ids.shape[0], self.ids.shape[1]

    def to_coco(
        self, classes: PanopticClasses | None = None
    ) -> tuple[UInt8[np.ndarray, "H W 3"], list[dict[str, Any]]]:
        """The picture and the ``segments_info`` of COCO's panoptic format.

        Args:
            classes: gives each label its category's id, and ``isthing``; without them the label itself is the id.

        Returns:
            RGB bytes whose colour is the segment's id, R + 256 G + 65536 B; and a dictionary a segment: ``id``,
            ``category_id``, ``area``, ``bbox`` (x, y, width, height), ``iscrowd``, with classes ``isthing``, with
            scores ``score``.

        Raises:
            ArgumentError: when a label is none of the classes.
        """
        wide = self.ids.astype("<i4", copy=False).view(np.uint8).reshape(*self.size, 4)
        colours = np.empty((*self.size, 3), np.uint8)
        for channel in range(3):  # one after the other is three times faster than all at once
            colours[..., channel] = wide[..., channel]
        boxes = kernels.segment_boxes(self.ids, self.segments.ids)
        described = []
        for row, (x, y, right, bottom) in enumerate(boxes.tolist()):
            label = int(self.segments.labels[row])
            segment = {
                "id": int(self.segments.ids[row]),
                "category_id": label,
                "area": int(self.areas[row]),
                "bbox": [x, y, right - x, bottom - y],
                "iscrowd": int(self.segments.crowd[row]),
            }
            if classes is not None:
                known = label < classes.num_classes
                require(known, "labels", f"be classes 0 to {classes.num_classes - 1}", label)
                segment |= {"category_id": classes.ids[label], "isthing": int(classes.things[label])}
            if self.segments.scores is not None:
                segment["score"] = float(self.segments.scores[row])
            described.append(segment)
        return colours, described


@dataclass(frozen=True, eq=False)
class PanopticAnnotations:
    """What a panoptic file says of a set of images, all but the maps themselves.

    Args:
        source: the file that says so, for messages.
        classes: things and stuff.
        image_ids: what the file calls each image, numbers or names, each once.
        image_sizes: (height, width), zeros where the file does not say.
        map_files: the path of each image's map.
        segments: those of each image.

    Raises:
        ArgumentError: on an image that repeats, a label that is no class, or columns of different lengths.

    Example:
        >>> classes = PanopticClasses(("person", "sky"), (True, False))
        >>> segments = PanopticSegments.of(ids=[7], labels=[1])
        >>> len(PanopticAnnotations("a.json", classes, (5,), ((2, 2),), ("a/5.png",), (segments,)))
        1
    """

    source: str
    classes: PanopticClasses
    image_ids: tuple[int | str, ...]
    image_sizes: tuple[tuple[int, int], ...]
    map_files: tuple[str, ...]
    segments: tuple[PanopticSegments, ...]

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        for name in ("image_sizes", "map_files", "segments"):
            length = len(getattr(self, name))
            require(length == count, name, f"hold one entry for each of {count} images", length)
        require(len(set(self.image_ids)) == count, "image_ids", "not repeat an image", _repeated(self.image_ids))
        labels = max((int(segments.labels.max()) for segments in self.segments if len(segments)), default=0)
        last = self.classes.num_classes - 1
        require(labels <= last, "segments", f"have classes 0 to {last}", labels)

    def __len__(self) -> int:
        return len(self.image_ids)


def _repeated(values: Sequence[Any]) -> Any:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _first(values: np.ndarray, where: np.ndarray) -> str:
    """The first value that is meant, and its place, for an error's text."""
    return f"{values[where][0]} at {tuple(np.argwhere(where)[0].tolist())}" if where.any() else ""
