"""Objects of a large picture found tile by tile, made one list: none twice, and whole where a border cut them.

Masks stay run lengths, so that memory grows with what is found and not with the picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from delineate.checks import require
from delineate.kernels.boxes import group_box_ious
from delineate.kernels.object_tiling import moved_texts
from delineate.structures.rle import RLE, checked_size
from delineate.structures.rle_masks import RLEMasks, group_ious

Number = int | float

_WHOLE, _PIECE, _SLIVER = 0, 1, 2
_BLOCK = 4096  # pairs whose masks are held at a time
_CELLS = 1 << 22  # of the table in which pairs are looked for


@dataclass(frozen=True, eq=False)
class TileObjects:
    """What was found in one window of a picture; boxes and joints are in the picture's coordinates.

    Args:
        window: top, left, bottom and right of the tile in the picture.
        boxes: xyxy pixels of the picture.
        scores: the higher the better.
        labels: classes.
        masks: one an object, of the window's size; None for boxes alone.
        keypoints: x, y in the picture and score of each joint; None without.

    Raises:
        ArgumentError: on an empty window, columns of different lengths, masks of another size than the window's, or
            numbers that are not finite.

    Example:
        >>> found = TileObjects((0, 64, 96, 160), np.float32([[70, 8, 90, 20]]), np.float32([0.9]), np.array([2]))
        >>> len(found)
        1
    """

    window: tuple[int, int, int, int]
    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    masks: RLEMasks | None = None
    keypoints: Float32[np.ndarray, "N P 3"] | None = None

    def __post_init__(self) -> None:
        top, left, bottom, right = self.window
        holds = 0 <= top < bottom and 0 <= left < right
        require(holds, "window", "be top, left, bottom, right with pixels between", self.window)
        for name in ("boxes", "labels", "masks", "keypoints"):
            column = getattr(self, name)
            fits = column is None or len(column) == len(self)
            condition = f"hold one row for each of {len(self)} objects"
            require(fits, name, condition, None if column is None else len(column))
        for name in ("boxes", "scores", "keypoints"):
            column = getattr(self, name)
            require(column is None or bool(np.isfinite(column).all()), name, "be finite numbers", "NaN or infinity")
        if self.masks is not None:
            for size in self.masks.sizes[(self.masks.sizes != [bottom - top, right - left]).any(axis=1)][:1]:
                advice = "Pass masks of the tile, not of the picture."
                require(False, "masks", f"be of the window's size {(bottom - top, right - left)}", size, advice)

    def __len__(self) -> int:
        return len(self.scores)


def joined_objects(
    parts: Iterable[TileObjects],
    *,
    size: tuple[int, int],
    iou_threshold: Number = 0.5,
    margin: Number = 4,
    most: int | None = None,
) -> TileObjects:
    """The objects of the whole picture from those of its overlapping tiles.

    An object whose box ends at a side of its tile, other than the picture's own, is a piece: more of it may lie beyond.
    Two objects of one class in different tiles agree when their masks, or boxes where there are no masks, overlap by
    more than the threshold; of what is compared with a piece, only as much counts as the piece's tile could see. Then

    - of whole objects that agree, the best stays, as in non-maximum suppression;
    - a piece that agrees with a whole object is dropped, whatever the scores;
    - pieces that agree are joined, over any number of tiles; a piece has at most one continuation in another tile, the
      one it agrees with most. Boxes and masks become their union, the score is the best piece's (one that a tile barely
      saw says little about the object), and so is each joint.

    A piece thinner than twice the margin is a sliver, too thin for an IoU: it agrees with a whole object or a thicker
    piece when more of it than the threshold lies in that, and several slivers may continue one piece.

    Objects of one tile are never compared: the detector has done that. An object smaller than the overlap less twice
    the margin is whole in some tile, so let the overlap be larger than most objects; without overlap nothing is joined.
    The box of a piece says little about where a slanting object crosses the strip that two tiles share; masks do.

    Source: none. The usual way is suppression over the boxes of all tiles, as in Akyon et al., "Slicing Aided Hyper
    Inference and Fine-tuning for Small Object Detection", ICIP 2022; by its measure a piece is another object.

    Args:
        parts: one a tile, in any order; read once.
        size: (height, width) of the picture, whose borders cut nothing.
        iou_threshold: 0 (objects may touch) to 1 (nothing is joined).
        margin: pixels from its tile's side within which a box counts as ending there: a detector's boxes are not exact.
        most: objects in the result; None for all.

    Returns:
        One window, the picture; the best first, masks of the picture's size.

    Raises:
        ArgumentError: when a window lies outside the picture, some parts have masks or joints and others have not or
            have another number of joints, the picture of masks has 2**31 pixels, or a number is out of its range.

    Example:
        >>> left = TileObjects((0, 0, 40, 60), np.float32([[10, 5, 59, 35]]), np.float32([0.8]), np.array([0]))
        >>> right = TileObjects((0, 40, 40, 100), np.float32([[41, 5, 90, 35]]), np.float32([0.9]), np.array([0]))
        >>> joined_objects([left, right], size=(40, 100)).boxes
        array([[10.,  5., 90., 35.]], dtype=float32)
    """
    require(min(size) > 0, "size", "be a positive (height, width)", size)
    require(0 <= iou_threshold <= 1, "iou_threshold", "be between 0 and 1", iou_threshold)
    require(margin >= 0, "margin", "not be negative", margin, "Pass 0 for boxes that end exactly at their tile.")
    require(most is None or most > 0, "most", "be a positive number of objects", most, "Pass None for all.")
    found = _Found(list(parts), size, margin)
    first, second = _neighbours(found)
    agreement = found.agreement(first, second)
    agree = agreement > iou_threshold
    groups = _groups(found, first[agree], second[agree], agreement[agree])
    return found.merged(groups[:most])


class _Found:
    """The objects of all tiles, tile by tile, and what each shows of itself; x before y everywhere.

    Attributes:
        seen: boxes whose cut sides lie at the tile's side exactly.
        kinds: whole, piece or sliver.
        reach: of the picture, what an object's tile could show of it: ends where the object is cut.
    """

    def __init__(self, parts: list[TileObjects], size: tuple[int, int], margin: Number) -> None:
        self.size = size
        self.frame = np.array([0, 0, size[1], size[0]], np.int64)
        self.windows = np.array([part.window for part in parts], np.int64).reshape(-1, 4)[:, [1, 0, 3, 2]]
        for window in self.windows[(self.windows[:, 2:] > self.frame[2:]).any(axis=1)][:1]:
            left, top, right, bottom = window.tolist()
            require(False, "parts", f"have windows inside a picture of size {size}", (top, left, bottom, right))
        self.tiles = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.boxes = np.concatenate([np.empty((0, 4), np.float32), *(part.boxes for part in parts)])
        self.scores = np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)])
        self.labels = np.concatenate([np.empty(0, np.int64), *(part.labels for part in parts)])
        masks, keypoints = (_column(parts, name) for name in ("masks", "keypoints"))
        self.masks = None if masks is None else RLEMasks.concatenate(masks)
        joints = sorted({column.shape[1] for column in keypoints or ()})
        require(len(joints) < 2, "parts", "all have the same joints", f"{joints} joints")
        self.keypoints = None if keypoints is None else np.concatenate(keypoints)
        if self.masks is not None:
            checked_size(size)
        window = self.windows[self.tiles]
        ends = np.concatenate(
            [self.boxes[:, :2] <= window[:, :2] + margin, self.boxes[:, 2:] >= window[:, 2:] - margin], axis=1
        )
        cut = ends & (window != self.frame)
        self.seen = np.where(cut, window, self.boxes).astype(np.float64)
        self.reach = np.where(cut, window, self.frame)
        across = cut[:, :2] | cut[:, 2:]
        thin = (across & (self.seen[:, 2:] - self.seen[:, :2] < 2 * margin)).any(axis=1)
        self.kinds = np.where(thin, _SLIVER, np.where(across.any(axis=1), _PIECE, _WHOLE))

    def agreement(self, first: np.ndarray, second: np.ndarray) -> Float64[np.ndarray, " P"]:
        """The IoU of each pair, each of the two cut to what the other's tile could see of it.

        Of a sliver, which is the first of its pair, and another kind it is the share of the sliver inside the other.
        """
        share = (self.kinds[first] == _SLIVER) & (self.kinds[second] != _SLIVER)
        rows, starts = np.arange(len(first)), np.arange(len(first) + 1)
        one, other = _cut_to(self.seen[first], self.reach[second]), _cut_to(self.seen[second], self.reach[first])
        ious = group_box_ious(one, other, share, rows, starts, rows, starts, starts)
        if self.masks is not None:
            drawn = (self.masks.areas()[first] > 0) & (self.masks.areas()[second] > 0)
            rows = np.flatnonzero(drawn)  # for an object with an empty mask its box has to do
            for block in np.array_split(rows, range(_BLOCK, len(rows), _BLOCK)):
                ious[block] = self._mask_ious(first[block], second[block], share[block])
        return ious

    def _mask_ious(self, first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
        one, other = self.placed(first, self.reach[second]), self.placed(second, self.reach[first])
        rows, starts = np.arange(len(first)), np.arange(len(first) + 1)
        return group_ious(one, other, share, order=rows, starts=starts, truth_order=rows, truth_starts=starts)[0]

    def placed(self, rows: np.ndarray, clips: np.ndarray) -> RLEMasks:
        """Some of the masks in the picture, of each what lies in its clip."""
        assert self.masks is not None
        chosen, corners = self.masks.select(rows), self.windows[self.tiles[rows], :2]
        texts = moved_texts(chosen.text, chosen.offsets, chosen.sizes, corners, clips, self.size)
        return RLEMasks(*texts, np.tile(np.array([self.size], np.int32), (len(rows), 1)))

    def merged(self, groups: Sequence[Sequence[int]]) -> TileObjects:
        """One object a group of rows, whose first is the best."""
        rows = np.array([row for group in groups for row in group], np.int64)
        starts = np.cumsum([0, *map(len, groups)])
        best = rows[starts[:-1]]
        boxes = self.boxes[best]
        keypoints = None if self.keypoints is None else self.keypoints[best]
        masks = None if self.masks is None else self.placed(rows, np.tile(self.frame, (len(rows), 1)))
        chosen, unions = starts[:-1].copy(), list[RLE]()
        for place, group in enumerate(groups):
            if len(group) == 1:
                continue
            boxes[place, :2], boxes[place, 2:] = self.boxes[group, :2].min(axis=0), self.boxes[group, 2:].max(axis=0)
            if self.keypoints is not None and keypoints is not None:
                surest = self.keypoints[group, :, 2].argmax(axis=0)
                keypoints[place] = self.keypoints[np.array(group)[surest], np.arange(len(surest))]
            if masks is not None:
                chosen[place] = len(rows) + len(unions)
                unions.append(RLE.union([masks[row] for row in range(starts[place], starts[place + 1])]))
        if masks is not None:
            masks = RLEMasks.concatenate([masks, RLEMasks.from_rles(unions)]).select(chosen)
        window = (0, 0, self.size[0], self.size[1])
        return TileObjects(window, boxes, self.scores[best], self.labels[best], masks, keypoints)


def _column(parts: list[TileObjects], name: str) -> list[Any] | None:
    """One column of all parts, None where none has it; a part without objects may lack it."""
    present = [value for part in parts if (value := getattr(part, name)) is not None]
    if not present:
        return None
    filled = [part for part in parts if len(part)]
    for part in filled:
        require(getattr(part, name) is not None, "parts", f"all have {name} or none", f"none at {part.window}")
    return [getattr(part, name) for part in filled] or present[:1]


def _neighbours(found: _Found) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows of one class in different tiles whose boxes overlap; whole ones stand behind pieces and slivers."""
    pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    starts = np.searchsorted(found.tiles, np.arange(len(found.windows) + 1))
    for tile, window in enumerate(found.windows):
        start, stop = int(starts[tile]), int(starts[tile + 1])
        behind = stop + np.flatnonzero(_meet(found.seen[stop:], window)) if stop > start else starts[:0]
        for rows in _blocks(start, stop, len(behind)):
            meets = _meet(found.seen[rows, None], found.seen[behind])
            meets &= found.labels[rows, None] == found.labels[behind]
            first, second = np.nonzero(meets)
            pairs.append((rows[first], behind[second]))
    first, second = (np.concatenate(column) for column in zip(*pairs, strict=True))
    first, second = np.where(found.kinds[first] < found.kinds[second], (second, first), (first, second))
    return first, second


def _blocks(start: int, stop: int, others: int) -> Iterator[np.ndarray]:
    """The rows in stretches that make tables with ``others`` columns of bounded size."""
    step = max(1, _CELLS // max(others, 1))
    return (np.arange(row, min(row + step, stop)) for row in (range(start, stop, step) if others else ()))


def _meet(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Whether boxes share more than a border."""
    both = (boxes1[..., :2] < boxes2[..., 2:]) & (boxes2[..., :2] < boxes1[..., 2:])
    return np.all(both, axis=-1)


def _cut_to(boxes: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """x, y, width and height of what lies in each box's clip; nothing where that is empty."""
    low, high = np.maximum(boxes[:, :2], clips[:, :2]), np.minimum(boxes[:, 2:], clips[:, 2:])
    return np.concatenate([low, np.maximum(high - low, 0)], axis=1)


def _groups(found: _Found, first: np.ndarray, second: np.ndarray, agreement: np.ndarray) -> list[list[int]]:
    """The rows of each object that is left, the best one first in each and before all others.

    Args:
        found: the objects.
        first: of the pairs that agree.
        second: of the pairs that agree.
        agreement: of these pairs.
    """
    order = np.argsort(-found.scores, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    dropped = np.zeros(len(order), bool)
    kind, other = found.kinds[first], found.kinds[second]
    dropped[first[(kind > other) & (other == _WHOLE)]] = True
    whole = kind == _WHOLE  # and so is the other
    better, worse = np.where(rank[first] < rank[second], (first, second), (second, first))
    for row, after in sorted(zip(rank[better[whole]].tolist(), worse[whole].tolist(), strict=True)):
        dropped[after] |= not dropped[order[row]]
    free = ~dropped[first] & ~dropped[second] & (other != _WHOLE)
    owners = _owners(first[free], second[free], agreement[free], found)
    groups: dict[int, list[int]] = {}
    for row in order[~dropped[order]].tolist():
        groups.setdefault(owners[row], []).append(row)
    return list(groups.values())


def _owners(first: np.ndarray, second: np.ndarray, agreement: np.ndarray, found: _Found) -> list[int]:
    """For each row one row of its object: those that a chain of best continuations connects have the same."""
    owners = list(range(len(found.tiles)))

    def owner(row: int) -> int:
        while owners[row] != row:
            owners[row] = owners[owners[row]]
            row = owners[row]
        return row

    continued: set[tuple[int, int]] = set()
    best_first = np.argsort(-agreement, kind="stable")
    for a, b in zip(first[best_first].tolist(), second[best_first].tolist(), strict=True):
        ends = {(a, int(found.tiles[b])), (b, int(found.tiles[a]))} if found.kinds[a] == found.kinds[b] else set()
        if not ends & continued:
            continued |= ends
            owners[owner(b)] = owner(a)
    return [owner(row) for row in owners]
