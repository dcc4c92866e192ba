import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.metrics.voc import voc_scores
from delineate.metrics.voc_metric import VocScores
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

CLASSES = ("a", "b", "c")


def scene(seed, images=6, grid=8):
    """Images of torchvision's dictionaries, on a coarse grid: ties of IoU and of scores, empty images and classes."""
    generator = np.random.default_rng(seed)

    def boxes(count):
        return torch.from_numpy(np.sort(generator.integers(0, grid, (count, 2, 2)), axis=1).reshape(-1, 4)).double()

    predictions, targets = [], []
    for _ in range(images):
        n, m = generator.integers(0, 12), generator.integers(0, 5)
        labels = torch.from_numpy(generator.integers(0, 3, n))
        scores = torch.from_numpy(generator.integers(0, 9, n) / 8)
        predictions.append({"boxes": boxes(n), "labels": labels, "scores": scores})
        difficult = torch.from_numpy(generator.random(m) < 0.2)
        truth_labels = torch.from_numpy(generator.integers(0, 2 + (seed % 2), m))
        targets.append({"boxes": boxes(m), "labels": truth_labels, "difficult": difficult})
    return predictions, targets


def as_columns(predictions, targets):
    """The same as Annotations and Objects."""

    def columns(batch):
        boxes = torch.cat([image["boxes"] for image in batch]).numpy()
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        images = np.repeat(np.arange(len(batch)), [len(image["labels"]) for image in batch])
        return images, torch.cat([image["labels"] for image in batch]).numpy(), boxes

    difficult = torch.cat([image["difficult"] for image in targets]).numpy()
    truth = Annotations.of(range(len(targets)), CLASSES, Objects.of(*columns(targets), ignored=difficult))
    return truth, Objects.of(
        *columns(predictions), scores=torch.cat([image["scores"] for image in predictions]).numpy()
    )


def devkit(predictions, targets, label, threshold, pixel):
    """``VOCevaldet.m`` in plain Python: one class, one list of detections from the most confident down."""
    truths = [
        [
            {"box": box, "hard": hard, "found": False}
            for box, k, hard in zip(*(image[key].tolist() for key in ("boxes", "labels", "difficult")), strict=True)
            if k == label
        ]
        for image in targets
    ]
    positives = sum(not truth["hard"] for image in truths for truth in image)
    detections = [
        (score, i, box)
        for i, image in enumerate(predictions)
        for box, k, score in zip(*(image[key].tolist() for key in ("boxes", "labels", "scores")), strict=True)
        if k == label
    ]
    detections.sort(key=lambda detection: -detection[0])
    right, wrong, precision, recall = 0, 0, [], []
    for _, i, (x1, y1, x2, y2) in detections:
        best, match = -math.inf, None
        for truth in truths[i]:
            a1, b1, a2, b2 = truth["box"]
            width, height = min(x2, a2) - max(x1, a1) + pixel, min(y2, b2) - max(y1, b1) + pixel
            if width > 0 and height > 0:
                area = (x2 - x1 + pixel) * (y2 - y1 + pixel) + (a2 - a1 + pixel) * (b2 - b1 + pixel) - width * height
                if width * height / area > best:
                    best, match = width * height / area, truth
        if best >= threshold and match["hard"]:
            continue
        if best >= threshold and not match["found"]:
            match["found"] = True
            right += 1
        else:
            wrong += 1
        precision.append(right / (right + wrong))
        recall.append(right / positives if positives else math.nan)
    if not positives:
        return math.nan, math.nan
    r, p = [0, *recall, 1], [0, *precision, 0]
    for i in range(len(p) - 2, -1, -1):
        p[i] = max(p[i], p[i + 1])
    area = sum((r[i] - r[i - 1]) * p[i] for i in range(1, len(r)))
    levels = [
        max((p for p, r in zip(precision, recall, strict=True) if r >= t), default=0) for t in np.arange(11) * 0.1
    ]
    return area, sum(levels) / 11


def test_by_hand():
    """A hit, a duplicate, a miss, one on a difficult box, of two truths that count."""
    truth = Annotations.of(
        ("x", "y"),
        ("cat", "dog"),
        Objects.of([0, 0, 1], [0, 0, 0], [[0, 0, 9, 9], [20, 0, 9, 9], [0, 0, 9, 9]], ignored=[False, True, False]),
    )
    found = Objects.of(
        [0, 0, 0, 1],
        [0, 0, 0, 0],
        [[0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 9, 9], [40, 40, 5, 5]],
        scores=[0.9, 0.8, 0.95, 0.7],
    )
    cat = voc_scores(truth, found)["per_class"]["cat"]
    assert (cat["ap"], cat["truths"], cat["detections"]) == (0.5, 2, 4)
    assert cat["ap_11_point"] == pytest.approx(6 / 11)
    assert [cat["per_threshold"]["0.5"][key] for key in ("true_positives", "false_positives", "recall")] == [1, 2, 0.5]
    scores = voc_scores(truth, found)
    assert scores["map"] == 0.5
    assert math.isnan(scores["per_class"]["dog"]["ap"])


@pytest.mark.data
def test_published_figures_of_the_toy_example(real_data):
    folder = real_data / "refvec" / "pascal_ap_toy"
    names = (folder / "voc.names").read_text().split()
    files = sorted((folder / "gts_vocpascal_format").glob("*.xml"))
    stems = [file.stem for file in files]
    images, labels, boxes, found = [], [], [], []
    for i, file in enumerate(files):
        for item in ElementTree.parse(file).getroot().iter("object"):
            x1, y1, x2, y2 = (float(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            images, labels = [*images, i], [*labels, names.index(item.findtext("name"))]
            boxes.append([x1, y1, x2 - x1, y2 - y1])
    for file in sorted((folder / "dets_classid_abs_xywh").glob("*.txt")):
        found += [[stems.index(file.stem), *map(float, line.split())] for line in file.read_text().splitlines()]
    rows = np.array(found)
    predictions = Objects.of(rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 3:], scores=rows[:, 2])
    truth = Annotations.of(stems, names, Objects.of(images, labels, boxes))
    scores = voc_scores(truth, predictions, iou_thresholds=(0.5, 0.75))
    for threshold, eleven, area in (("0.5", 0.886364, 0.895833), ("0.75", 0.492424, 0.509722)):
        figures = scores["per_class"]["cat"]["per_threshold"][threshold]
        assert figures["ap_11_point"] == pytest.approx(eleven, abs=5e-7)
        assert figures["ap"] == pytest.approx(area, abs=5e-7)
    assert scores["map"] == pytest.approx((0.895833 + 0.509722) / 2, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), inclusive=st.booleans())
def test_equals_the_devkit(seed, inclusive):
    predictions, targets = scene(seed)
    thresholds = (0.3, 0.5, 0.75)
    found = voc_scores(*as_columns(predictions, targets), iou_thresholds=thresholds, inclusive_pixels=inclusive)
    for k, name in enumerate(CLASSES):
        for threshold in thresholds:
            expected = devkit(predictions, targets, k, threshold, int(inclusive))
            figures = found["per_class"][name]["per_threshold"][f"{threshold:g}"]
            assert (figures["ap"], figures["ap_11_point"]) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 6))
def test_the_metric_in_batches_equals_the_function(seed, cut):
    predictions, targets = scene(seed)
    whole = voc_scores(*as_columns(predictions, targets), iou_thresholds=(0.5, 0.75), curves=True)
    metric = VocScores(CLASSES, iou_thresholds=(0.5, 0.75), curves=True)
    for part in (slice(0, cut), slice(cut, None)):
        metric.update(predictions[part], targets[part])
    np.testing.assert_equal(metric.compute(), whole)


def test_a_perfect_prediction_scores_one():
    _, targets = scene(3)
    predictions = [{**image, "scores": torch.ones(len(image["labels"]))} for image in targets]
    found = voc_scores(*as_columns(predictions, targets))
    assert found["map"] == pytest.approx(1)
    assert found["per_class"]["a"]["per_threshold"]["0.5"]["false_positives"] == 0


def test_nothing_to_find_and_nothing_found():
    none = Objects.of([], [], [])
    truth = Annotations.of((1,), ("a",), none)
    found = Objects.of([0], [0], [[0, 0, 3, 3]], scores=[0.5])
    assert math.isnan(voc_scores(truth, found)["map"])
    everything_hard = Annotations.of((1,), ("a",), Objects.of([0], [0], [[0, 0, 3, 3]], ignored=[True]))
    assert math.isnan(voc_scores(everything_hard, found)["map"])
    assert voc_scores(everything_hard, found)["per_class"]["a"]["per_threshold"]["0.5"]["false_positives"] == 0
    one = Annotations.of((1,), ("a",), Objects.of([0], [0], [[0, 0, 3, 3]]))
    assert voc_scores(one, Objects.of([], [], [], scores=[]))["map"] == 0
    metric = VocScores(("a",))
    metric.update([], [])
    assert math.isnan(metric.compute()["map"])


def test_a_crowd_is_difficult():
    target = {"boxes": torch.tensor([[0.0, 0, 5, 5]]), "labels": torch.tensor([0]), "iscrowd": torch.tensor([1])}
    metric = VocScores(("a",))
    metric.update([{**target, "scores": torch.ones(1)}], [target])
    assert math.isnan(metric.compute()["map"])


def count_in_a_process(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    predictions, targets = scene(5)
    metric = VocScores(CLASSES, iou_thresholds=(0.5, 0.75))
    share = (slice(0, 2), slice(2, 6), slice(6, 6))[rank]  # the last process has no data
    if rank < 2:
        metric.update(predictions[share], targets[share])
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_three_processes_compute_what_one_does(tmp_path):
    code = "import sys, runpy; file, rank, folder = sys.argv[1:]; "
    code += "runpy.run_path(file)['count_in_a_process'](int(rank), folder)"
    start = [sys.executable, "-W", "ignore", "-c", code, __file__]
    processes = [subprocess.Popen([*start, str(rank), str(tmp_path)]) for rank in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    whole = voc_scores(*as_columns(*scene(5)), iou_thresholds=(0.5, 0.75))
    for rank in range(3):
        np.testing.assert_equal(torch.load(tmp_path / f"{rank}.pt", weights_only=True), whole)


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    truth, found = as_columns(*scene(0))
    for thresholds in ((), (0.0,), (1.5,), (0.5, 0.5)):
        with pytest.raises(ArgumentError, match="iou_thresholds must be different numbers above 0 and at most 1; got"):
            voc_scores(truth, found, iou_thresholds=thresholds)
    with pytest.raises(ArgumentError, match=r"predictions must have scores; got none\."):
        voc_scores(truth, truth.objects)
    with pytest.raises(ArgumentError, match=r"predictions\.labels must be below 3, as in truth; got 7\."):
        voc_scores(truth, Objects.of([0], [7], [[0, 0, 1, 1]], scores=[1]))
    metric = VocScores(("a",))
    box, label = torch.zeros(1, 4), torch.zeros(1, dtype=torch.long)
    whole = {"boxes": box, "labels": label, "scores": torch.zeros(1)}
    for damaged, message in (
        ({"boxes": box, "labels": label}, r"predictions\[0\] must have scores; got keys \['boxes', 'labels'\]"),
        (
            {**whole, "boxes": torch.zeros(1, 5)},
            r"predictions\[0\]\['boxes'\] must be \(1, 4\) xyxy pixels; got \(1, 5",
        ),
        ({**whole, "labels": label + 1}, r"predictions\[0\]\['labels'\] must be 0 to 0; got \[1\]"),
        ({**whole, "scores": torch.zeros(2)}, r"predictions\[0\]\['scores'\] must be \(1,\); got \(2,\)"),
        ({**whole, "boxes": box / 0}, r"predictions\[0\] must hold finite boxes; got NaN or infinity"),
    ):
        with pytest.raises(ArgumentError, match=message):
            metric.update([damaged], [whole])
    with pytest.raises(ArgumentError, match=r"predictions must be of 1 images, as targets; got 0\."):
        metric.update([], [whole])
