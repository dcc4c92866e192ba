"""How one digit scene is composed: real handwritten digits, bent to size, painted over a crop of a real photo.

The sources ship with scikit-learn: 1797 digits of 8x8 pixels (``load_digits``) and two photos (``load_sample_images``).
They are read once a process. Each split has its own digits and its own part of each photo.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image

SPLITS = ("train", "val", "test")
EXTREMES = ("top", "right", "bottom", "left")
DIGIT_SHARES = (0.7, 0.15, 0.15)
PHOTO_SHARES = (0.6, 0.2, 0.2)  # of the photo's width, from the left
PHOTO_REACH = 128  # pixels of a photo that a scene spans at most: the narrowest part's width, so that splits look alike
PARTITION_SEED = 0  # which digit belongs to which split never depends on the user's seed

EMPTY_SHARE = 0.02
FEWEST, MOST = 3, 5
SMALLEST, TALLEST = 34 / 96, 50 / 96  # of the scene's shorter side
STEEPEST = 10.0  # degrees; a 6 stays a 6
VISIBLE_SHARE = 0.85  # every digit keeps at least this much of itself in sight
PLACEMENTS = 40
GLYPH_MARGIN = 3  # empty source pixels around a glyph, so that cubic interpolation ends in paper
INK = 0.39  # the grey value, of 0..1, where the stroke ends
DARKEST, BRIGHTEST = 40, 220  # mean luminance of a background
STEP_PHOTO, STEP_DIGIT = 75.0, 60.0  # grey levels between a digit and the photo, or a digit, that it covers
LEVELS = np.arange(20.0, 241.0, 10.0, dtype=np.float32)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True)
class Scene:
    """A composed scene with its exact annotation.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: (H, W) uint8; 0 where there is none, else 1 + the digit's place in ``classes``.
        classes: the digit 0..9 of each instance, the rearmost first.
        extremes: (N, 4, 2) int64, column and row of the outermost pixels of each whole digit, covered or not, in the
            order of :data:`EXTREMES`.
    """

    image: np.ndarray
    instances: np.ndarray
    classes: np.ndarray
    extremes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4, 2), np.int64))

    @property
    def labels(self) -> np.ndarray:
        """(H, W) uint8: 0 for background, 1 + digit elsewhere."""
        return np.concatenate([[0], self.classes + 1]).astype(np.uint8)[self.instances]

    @property
    def keypoints(self) -> np.ndarray:
        """(N, 4, 3) float64: x, y and visibility of the extremes, 2 where the digit itself is seen, 1 where covered."""
        columns, rows = self.extremes[:, :, 0], self.extremes[:, :, 1]
        seen = self.instances[rows, columns] == np.arange(1, len(self.extremes) + 1)[:, None]
        return np.stack([columns, rows, np.where(seen, 2, 1)], axis=2).astype(np.float64)

    @property
    def masks(self) -> np.ndarray:
        """(N, H, W) bool: the visible part of each instance."""
        return self.instances[None] == np.arange(1, len(self.classes) + 1, dtype=np.uint8)[:, None, None]


@dataclass(frozen=True)
class Sources:
    """What scenes of one split are made of.

    Args:
        glyphs: for each digit 0..9 its handwritten samples, each a grey "F" picture, 0 paper to 1 ink, with a margin.
        photos: the split's part of each photo.
    """

    glyphs: tuple[tuple[Image.Image, ...], ...]
    photos: tuple[Image.Image, ...]


@cache
def sources(split: str) -> Sources:
    """The digits and photo parts of one split; read from scikit-learn's files at the first call."""
    from sklearn.datasets import load_digits, load_sample_images  # costs a second, so only where scenes are made

    which = SPLITS.index(split)
    digits = load_digits()
    glyphs = []
    for digit in range(10):
        samples = np.flatnonzero(digits.target == digit)
        samples = samples[np.random.default_rng([PARTITION_SEED, digit]).permutation(len(samples))]
        begin, end = (round(len(samples) * share) for share in _range(DIGIT_SHARES, which))
        glyphs.append(tuple(_glyph(digits.images[sample]) for sample in samples[begin:end]))
    photos = []
    for photo in load_sample_images().images:
        begin, end = (round(photo.shape[1] * share) for share in _range(PHOTO_SHARES, which))
        photos.append(Image.fromarray(np.ascontiguousarray(photo[:, begin:end])))
    return Sources(tuple(glyphs), tuple(photos))


def composed_scene(split: str, size: tuple[int, int], rng: np.random.Generator, *, digits: int | None = None) -> Scene:
    """One scene of ``size`` (height, width) with so many digits at most, or a random number when None.

    Everything random comes from ``rng``. One digit always finds its place.
    """
    material = sources(split)
    canvas = _background(material.photos, size, rng)
    instances = np.zeros(size, dtype=np.uint8)
    classes: list[int] = []
    extremes: list[np.ndarray] = []
    full: list[int] = []  # pixels of each digit before anything covers it
    drawn = 0 if rng.random() < EMPTY_SHARE else int(rng.integers(FEWEST, MOST + 1))
    wanted = drawn if digits is None else digits
    hue = rng.random()
    for _ in range(wanted):
        digit = int(rng.integers(10))
        ink = _drawn(material.glyphs[digit][int(rng.integers(len(material.glyphs[digit])))], size, rng)
        stroke = ink >= 0.5
        place = _free_place(stroke, instances, full, rng)
        if place is None:
            continue
        rows, columns = (slice(at, at + length) for at, length in zip(place, ink.shape, strict=True))
        hue += 0.618034  # the golden ratio keeps the hues of one scene apart
        level = _level(canvas[rows, columns][stroke], instances[rows, columns][stroke], rng)
        tint = _tint(hue % 1.0, rng.uniform(0.4, 1.0), level)
        cover = ink[..., None]
        canvas[rows, columns] += (tint - canvas[rows, columns]) * cover
        classes.append(digit)
        full.append(int(stroke.sum()))
        extremes.append(extreme_pixels(stroke) + np.array([place[1], place[0]]))
        instances[rows, columns][stroke] = len(classes)
    canvas += rng.standard_normal(canvas.shape, dtype=np.float32) * np.float32(rng.uniform(0, 5))
    image = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    outermost = np.array(extremes, dtype=np.int64).reshape(-1, len(EXTREMES), 2)
    return Scene(image, instances, np.array(classes, dtype=np.int64), outermost)


def extreme_pixels(mask: np.ndarray) -> np.ndarray:
    """Column and row of the topmost, rightmost, bottommost and leftmost pixel of a mask (H, W) that is not empty.

    Of several in one row or column the middle one counts, so that a mirrored mask has mirrored pixels, but for one
    where their number is even.

    Example:
        >>> extreme_pixels(np.array([[0, 1, 0], [1, 1, 1]], bool)).tolist()
        [[1, 0], [2, 1], [1, 1], [0, 1]]
    """
    rows, columns = np.nonzero(mask)
    found = []
    for values, end in ((rows, rows.min()), (columns, columns.max()), (rows, rows.max()), (columns, columns.min())):
        there = np.flatnonzero(values == end)
        middle = there[len(there) // 2]
        found.append((columns[middle], rows[middle]))
    return np.array(found, dtype=np.int64)


def _range(shares: tuple[float, ...], which: int) -> tuple[float, float]:
    return sum(shares[:which]), min(1.0, sum(shares[: which + 1]))


def _glyph(sample: np.ndarray) -> Image.Image:
    """The 8x8 sample cut to its strokes, 0..1, with a margin of paper."""
    grey = sample.astype(np.float32) / 16
    inked = grey > 0.25
    rows, columns = np.flatnonzero(inked.any(1)), np.flatnonzero(inked.any(0))
    tight = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Image.fromarray(np.pad(tight, GLYPH_MARGIN))


def _background(photos: tuple[Image.Image, ...], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random crop of a random photo at ``size``, mirrored or not, of any brightness, its contrast lowered."""
    photo = photos[int(rng.integers(len(photos)))]
    height, width = size
    largest = min(photo.height / height, PHOTO_REACH / width)
    zoom = largest * rng.uniform(0.6, 1.0)
    left, top = rng.random() * (photo.width - width * zoom), rng.random() * (photo.height - height * zoom)
    box = (left, top, left + width * zoom, top + height * zoom)
    pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR, box=box, reducing_gap=1.5))
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    canvas = pixels.astype(np.float32)
    mean = canvas.mean(axis=(0, 1))
    target = mean + np.float32(rng.uniform(DARKEST, BRIGHTEST)) - mean @ LUMA
    return (canvas - mean) * np.float32(rng.uniform(0.45, 0.8)) + target


def _drawn(glyph: Image.Image, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The glyph at its size in the scene, turned: (h, w) cover 0..1 with soft edges, cut to its strokes."""
    unit = min(size)
    tall = unit * rng.uniform(SMALLEST, TALLEST)
    angle = math.radians(rng.uniform(-STEEPEST, STEEPEST))
    stroke_height, stroke_width = glyph.height - 2 * GLYPH_MARGIN, glyph.width - 2 * GLYPH_MARGIN
    step_y = stroke_height / tall  # source pixels a scene pixel
    step_x = step_y * rng.uniform(0.85, 1.15)
    # a canvas that holds the turned glyph and the width that interpolation adds to its strokes
    extent_y, extent_x = (stroke_height + 2) / step_y, (stroke_width + 2) / step_x
    sine, cosine = math.sin(angle), math.cos(angle)
    height = math.ceil(extent_y * abs(cosine) + extent_x * abs(sine))
    width = math.ceil(extent_x * abs(cosine) + extent_y * abs(sine))
    xx, xy, yx, yy = cosine * step_x, -sine * step_x, sine * step_y, cosine * step_y
    x0 = glyph.width / 2 - xx * width / 2 - xy * height / 2
    y0 = glyph.height / 2 - yx * width / 2 - yy * height / 2
    turned = glyph.transform(
        (width, height), Image.Transform.AFFINE, (xx, xy, x0, yx, yy, y0), Image.Resampling.BICUBIC
    )
    # the grey ramp at a stroke's edge is about one source pixel wide; this makes it about one scene pixel
    ink = np.clip((np.asarray(turned) - INK) * np.float32(0.9 / step_y) + 0.5, 0, 1)
    stroke = ink >= 0.5
    rows, columns = np.flatnonzero(stroke.any(1)), np.flatnonzero(stroke.any(0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][: size[0], : size[1]]


def _free_place(
    stroke: np.ndarray, instances: np.ndarray, full: list[int], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Where the digit leaves enough of the earlier ones in sight; None when that was not found."""
    height, width = stroke.shape
    spare = instances.shape[0] - height, instances.shape[1] - width
    visible = np.bincount(instances.ravel(), minlength=len(full) + 1)
    least = np.array([0, *full]) * VISIBLE_SHARE
    for _ in range(PLACEMENTS):
        top, left = (int(rng.integers(room + 1)) for room in spare)
        under = instances[top : top + height, left : left + width][stroke]
        covered = np.bincount(under, minlength=len(full) + 1)
        covered[0] = 0
        if ((visible - covered >= least) | (covered == 0)).all():
            return top, left
    return None


def _level(covered: np.ndarray, owners: np.ndarray, rng: np.random.Generator) -> float:
    """A luminance that stands out from the covered pixels (N, 3): the photo's darker and lighter half, each digit."""
    luminance = covered @ LUMA
    photo = np.sort(luminance[owners == 0])
    counts, sums = np.bincount(owners), np.bincount(owners, weights=luminance)
    means = [sums[owner] / counts[owner] for owner in np.flatnonzero(counts) if owner > 0]
    steps = [STEP_DIGIT] * len(means)
    for half in (photo[: len(photo) // 2], photo[len(photo) // 2 :]):
        if len(half):
            means.append(half.mean())
            steps.append(STEP_PHOTO)
    clear = (np.abs(LEVELS - np.array(means)[:, None]) - np.array(steps)[:, None]).min(axis=0)
    good = LEVELS[clear >= 0]
    return float(good[int(rng.integers(len(good)))] if len(good) else LEVELS[clear.argmax()])


def _tint(hue: float, saturation: float, level: float) -> np.ndarray:
    """The RGB colour of that hue with the given luminance: a full colour darkened, or mixed with white."""
    tint = np.array(colorsys.hsv_to_rgb(hue, saturation, 1.0), dtype=np.float32) * 255
    own = float(tint @ LUMA)
    if level <= own:
        return tint * np.float32(level / own)
    return tint + (255 - tint) * np.float32((level - own) / (255 - own))
