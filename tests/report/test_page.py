from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import ArgumentError
from delineate.report.page import Example, ReportContent, render_report, write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = '<script>alert("x")</script> it\'s & co.png'


def two_classes(**changes: object) -> ReportContent:
    undefined = float("nan")
    values = {"dice": 0.5, "precision": 0.5, "recall": 0.5, "predicted": 3}
    scores = {
        "miou": 0.75,
        "pixel_accuracy": 0.8,
        "per_class": {
            "sky": {**values, "iou": 0.75, "pixels": 1_234_567},
            "bird": {**values, "iou": undefined, "dice": None, "pixels": 0},
        },
        "confusion": [[3, 1], [0, 0]],
    }
    content = ReportContent("t", [("Model", "m")], scores, ["sky", "bird"], [(1, 2, 3), (4, 5, 6)])
    return replace(content, **changes)


def example(group: str = "best", **changes: object) -> Example:
    labels = np.zeros((4, 6), np.uint8)
    values = {"image": np.zeros((4, 6, 3), np.uint8), "target": labels, "prediction": labels, **changes}
    return Example(group, "a", miou=float("nan"), pixel_accuracy=1.0, **values)


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_undefined_scores_are_named_and_explained():
    text = text_of(render_report(two_classes()))
    assert "sky 0.750 0.500 0.500 0.500 1 234 567 100.0 %" in text
    assert "bird n/a n/a 0.500 0.500 0 0.0 %" in text
    assert "Undefined scores are left out of every mean." in text
    assert "nan" not in text.lower()


def test_boundary_scores_show_only_where_they_were_measured():
    content = two_classes()
    assert "Boundary F1" not in text_of(render_report(content))
    content.scores["per_class"]["sky"]["boundary_f1"] = 0.6125
    assert "Boundary F1" in text_of(render_report(content))
    assert "0.613" in text_of(render_report(content)) or "0.612" in text_of(render_report(content))


def test_empty_parts_leave_no_empty_sections():
    page = render_report(two_classes())
    assert re.findall(r'<section id="(\w+)"', page) == ["summary", "classes", "confusion"]
    full = render_report(two_classes(examples=[example()], curves={"loss": [(0, 1.0)]}, environment=[("torch", "2")]))
    assert re.findall(r'<section id="(\w+)"', full) == ["summary", "classes", "confusion", "curves", "best", "data"]
    assert "mean IoU n/a" in text_of(full)


def test_strings_stay_strings(demo_page: str):
    assert "<b>seen</b>" not in demo_page
    assert demo_page.count("<script") == 1
    assert HOSTILE in text_of(demo_page)
    hostile_title = render_report(two_classes(title=HOSTILE, facts=[(HOSTILE, HOSTILE)], warnings=[HOSTILE]))
    assert hostile_title.count("<script") == 1


def test_page_refers_to_nothing_outside(demo_page: str):
    sources = re.findall(r'(?:src|href)="([^"]*)"', demo_page)
    without_pictures = re.sub(r"data:image/webp;base64,[\w+/=]*", "", demo_page)
    assert not re.search(r"https?:|\"//|@import|url\(", without_pictures)
    assert len(sources) > 40
    assert all(source.startswith(("data:image/webp;base64,", "#")) for source in sources)


def test_many_skipped_files_are_counted_and_cut():
    text = text_of(render_report(two_classes(skipped=[f"{number}.png" for number in range(60)])))
    assert "60 files skipped" in text
    assert "49.png and 10 more" in text


def test_above_twenty_classes_the_matrix_is_a_picture():
    names = [f"c{number}" for number in range(21)]
    values = {"iou": 1.0, "dice": 1.0, "precision": 1.0, "recall": 1.0, "pixels": 1, "predicted": 1}
    scores = {"miou": 1.0, "per_class": dict.fromkeys(names, values), "confusion": np.eye(21, dtype=int).tolist()}
    page = render_report(ReportContent("t", [], scores, names, [(0, 0, 0)] * 21))
    assert '<img class="matrix"' in page
    assert '<table class="matrix"' not in page


def test_large_pictures_are_shrunk():
    labels = np.zeros((1500, 2000), np.uint8)
    image = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    page = render_report(two_classes(examples=[example(image=image, target=labels, prediction=labels)]))
    assert 'width="640" height="480"' in page
    assert len(page) < 2_000_000  # four pictures of pure noise, the worst there is


def test_file_is_written_whole(tmp_path: Path):
    content = two_classes()
    path = write_report(tmp_path / "new" / "report.html", content)
    assert path.read_text(encoding="utf-8") == render_report(content)
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": []}, "class_names must name at least one class; got none."),
        ({"colours": [(0, 0, 0)]}, "colours must be 2 RGB triples, one a class; got 1."),
        ({"scores": {"miou": 1.0}}, "scores must have the key 'per_class'; got miou."),
        ({"class_names": ["sky", "cat"]}, "scores must have every class in 'per_class'; got none for cat."),
    ],
)
def test_content_that_does_not_fit_is_refused(changes: dict, message: str):
    with pytest.raises(ArgumentError) as error:
        two_classes(**changes)
    assert str(error.value) == message


def test_example_that_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match="group must be 'best', 'worst' or 'random'; got 'good'"):
        example("good")
    with pytest.raises(
        ArgumentError, match=r"target must have the size of the image \(4, 6\); got \(6, 4\)\. See 'a'\."
    ):
        example(target=np.zeros((6, 4), np.uint8))


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_opens_in_a_browser_without_network(demo_content: ReportContent, demo_page: str, tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text(demo_page, encoding="utf-8")
    done = subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=10000"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    page = done.stdout
    pictures = 4 * len(demo_content.examples)
    assert f'data-pictures="{pictures}/{pictures}"' in page
    assert 'data-errors="0"' in page
    assert "CONSOLE" not in done.stderr
    assert re.findall(r'<section id="(\w+)"', page) == [
        *("warnings", "summary", "classes", "confusion", "curves", "best", "worst", "random", "data"),
    ]
    assert page.count("<script") == 1
    assert "http:" not in page
    assert "https:" not in page
