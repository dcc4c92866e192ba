"""What a data set consists of: counts, sizes, pixel values, and the class weights that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from delineate.data.class_weights import enet_weights, median_frequency_weights
from delineate.errors import DataError
from delineate.files import replaced_file
from delineate.kernels.confusion import confusion_counts
from delineate.kernels.threads import available_processors
from delineate.registry import unknown_name
from delineate.structures.taxonomy import Taxonomy

WEIGHT_SCHEMES = ("none", "median_frequency", "enet")


class ReadableDataset(Protocol):
    """What a data set needs for its statistics: classes, and pictures with labels before any transform."""

    taxonomy: Taxonomy

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The image (H, W, C) uint8 and the labels (H, W)."""
        ...


@dataclass(frozen=True)
class DatasetStatistics:
    """Counts over a data set.

    Args:
        name: the data set's name.
        split: the part that was counted.
        taxonomy: its classes.
        images: how many there are.
        pixels: labelled pixels of each class.
        ignored: pixels without a label.
        images_with_class: images that show each class.
        pixels_where_present: all pixels, unlabelled ones too, of the images that show each class.
        sizes: ((height, width), number of images) pairs, the most frequent first.
        mean: of each image channel, in units of the full range 0..1.
        std: as ``mean``.
    """

    name: str
    split: str
    taxonomy: Taxonomy
    images: int
    pixels: tuple[int, ...]
    ignored: int
    images_with_class: tuple[int, ...]
    pixels_where_present: tuple[int, ...]
    sizes: tuple[tuple[tuple[int, int], int], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    columns = ("class", "images", "pixels", "share %", "median-frequency", "1/ln(1.02 + p)")

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share of the labelled pixels, 0 to 1; NaN when nothing is labelled."""
        total = sum(self.pixels)
        return tuple(count / total if total else math.nan for count in self.pixels)

    def weights(self, scheme: str) -> list[float]:
        """Class weights by name: "none", "median_frequency" or "enet".

        Raises:
            UnknownNameError: on another name.
            ArgumentError: when nothing is labelled.
        """
        if scheme == "median_frequency":
            return median_frequency_weights(self.pixels, self.pixels_where_present)
        if scheme == "enet":
            return enet_weights(self.pixels)
        if scheme == "none":
            return [1.0] * len(self.pixels)
        raise unknown_name("class_weights", scheme, WEIGHT_SCHEMES)

    def rows(self) -> list[list[Any]]:
        """A table of the classes, under :attr:`columns`."""
        undefined = [math.nan] * len(self.pixels)
        some = sum(self.pixels) > 0
        median = self.weights("median_frequency") if some else undefined
        enet = self.weights("enet") if some else undefined
        return [
            [name, self.images_with_class[k], self.pixels[k], 100 * self.shares[k], median[k], enet[k]]
            for k, name in enumerate(self.taxonomy.names)
        ]

    def summary(self) -> str:
        """A few lines on what is not about single classes."""
        total = sum(self.pixels) + self.ignored
        (height, width), times = self.sizes[0] if self.sizes else ((0, 0), 0)
        others = f", and {more} other size{'s' if more > 1 else ''}" if (more := len(self.sizes) - 1) > 0 else ""
        mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (self.mean, self.std))
        return (
            f"{self.images} images; {times} of {height} x {width} (height x width){others}\n"
            f"{total:,} pixels, {100 * self.ignored / max(total, 1):.2f} % of them without a label\n"
            f"pixel mean {mean}, standard deviation {std} (of 1)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an undefined number is None."""
        rows = self.rows()

        def defined(value: float) -> float | None:
            return None if math.isnan(value) else value

        return {
            "name": self.name,
            "split": self.split,
            "images": self.images,
            "ignored_pixels": self.ignored,
            "sizes": [{"height": h, "width": w, "images": times} for (h, w), times in self.sizes],
            "mean": [defined(value) for value in self.mean],
            "std": [defined(value) for value in self.std],
            "classes": [
                {
                    "name": name,
                    "images": images,
                    "pixels": pixels,
                    "share": defined(share),
                    "median_frequency_weight": defined(median),
                    "enet_weight": defined(enet),
                }
                for (name, images, pixels, _, median, enet), share in zip(rows, self.shares, strict=True)
            ],
        }

    def plot(self, path: str | Path) -> None:
        """Draw the share of each class (on a log scale) and the image sizes, to a PNG, SVG or PDF file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        classes = len(self.pixels)
        figure = Figure(figsize=(10, max(3.5, 0.28 * classes + 1.5)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        bars, sizes = figure.subplots(1, 2, width_ratios=(3, 2))
        shares = [100 * share if share == share else 0.0 for share in self.shares]
        least = min((share for share in shares if share), default=0.1)
        colours = [tuple(value / 255 for value in colour) for colour in self.taxonomy.colours]
        bars.barh(range(classes), shares, color=colours, edgecolor="0.6", linewidth=0.5)
        bars.set_xscale("log")
        bars.set_xlim(least / 3, 400)
        bars.set_yticks(range(classes), [_shortened(name) for name in self.taxonomy.names])
        bars.set_ylim(classes - 0.4, -0.6)
        bars.xaxis.set_major_formatter("{x:g}")
        for place, share in enumerate(shares):
            bars.text(
                max(share, least / 3) * 1.08, place, f"{share:.3g} %" if share else "none", va="center", fontsize=8
            )
        bars.set_xlabel("share of the labelled pixels, %")
        bars.set_title(f"{self.name} / {self.split}: {self.images} images", fontsize=10)
        if self.sizes:
            heights, widths = zip(*(size for size, _ in self.sizes), strict=True)
            times = np.array([count for _, count in self.sizes])
            sizes.scatter(widths, heights, s=20 + 180 * times / times.max(), alpha=0.6, edgecolor="0.3")
            sizes.set_xlim(0, max(widths) * 1.15)
            sizes.set_ylim(0, max(heights) * 1.15)
            sizes.set_aspect("equal", anchor="N")
            for (height, width), count in self.sizes[:3]:
                sizes.annotate(
                    f"{height} x {width}: {count}",
                    (width, height),
                    (0, -14),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8,
                )
        sizes.set_xlabel("width, pixels")
        sizes.set_ylabel("height, pixels")
        sizes.set_title("image sizes (height x width: images)", fontsize=10)
        for axes in (bars, sizes):
            axes.spines[["top", "right"]].set_visible(False)
        with replaced_file(path) as temporary:
            figure.savefig(temporary)


def dataset_statistics(
    dataset: ReadableDataset, *, progress: Callable[[int, int], None] | None = None
) -> DatasetStatistics:
    """Counts over a data set, each image read once, before any transform.

    Args:
        dataset: of images and labels.
        progress: called with (images done, images in all).

    Raises:
        DataError: when an image or a mask cannot be read, naming it.

    Example:
        >>> from delineate.data.digits import DigitScenes
        >>> dataset_statistics(DigitScenes("val", length=4, size=(64, 64))).images
        4
    """
    if hasattr(dataset, "columns"):
        raise DataError("dataset must have label maps; got one of objects. Pass it to object_statistics.")
    taxonomy, total = dataset.taxonomy, len(dataset)
    pixels = np.zeros(taxonomy.num_classes, np.int64)
    images, present = np.zeros_like(pixels), np.zeros_like(pixels)
    ignored = 0
    sizes: Counter[tuple[int, int]] = Counter()
    values = np.zeros((0, 256), np.int64)
    for done, (size, counts, histogram) in enumerate(_read_counts(dataset), start=1):
        pixels += counts
        images += counts > 0
        present += (counts > 0) * size[0] * size[1]
        ignored += size[0] * size[1] - int(counts.sum())
        sizes[size] += 1
        values = histogram if not len(values) else values + histogram
        if progress is not None:
            progress(done, total)
    mean, std = _moments(values)
    return DatasetStatistics(
        name=str(getattr(dataset, "name", "")),
        split=str(getattr(dataset, "split", "")),
        taxonomy=taxonomy,
        images=total,
        pixels=tuple(pixels.tolist()),
        ignored=ignored,
        images_with_class=tuple(images.tolist()),
        pixels_where_present=tuple(present.tolist()),
        sizes=tuple(sizes.most_common()),
        mean=mean,
        std=std,
    )


def class_weights(dataset: ReadableDataset, *, scheme: str = "median_frequency") -> list[float]:
    """Class weights counted on a data set; see :meth:`DatasetStatistics.weights` for the schemes."""
    if scheme == "none":
        return [1.0] * dataset.taxonomy.num_classes
    if scheme not in WEIGHT_SCHEMES:  # before the images are read
        raise unknown_name("class_weights", scheme, WEIGHT_SCHEMES)
    return dataset_statistics(dataset).weights(scheme)


def labelled_pixels(labels: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
    """The (K,) int64 pixels of each class in one label map."""
    counts = confusion_counts(labels, labels, taxonomy.num_classes, taxonomy.ignore_index)[0]
    return counts.diagonal()


def _read_counts(dataset: ReadableDataset) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
    """Size, labelled pixels of each class and histogram of each channel, image by image; decoding runs in threads."""
    taxonomy = dataset.taxonomy

    def read(index: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
        image, labels = dataset.read(index)
        counts = labelled_pixels(labels, taxonomy)
        channels = image[..., None] if image.ndim == 2 else image
        histogram = [np.bincount(channels[..., c].ravel(), minlength=256) for c in range(channels.shape[2])]
        return (labels.shape[0], labels.shape[1]), counts, np.stack(histogram)

    pool = ThreadPoolExecutor(min(8, available_processors()), thread_name_prefix="delineate-reading")
    try:
        yield from pool.map(read, range(len(dataset)))
    finally:
        pool.shutdown(cancel_futures=True)


def _moments(histograms: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each row of a histogram of bytes, of 1; exact up to the last division."""
    levels = np.arange(256)
    total = histograms.sum(axis=1)
    if not total.all():
        return (math.nan,) * len(total), (math.nan,) * len(total)
    mean = (histograms @ levels) / total
    variance = (histograms * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    return tuple((mean / 255).tolist()), tuple((np.sqrt(variance) / 255).tolist())


def _shortened(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}\N{HORIZONTAL ELLIPSIS}"
