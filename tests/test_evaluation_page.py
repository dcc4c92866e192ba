"""The page of the evaluation holds what it says: its examples and its table of empty cases are run."""

import doctest
import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import delineate as dl
from delineate.errors import DataError
from delineate.metrics.saliency import saliency_scores

PAGE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
# a word that an example uses, and the peer it needs for it
PEERS = {
    "pycocotools(": "pycocotools",
    "py_sod_metrics": "py_sod_metrics",
    "torchmetrics": "torchmetrics",
    "sklearn": "sklearn",
}


def fenced(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


DISAGREEMENTS = PAGE.split("## Where tools disagree\n")[1]
(SETUP,) = fenced(DISAGREEMENTS, "python")
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", DISAGREEMENTS, flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("title", SECTIONS)
def test_an_example_gives_what_the_page_shows(title, capsys):
    text = "\n".join(fenced(SECTIONS[title], "pycon"))
    for word, peer in PEERS.items():
        if word in text:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the peer, while it is imported
                pytest.importorskip(peer)
    space: dict[str, object] = {}
    exec(SETUP, space)
    test = doctest.DocTestParser().get_doctest(text, space, title, "docs/evaluation.md", 0)
    assert test.examples
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This class will be removed", UserWarning)  # PySODMetrics' own
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0, capsys.readouterr().out


def test_every_example_of_the_page_is_run():
    assert PAGE.count(">>> ") == sum(section.count(">>> ") for section in SECTIONS.values())
    assert len(SECTIONS) > 15


def rows_of(heading):
    """The cells of the table under a line of text: a list for each case."""
    table = PAGE.split(heading)[1].split("\n\n")[1]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert set("".join(cells[1])) <= {"-"}
    return {case: values for case, *values in cells[2:]}


BOX, OTHER = [10.0, 10.0, 40.0, 40.0], [60.0, 60.0, 20.0, 20.0]
POINTS = [number for i in range(17) for number in (10.0 + 2 * i, 10.0 + i, 2)]
TASKS = ("boxes", "masks", "keypoints")


def truth(image, box=BOX, category=1, crowd=0):
    x, y, width, height = box
    outline = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    return {
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": width * height,
        "iscrowd": crowd,
        "segmentation": outline,
        "keypoints": POINTS,
    }


def result(image, score, box=BOX, category=1):
    return {**truth(image, box, category), "score": score}


def object_scores(folder, truths, results, *, images=2):
    """What every task of objects says, from the same two files."""
    listed = [{"id": i + 1, "height": 100, "width": 100} for i in range(images)]
    classes = [{"id": i, "name": name, "keypoints": ["point"] * 17} for i, name in ((1, "cat"), (2, "dog"))]
    numbered = [{"id": i + 1, **record} for i, record in enumerate(truths)]
    true, found = folder / "truth.json", folder / "results.json"
    true.write_text(json.dumps({"images": listed, "annotations": numbered, "categories": classes}))
    found.write_text(json.dumps(results))
    scores = {task: dl.score(task, true, found) for task in (*TASKS, "voc", "localisation")}
    return scores | {"boundary": dl.score("masks", true, found, boundary=True)["boundary"]}


def shown(value):
    return f"{value:.4g}"


def same(values):
    """The one cell that stands for several numbers."""
    cells = {shown(value) for value in values}
    assert len(cells) == 1
    return cells.pop()


def map_folder(folder, name, maps, classes=()):
    place = folder / name / "maps"
    place.mkdir(parents=True)
    for i, pixels in enumerate(maps):
        Image.fromarray(np.array(pixels, np.uint8)).save(place / f"{i}.png")
    if classes:
        (folder / name / "classes.txt").write_text("\n".join(classes) + "\n")
    return place


def semantic(folder, true, predicted):
    truths = map_folder(folder, "true", true, ("road", "tree", "car"))
    return dl.score("semantic", truths, map_folder(folder, "found", predicted))


def panoptic_file(folder, name, images):
    """Rows of ids, and (id, class, crowd) of each segment; classes 1 cat, 2 sky and 3 dog."""
    maps = folder / name
    maps.mkdir(parents=True)
    annotations = []
    for i, (row, segments) in enumerate(images):
        ids = np.array([row])
        Image.fromarray(np.stack([ids, ids * 0, ids * 0], axis=-1).astype(np.uint8)).save(maps / f"{i}.png")
        table = [{"id": k, "category_id": c, "iscrowd": crowd} for k, c, crowd in segments]
        annotations.append({"image_id": i, "file_name": f"{i}.png", "segments_info": table})
    classes = [{"id": i + 1, "name": name, "isthing": i != 1} for i, name in enumerate(("cat", "sky", "dog"))]
    listed = [{"id": i, "height": 1, "width": len(row)} for i, (row, _) in enumerate(images)]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": classes}))
    return path


def panoptic(folder, true, predicted):
    return dl.score("panoptic", panoptic_file(folder, "true", true), panoptic_file(folder, "found", predicted))


CAT = ([5, 5, 5], [(5, 1, 0)])
CROWD = ([5, 5, 5], [(5, 1, 1)])
DOG_TOO = ([5, 5, 7], [(5, 1, 0), (7, 3, 0)])
VOID = ([0, 0, 0], [])
OBJECT = np.zeros((8, 8))
OBJECT[2:6, 2:6] = 255
EMPTY = np.zeros((8, 8))


def saliency(folder, true, predicted):
    return dl.score("saliency", map_folder(folder, "true", true), map_folder(folder, "found", predicted))


def or_error(measure, *keys):
    """Cells of these figures, or "error" in each where files are refused."""
    try:
        scores = measure()
    except DataError:
        return ["error"] * len(keys)
    return [shown(scores[key]) for key in keys]


CLASS_CASES = {
    "neither in the truth nor predicted": (
        ([truth(1)], [result(1, 0.9)], "dog"),
        ([CAT], [CAT], "dog"),
        ([[[0, 1]]], [[[0, 1]]], "car"),
    ),
    "only predicted": (
        ([truth(1)], [result(1, 0.9), result(1, 0.8, OTHER, 2)], "dog"),
        ([CAT], [DOG_TOO], "dog"),
        ([[[0, 1]]], [[[0, 2]]], "car"),
    ),
    "only in the truth": (
        ([truth(1), truth(1, OTHER, 2)], [result(1, 0.9)], "dog"),
        ([DOG_TOO], [CAT], "dog"),
        ([[[0, 2]]], [[[0, 1]]], "car"),
    ),
}


def test_the_cases_of_a_class_are_those_of_the_page():
    assert list(rows_of("A class:")) == list(CLASS_CASES)


@pytest.mark.parametrize("case", CLASS_CASES)
def test_a_class_scores_what_the_page_says(case, tmp_path):
    (truths, results, name), panoptic_maps, label_maps = CLASS_CASES[case]
    objects = object_scores(tmp_path, truths, results)
    whole = panoptic(tmp_path / "panoptic", *panoptic_maps[:2])
    labels = semantic(tmp_path / "semantic", *label_maps[:2])
    found = [
        same(objects[task]["per_class"][name]["ap"] for task in (*TASKS, "boundary", "voc")),
        shown(whole["per_class"][panoptic_maps[2]]["pq"]),
        shown(labels["per_class"][label_maps[2]]["iou"]),
    ]
    assert rows_of("A class:")[case] == found


# truths and results; panoptic maps; label maps; saliency maps: each as (true, predicted)
DATA_CASES = {
    "an image without objects, nothing predicted on it": (
        ([truth(1)], [result(1, 0.8)]),
        ([CAT, VOID], [CAT, VOID]),
        ([[[0, 1]], [[255, 255]]], [[[0, 1]], [[0, 0]]]),
        ([OBJECT, EMPTY], [OBJECT, EMPTY]),
    ),
    "the same, something predicted with a higher score": (
        ([truth(1)], [result(1, 0.8), result(2, 0.9)]),
        ([CAT, VOID], [CAT, CAT]),
        ([[[0, 1]], [[255, 255]]], [[[0, 1]], [[2, 2]]]),
        ([OBJECT, EMPTY], [OBJECT, OBJECT]),
    ),
    "no predictions at all": (
        ([truth(1)], []),
        ([CAT], [VOID]),
        ([[[0, 1]]], []),
        ([OBJECT], []),
    ),
    "every truth ignored, crowd or void": (
        ([truth(1, crowd=1)], [result(1, 0.8)]),
        ([CROWD], [CAT]),
        ([[[255, 255]]], [[[0, 1]]]),
        None,
    ),
    "no truth, something predicted": (
        ([], [result(1, 0.8)]),
        ([VOID], [CAT]),
        ([[[255, 255]]], [[[0, 1]]]),
        ([EMPTY], [OBJECT]),
    ),
    "no images": (([], []), ([], []), ([], []), ([], [])),
}


def test_the_cases_of_a_data_set_are_those_of_the_page():
    assert list(rows_of("A data set, everything else in it perfect:")) == list(DATA_CASES)


@pytest.mark.parametrize("case", DATA_CASES)
def test_a_data_set_scores_what_the_page_says(case, tmp_path):
    records, segments, labels, maps = DATA_CASES[case]
    objects = object_scores(tmp_path, *records, images=0 if case == "no images" else 2)
    found = [
        same(objects[task][key] for task in (*TASKS, "boundary") for key in ("ap", "ap50", "ap75")),
        shown(objects["voc"]["map"]),
        *or_error(lambda: panoptic(tmp_path / "panoptic", *segments), "pq"),
        *or_error(lambda: semantic(tmp_path / "semantic", *labels), "miou"),
        *(["", ""] if maps is None else or_error(lambda: saliency(tmp_path / "saliency", *maps), "max_f", "s_measure")),
        shown(objects["localisation"]["top1_error"]),
    ]
    assert rows_of("A data set, everything else in it perfect:")[case] == found


@pytest.mark.parametrize("task", TASKS)
def test_without_detections_thresholds_are_undefined_and_f1_is_zero(task, tmp_path):
    object_scores(tmp_path, [truth(1)], [])
    scores = dl.score(task, tmp_path / "truth.json", tmp_path / "results.json", errors=True)
    assert math.isnan(scores["calibration"]["expected_calibration_error"])
    best = scores["per_class"]["cat"]["best_f1"]
    assert (best["f1"], best["recall"]) == (0, 0)
    assert math.isnan(best["threshold"])
    assert math.isnan(best["precision"])


def test_no_saliency_map_is_undefined():
    assert math.isnan(saliency_scores([])["max_f"])


def test_the_tables_name_tests_that_exist():
    named = set(re.findall(r"`((?:metrics|engine|ops|kernels)/test_\w+\.py)`", PAGE))
    assert len(named) > 8
    assert [name for name in named if not (Path(__file__).parent / name).is_file()] == []
