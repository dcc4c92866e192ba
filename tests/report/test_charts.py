from __future__ import annotations

import base64
import math

import numpy as np

from delineate.metrics.calibration import calibration_scores
from delineate.ops.matching import Matches, match_objects
from delineate.report.charts import LEVELS, class_points, packed, reliability_bars, threshold_curves, unit_panel
from delineate.report.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def matches(scores: list[float], right: list[bool], labels: list[int], positives: list[int]) -> Matches:
    """Detections one an image, right where they lie on a truth, in the words of the matching."""
    count = len(scores)
    order = np.lexsort((np.arange(count), labels))
    return Matches(
        detections=order,
        labels=np.array(labels, np.int64)[order],
        images=order,
        scores=np.array(scores, np.float64)[order],
        ranks=np.zeros(count, np.int64),
        states=np.array(right, np.uint8)[order].reshape(1, 1, count),
        matched=np.full((1, count), -1),
        positives=np.array(positives, np.int64)[:, None],
        thresholds=(0.5,),
        areas=("all",),
    )


def test_a_panel_draws_from_corner_to_corner_and_breaks_at_what_is_undefined():
    panel = unit_panel("p", {"a": ([2, 3, 4], [0, math.nan, 1]), "b": ([], [])}, x_range=(2, 4), values={"a": "7"})
    left, right, low, high = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    assert panel.lines[0].path == f"M{left:g} {low:g}M{right:g} {high:g}"
    assert (panel.lines[0].last, panel.lines[1].path) == ("7", "")
    assert [text for _, text in panel.x_ticks] == ["2", "2.4", "2.8", "3.2", "3.6", "4"]
    assert [text for _, text in panel.y_ticks] == ["0", "0.25", "0.5", "0.75", "1"]


def test_a_mark_stands_on_its_curve():
    panel = unit_panel("p", {"a": ([0, 1], [0, 1])}, marks={"a": (1.0, 1.0, "top")})
    assert panel.lines[0].dots == ((WIDTH - RIGHT, TOP, "top"),)


def test_values_beyond_the_frame_end_at_it():
    panel = unit_panel("p", {"a": ([0, 1], [-1, 7])})
    assert panel.lines[0].path == f"M{LEFT:g} {HEIGHT - BOTTOM:g}L{WIDTH - RIGHT:g} {TOP:g}"


def test_threshold_curves_of_a_case_by_hand():
    kept = threshold_curves(matches([0.9, 0.5, 0.25], [True, False, True], [0, 0, 0], [4]))
    precision, recall, f1 = kept.pooled
    at = {level: round(100 * level) for level in (0.0, 0.25, 0.26, 0.5, 0.9, 0.91)}
    assert kept.levels[25] == 0.25
    assert precision[at[0.25]] == 2 / 3
    assert recall[at[0.25]] == 0.5
    assert f1[at[0.25]] == 4 / 7
    assert precision[at[0.26]] == 0.5
    assert (precision[at[0.9]], recall[at[0.9]]) == (1.0, 0.25)
    assert math.isnan(precision[at[0.91]])
    assert recall[at[0.91]] == 0.0
    assert kept.best == (0.25, 4 / 7)


def test_threshold_curves_match_counting_one_by_one(seeded: None):
    rng = np.random.default_rng(4)
    scores, right = rng.random(300).round(2), rng.random(300) < 0.6
    labels = rng.integers(0, 4, 300)
    kept = threshold_curves(matches(scores.tolist(), right.tolist(), labels.tolist(), [90, 100, 0, 80]))
    for place in range(0, LEVELS, 7):
        level = kept.levels[place]
        for k, positives in enumerate([90, 100, 0, 80]):
            chosen = (scores >= level) & (labels == k)
            hits = int((chosen & right).sum())
            precision = hits / chosen.sum() if chosen.any() else math.nan
            recall = hits / positives if positives else math.nan
            f1 = 2 * hits / (chosen.sum() + positives) if positives else math.nan
            np.testing.assert_allclose(kept.per_class[k, :, place], [precision, recall, f1])


def test_threshold_curves_leave_out_ignored_detections_and_bear_none():
    truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [[0, 0, 10, 10]], crowd=[True]))
    on_crowd = match_objects(truth, Objects.of([0], [0], [[0, 0, 10, 10]], scores=[0.5]))
    assert np.isnan(threshold_curves(on_crowd).pooled).all()
    none = match_objects(truth, Objects.of([], [], [], scores=[]))
    assert np.isnan(threshold_curves(none).pooled).all()
    assert all(map(math.isnan, threshold_curves(none).best))


def test_scores_outside_0_to_1_widen_the_axis():
    kept = threshold_curves(matches([-3.0, 5.0], [True, True], [0, 0], [2]))
    assert (kept.levels[0], kept.levels[-1]) == (-3.0, 5.0)
    assert (kept.pooled[1, 0], kept.pooled[1, -1]) == (1.0, 0.5)


def test_packed_curves_come_back_within_half_a_step():
    curves = np.random.default_rng(0).random((3, 101))
    curves[1, 5] = np.nan
    values = np.frombuffer(base64.b64decode(packed(curves)), np.uint8).reshape(3, 101)
    assert values[1, 5] == 255
    known = np.isfinite(curves)
    assert np.abs(values[known] / 250 - curves[known]).max() <= 0.002 + 1e-12


def test_reliability_bars_skip_empty_bins_and_share_out_the_detections():
    bins = calibration_scores(np.array([0.1, 0.9, 0.8]), np.array([0, 1, 1]), num_bins=4)["bins"]
    bars = reliability_bars(bins)
    assert [bar.share for bar in bars] == [1 / 3, 2 / 3]
    assert [bar.height for bar in bars] == [0.0, HEIGHT - TOP - BOTTOM]
    assert bars[1].text == "scores 0.75 to 1.00: 2 detections, mean score 0.850, precision 1.000"
    assert reliability_bars([]) == []


def test_points_lie_within_the_frame_and_undefined_classes_nowhere():
    drawn = class_points([(f"c{k}", 3**k, k / 9) for k in range(10)] + [("none", 0, 0.5), ("nan", 5, math.nan)])
    assert len(drawn.points) == 10
    assert all(LEFT < x < WIDTH - RIGHT and TOP <= y <= HEIGHT - BOTTOM for x, y, _ in drawn.points)
    assert [x for x, _, _ in drawn.points] == sorted(x for x, _, _ in drawn.points)
    assert drawn.points[0][2] == "c0: 0.000, 1 true"
    assert class_points([]).points == ()
