"""What a data set of objects consists of: objects of each class, their sizes and shapes, and what images hold."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from delineate.files import replaced_file
from delineate.structures.annotations import Annotations
from delineate.structures.taxonomy import voc_colours

SMALL, MEDIUM = 32**2, 96**2  # pixels; COCO's small, medium and large begin here
SIZES = ("small", "medium", "large")
_MOST_BARS = 40


@dataclass(frozen=True, eq=False)
class ObjectStatistics:
    """Counts over a data set of objects. Crowds and ignored (difficult) objects count nowhere but in ``uncounted``.

    Args:
        name: the data set's name.
        split: the part that was counted.
        classes: their names.
        objects: of each class.
        images_with_class: images that show each class.
        by_size: (K, 3) of each class below 32 x 32, below 96 x 96 and from 96 x 96 pixels of area, as COCO parts them.
        median_sizes: (K, 2) the medians of width and of height in each class, NaN without objects.
        median_ratios: (K,) the median of width over height in each class, NaN without objects.
        image_sizes: ((height, width), number of images) pairs, the most frequent first.
        per_image: how many objects each image has.
        sides: of each object, the square root of its box's area in pixels.
        ratios: of each object, width over height.
        relative: of each object, its box's share of the image's area.
        uncounted: crowds and ignored objects.
        masks: objects with a mask.
        keypoints: (name, how many objects have it labelled) pairs.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    objects: tuple[int, ...]
    images_with_class: tuple[int, ...]
    by_size: Int64[np.ndarray, "K 3"]
    median_sizes: Float64[np.ndarray, "K 2"]
    median_ratios: Float64[np.ndarray, " K"]
    image_sizes: tuple[tuple[tuple[int, int], int], ...]
    per_image: Int64[np.ndarray, " I"]
    sides: Float64[np.ndarray, " N"]
    ratios: Float64[np.ndarray, " N"]
    relative: Float64[np.ndarray, " N"]
    uncounted: int
    masks: int
    keypoints: tuple[tuple[str, int], ...]

    columns = ("class", "objects", "images", "share %", *SIZES, "width", "height", "width / height")

    @property
    def images(self) -> int:
        """How many images there are, those without objects included."""
        return len(self.per_image)

    @property
    def empty_images(self) -> int:
        """How many images have no object that counts."""
        return int((self.per_image == 0).sum())

    def rows(self) -> list[list[Any]]:
        """A table of the classes, under :attr:`columns`; width, height and their ratio are medians."""
        total = sum(self.objects)
        return [
            [
                name,
                self.objects[k],
                self.images_with_class[k],
                100 * self.objects[k] / total if total else math.nan,
                *self.by_size[k].tolist(),
                *self.median_sizes[k].tolist(),
                float(self.median_ratios[k]),
            ]
            for k, name in enumerate(self.classes)
        ]

    def summary(self) -> str:
        """A few lines on what is not about single classes."""
        total = sum(self.objects)
        (height, width), times = self.image_sizes[0] if self.image_sizes else ((0, 0), 0)
        more = len(self.image_sizes) - 1
        others = f", and {more} other size{'s' if more > 1 else ''}" if more > 0 else ""
        lines = [f"{self.images:,} images; {times:,} of {height} x {width} (height x width){others}"]
        mean = self.per_image.mean() if self.images else math.nan
        median, most = (np.median(self.per_image), self.per_image.max()) if self.images else (math.nan, 0)
        lines.append(
            f"{total:,} objects, {mean:.1f} an image (median {median:g}, most {most:,}); "
            f"images without any: {self.empty_images:,}"
        )
        if total:
            sizes = self.by_size.sum(axis=0)
            shares = ", ".join(f"{100 * n / total:.0f} % {name}" for n, name in zip(sizes, SIZES, strict=True))
            low, middle, high = np.percentile(self.ratios, (5, 50, 95))
            lines.append(f"{shares}; width / height {low:.2f} to {high:.2f} for 9 in 10, median {middle:.2f}")
        if self.uncounted:
            lines.append(f"crowds and difficult objects, not counted here: {self.uncounted:,}")
        if self.masks:
            lines.append(f"objects with masks: {self.masks:,}")
        if self.keypoints:
            named = ", ".join(f"{name} {count:,}" for name, count in self.keypoints)
            lines.append(f"keypoints labelled: {named}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an undefined number is None."""

        def defined(value: float) -> float | None:
            return None if math.isnan(value) else value

        return {
            "name": self.name,
            "split": self.split,
            "images": self.images,
            "empty_images": self.empty_images,
            "objects": sum(self.objects),
            "uncounted_objects": self.uncounted,
            "objects_with_masks": self.masks,
            "objects_per_image": {
                str(number): times for number, times in sorted(Counter(self.per_image.tolist()).items())
            },
            "sizes": [{"height": h, "width": w, "images": times} for (h, w), times in self.image_sizes],
            "relative_area_percentiles": {
                str(p): defined(float(np.percentile(self.relative, p)) if len(self.relative) else math.nan)
                for p in (5, 25, 50, 75, 95)
            },
            "keypoints": dict(self.keypoints),
            "classes": [
                {
                    "name": name,
                    "objects": objects,
                    "images": images,
                    "share": defined(share / 100),
                    "small": small,
                    "medium": medium,
                    "large": large,
                    "median_width": defined(width),
                    "median_height": defined(height),
                    "median_ratio": defined(ratio),
                }
                for name, objects, images, share, small, medium, large, width, height, ratio in self.rows()
            ],
        }

    def plot(self, path: str | Path) -> None:
        """Draw objects a class, their sizes, shapes, and objects an image, to a PNG, SVG or PDF file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        order = sorted(range(len(self.classes)), key=lambda k: -self.objects[k])[:_MOST_BARS]
        figure = Figure(figsize=(11, max(5.0, 0.24 * len(order) + 1.5)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplot_mosaic("abc;ade", width_ratios=(5, 4, 4))
        bars = panels["a"]
        colours = [tuple(value / 255 for value in colour) for colour in voc_colours(len(self.classes) + 1)[1:]]
        counts = [self.objects[k] for k in order]
        bars.barh(range(len(order)), counts, color=[colours[k] for k in order], edgecolor="0.6", linewidth=0.5)
        bars.set_yticks(range(len(order)), [self.classes[k][:28] for k in order])
        bars.set_ylim(len(order) - 0.4, -0.6)
        for place, count in enumerate(counts):
            bars.text(count, place, f" {count:,}", va="center", fontsize=8)
        bars.set_xlim(0, max([*counts, 1]) * 1.18)
        hidden = len(self.classes) - len(order)
        bars.set_xlabel("objects" + (f" (and {hidden} rarer classes)" if hidden else ""))
        bars.set_title(f"{self.name} / {self.split}: {self.images:,} images", fontsize=10)
        _histogram(panels["b"], self.sides, "square root of the box's area, pixels", marks=(32, 96))
        _histogram(panels["c"], self.ratios, "width / height", marks=(1,))
        _histogram(panels["d"], 100 * self.relative, "share of the image's area, %")
        most = int(self.per_image.max(initial=0))
        bins = np.arange(-0.5, most + 1.5, max(1, most // 40)).tolist()
        panels["e"].hist(self.per_image, bins=bins, color="0.55")
        panels["e"].set_xlabel("objects an image")
        for axes in panels.values():
            axes.spines[["top", "right"]].set_visible(False)
        with replaced_file(path) as temporary:
            figure.savefig(temporary)


def object_statistics(annotations: Annotations, *, name: str = "", split: str = "") -> ObjectStatistics:
    """Counts over the objects of a data set; no image is read.

    Args:
        annotations: with the sizes of the images.
        name: what to call the data set.
        split: what to call this part of it.

    Example:
        >>> from delineate.structures.objects import Objects
        >>> objects = Objects.of(images=[0, 0], labels=[0, 0], boxes=[[5, 5, 50, 20], [0, 0, 10, 10]])
        >>> counted = object_statistics(Annotations.of(("a", "b"), ("cell",), objects, image_sizes=[(50, 60)] * 2))
        >>> counted.objects, counted.by_size.tolist(), counted.empty_images
        ((2,), [[2, 0, 0]], 1)
    """
    whole = annotations.objects
    counted = whole.select(~(whole.crowd | whole.ignored))
    count = annotations.num_classes
    width, height = counted.boxes[:, 2:].T
    sized = np.searchsorted([SMALL, MEDIUM], counted.areas, side="right")
    by_size = np.bincount(3 * counted.labels + sized, minlength=3 * count).reshape(count, 3)
    of_image = annotations.image_sizes[counted.images].prod(axis=1)
    seen = np.unique(np.stack([counted.images, counted.labels], axis=1), axis=0)[:, 1]
    ratios = width / np.maximum(height, 1e-9)
    medians = np.full((count, 3), math.nan)
    for label in np.unique(counted.labels).tolist():
        rows = counted.labels == label
        medians[label] = np.median(np.stack([width[rows], height[rows], ratios[rows]]), axis=1)
    points: tuple[tuple[str, int], ...] = ()
    if counted.keypoints is not None:
        labelled = (counted.keypoints[:, :, 2] > 0).sum(axis=0).tolist()
        names = annotations.keypoint_names or tuple(str(number) for number in range(len(labelled)))
        points = tuple(zip(names, labelled, strict=False))
    sizes = Counter((int(h), int(w)) for h, w in annotations.image_sizes.tolist())
    return ObjectStatistics(
        name=name,
        split=split,
        classes=annotations.classes,
        objects=tuple(by_size.sum(axis=1).tolist()),
        images_with_class=tuple(np.bincount(seen, minlength=count).tolist()),
        by_size=by_size.astype(np.int64),
        median_sizes=medians[:, :2],
        median_ratios=medians[:, 2],
        image_sizes=tuple(sizes.most_common()),
        per_image=np.bincount(counted.images, minlength=annotations.num_images).astype(np.int64),
        sides=np.sqrt(width * height),
        ratios=ratios,
        relative=width * height / np.maximum(of_image, 1),
        uncounted=len(whole) - len(counted),
        masks=len(counted) if counted.masks is not None else 0,
        keypoints=points,
    )


def _histogram(axes: Any, values: np.ndarray, what: str, marks: tuple[int, ...] = ()) -> None:
    """A histogram on a logarithmic scale, with lines where something begins."""
    axes.set_xlabel(what)
    values = values[values > 0]
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    axes.hist(values, bins=np.geomspace(low / 1.02, high * 1.02, 36), color="0.55")
    axes.set_xscale("log")
    digits = (1, 2, 5) if high < 500 * low else (1,)
    ticks = [digit * 10.0**power for power in range(-4, 8) for digit in digits]
    ticks = [tick for tick in ticks if low / 1.02 <= tick <= high * 1.02]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    for mark in marks:
        axes.axvline(mark, color="tab:red", linewidth=0.8, linestyle="--")
