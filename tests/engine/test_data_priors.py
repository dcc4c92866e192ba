"""Priors that the training boxes decide: found before the model is made, written down, and kept from then on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from delineate.data.anchor_priors import anchor_priors, mean_best_iou
from delineate.engine.data_priors import MOST_CLUSTERED, asked_count, with_data_priors
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run
from delineate.engine.session import Session
from delineate.engine.tasks import LEARNT
from delineate.engine.training import train
from delineate.engine.weights import read_card
from delineate.errors import RecipeError
from delineate.models.multibox import clustered_boxes
from delineate.ops.anchors import YOLOV2_VOC_PRIORS
from tests.data.object_folder import write_objects

SMALL: dict[str, dict[str, Any]] = {
    "yolov2": {"width": 0.0625},
    "yolo9000": {"width": 0.0625},
    "multibox": {"encoder": "test_resnet", "bins": 2, "hidden": [8]},
}


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_objects(tmp_path_factory.mktemp("objects") / "boxes")


def recipe_of(folder: Path, priors: Any, model: str = "yolov2", **sections: Any) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "model": {"name": model, **SMALL[model], "priors": priors},
        "data": {"path": str(folder), "batch_size": 3, "workers": 0},
        "augmentation": {"preset": "none"},
        "trainer": {"max_epochs": 1, "ema_decay": None, "threads": 1, "precision": "float32"},
    }
    for section, values in sections.items():
        recipe[section] = {**recipe.get(section, {}), **values}
    return recipe


def settled(values: dict[str, Any]) -> list[list[float]]:
    """The priors that training would begin with."""
    recipe = build_recipe(values)
    task = LEARNT[recipe.task]
    options = {key: value for key, value in recipe.model.items() if key != "name"} | {"num_classes": 2}
    found = with_data_priors(recipe, task, task.open_split(recipe, "train"), options)
    priors: list[list[float]] = found.model["priors"]
    return priors


def true_boxes(folder: Path) -> np.ndarray:
    """xyxy of the training split."""
    found = json.loads((folder / "annotations" / "instances_train.json").read_text())["annotations"]
    rows = np.array([one["bbox"] for one in found], float)
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:]], axis=1)


def test_yolo_has_as_many_as_usual_in_cells_of_what_it_sees(boxes: Path) -> None:
    corners = true_boxes(boxes)
    sides = (corners[:, 2:] - corners[:, :2]) / 32  # the pictures of 64 x 96 are shown as they are
    found = settled(recipe_of(boxes, "data"))
    assert len(found) == len(YOLOV2_VOC_PRIORS)
    np.testing.assert_allclose(found, anchor_priors(sides, 5, seed=0).sizes, atol=5e-5)
    assert mean_best_iou(sides, np.array(found)) > mean_best_iou(sides, np.array(YOLOV2_VOC_PRIORS))
    double = settled(recipe_of(boxes, {"count": 2}, augmentation={"size": [128, 192]}))
    np.testing.assert_allclose(double, 2 * anchor_priors(sides, 2, seed=0).sizes, atol=1e-4)
    wide = settled(recipe_of(boxes, {"count": 2}, augmentation={"fit": "stretch", "scale": [1, 1], "size": [64, 192]}))
    np.testing.assert_allclose(wide, anchor_priors(sides * [2, 1], 2, seed=0).sizes, atol=1e-4)


def test_yolo9000_has_its_three_and_the_command_line_asks_for_them_too(boxes: Path) -> None:
    corners = true_boxes(boxes)
    found = settled(recipe_of(boxes, "data", "yolo9000"))
    np.testing.assert_allclose(found, anchor_priors((corners[:, 2:] - corners[:, :2]) / 32, 3, seed=0).sizes, atol=5e-5)
    for setting, asked in (("model.priors=data", "data"), ("model.priors.count=7", {"count": 7})):
        recipe = build_recipe({"model": "yolov2"}, [setting])
        assert recipe.model["priors"] == asked
        assert build_recipe(recipe.to_dict()) == recipe


def test_multibox_has_whole_boxes_as_shares(boxes: Path) -> None:
    shares = torch.from_numpy(true_boxes(boxes) / [96, 64, 96, 64]).float()
    found = settled(recipe_of(boxes, {"count": 3}, "multibox"))
    np.testing.assert_allclose(found, clustered_boxes(shares, 3, seed=0).numpy(), atol=1e-4)
    # a canvas of 64 x 128 has 16 pixels free on either side
    framed = settled(recipe_of(boxes, {"count": 3}, "multibox", augmentation={"size": [64, 128]}))
    inside = torch.from_numpy((true_boxes(boxes) + np.array([16, 0, 16, 0])) / [128, 64, 128, 64]).float()
    np.testing.assert_allclose(framed, clustered_boxes(inside, 3, seed=0).numpy(), atol=1e-4)


def test_the_recipes_seed_decides_and_nothing_else(boxes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    monkeypatch.setattr(
        "delineate.engine.data_priors.anchor_priors",
        lambda sizes, count, *, seed: seeds.append(seed) or anchor_priors(sizes, count, seed=seed),
    )
    first = settled(recipe_of(boxes, "data", trainer={"seed": 7}))
    assert settled(recipe_of(boxes, "data", trainer={"seed": 7})) == first
    assert seeds == [7, 7]


def test_numbers_and_the_models_own_are_left_alone(boxes: Path) -> None:
    for priors in ([[1.0, 1.0], [2.0, 3.0]], None):
        assert settled(recipe_of(boxes, priors)) == priors


@pytest.mark.parametrize("wrong", ["date", "", {"count": 0}, {"count": True}, {"count": 1.5}, {"cuont": 3}, {}])
def test_another_wish_is_refused(wrong: Any) -> None:
    with pytest.raises(
        RecipeError, match=r"model.priors must be data, {count: N} with N above 0, or a list of numbers"
    ):
        asked_count(wrong)


def test_too_few_boxes_are_said_before_a_folder_is_made(tmp_path: Path) -> None:
    few = write_objects(tmp_path / "few", train=2, val=1)
    message = r"model.priors must be no more than the different box sizes in split 'train' of 'few', 1 in all; got 5\."
    with pytest.raises(RecipeError, match=message):
        train(recipe_of(few, "data"), out=tmp_path / "run", progress=False)
    with pytest.raises(RecipeError, match=r"different boxes .*, 2 in all; got 3\. .* with priors: {count: 2}"):
        train(recipe_of(few, {"count": 3}, "multibox"), out=tmp_path / "run", progress=False)
    none = write_objects(tmp_path / "none", train=1, val=1)
    with pytest.raises(RecipeError, match=r", 0 in all; got 1\. Choose a split with objects\."):
        train(recipe_of(none, {"count": 1}), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_of_very_many_boxes_some_are_clustered(boxes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from delineate.engine import data_priors

    assert MOST_CLUSTERED > 10_000
    monkeypatch.setattr(data_priors, "MOST_CLUSTERED", 4)
    found = settled(recipe_of(boxes, {"count": 4}, "multibox"))  # four boxes are their own clusters
    shares = true_boxes(boxes) / [96, 64, 96, 64]
    for prior in found:
        assert np.abs(shares - prior).max(axis=1).min() < 1e-4


@pytest.fixture(scope="module")
def run(boxes: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    values = recipe_of(boxes, {"count": 2})
    return train(values, out=tmp_path_factory.mktemp("run") / "it", progress=False)


def test_the_run_and_its_card_hold_the_numbers(run: Run, boxes: Path) -> None:
    numbers = settled(recipe_of(boxes, {"count": 2}))
    assert build_recipe(read_recipe(run.recipe)).model["priors"] == numbers
    assert read_card(run.weights).options["priors"] == numbers


def test_a_run_that_starts_from_another_keeps_what_its_weights_are_relative_to(run: Run, boxes: Path) -> None:
    numbers = read_card(run.weights).options["priors"]
    larger = recipe_of(boxes, {"count": 2}, augmentation={"size": [128, 192]}, start={"weights": str(run.path)})
    session = Session(build_recipe(larger), devices=1)
    assert session.recipe.model["priors"] == numbers == session.card.options["priors"]
    torch.testing.assert_close(session.model.priors, torch.tensor(numbers))
    more = {**larger, "model": {**larger["model"], "priors": {"count": 3}}}
    assert settled(more) == settled({**more, "start": {}})  # of another number nothing can be kept


def test_a_resumed_run_goes_on_with_its_numbers(run: Run, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run.path, tmp_path / "run")
    before = read_recipe(run.recipe)["model"]["priors"]
    resumed = train(resume=tmp_path / "run", settings=["trainer.max_epochs=2"], progress=False)
    assert read_recipe(resumed.recipe)["model"]["priors"] == before
    assert read_card(resumed.weights).options["priors"] == before


@pytest.mark.slow
def test_stages_share_the_priors_of_the_first(boxes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stages = [{}, {"augmentation": {"size": [128, 192]}}]
    values = {**recipe_of(boxes, {"count": 2}), "stages": stages}
    staged = train(values, out=tmp_path / "run", progress=False)
    first = read_card(staged.path / "stages" / "1" / "model.safetensors").options["priors"]
    assert read_card(staged.weights).options["priors"] == first == settled(recipe_of(boxes, {"count": 2}))
    train(resume=staged.path, settings=["stages.1.trainer.max_epochs=2"], progress=False)
    assert read_card(staged.weights).options["priors"] == first
    assert "stays as it was trained" not in caplog.text  # size and priors were left to the data, not changed
