"""One mistake as a picture: its surroundings, the truth in dashed green, the detection in red."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image, ImageDraw

from delineate.engine.object_scoring import Evidence
from delineate.report.pictures import Picture
from delineate.structures.objects import Objects

SIDE = 480
"""Pixels of the longer side of a picture."""

TRUTH, FOUND, FINDER, NEIGHBOUR = (46, 204, 113), (255, 82, 54), (74, 144, 255), (165, 235, 195)
"""Colours of the true object, the detection, the one that found the object before, and other true objects."""

_LEAST_CROP = 64  # pixels of the image; fewer show nothing to a person
_LARGEST_ZOOM = 6.0
_CONTEXT = 0.45  # of the longer side of the objects, on each side
_ASPECT = 4 / 3  # width over height of a crop, where the image allows
_BEYOND = 20  # pixels outside a picture where lines end that lead away from it
_LINE, _THIN, _DASH, _GAP = 4, 2, 11, 7
_TINT = 0.28
_MOST_NEIGHBOURS = 8
_HALO = (16, 16, 16)
_COCO_LIMBS = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
    *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
)

Window = tuple[int, int, int, int]


def mistake_picture(
    task: str, evidence: Evidence, image: Picture, *, truth: int = -1, detection: int = -1, finder: int = -1
) -> Picture:
    """The part of an image around a mistake, with what is true and what was found drawn upon it.

    Args:
        task: "boxes", "masks" or "keypoints", what is drawn.
        evidence: of the score.
        image: RGB, the whole of it.
        truth: row of the true object, -1 for none.
        detection: row of the predictions, -1 for none; one of the two is needed.
        finder: row of another detection that found the same object before.

    Returns:
        RGB, its longer side at most :data:`SIDE`.
    """
    objects, found = evidence.truth.objects, evidence.predictions
    layers = [(objects, truth, TRUTH, True), (found, finder, FINDER, False), (found, detection, FOUND, False)]
    layers = [layer for layer in layers if layer[1] >= 0]
    window = crop_window(np.stack([side.boxes[row] for side, row, _, _ in layers]), image.shape[:2])
    left, top, right, bottom = window
    scale = min(_LARGEST_ZOOM, SIDE / max(right - left, bottom - top))
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    canvas = Image.fromarray(image[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC)
    pen = _Pen(canvas, window, scale)
    place = int(layers[0][0].images[layers[0][1]])
    for row in _neighbours(objects, place, truth, window):
        pen.neighbour(objects.boxes[row])
    for side, row, colour, dashed in layers:
        if task == "masks" and side.masks is not None:
            pen.mask(side.masks[row].decode(), colour, dashed=dashed)
        elif task == "keypoints" and side.keypoints is not None:
            pen.box(side.boxes[row], colour, dashed=dashed, width=_THIN)
            pen.person(side.keypoints[row], colour)
        else:
            pen.box(side.boxes[row], colour, dashed=dashed, width=_LINE)
    return np.asarray(pen.canvas)


def crop_window(boxes: Float64[np.ndarray, "N 4"], size: tuple[int, ...]) -> Window:
    """Left, top, right and bottom of the part of an image that shows boxes and what is around them.

    Args:
        boxes: x, y, width and height; what lies outside the image is left out.
        size: (height, width) of the image.

    Example:
        >>> crop_window(np.array([[100.0, 100.0, 100.0, 50.0]]), (400, 600))
        (55, 54, 245, 197)
        >>> crop_window(np.array([[0.0, 0.0, 10.0, 10.0]]), (400, 600))
        (0, 0, 86, 64)
    """
    limits = (size[1], size[0])
    ends = []
    for axis in (0, 1):
        low = float(np.clip(boxes[:, axis].min(), 0, limits[axis]))
        high = float(np.clip((boxes[:, axis] + boxes[:, axis + 2]).max(), 0, limits[axis]))
        ends.append((low, max(high, low)))
    margin = _CONTEXT * max(high - low for low, high in ends)
    sides = [max(high - low + 2 * margin, float(_LEAST_CROP)) for low, high in ends]
    sides = [max(sides[0], _ASPECT * sides[1]), max(sides[1], sides[0] / _ASPECT)]
    window = []
    for (low, high), side, limit in zip(ends, sides, limits, strict=True):
        length = min(math.ceil(side), limit)
        start = round((low + high) / 2 - length / 2)
        window.append(min(max(start, 0), limit - length))
        window.append(window[-1] + length)
    return window[0], window[2], window[1], window[3]


def _neighbours(objects: Objects, image: int, truth: int, window: Window) -> list[int]:
    """Other true objects that reach into the window, the largest first; crowds and ignored ones left out."""
    left, top, right, bottom = window
    x, y, width, height = objects.boxes.T
    inside = (objects.images == image) & (x < right) & (x + width > left) & (y < bottom) & (y + height > top)
    rows = np.flatnonzero(inside & ~objects.crowd & ~objects.ignored)
    rows = rows[rows != truth]
    return rows[np.argsort(-objects.areas[rows], kind="stable")][:_MOST_NEIGHBOURS].tolist()


class _Pen:
    """Draws, in the pixels of the image, on a part of it that was enlarged."""

    def __init__(self, canvas: Image.Image, window: Window, scale: float) -> None:
        self.canvas, self.window, self.scale = canvas, window, scale

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.window[0]) * self.scale, (y - self.window[1]) * self.scale

    def box(self, box: Float64[np.ndarray, " 4"], colour: tuple[int, int, int], *, dashed: bool, width: int) -> None:
        x, y, across, down = map(float, box)
        corners = [(x, y), (x + across, y), (x + across, y + down), (x, y + down), (x, y)]
        places = [self._place(*corner) for corner in corners]
        edge = width / 2  # a box that fills the picture is drawn within it
        most = self.canvas.width - edge - 1, self.canvas.height - edge - 1
        places = [(min(max(a, edge), most[0]), min(max(b, edge), most[1])) for a, b in places]
        self._line(places, _HALO, width + 2, dashed)
        self._line(places, colour, width, dashed)

    def neighbour(self, box: Float64[np.ndarray, " 4"]) -> None:
        """A box, drawn faintly; what lies outside the picture is not drawn at its frame."""
        x, y, across, down = map(float, box)
        corners = [(x, y), (x + across, y), (x + across, y + down), (x, y + down), (x, y)]
        most = self.canvas.width + _BEYOND, self.canvas.height + _BEYOND
        near = [  # dashes along a line that leads far away would never end
            (min(max(a, -_BEYOND), most[0]), min(max(b, -_BEYOND), most[1]))
            for a, b in (self._place(*corner) for corner in corners)
        ]
        self._line(near, NEIGHBOUR, 1, dashed=True)

    def _line(
        self, places: Sequence[tuple[float, float]], colour: tuple[int, int, int], width: int, dashed: bool
    ) -> None:
        draw = ImageDraw.Draw(self.canvas)
        for start, end in pairwise(places):
            for first, last in _dashes(start, end) if dashed else [(start, end)]:
                draw.line([first, last], fill=colour, width=width)

    def mask(self, mask: Bool[np.ndarray, "H W"], colour: tuple[int, int, int], *, dashed: bool) -> None:
        left, top, right, bottom = self.window
        part = Image.fromarray(mask[top:bottom, left:right]).resize(self.canvas.size, Image.Resampling.NEAREST)
        inside = np.asarray(part)
        outline = _inner_edge(inside, _LINE)
        if dashed:
            rows, columns = np.indices(inside.shape, sparse=True)
            outline &= (rows + columns) % (_DASH + _GAP) < _DASH
        pixels = np.asarray(self.canvas).astype(np.float32)
        pixels[inside] += _TINT * (np.array(colour, np.float32) - pixels[inside])
        pixels[_inner_edge(~inside, 1)] *= 0.35
        pixels[outline] = colour
        self.canvas = Image.fromarray(pixels.round().astype(np.uint8))

    def person(self, points: Float64[np.ndarray, "P 3"], colour: tuple[int, int, int]) -> None:
        draw = ImageDraw.Draw(self.canvas)
        places = [self._place(float(x), float(y)) for x, y, _ in points]
        seen = points[:, 2] > 0
        for a, b in _COCO_LIMBS if len(points) == 17 else ():
            if seen[a] and seen[b]:
                draw.line([places[a], places[b]], fill=_HALO, width=_THIN + 2)
                draw.line([places[a], places[b]], fill=colour, width=_THIN)
        for (x, y), shown in zip(places, seen, strict=True):
            if shown:
                draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour, outline=_HALO)


def _dashes(
    start: tuple[float, float], end: tuple[float, float]
) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """A line as dashes: (first point, last point)."""
    length = math.dist(start, end)
    step = (_DASH + _GAP) / length if length else 1.0

    def at(part: float) -> tuple[float, float]:
        return start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1])

    for number in range(math.ceil(1 / step)):
        first = number * step
        yield at(first), at(min(1.0, first + _DASH / length if length else 1.0))


def _inner_edge(mask: Bool[np.ndarray, "H W"], width: int) -> Bool[np.ndarray, "H W"]:
    """Pixels of a mask within a distance of its outside; the frame is no outside."""
    eroded = mask
    for _ in range(width):
        wider = np.pad(eroded, 1, mode="edge")
        eroded = eroded & wider[:-2, 1:-1] & wider[2:, 1:-1] & wider[1:-1, :-2] & wider[1:-1, 2:]
    return mask & ~eroded
