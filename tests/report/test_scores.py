from __future__ import annotations

import html
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delineate.engine.explanation import explained_scores
from delineate.engine.object_scoring import Evidence
from delineate.engine.scoring import TASKS, Score
from delineate.metrics.detection import average_precision, summarise
from delineate.metrics.localisation import topk_localisation_error
from delineate.metrics.panoptic import PanopticCounts, panoptic_scores
from delineate.metrics.saliency import image_saliency, saliency_scores
from delineate.metrics.semantic import semantic_scores
from delineate.metrics.voc import voc_scores
from delineate.ops.matching import box_overlaps, mask_overlaps, match_objects
from delineate.report.scores import RunPart, render_score, write_score_report
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle_masks import RLEMasks

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = '<script>alert("x")</script> it\'s & {{ 7 * 7 }}'
CLASSES = ("cat", "dog", HOSTILE, "猫 🐈 " + "x" * 3000)


def scored(truth: Annotations, found: Objects, task: str = "boxes", *, errors: bool = True, **options: Any) -> Score:
    """What measuring a pair of files gives, of objects in memory."""
    matches = match_objects(truth, found, **options)
    result = average_precision(matches)
    scores = summarise(result, truth.classes, truth.num_images)
    if errors:
        told = explained_scores(truth, found, box_overlaps, max_detections=100)
        for name, best in told.pop("best_f1").items():
            scores["per_class"][name]["best_f1"] = best
        scores |= told
    return Score(task, scores, "truth.json", "found.json", options, Evidence(truth, found, result, box_overlaps))


def scene(classes: tuple[str, ...] = CLASSES, images: int = 12, seed: int = 0) -> tuple[Annotations, Objects]:
    """Random boxes, most of them found, some badly, some as another class, and some made up."""
    rng = np.random.default_rng(seed)
    count = 4 * images
    boxes = np.concatenate([rng.uniform(0, 60, (count, 2)), rng.uniform(5, 40, (count, 2))], axis=1).round(1)
    place, labels = rng.integers(0, images, count), rng.integers(0, len(classes), count)
    names = [f"{k}.png" for k in range(images)]
    names[0] = f"{HOSTILE.replace('/', ' ')}.png"
    truth = Annotations.of(
        range(images), classes, Objects.of(place, labels, boxes), image_files=names, image_sizes=[(100, 100)] * images
    )
    kept = rng.random(count) < 0.8
    moved = boxes + rng.normal(0, 2, boxes.shape) * (rng.random((count, 1)) < 0.5)
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    guessed = np.where(rng.random(count) < 0.2, rng.integers(0, len(classes), count), labels)
    fancy = np.concatenate([rng.uniform(0, 80, (9, 2)), rng.uniform(5, 20, (9, 2))], axis=1)
    found = Objects.of(
        np.concatenate([place[kept], place[kept][:5], rng.integers(0, images, 9)]),
        np.concatenate([guessed[kept], guessed[kept][:5], rng.integers(0, len(classes), 9)]),
        np.concatenate([moved[kept], moved[kept][:5], fancy]),
        scores=rng.random(kept.sum() + 14),
    )
    return truth, found


def scores_of_every_task() -> dict[str, Score]:
    truth, found = scene(("cat", "dog"))
    target = np.zeros((8, 8), bool)
    target[2:6, 3:7] = True
    confusion = np.array([[5, 1], [2, 4]])
    counts = PanopticCounts(np.array([1.5, 0.5]), np.array([2, 1]), np.array([1, 0]), np.array([1, 0]))
    boxes = np.array([[[0.0, 0.0, 4.0, 4.0]]])
    one = Annotations.of((1,), ("cat",), Objects.of([0], [0], [[0, 0, 4, 4]]))
    scores: dict[str, dict[str, Any]] = {
        "voc": voc_scores(truth, found),
        "panoptic": panoptic_scores(counts, class_names=["cat", "sky"], things=[True, False], images=2),
        "semantic": {**semantic_scores(confusion, class_names=["cat", "sky"]), "images": 2},
        "saliency": saliency_scores([image_saliency(np.roll(target, 1, axis=1) * 0.8, target)]),
        "localisation": topk_localisation_error(np.array([[0]]), boxes, one, ks=(1, 5)),
    }
    other = {task: Score(task, values, "truth", "found") for task, values in scores.items()}
    masks = RLEMasks.from_counts(
        np.array([0, 10_000] * len(found)), np.arange(len(found) + 1) * 2, [(100, 100)] * len(found)
    )
    true_masks = masks.select(np.zeros(len(truth.objects), np.int64))
    covered = replace(truth, objects=replace(truth.objects, masks=true_masks)), replace(found, masks=masks)
    return {"boxes": scored(truth, found), "masks": scored(*covered, "masks"), **other}


def text_of(page: str) -> str:
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


SECTIONS = {
    "boxes": ["summary", "errors", "curves", "groups", "classes", "mistakes", "figures"],
    "masks": ["summary", "errors", "curves", "groups", "classes", "mistakes", "figures"],
    "voc": ["summary", "classes", "figures"],
    "panoptic": ["summary", "groups", "classes", "figures"],
    "semantic": ["summary", "classes", "confusion", "figures"],
    "saliency": ["summary", "curves", "figures"],
    "localisation": ["summary", "figures"],
}


@pytest.mark.parametrize("task", SECTIONS)
def test_every_task_has_its_sections_and_a_link_to_each(task: str):
    page = render_score(scores_of_every_task()[task])
    assert sections(page) == SECTIONS[task]
    assert re.findall(r'<a href="#(\w+)"', page) == SECTIONS[task]
    assert "nan" not in text_of(page).lower().replace("banana", "")


def test_masks_that_were_dropped_are_told_by_their_boxes():
    score = scores_of_every_task()["masks"]
    assert "by their boxes" not in render_score(score)
    evidence = replace(score.evidence, predictions=replace(score.evidence.predictions, masks=None))
    page = render_score(replace(score, evidence=replace(evidence, overlaps=mask_overlaps)))
    assert "Masks were dropped as they were measured, so mistakes are told and drawn by their boxes." in page
    assert "mistakes" in sections(page)


def test_no_task_is_forgotten():
    assert {*SECTIONS, "keypoints"} == set(TASKS)


def test_figures_stand_on_the_page_with_their_meaning():
    score = scored(*scene(("cat", "dog")))
    text = text_of(render_score(score))
    assert f"AP {score.scores['ap']:.3f} average precision at IoU 0.50:0.05:0.95" in text
    assert f"small {score.scores['ap_small']:.3f} {score.scores['ar_small']:.3f}" in text
    for name in ("cat", "dog"):
        values = score.scores["per_class"][name]
        assert f"{name} {values['ap']:.3f} {values['ap50']:.3f} {values['ap75']:.3f}" in text
    errors = score.scores["errors"]
    for kind in ("classification", "missed"):
        assert f"{kind} {errors['counts'][kind]} {errors['delta_ap'][kind]:.3f}" in text
    assert "Ground truth truth.json Predictions found.json" in text


def test_classes_are_sorted_with_undefined_ones_last():
    per_class = {"a": 0.25, "b": float("nan"), "c": 0.75}
    confusion = np.diag([1, 0, 3])
    scores = semantic_scores(confusion, class_names=list(per_class))
    for name, value in per_class.items():
        scores["per_class"][name]["iou"] = value
    page = render_score(Score("semantic", {**scores, "images": 1}, "t", "p"))
    table = page[page.index('id="classes"') : page.index('id="confusion"')]
    assert re.findall(r'<th scope="row">(\w)</th>', table) == ["c", "a", "b"]
    assert "Undefined figures are left out of every mean." in text_of(page)


def test_strings_stay_strings():
    page = render_score(replace(scored(*scene()), predictions=HOSTILE, options={"classes": HOSTILE}))
    assert page.count("<script") == 1
    assert page.count("</script>") == 1
    assert HOSTILE in text_of(page)
    assert page.count("x" * 3000) == 1  # the long name in full, where the mouse rests on it


def test_page_refers_to_nothing_outside():
    page = render_score(scored(*scene()))
    assert not re.search(r"https?:|\"//|@import|url\(", page)
    assert all(source.startswith(("data:", "#")) for source in re.findall(r'(?:src|href)="([^"]*)"', page))
    assert "default-src 'none'" in page


def test_a_runs_page_shows_mistakes_from_its_threshold_and_says_so():
    score = scored(*scene(("cat", "dog")))
    every, best = (render_score(score, run=RunPart(title="a run", facts=[], threshold=level)) for level in (0.0, 0.6))
    said = "Of the detections that score 0.60 and more, where F1 is best."
    assert said in text_of(best)
    assert "where F1 is best" not in text_of(every)
    listed = [page[page.index('id="mistakes"') : page.index('id="figures"')] for page in (every, best)]
    scores = [
        [float(value) for value in re.findall(r'class="text">\w+</th>\s*<td>([\d.]+)</td>', part)] for part in listed
    ]
    assert min(scores[1]) >= 0.6
    assert min(scores[0]) < 0.6
    assert every.replace(listed[0], "") == best.replace(
        listed[1], ""
    )  # figures, and what precision is lost to, are of all detections


def test_without_the_error_analysis_mistakes_are_still_listed():
    page = render_score(scored(*scene(), errors=False))
    assert sections(page) == ["summary", "curves", "groups", "classes", "mistakes", "figures"]
    assert "Precision over the score, in bins" not in page
    assert "To see them, name the folder of the pictures" in page


def test_no_detections_and_no_truth():
    truth, _ = scene()
    nothing = Objects.of([], [], [], scores=[])
    text = text_of(render_score(scored(truth, nothing)))
    assert "There are no detections: every figure is 0." in text
    empty = Annotations.of((1,), ("cat",), Objects.of([], [], []))
    for predictions in (nothing, Objects.of([0], [0], [[0, 0, 5, 5]], scores=[0.5])):
        page = render_score(scored(empty, predictions))
        assert "no figure is defined" in page
        assert ("curves" in sections(page)) == (len(predictions) > 0)  # the calibration alone


def test_pictures_of_a_task_without_objects_are_declined():
    score = scores_of_every_task()["semantic"]
    assert "not for semantic." in text_of(render_score(score, images=Path("anywhere")))
    assert "not for semantic." not in text_of(render_score(score))


@pytest.mark.parametrize("task", ["panoptic", "semantic", "saliency"])
def test_all_undefined(task: str):
    scores = {
        "panoptic": panoptic_scores(
            PanopticCounts(np.zeros(2), *np.zeros((3, 2), np.int64)),
            class_names=["a", "b"],
            things=[True, False],
            images=0,
        ),
        "semantic": {**semantic_scores(np.zeros((3, 3), int)), "images": 0},
        "saliency": saliency_scores([]),
    }[task]
    text = text_of(render_score(Score(task, scores, "t", "p")))
    assert "n/a" in text
    assert "nan" not in text.lower()


def test_thresholds_other_than_those_of_coco():
    page = render_score(scored(*scene(), iou_thresholds=[0.3]))
    assert "IoU 0.30" in page
    assert "0.50:0.05:0.95" not in page
    page = render_score(scored(*scene(), iou_thresholds=[0.3], area_ranges={"all": (0, 1e10)}, errors=False))
    assert "groups" not in sections(page)


def test_twelve_hundred_classes_stay_quick_and_small():
    truth, found = scene(tuple(f"class {k}" for k in range(1200)), images=2000)
    score = scored(truth, found)
    start = time.perf_counter()
    page = render_score(score)
    assert time.perf_counter() - start < 8
    assert len(page) < 4_000_000
    assert page.count("<option") == len(np.unique(truth.objects.labels))
    assert 'class="scroll tall"' in page


def test_pictures_make_a_bounded_page(tmp_path: Path):
    rng = np.random.default_rng(0)
    truth, found = scene(images=40)
    for image in range(1, 40):
        Image.fromarray(rng.integers(0, 256, (100, 100, 3), np.uint8)).save(tmp_path / f"{image}.png")
    write_score_report(tmp_path / "new" / "report.html", scored(truth, found), images=tmp_path)
    path = tmp_path / "new" / "report.html"
    page = path.read_text(encoding="utf-8")
    assert 5 < page.count("<img src=") - 1 <= 30
    assert path.stat().st_size < 8_000_000
    assert "1 of 40 images were not found" in page
    assert sections(page)[0] == "warnings"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def opened(path: Path) -> subprocess.CompletedProcess[str]:
    """What a browser makes of a page, without a network."""
    return subprocess.run(
        [
            str(CHROMIUM),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=10000"),
            *(f"--user-data-dir={path.parent / 'profile'}", "--dump-dom", path.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_opens_in_a_browser_without_network(tmp_path: Path):
    truth, found = scene(images=20)
    for image in range(1, 20):
        Image.fromarray(np.full((100, 100, 3), 9 * image, np.uint8)).save(tmp_path / f"{image}.png")
    path = tmp_path / "report.html"
    write_score_report(path, scored(truth, found), images=tmp_path)
    done = opened(path)
    page = done.stdout
    pictures = page.count("<img src=")
    assert pictures > 5
    assert f'data-pictures="{pictures}/{pictures}"' in page
    assert 'data-errors="0"' in page
    assert "CONSOLE" not in done.stderr
    block = page[page.index('class="by-class"') : page.index('<section id="groups"')]
    assert 'hidden=""' not in block[:40]
    drawn = re.findall(r'<path d="(M[^"]+)"', block)
    assert len(drawn) == 6  # three lines in each of two drawings, of the class that is chosen first
    assert all(re.fullmatch(r"([ML][\d.]+ [\d.]+)+", path) for path in drawn)
    assert re.search(r'class="soft">AP 0\.\d+ · \d+ true objects', block)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_classes_can_be_searched_sorted_and_chosen(tmp_path: Path):
    page = render_score(scored(*scene(tuple(f"class {k}" for k in range(60)), images=100)))
    hand = """
      const field = document.querySelector(".search input");
      field.value = "CLASS 4"; field.dispatchEvent(new Event("input"));
      document.querySelector("#classes thead button").click();
      const choice = document.querySelector(".by-class select");
      choice.selectedIndex = 3; choice.dispatchEvent(new Event("change"));
    """
    # a stranger's hand: the policy of the page would not let it in
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    path = tmp_path / "report.html"
    path.write_text(page.replace("</body>", f"<script>{hand}</script></body>"), encoding="utf-8")
    done = opened(path).stdout
    table = done[done.index('id="classes"') : done.index('class="panels below"')]
    rows = re.findall(r'<tr( hidden="")?>\s*<th scope="row">(class \d+)</th>', table)
    assert len(rows) == 60
    assert [name for hidden, name in rows if not hidden] == ["class 4", *(f"class {k}" for k in range(40, 50))]
    assert "11 of 60" in table
    option = re.findall(r'<option data-facts="([^"]+)"', page)[3]
    assert f'<span class="soft">{option}</span>' in done
