"""Detectors go through the same engine as segmenters: trained, resumed, saved, loaded, measured, used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import delineate as dl
from delineate.cli.main import app
from delineate.data.opening import open_dataset
from delineate.engine.object_evaluation import ObjectEvaluation
from delineate.engine.object_predictor import ObjectPredictor
from delineate.engine.object_task import fitting_size
from delineate.engine.objects import ObjectDetection, decoding_of, resized
from delineate.engine.prediction import predict_files
from delineate.engine.predictors import load, measure
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run
from delineate.engine.training import train
from delineate.errors import ArgumentError, DelineateError, RecipeError, UnknownNameError
from delineate.models.catalogue import list_models
from delineate.structures.detections import Detections
from tests.data.object_folder import write_objects

# every detector, small
SMALL: dict[str, dict[str, Any]] = {
    "localizer": {"objects": 2, "encoder": "test_resnet", "bins": 2, "hidden": [16]},
    "multibox": {"encoder": "test_resnet", "bins": 2, "hidden": [16], "dropout": 0.0},
    "retinanet": {"encoder": "resnet18", "channels": 16, "layers": 1, "scale": 3},
    "ssd300": {"width": 0.0625, "norm": "batch"},
    "ssd512": {"width": 0.0625, "norm": "batch"},
    "yolov1": {"grid": 2, "width": 0.0625, "hidden": 32, "norm": "batch"},
    "yolov2": {"width": 0.0625, "priors": [[0.7, 0.7], [1.2, 1.2]]},
    "yolo9000": {"width": 0.0625, "priors": [[0.7, 0.7], [1.2, 1.2]]},
    "faster_rcnn": {"encoder": "resnet18", "channels": 16, "hidden": 32},
    "faster_rcnn_vgg16": {"width": 0.0625, "hidden": 32},
    "mask_rcnn": {"encoder": "resnet18", "channels": 16, "hidden": 32, "head_channels": 16},
    "keypoint_rcnn": {"encoder": "resnet18", "channels": 16, "hidden": 32, "head_channels": 16},
}


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_objects(tmp_path_factory.mktemp("objects") / "boxes")


def recipe_of(model: str, **changes: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "model": {"name": model, **SMALL[model]},
        "data": {"batch_size": 3, "workers": 0, "val_batch_size": 2},
        "augmentation": {"preset": "light"},
        "optimizer": {"lr": 0.001},
        "trainer": {"max_epochs": 2, "ema_decay": 0.9, "threads": 1, "precision": "float32"},
    }
    for section, values in changes.items():
        recipe[section] = {**recipe[section], **values}
    return recipe


@pytest.fixture(scope="session")
def box_run(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(recipe_of("retinanet"), data=boxes, out=tmp_path_factory.mktemp("runs") / "boxes", progress=False)


@pytest.mark.parametrize("model", sorted(SMALL))
def test_every_kind_of_detector_trains_saves_loads_and_finds(model: str, boxes: Path, tmp_path: Path) -> None:
    sides = {"ssd300": 300, "ssd512": 512, "yolov1": 128}  # of those whose input has a fixed size
    stretched = {"fit": "stretch", "scale": [1, 1], "size": [sides[model]] * 2} if model in sides else {}
    run = train(
        recipe_of(model, augmentation=stretched, trainer={"max_epochs": 1}),
        data=boxes,
        out=tmp_path / model,
        progress=False,
    )
    assert not run.missing()
    predictor = load(run.path)
    assert isinstance(predictor, ObjectPredictor)
    assert predictor.taxonomy.names == ("red", "green")
    odd = np.random.default_rng(1).integers(0, 255, (45, 71, 3), dtype=np.uint8)
    found = predictor.predict(odd, score_threshold=0.0)
    assert isinstance(found, Detections)
    assert found.size == (45, 71)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, [0, 2]] <= 71).all()
    assert (found.boxes[:, [1, 3]] <= 45).all()
    assert len(found) <= predictor.model.decoding.most  # type: ignore[union-attr, operator]
    assert (found.masks is not None) == (model == "mask_rcnn")
    if found.masks is not None and len(found):
        assert found.masks[0].decode().shape == (45, 71)
    if model == "keypoint_rcnn":
        assert found.keypoints is not None
        assert found.keypoints.shape == (len(found), 3, 3)
        assert found.keypoint_names == ("origin", "across", "down")
    tiled = predictor.predict(odd, tile=40, overlap=8, score_threshold=0.0)
    assert tiled.size == (45, 71)
    curves = run.read_curves()
    monitored = {"mask_rcnn": "val/mask_ap", "keypoint_rcnn": "val/keypoint_ap"}.get(model, "val/ap")
    assert {"train/loss", "val/ap", "val/ap50", monitored} <= set(curves)
    evaluation = measure(run, boxes)
    assert isinstance(evaluation, ObjectEvaluation)
    assert evaluation.kind == {"mask_rcnn": "masks", "keypoint_rcnn": "keypoints"}.get(model, "boxes")
    assert len(evaluation.images) == 3


def test_every_detector_of_the_catalogue_is_trained_here() -> None:
    objects = {name for task in ("detection", "instances", "keypoints") for name in list_models(task=task)}
    assert objects == set(SMALL)


def test_the_commands_take_a_detectors_run(box_run: Run, boxes: Path, tmp_path: Path) -> None:
    def typed(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    out = tmp_path / "evaluated"
    told = typed("evaluate", box_run.path, "--out", out)
    figures = json.loads((out / "metrics.json").read_text())
    assert f"ap50 {figures['ap50']:.4f}" in told
    assert "why precision is lost" in told.lower()
    page = (out / "report.html").read_text()
    for words in (
        "Learning curves",
        "Worst images",
        "What costs precision",
        "Mistakes worth a look",
        "focal_detection",
    ):
        assert words in page
    assert "http" not in page.replace("http-equiv", "")
    told = typed("predict", box_run.path, boxes / "val", "--out", tmp_path / "found", "--score", "0.05")
    assert "masks" not in told
    assert len(list((tmp_path / "found" / "overlays").iterdir())) == 3
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert {one["image_id"] for one in found["annotations"]} <= {1, 2, 3}
    assert [category["name"] for category in found["categories"]] == ["red", "green"]
    again = typed("predict", box_run.path, boxes / "val", "--out", tmp_path / "found", "--no-overlays")
    assert "3 images" in again
    assert not list((tmp_path / "found" / "overlays").iterdir())
    assert "retinanet" in typed("models", "--task", "detection")


def test_a_recipe_of_a_detector_says_its_own_loss_and_size(boxes: Path, box_run: Run) -> None:
    recipe = build_recipe(read_recipe(box_run.recipe))
    assert recipe.loss == [{"name": "focal_detection"}]
    assert recipe.task == "detection"
    assert recipe.augmentation["size"] == [64, 96]
    assert build_recipe({"model": "unet"}).loss == [{"name": "cross_entropy"}]
    changed = build_recipe({"model": "unet"}, ["loss.0.gamma=3", "model.name=retinanet"])
    assert changed.loss == [{"name": "focal_detection", "gamma": 3}]


def test_a_resumed_detector_ends_in_the_same_weights(boxes: Path, tmp_path: Path, monkeypatch) -> None:
    recipe = recipe_of("retinanet", trainer={"checkpoint_steps": 1})
    whole = train(recipe, data=boxes, out=tmp_path / "whole", progress=False)
    step, calls = ObjectDetection.training_step, []

    def crash(self: ObjectDetection, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return step(self, *arguments)

    monkeypatch.setattr(ObjectDetection, "training_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, data=boxes, out=tmp_path / "cut", progress=False)
    monkeypatch.undo()
    resumed = train(resume=tmp_path / "cut", progress=False)
    ours, theirs = (load(run.path).model.state_dict() for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.curves.read_text() == whole.curves.read_text()


def test_scores_equal_those_of_the_written_predictions(boxes: Path, box_run: Run, tmp_path: Path) -> None:
    """What evaluation says of a model is what the scorer, which equals pycocotools, says of its files."""
    evaluation = measure(box_run, boxes)
    assert isinstance(evaluation, ObjectEvaluation)
    written = predict_files(box_run, [boxes / "val"], out=tmp_path / "found", score_threshold=0.01)
    assert written.count == 3
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    truth = boxes / "annotations" / "instances_val.json"
    names = {Path(image["file_name"]).name: image["id"] for image in found["images"]}
    ids = {names[image["file_name"]]: image["id"] for image in json.loads(truth.read_text())["images"]}
    results = [
        {**one, "image_id": ids[one["image_id"]], "category_id": one["category_id"] + 1} for one in found["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    scores = dl.score("boxes", truth, tmp_path / "results.json")
    for name in ("ap", "ap50", "ar100"):
        assert evaluation.scores[name] == pytest.approx(scores[name], abs=1e-6)
    assert evaluation.scores["detections"] == scores["detections"]
    assert sum(image.found + image.missed for image in evaluation.images) == scores["truths"]


def test_training_scores_what_evaluation_scores(boxes: Path, box_run: Run) -> None:
    """The last validation of training, on pictures of the model's size, and the evaluation in original pixels agree."""
    best = max(value for _, value in box_run.read_curves()["val/ap50"])
    assert measure(box_run, boxes).scores["ap50"] == pytest.approx(best, abs=0.02)


def test_an_image_without_objects_and_one_of_another_size_are_predicted(box_run: Run) -> None:
    predictor = load(box_run.path)
    nothing = predictor.predict(np.zeros((31, 200, 3), np.uint8), score_threshold=0.999)
    assert len(nothing) == 0
    assert nothing.to_coco(1) == []
    assert nothing.plot().size[0] >= 200


def test_a_whole_batch_without_objects_is_learnt_from(tmp_path: Path) -> None:
    empty = write_objects(tmp_path / "empty", train=1, val=1)
    run = train(recipe_of("faster_rcnn", trainer={"max_epochs": 1}), data=empty, out=tmp_path / "run", progress=False)
    assert np.isfinite(run.read_curves()["train/loss"][0][1])


def test_multi_scale_batches_are_seen_at_other_sizes(boxes: Path, tmp_path: Path, monkeypatch) -> None:
    seen = []
    forward = ObjectDetection.inputs

    def noted(self: ObjectDetection, images: torch.Tensor) -> torch.Tensor:
        self.model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[-2:])), prepend=True)
        return forward(self, images)

    monkeypatch.setattr(ObjectDetection, "inputs", noted)
    recipe = recipe_of("yolov2", augmentation={"multi_scale": [96, 128, 192], "multi_scale_every": 1})
    train(recipe, data=boxes, out=tmp_path / "run", progress=False)
    assert {max(size) for size in seen} > {96}
    assert all(side % 32 == 0 for size in seen for side in size)


def test_resizing_a_batch_moves_boxes_and_joints_alike() -> None:
    target = {"boxes": torch.tensor([[10.0, 20.0, 30.0, 40.0]]), "keypoints": torch.tensor([[[10.0, 20.0]]])}
    _, moved, sizes = resized(torch.zeros(1, 3, 64, 64), [target], [(60, 64)], 128)
    assert moved[0]["boxes"].tolist() == [[20, 40, 60, 80]]
    assert moved[0]["keypoints"].tolist() == [[[20, 40]]]
    assert sizes == [(120, 128)]


def test_the_fitting_size_is_the_median_in_steps_of_32() -> None:
    assert fitting_size(np.array([[1200, 1600]])) == (480, 640)
    assert fitting_size(np.array([[20, 500]])) == (32, 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversarial": {}}, "adversarial must be left out for a detector"),
        ({"data": {"sampling": "class_balanced"}}, "sampling must be uniform"),
        ({"augmentation": {"crop": [32, 32]}}, r"augmentation.crop must be a known key"),
        (
            {"loss": [{"name": "cross_entropy"}]},
            "loss must be 'focal_detection' alone for model 'retinanet'; got cross_entropy",
        ),
        ({"loss": [{"name": "focal_detection"}, {"name": "yolo"}]}, "loss must be 'focal_detection' alone"),
        ({"loss": [{"name": "focal_detection", "gama": 1}]}, "Did you mean 'gamma'"),
    ],
)
def test_what_does_not_fit_a_detector_is_said(
    boxes: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    recipe = {**recipe_of("retinanet"), **changes}
    with pytest.raises(DelineateError, match=message):
        train(recipe, data=boxes, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_fixed_input_size_cannot_be_changed(boxes: Path, tmp_path: Path) -> None:
    recipe = recipe_of("ssd300", augmentation={"preset": "ssd", "size": [200, 200]})
    with pytest.raises(RecipeError, match=r"augmentation.size must be \[300, 300\] for 'ssd300'"):
        train(recipe, data=boxes, out=tmp_path / "run", progress=False)


def test_data_without_what_the_model_learns_from_is_said(tmp_path: Path) -> None:
    folder = write_objects(tmp_path / "boxes", train=2, val=1)
    for path in (folder / "annotations").iterdir():
        values = json.loads(path.read_text())
        values["categories"] = [{"id": one["id"], "name": one["name"]} for one in values["categories"]]
        for annotation in values["annotations"]:
            for key in ("keypoints", "num_keypoints", "segmentation"):
                del annotation[key]
        path.write_text(json.dumps(values))
    for model, missing in (("mask_rcnn", "segmentation must be"), ("keypoint_rcnn", "keypoints")):
        with pytest.raises(DelineateError, match=missing):
            train(recipe_of(model), data=folder, out=tmp_path / model, progress=False)
        assert not (tmp_path / model).exists()


def test_options_of_label_maps_are_refused(box_run: Run, boxes: Path, tmp_path: Path) -> None:
    with pytest.raises(DelineateError, match="option must be one of the task detection"):
        dl.report_run(box_run, crf="default")
    with pytest.raises(DelineateError, match="option of a model of detection"):
        predict_files(box_run, [boxes / "val"], out=tmp_path / "out", tta="flip")


def test_digits_are_learnt_from_without_a_folder() -> None:
    assert open_dataset("digits", split="val", task="objects").columns == ("boxes", "masks", "keypoints")
    assert build_recipe({"model": "yolov2", "data": {"path": "digits"}}).loss == [{"name": "yolov2"}]


def test_a_detector_learns_from_its_own_loss_alone() -> None:
    for name in ("ssd300", "faster_rcnn"):
        for loss in (["focal_detection"], ["multibox", "multibox"]):
            with pytest.raises(RecipeError, match=f"alone for model '{name}'; got {', '.join(loss)}"):
                build_recipe({"model": name, "loss": [{"name": one} for one in loss]})
    assert build_recipe({"model": "ssd300", "loss": [{"name": "multibox", "ratio": 2}]}).loss[0]["ratio"] == 2


def test_what_is_no_option_of_decoding_is_said() -> None:
    network = torch.nn.Identity()
    with pytest.raises(UnknownNameError, match="score_threshold"):
        decoding_of(network, score_treshold=0.5)
    for key, value in (("score_threshold", 30), ("score_threshold", -1), ("iou_threshold", float("nan"))):
        with pytest.raises(ArgumentError, match=f"{key} must lie between 0 and 1"):
            decoding_of(network, {key: value})
    assert decoding_of(network, score_threshold=0).score_threshold == 0
