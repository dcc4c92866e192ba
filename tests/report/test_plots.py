from __future__ import annotations

import math

import numpy as np
import pytest

from delineate.report.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    confused_pairs,
    confusion_picture,
    confusion_rows,
    curve_panels,
    row_shares,
)


def test_one_straight_line_by_hand():
    (panel,) = curve_panels({"val/miou": [(0, 0.0), (10, 1.0)]})
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    (line,) = panel.lines
    assert panel.title == "miou"
    assert (line.name, line.last) == ("val", "1")
    assert line.path == f"M{left} {bottom} L{right} {top}"
    assert panel.y_ticks[0] == (bottom, "0")
    assert panel.y_ticks[-1] == (top, "1")
    assert [text for _, text in panel.x_ticks] == ["0", "2", "4", "6", "8", "10"]


@pytest.mark.parametrize(
    "names", [("train/loss", "val/loss"), ("train_loss", "val_loss"), ("train.loss", "valid loss")]
)
def test_splits_of_one_quantity_share_a_panel(names: tuple[str, str]):
    panels = curve_panels({names[0]: [(1, 1.0)], names[1]: [(1, 2.0)], "lr": [(1, 0.1)]})
    assert [(panel.title, len(panel.lines)) for panel in panels] == [("loss", 2), ("lr", 1)]
    assert [line.tone for line in panels[0].lines] == [0, 1]


def test_gaps_break_the_line_and_hopeless_curves_are_left_out():
    (panel,) = curve_panels(
        {"loss": [(3, 1.0), (2, math.nan), (0, 2.0), (1, 3.0)], "gone": [(0, math.inf)], "none": []}
    )
    assert panel.lines[0].path.count("M") == 2
    assert panel.lines[0].path.count("L") == 1
    assert len(panel.lines[0].dots) == 3


def test_one_point_and_a_constant_stay_inside_the_frame():
    for points in ([(7, 0.25)], [(0, 0.0), (5, 0.0)], [(0, -3.0), (1, 1e-9)]):
        (panel,) = curve_panels({"x": points})
        for x, y, _ in panel.lines[0].dots:
            assert LEFT <= x <= WIDTH - RIGHT
            assert TOP <= y <= HEIGHT - BOTTOM
        assert len(panel.y_ticks) >= 2


def test_confusion_rows_are_shares_of_the_true_class():
    shares = row_shares([[3, 1], [0, 0]])
    assert shares[0].tolist() == [0.75, 0.25]
    assert np.isnan(shares[1]).all()
    rows = confusion_rows([[997, 3], [0, 0]])
    assert [(cell.text, cell.count) for cell in rows[0]] == [("100", 997), ("<1", 3)]
    assert rows[0][1].opacity == pytest.approx(0.003**0.5)
    assert rows[1] is None


def test_most_confused_pairs_come_by_share_not_by_pixels():
    confusion = [[900, 100, 0], [4, 5, 1], [0, 0, 0]]
    assert confused_pairs(confusion) == [(1, 0, 0.4, 4), (0, 1, 0.1, 100), (1, 2, 0.1, 1)]
    assert confused_pairs(confusion, most=1) == [(1, 0, 0.4, 4)]
    assert confused_pairs(np.diag([3, 4])) == []


def test_many_classes_become_a_picture():
    assert confusion_picture(np.eye(150, dtype=np.int64)).startswith("data:image/webp;base64,")
