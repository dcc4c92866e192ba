"""Drawings of the report as plain numbers for the page: learning curves, the confusion matrix, most confused pairs.

The page draws them itself (SVG and table cells), so that they follow the reader's light or dark scheme.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from delineate.report.pictures import data_uri

WIDTH, HEIGHT = 460.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 14.0, 30.0

_SPLIT = re.compile(r"^(train|training|val|valid|validation|test)[/_. -](.+)$", re.IGNORECASE)

_TONES = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Line:
    """One curve of a panel: its name, the number of its colour, the SVG path, the points that answer to the mouse."""

    name: str
    tone: int
    path: str
    dots: tuple[tuple[float, float, str], ...]
    last: str


@dataclass(frozen=True)
class Panel:
    """One drawing of curves that share an axis; ``ticks`` are (position in pixels, text)."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def curve_panels(curves: Mapping[str, Sequence[tuple[float, float]]]) -> list[Panel]:
    """One panel a quantity: "train/loss" and "val/loss" share the panel "loss".

    Args:
        curves: name to (epoch or step, value) pairs; a value that is not finite breaks the line.

    Returns:
        Panels in the order in which their quantities first occur; a curve without a finite value is left out.

    Example:
        >>> panels = curve_panels({"train/loss": [(0, 2.0), (1, 1.0)], "val/loss": [(1, 1.5)]})
        >>> [(panel.title, [line.name for line in panel.lines]) for panel in panels]
        [('loss', ['train', 'val'])]
    """
    groups: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in curves.items():
        match = _SPLIT.match(name)
        split, quantity = match.groups() if match else (name, name)
        values = [(float(x), float(y)) for x, y in points]
        if any(math.isfinite(y) for _, y in values):
            groups.setdefault(quantity, {})[split] = sorted(values, key=lambda point: point[0])
    return [_panel(title, lines) for title, lines in groups.items()]


def _panel(title: str, curves: Mapping[str, list[tuple[float, float]]]) -> Panel:
    finite = [point for points in curves.values() for point in points if math.isfinite(point[1])]
    x_values, x_range = _axis([x for x, _ in finite], whole=all(x == int(x) for x, _ in finite))
    y_values, y_range = _axis([y for _, y in finite])
    first, last = min(x for x, _ in finite), max(x for x, _ in finite)
    x_range = (first, last) if last > first else x_range

    def across(x: float) -> float:
        return round(LEFT + (x - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT), 1)

    def down(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for number, (name, points) in enumerate(curves.items()):
        pieces, pen_down = [], False
        for x, y in points:
            if math.isfinite(y):
                pieces.append(f"{'L' if pen_down else 'M'}{across(x)} {down(y)}")
            pen_down = math.isfinite(y)
        known = [(x, y) for x, y in points if math.isfinite(y)]
        marked = known if len(known) <= 30 else known[-1:]
        dots = tuple((across(x), down(y), f"{name}: {y:.4g} at {x:g}") for x, y in marked)
        lines.append(Line(name, _TONES.get(name.lower(), number % 6), " ".join(pieces), dots, f"{known[-1][1]:.3g}"))
    return Panel(
        title=title,
        lines=tuple(lines),
        x_ticks=tuple((across(x), f"{x:g}") for x in x_values if x_range[0] <= x <= x_range[1]),
        y_ticks=tuple((down(y), f"{y:.10g}") for y in y_values if y_range[0] <= y <= y_range[1]),
    )


def _axis(values: Sequence[float], *, whole: bool = False) -> tuple[list[float], tuple[float, float]]:
    """Round tick values, and the range from the first to the last of them, which holds all values."""
    from matplotlib.ticker import MaxNLocator  # here, since reports are written without it when there is no curve

    low, high = min(values), max(values)
    if low == high:
        margin = 1.0 if whole or low == 0 else abs(low) * 0.1
        low, high = low - margin, high + margin
    ticks = [float(tick) for tick in MaxNLocator(5, integer=whole).tick_values(low, high)]
    return ticks, (ticks[0], ticks[-1])


@dataclass(frozen=True)
class ConfusionCell:
    """One cell of the matrix: the share of its row, and the pixels behind it."""

    share: float
    count: int

    @property
    def opacity(self) -> float:
        """Of the cell's colour: the square root of the share, so that rare mistakes stay visible."""
        return math.sqrt(self.share)

    @property
    def text(self) -> str:
        """Whole per cent; empty for none, "<1" for what would round to nothing."""
        if self.count == 0:
            return ""
        return "<1" if self.share < 0.005 else f"{self.share * 100:.0f}"


def row_shares(confusion: ArrayLike) -> NDArray[np.float64]:
    """Each row of the matrix over its sum: where the pixels of a true class went; NaN for a class without pixels."""
    counts = np.asarray(confusion, np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)


def confusion_rows(confusion: ArrayLike) -> list[list[ConfusionCell] | None]:
    """The cells of the matrix row by row; None for a class without pixels.

    Example:
        >>> [[cell.text for cell in row] for row in confusion_rows([[997, 3], [0, 5]])]
        [['100', '<1'], ['', '100']]
    """
    counts, shares = np.asarray(confusion), row_shares(confusion)
    return [
        None
        if np.isnan(row).any()
        else [ConfusionCell(float(share), int(count)) for share, count in zip(row, line, strict=True)]
        for row, line in zip(shares, counts, strict=True)
    ]


def confusion_picture(confusion: ArrayLike) -> str:
    """The matrix as a ``data:`` picture of one pixel a cell, for class counts whose numbers nobody could read.

    Hits are blue, mistakes orange; opacity is the square root of the share, so that rare mistakes stay visible.
    """
    shares = np.nan_to_num(row_shares(confusion))
    hit = np.eye(len(shares), dtype=bool)[:, :, None]
    colours = np.where(hit, np.array([47, 111, 235]), np.array([232, 121, 24]))
    opacity = (np.sqrt(shares) * 255)[:, :, None]
    return data_uri(np.concatenate([colours, opacity], axis=2).round().astype(np.uint8))


def confused_pairs(confusion: ArrayLike, most: int = 8) -> list[tuple[int, int, float, int]]:
    """The largest mistakes: (true class, predicted class, share of the true class's pixels, pixels), by share.

    Example:
        >>> confused_pairs([[8, 2], [1, 9]])
        [(0, 1, 0.2, 2), (1, 0, 0.1, 1)]
    """
    counts = np.asarray(confusion).astype(np.int64)
    shares = np.nan_to_num(row_shares(confusion))
    np.fill_diagonal(shares, 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:most]
    pairs = [divmod(int(flat), shares.shape[1]) for flat in order]
    return [(i, j, float(shares[i, j]), int(counts[i, j])) for i, j in pairs if shares[i, j] > 0]
