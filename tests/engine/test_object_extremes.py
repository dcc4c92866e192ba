"""What no detector likes to see goes through training, evaluation, prediction and tiles all the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from delineate.engine.object_evaluation import ObjectEvaluation
from delineate.engine.predictors import load, measure
from delineate.engine.run import Run
from delineate.engine.training import train
from delineate.report.runs import report_run

Scene = tuple[tuple[int, int], Sequence[Sequence[int]]]  # (height, width), and boxes x, y, width, height

MODELS: dict[str, dict[str, Any]] = {
    "retinanet": {"encoder": "test_resnet", "channels": 16, "layers": 1, "scale": 2},
    "yolov2": {"width": 0.0625, "priors": [[0.3, 0.3], [1, 1]]},
    "mask_rcnn": {"encoder": "test_resnet", "channels": 16, "hidden": 32, "head_channels": 16},
}
LIMITS = {"most": 20}  # of detections, for speed


def write_scenes(root: Path, splits: dict[str, Sequence[Scene]]) -> Path:
    """Noise with bright objects of two classes, as COCO files with outlines."""
    random = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, scenes in splits.items():
        (root / split).mkdir()
        images, annotations = [], []
        for number, ((height, width), boxes) in enumerate(scenes):
            pixels = random.integers(0, 90, (height, width, 3), dtype=np.uint8)
            for place, (x, y, wide, high) in enumerate(boxes):
                pixels[y : y + high, x : x + wide, place % 2] = 220
                outline = [x, y, x + wide, y, x + wide, y + high, x, y + high]
                entry = {"id": len(annotations) + 1, "image_id": number, "category_id": place % 2 + 1}
                entry |= {"bbox": [x, y, wide, high], "area": wide * high, "iscrowd": 0, "segmentation": [outline]}
                annotations.append(entry)
            name = f"{split}{number}.png"
            Image.fromarray(pixels).save(root / split / name)
            images.append({"id": number, "file_name": name, "height": height, "width": width})
        categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
        written = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(written))
    return root


def crowded(count: int, side: int = 4) -> list[list[int]]:
    """So many objects on a picture of 96 x 128, many of them over others."""
    random = np.random.default_rng(1)
    return [[int(random.integers(128 - side)), int(random.integers(96 - side)), side, side] for _ in range(count)]


DOTS = [[0, 0, 1, 1], [63, 63, 1, 1], [30, 7, 1, 1], [63, 0, 1, 1]]
EXTREMES: list[Scene] = [
    ((96, 128), crowded(500)),
    ((64, 64), DOTS),
    ((1, 1), [[0, 0, 1, 1]]),
    ((1, 1), []),
    ((20, 900), [[0, 0, 20, 20], [880, 0, 20, 20], [400, 5, 90, 10]]),
    ((900, 20), [[0, 0, 20, 900]]),
    ((70, 50), []),
]

SEEN = EXTREMES[:5]  # in validation: the way up is as the way along


def recipe_of(model: str, **sections: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "model": {"name": model, **MODELS[model]},
        "data": {"batch_size": 2, "workers": 0, "val_batch_size": 3},
        "augmentation": {"preset": "light", "size": [64, 96]},
        "optimizer": {"lr": 0.0001},
        "decoding": LIMITS,
        "trainer": {"max_epochs": 1, "ema_decay": None, "threads": 1, "precision": "float32"},
    }
    for section, values in sections.items():
        recipe[section] = {**recipe[section], **values}
    return recipe


@pytest.fixture(scope="module")
def extremes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("extremes") / "data", {"train": EXTREMES, "val": SEEN})


@pytest.fixture(scope="module")
def retinanet(extremes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe_of("retinanet"), data=extremes, out=tmp_path_factory.mktemp("run") / "it", progress=False)


def pictures(channels: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    sizes = [(1, 1), (1, 40), (20, 900), (90, 5)]
    return [random.integers(0, 255, (*size, channels), dtype=np.uint8) for size in sizes]


def check_finds(run: Run, channels: int = 3) -> None:
    """Every kind of picture is predicted, whole and in tiles, with all boxes and with few, inside its own pixels."""
    predictor = load(run.path, precision="float32")
    for pixels in pictures(channels):
        height, width = pixels.shape[:2]
        for options in ({"score_threshold": 0.0}, {"score_threshold": 0.0, "tile": 48, "overlap": 8}, {}):
            found = predictor.predict(pixels, **options)
            assert found.size == (height, width)
            assert (found.boxes >= 0).all()
            assert (found.boxes[:, [0, 2]] <= width).all()
            assert (found.boxes[:, [1, 3]] <= height).all()
            assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
            if found.masks is not None and len(found):
                assert found.masks[0].decode().shape == (height, width)
            found.overlay()
            found.to_coco(1)
    nothing = predictor.predict(pictures(channels)[0], score_threshold=0.9999)
    assert len(nothing) == 0
    nothing.plot()


def check_figures(run: Run, folder: Path, *, truths: int, **options: Any) -> ObjectEvaluation:
    evaluation = measure(run, folder, **options)
    assert isinstance(evaluation, ObjectEvaluation)
    assert evaluation.scores["truths"] == truths
    assert sum(image.found + image.missed for image in evaluation.images) == truths
    return evaluation


@pytest.mark.parametrize(("model", "workers"), [("yolov2", 2), ("mask_rcnn", 0)])
def test_extreme_pictures_and_objects_go_all_the_way(model: str, workers: int, extremes: Path, tmp_path: Path) -> None:
    run = train(recipe_of(model, data={"workers": workers}), data=extremes, out=tmp_path / "run", progress=False)
    assert np.isfinite(run.read_curves()["train/loss"][0][1])
    check_figures(run, extremes, truths=sum(len(boxes) for _, boxes in SEEN))
    check_finds(run)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_batch_in_which_nothing_is_is_learnt_from(model: str, tmp_path: Path) -> None:
    empty: list[Scene] = [((40, 50), []), ((64, 30), [])]
    folder = write_scenes(tmp_path / "data", {"train": empty, "val": empty[:1]})
    run = train(recipe_of(model), data=folder, out=tmp_path / "run", progress=False)
    assert np.isfinite(run.read_curves()["train/loss"][0][1])
    assert not run.missing()


def test_workers_change_nothing_of_what_is_learnt(retinanet: Run, extremes: Path, tmp_path: Path) -> None:
    values = recipe_of("retinanet", data={"workers": 2})
    again = train(values, data=extremes, out=tmp_path / "run", progress=False)
    assert again.read_curves()["train/loss"] == retinanet.read_curves()["train/loss"]
    check_finds(retinanet)


def test_nothing_found_at_all_is_a_figure_and_a_page(retinanet: Run, extremes: Path, tmp_path: Path) -> None:
    truths = sum(len(boxes) for _, boxes in SEEN)
    evaluation = check_figures(retinanet, extremes, truths=truths, score_threshold=0.99999)
    assert evaluation.scores["ap"] == 0
    assert evaluation.threshold == 0
    assert sum(image.missed for image in evaluation.images) == truths
    report_run(retinanet, data=extremes, out=tmp_path / "report", score_threshold=0.99999)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "There are no detections" in page


@pytest.mark.parametrize("fit", [{"fit": "stretch", "scale": [1, 1]}, {"fit": "shortest", "scale": [1, 1]}])
def test_every_fit_shows_extreme_pictures(fit: dict[str, Any], extremes: Path, tmp_path: Path) -> None:
    shown = {"size": None, "shortest": [32], "longest": 128} if fit["fit"] == "shortest" else {}
    values = recipe_of("retinanet", augmentation={**fit, **shown})
    run = train(values, data=extremes, out=tmp_path / "run", progress=False)
    assert np.isfinite(run.read_curves()["train/loss"][0][1])
    check_finds(run)


def test_grey_pictures_and_a_split_in_which_nothing_is(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "data", {"train": EXTREMES[1:3], "val": [((40, 50), []), ((1, 1), [])]})
    values = recipe_of("retinanet", data={"channels": 1}, trainer={"max_epochs": 2, "early_stopping": 2})
    run = train(values, data=folder, out=tmp_path / "run", progress=False)
    losses = [loss for _, loss in run.read_curves()["train/loss"]]
    assert len(losses) == 2  # a score that cannot be is no reason to stop at once
    assert np.isfinite(losses).all()
    assert not run.missing()
    evaluation = check_figures(run, folder, truths=0)
    assert np.isnan(evaluation.scores["ap"])
    check_finds(run, channels=1)
    report_run(run, data=folder, out=tmp_path / "report")
    assert "Mistakes worth a look" in (tmp_path / "report" / "report.html").read_text()
