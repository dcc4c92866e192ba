"""A recipe's decoding is what validation, evaluation, prediction and exported files begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from delineate.engine.object_evaluation import ObjectEvaluation
from delineate.engine.objects import SCORE_THRESHOLD, decoding_of
from delineate.engine.predictors import load, measure
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run
from delineate.engine.training import train
from delineate.engine.weights import load_weights, read_card
from delineate.errors import RecipeError, RunError
from delineate.export.catalogue import EXPORTERS
from delineate.report.runs import report_run
from delineate.structures.outputs import AnchorOutputs
from delineate.structures.scored_boxes import DetectionOptions
from tests.data.object_folder import write_objects

RETINANET = {"name": "retinanet", "encoder": "test_resnet", "channels": 16, "layers": 1, "scale": 3}
DECODING = {"score_threshold": 0.001, "iou_threshold": 0.25, "candidates": 40, "groups": "class", "most": 7}


def recipe_of(**sections: Any) -> dict[str, Any]:
    return {
        "model": RETINANET,
        "data": {"batch_size": 3, "workers": 0, "val_batch_size": 2},
        "augmentation": {"preset": "none"},
        "trainer": {"max_epochs": 1, "threads": 1, "precision": "float32", "ema_decay": None},
        **sections,
    }


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_objects(tmp_path_factory.mktemp("objects") / "boxes")


@pytest.fixture(scope="module")
def validated() -> list[DetectionOptions]:
    return []


@pytest.fixture(scope="module")
def run(boxes: Path, tmp_path_factory: pytest.TempPathFactory, validated: list[DetectionOptions]) -> Run:
    """Trained with a decoding of its own; notes what validation decoded with."""
    from delineate.engine import objects

    with pytest.MonkeyPatch.context() as patch:
        detected = objects.detected_objects

        def noted(outputs: AnchorOutputs, sizes: list[tuple[int, int]], options: DetectionOptions) -> Any:
            validated.append(options)
            return detected(outputs, sizes, options)

        patch.setattr(objects, "detected_objects", noted)
        out = tmp_path_factory.mktemp("runs") / "boxes"
        return train(recipe_of(decoding=DECODING), data=boxes, out=out, progress=False)


class Decoding(nn.Module):
    decoding = DetectionOptions(score_threshold=0.3, most=5)


def test_later_layers_win_and_what_none_names_is_the_models_own() -> None:
    assert decoding_of(Decoding()) == Decoding.decoding
    assert decoding_of(nn.Identity()) == DetectionOptions()
    found = decoding_of(Decoding(), {"score_threshold": 0.01}, {"most": 9}, {"most": 2}, iou_threshold=0.9)
    assert found == DetectionOptions(score_threshold=0.01, iou_threshold=0.9, most=2)


def test_validation_the_card_and_the_recipe_have_what_was_asked(run: Run, validated: list[DetectionOptions]) -> None:
    assert len(validated) == 2
    assert set(validated) == {DetectionOptions(**DECODING)}
    card = read_card(run.weights)
    assert card.decoding == DECODING
    assert build_recipe(read_recipe(run.recipe)).chosen_decoding == DECODING


def test_prediction_and_evaluation_begin_with_it_and_options_change_it(
    run: Run, boxes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = load(run.path)
    asked: list[DetectionOptions] = []
    found = type(predictor).found

    def noted(self: Any, pixels: np.ndarray, decoding: DetectionOptions, *window: Any) -> Any:
        asked.append(decoding)
        return found(self, pixels, decoding, *window)

    monkeypatch.setattr(type(predictor), "found", noted)
    picture = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    result = predictor.predict(picture)
    assert asked.pop() == DetectionOptions(**DECODING)
    assert len(result) <= DECODING["most"]
    predictor.predict(picture, score_threshold=0.5, most=2)
    assert asked.pop() == DetectionOptions(**{**DECODING, "score_threshold": 0.5, "most": 2})
    evaluation = measure(predictor, boxes)
    assert isinstance(evaluation, ObjectEvaluation)
    assert set(asked) == {DetectionOptions(**DECODING)}
    assert evaluation.scores["detections"] <= 3 * DECODING["most"]


def test_the_page_says_what_was_chosen(run: Run, boxes: Path, tmp_path: Path) -> None:
    report_run(run, data=boxes, out=tmp_path)
    said = "score threshold 0.001, iou threshold 0.25, candidates 40, groups class, most 7"
    assert said in (tmp_path / "report.html").read_text()


def test_an_old_card_leaves_all_to_the_model_and_the_purpose(
    run: Run, boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = json.loads(run.weights.with_suffix(".json").read_text())
    del values["decoding"]
    old = tmp_path / "model.safetensors"
    old.write_bytes(run.weights.read_bytes())
    old.with_suffix(".json").write_text(json.dumps(values))
    predictor = load(old)
    assert predictor.card.decoding == {}
    own = predictor.model.decoding
    asked = []
    monkeypatch.setattr(type(predictor), "found", lambda self, pixels, decoding, *window: asked.append(decoding))
    for use in (lambda: predictor.predict(np.zeros((9, 9, 3), np.uint8)), lambda: measure(predictor, boxes)):
        with pytest.raises(AttributeError):
            use()
    assert asked[0] == decoding_of(predictor.model, score_threshold=0.3)
    assert asked[1] == decoding_of(predictor.model, score_threshold=SCORE_THRESHOLD)
    assert (asked[0].most, asked[0].groups) == (own.most, own.groups)


@pytest.mark.parametrize("wrong", [{"most": 0}, {"mots": 3}, {"groups": "levels"}, [1]])
def test_a_card_with_another_decoding_is_refused(run: Run, tmp_path: Path, wrong: Any) -> None:
    path = tmp_path / "model.json"
    values = json.loads(run.weights.with_suffix(".json").read_text()) | {"decoding": wrong}
    path.write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"must be a model card; got something else"):
        read_card(path)


def test_an_exported_file_decodes_as_the_card_says(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from delineate.export import catalogue

    given: dict[str, Any] = {}
    monkeypatch.setattr(catalogue, "export_detector", lambda model, path, **options: given.update(options) or path)
    EXPORTERS["onnx"](*_model_path_card(run, tmp_path))
    assert given["options"] == DetectionOptions(**DECODING)
    assert given["size"] == (64, 96)


def _model_path_card(run: Run, folder: Path) -> tuple[Any, Path, Any]:
    model, card = load_weights(run.path)
    return model, folder / "model.onnx", card


@pytest.mark.slow
def test_the_file_itself_finds_no_more_than_was_asked(run: Run, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = EXPORTERS["onnx"](*_model_path_card(run, tmp_path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 255, (1, 3, 64, 96)).astype(np.float32)
    boxes, scores, *_ = session.run(None, {"images": pixels})
    found = load(run.path, precision="float32").predict(pixels[0].transpose(1, 2, 0).astype(np.uint8))
    assert len(boxes) == len(found) == DECODING["most"]
    np.testing.assert_allclose(scores, found.scores, atol=1e-3)


def test_a_stage_may_change_a_part_of_it(boxes: Path) -> None:
    from delineate.engine.stages import stage_recipes

    stages = [{}, {"decoding": {"most": 3}}, {"decoding": {"score_threshold": None}}]
    recipes = stage_recipes(build_recipe(recipe_of(decoding={"score_threshold": 0.2, "most": 50}, stages=stages)))
    assert [one.chosen_decoding for one in recipes] == [
        {"score_threshold": 0.2, "most": 50},
        {"score_threshold": 0.2, "most": 3},
        {"most": 50},
    ]


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        ({"score_threshold": 1}, r"decoding.score_threshold must be below 1; got 1\."),
        ({"score_threshold": -0.1}, r"decoding.score_threshold must be at least 0; got -0.1\."),
        ({"score_threshold": float("nan")}, r"decoding.score_threshold must be"),
        ({"iou_threshold": 1.5}, r"decoding.iou_threshold must be at most 1; got 1.5\."),
        ({"candidates": 0}, r"decoding.candidates must be at least 1; got 0\."),
        ({"most": 0}, r"decoding.most must be at least 1; got 0\."),
        ({"most": "all"}, r"decoding.most must be"),
        ({"groups": "levels"}, r"decoding.groups must be level, class; got levels\."),
        ({"iou_treshold": 0.3}, r"got 'decoding.iou_treshold'. Did you mean 'decoding.iou_threshold'\?"),
        ([0.3], r"decoding must be a section of keys; got \[0.3\]\."),
    ],
)
def test_what_cannot_be_is_said_with_its_key(decoding: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build_recipe({"model": "retinanet", "decoding": decoding})


def test_it_is_for_detectors_and_for_what_they_do(boxes: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"decoding must be left out for a segmenter; got .* 'unet'"):
        build_recipe({"model": "unet"}, ["decoding.most=5"])
    assert build_recipe({"model": "unet"}, ["decoding=null"]).decoding is None
    small = {"name": "faster_rcnn", "encoder": "test_resnet", "channels": 16, "hidden": 32}
    recipe = recipe_of(model=small, decoding={"groups": "class"})
    with pytest.raises(RecipeError, match=r"decoding.groups must be left out for 'faster_rcnn', .* got class\."):
        train(recipe, data=boxes, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_training_itself_does_not_depend_on_it(boxes: Path, tmp_path: Path, run: Run) -> None:
    plain = train(recipe_of(), data=boxes, out=tmp_path / "plain", progress=False)
    ours, theirs = (load(one.path).model.state_dict() for one in (run, plain))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert "decoding" not in json.loads(plain.weights.with_suffix(".json").read_text())
