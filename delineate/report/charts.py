"""Drawings of a score as plain numbers for the page: curves between 0 and 1, reliability bars, points of classes.

The page draws them itself (SVG), so that they follow the reader's light or dark scheme.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from delineate.ops.matching import Matches
from delineate.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Panel

LEVELS = 101
"""Points of a curve over score thresholds."""

UNDEFINED = 255
"""The byte of a packed curve that is no value; 0 to 250 are the values from 0 to 1."""

_PARTS = 250
_MARGIN = 22  # pixels of the frame that points of classes keep clear on both sides

Curve = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]


def unit_panel(
    title: str,
    curves: Mapping[str, Curve],
    *,
    values: Mapping[str, str] | None = None,
    marks: Mapping[str, tuple[float, float, str]] | None = None,
    x_range: tuple[float, float] = (0.0, 1.0),
) -> Panel:
    """Curves whose height lies between 0 and 1, in one frame.

    Args:
        title: of the drawing.
        curves: name to (x, y); a y that is not finite breaks the line.
        values: what stands beside the name of a curve.
        marks: for some curves one point (x, y) and what it says to the mouse.
        x_range: the ends of the frame.

    Example:
        >>> panel = unit_panel("p", {"a": ([0, 0.5, 1], [1, float("nan"), 0])})
        >>> panel.lines[0].path
        'M52 14M446 200'
    """
    lines = []
    for number, (name, (xs, ys)) in enumerate(curves.items()):
        pieces, pen_down = [], False
        for x, y in zip(xs, ys, strict=True):
            known = math.isfinite(y)
            if known:
                pieces.append(f"{'L' if pen_down else 'M'}{_across(x, x_range):g} {_down(y):g}")
            pen_down = known
        mark = (marks or {}).get(name)
        dots = () if mark is None else ((_across(mark[0], x_range), _down(mark[1]), mark[2]),)
        lines.append(Line(name, number % 6, "".join(pieces), dots, (values or {}).get(name, "")))
    return Panel(title, tuple(lines), _x_ticks(x_range), UNIT_TICKS)


def _across(x: float, x_range: tuple[float, float] = (0.0, 1.0)) -> float:
    low, high = x_range
    return round(LEFT + (float(x) - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT), 1)


def _down(y: float) -> float:
    return round(HEIGHT - BOTTOM - min(max(float(y), 0.0), 1.0) * (HEIGHT - TOP - BOTTOM), 1)


def _x_ticks(x_range: tuple[float, float]) -> tuple[tuple[float, str], ...]:
    low, high = x_range
    places = [low + part * (high - low) / 5 for part in range(6)]
    return tuple((_across(place, x_range), f"{place:.3g}") for place in places)


UNIT_TICKS = tuple((_down(value), f"{value:g}") for value in (0.0, 0.25, 0.5, 0.75, 1.0))
"""The heights between 0 and 1 that a frame names: (position in pixels, text)."""


@dataclass(frozen=True)
class ReliabilityBar:
    """One bin of scores: its bar and its share of all detections in pixels, and what it says to the mouse."""

    x: float
    width: float
    top: float
    height: float
    promised: float
    share: float
    text: str


def reliability_bars(bins: Sequence[Mapping[str, Any]]) -> list[ReliabilityBar]:
    """The bars of a calibration diagram, those of bins without detections left out.

    Args:
        bins: of :func:`~delineate.metrics.calibration.calibration_scores`.

    Example:
        >>> bins = [{"lower": 0.0, "upper": 1.0, "count": 2, "mean_score": 0.75, "precision": 0.5}]
        >>> [(bar.top, bar.height, bar.promised, bar.share) for bar in reliability_bars(bins)]
        [(107.0, 93.0, 60.5, 1.0)]
    """
    total = sum(int(one["count"]) for one in bins) or 1
    bars = []
    for one in bins:
        if not one["count"]:
            continue
        left, right, top = _across(one["lower"]), _across(one["upper"]), _down(one["precision"])
        text = f"scores {one['lower']:.2f} to {one['upper']:.2f}: {one['count']:,} detections, "
        text += f"mean score {one['mean_score']:.3f}, precision {one['precision']:.3f}"
        height = round(HEIGHT - BOTTOM - top, 1)
        share = one["count"] / total
        bars.append(
            ReliabilityBar(left + 1, round(right - left - 2, 1), top, height, _down(one["mean_score"]), share, text)
        )
    return bars


@dataclass(frozen=True)
class ClassPoints:
    """Classes as points: (x, y, what it says to the mouse), and the ticks of the axis of counts."""

    points: tuple[tuple[float, float, str], ...]
    x_ticks: tuple[tuple[float, str], ...]


def class_points(classes: Sequence[tuple[str, int, float]]) -> ClassPoints:
    """Classes by their number of truths (across, logarithmic) and their figure (up); undefined ones are left out.

    Args:
        classes: name, number of truths, figure between 0 and 1.

    Example:
        >>> class_points([("cat", 10, 1.0), ("dog", 1000, 0.0), ("emu", 0, float("nan"))]).x_ticks
        ((74.0, '10'), (249.0, '100'), (424.0, '1,000'))
    """
    known = [(name, count, value) for name, count, value in classes if count > 0 and math.isfinite(value)]
    if not known:
        return ClassPoints((), ())
    powers = [math.log10(count) for _, count, _ in known]
    low, high = math.floor(min(powers)), math.ceil(max(powers))
    high = max(high, low + 1)

    def across(power: float) -> float:
        inner = WIDTH - LEFT - RIGHT - 2 * _MARGIN
        return round(LEFT + _MARGIN + (power - low) / (high - low) * inner, 1)

    points = tuple(
        (across(power), _down(value), f"{name}: {value:.3f}, {count:,} true")
        for (name, count, value), power in zip(known, powers, strict=True)
    )
    return ClassPoints(points, tuple((across(power), f"{10**power:,}") for power in range(low, high + 1)))


@dataclass(frozen=True, eq=False)
class ThresholdCurves:
    """What is kept when all detections below a score are dropped: precision, recall and F1 at each of the levels.

    Args:
        levels: scores, ascending.
        pooled: the three of all classes together.
        per_class: the same of each class.
    """

    levels: Float64[np.ndarray, " L"]
    pooled: Float64[np.ndarray, "3 L"]
    per_class: Float64[np.ndarray, "K 3 L"]

    @property
    def best(self) -> tuple[float, float]:
        """The level at which the F1 of all classes together is largest (of several the highest), and that F1; NaN."""
        f1 = self.pooled[2]
        if np.isnan(f1).all():
            return float("nan"), float("nan")
        place = len(f1) - 1 - int(np.nanargmax(f1[::-1]))
        return float(self.levels[place]), float(f1[place])


def threshold_curves(matches: Matches, threshold: int = 0) -> ThresholdCurves:
    """Precision, recall and F1 over the score from which detections are kept, in the first area range.

    Args:
        matches: of :func:`~delineate.ops.matching.match_objects`.
        threshold: which of its IoU thresholds.

    Returns:
        Levels from 0 to 1, or from the least to the largest score where scores leave that range. Precision is NaN where
        nothing is kept; recall and F1 are NaN for a class without truths.
    """
    scores, states = matches.scores, matches.states[0, threshold]
    low, high = (min(float(scores.min()), 0.0), max(float(scores.max()), 1.0)) if len(scores) else (0.0, 1.0)
    levels = np.linspace(low, high, LEVELS)
    classes, positives = len(matches.positives), matches.positives[:, 0]
    # the last level that each detection reaches; it is kept at all levels up to it
    reached = np.searchsorted(levels, scores, side="right") - 1
    kept = np.zeros((2, classes, LEVELS), np.int64)
    for state in (0, 1):
        rows = states == state
        flat = np.bincount(matches.labels[rows] * LEVELS + reached[rows], minlength=classes * LEVELS)
        kept[state] = flat.reshape(classes, LEVELS)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return ThresholdCurves(
        levels,
        _figures(kept[0].sum(axis=0), kept[1].sum(axis=0), positives.sum()),
        _figures(kept[0], kept[1], positives[:, None]),
    )


def _figures(wrong: np.ndarray, right: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Precision, recall and F1, on the axis before the last."""
    kept, truths = wrong + right, np.broadcast_to(positives, right.shape)
    figures = [
        np.divide(part, whole, out=np.full(right.shape, np.nan), where=where)
        for part, whole, where in (
            (right, kept, kept > 0),
            (right, truths, truths > 0),
            (2 * right, kept + truths, truths > 0),
        )
    ]
    return np.stack(figures, axis=-2)


def packed(curves: Float64[np.ndarray, "C P"]) -> str:
    """Curves between 0 and 1 as base64 text, a byte a point, so that those of a thousand classes fit into a page.

    Example:
        >>> packed(np.array([[0.0, 0.5, 1.0, np.nan]]))
        'AH36/w=='
    """
    known = np.isfinite(curves)
    values = np.where(known, np.clip(curves, 0, 1) * _PARTS, 0).round()
    return base64.b64encode(np.where(known, values, UNDEFINED).astype(np.uint8).tobytes()).decode("ascii")
