"""YOLO9000 through the recipe: boxes that know shapes, pictures that know colours too, one tree of words."""

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
from delineate.data.object_mixture import MixedObjects
from delineate.engine.object_evaluation import ObjectEvaluation
from delineate.engine.object_predictor import ObjectPredictor
from delineate.engine.objects import ObjectDetection
from delineate.engine.predictors import load, measure
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.run import Run
from delineate.engine.tasks import LEARNT
from delineate.engine.training import train
from delineate.errors import DataError, DelineateError
from delineate.structures.word_tree import WordTree
from tests.data.word_folders import COLOURS, SHAPES, coloured_pictures, write_words

WORDS = ("round", "square", "red round", "blue round", "red square", "blue square")

Folders = tuple[Path, Path, Path]


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    return write_words(tmp_path_factory.mktemp("words"))


def recipe_of(folders: Folders, **changes: Any) -> dict[str, Any]:
    boxes, named, tree = (str(path) for path in folders)
    recipe: dict[str, Any] = {
        "model": {"name": "yolo9000", "width": 0.0625, "priors": [[0.8, 0.8], [1.1, 1.1]]},
        "data": {
            "path": [str(boxes), str(named)],
            "tree": str(tree),
            "batch_size": 4,
            "val_batch_size": 2,
            "workers": 0,
        },
        "augmentation": {"preset": "light"},
        "optimizer": {"lr": 0.001},
        "trainer": {"max_epochs": 2, "ema_decay": 0.9, "threads": 1, "precision": "float32", "checkpoint_steps": 1},
    }
    for section, values in changes.items():
        recipe[section] = {**recipe.get(section, {}), **values}
    return recipe


@pytest.fixture(scope="session")
def word_run(words: Folders, tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = recipe_of(words, data={"shares": [1, 2]})
    return train(recipe, out=tmp_path_factory.mktemp("runs") / "words", progress=False)


def test_a_run_is_whole_and_needs_no_file_of_words(words: Folders, word_run: Run) -> None:
    assert not word_run.missing()
    predictor = load(word_run.path)
    assert isinstance(predictor, ObjectPredictor)
    assert predictor.taxonomy.names == WORDS
    assert predictor.model.tree.to_paths()[2:4] == ("round/red round", "round/blue round")
    recipe = build_recipe(read_recipe(word_run.recipe))
    assert recipe.data.tree == str(words[2].resolve())
    assert recipe.model["tree"] is None
    assert recipe.augmentation["size"] == [64, 96]  # named pictures, whose sizes nobody knows, do not count
    assert np.isfinite(word_run.read_curves()["train/loss"][-1][1])


def test_boxes_are_shown_with_one_word_each(word_run: Run) -> None:
    predictor = load(word_run.path)
    picture, _, _ = coloured_pictures(1)[0]
    shown = predictor.predict(picture, score_threshold=0.0)
    assert 0 < len(shown) <= 12
    assert len(np.unique(shown.boxes, axis=0)) == len(shown)
    roots = predictor.predict(picture, score_threshold=0.0, specific=1.0)
    assert set(roots.labels.tolist()) <= {0, 1}
    leaves = predictor.predict(picture, score_threshold=0.0, specific=0.0)
    assert set(leaves.labels.tolist()) <= {2, 3, 4, 5}
    assert np.allclose(leaves.scores, roots.scores)
    every = predictor.predict(picture, score_threshold=0.0, specific=None, iou_threshold=1)
    assert set(every.labels.tolist()) == set(range(6))


def test_scores_are_of_the_words_that_have_boxes(words: Folders, word_run: Run) -> None:
    evaluation = measure(word_run, words[0])
    assert isinstance(evaluation, ObjectEvaluation)
    assert list(evaluation.scores["per_class"]) == list(SHAPES)
    assert len(evaluation.images) == 3
    best = max(value for _, value in word_run.read_curves()["val/ap50"])
    assert evaluation.scores["ap50"] == pytest.approx(best, abs=0.02)
    recipe = build_recipe(read_recipe(word_run.recipe))
    trained_on = LEARNT["detection"].open_split(recipe, "train")
    assert isinstance(trained_on, MixedObjects)
    assert len(measure(word_run, trained_on).images) == 6  # of named pictures nobody knows what is in them
    other = WordTree.from_paths(["shape/square", "shape/round"])  # of which the run has never heard
    again = measure(word_run, MixedObjects(trained_on.parts[:1], other))
    assert list(again.scores["per_class"]) == list(SHAPES)
    assert again.scores["ap50"] == measure(word_run, trained_on).scores["ap50"]
    with pytest.raises(DataError, match="add it to the tree of words"):
        measure(word_run, "digits")


def test_the_commands_take_a_run_of_words(words: Folders, word_run: Run, tmp_path: Path) -> None:
    def typed(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    typed("evaluate", word_run.path, "--out", tmp_path / "evaluated")
    page = (tmp_path / "evaluated" / "report.html").read_text()
    assert "Worst images" in page
    assert "blue square" not in page
    threshold = ("--score", "0.0001", "--specific", "0")
    typed("predict", word_run.path, words[1] / "train" / "red round", "--out", tmp_path / "found", *threshold)
    found = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert {one["category_id"] for one in found["annotations"]} <= {2, 3, 4, 5}
    assert [category["name"] for category in found["categories"]] == list(WORDS)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_ends_in_the_same_weights(words: Folders, tmp_path: Path, monkeypatch, workers: int) -> None:
    recipe = recipe_of(words, data={"workers": workers}, trainer={"max_epochs": 1})
    whole = train(recipe, out=tmp_path / "whole", progress=False)
    step, calls = ObjectDetection.training_step, []

    def crash(self: ObjectDetection, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("power cut")
        return step(self, *arguments)

    monkeypatch.setattr(ObjectDetection, "training_step", crash)
    with pytest.raises(RuntimeError, match="power cut"):
        train(recipe, out=tmp_path / "cut", progress=False)
    monkeypatch.undo()
    resumed = train(resume=tmp_path / "cut", progress=False)
    ours, theirs = (load(run.path).model.state_dict() for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.curves.read_text() == whole.curves.read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": {"mosaic": 0.5}}, "augmentation.mosaic must be 0 where pictures are only named"),
        ({"augmentation": {"preset": "strong"}}, "augmentation.mosaic must be 0"),
        ({"augmentation": {"mixup": 0.5}}, "augmentation.mixup must be 0"),
        ({"augmentation": {"copy_paste": 0.5}}, "augmentation.copy_paste must be 0"),
        ({"data": {"val_split": "train"}}, "data.val_split must be another one than data.train_split"),
        (
            {"data": {"shares": [1]}},
            r"data.shares must be one number a data set with .*; got \[1.0\] for 2",
        ),
        ({"data": {"shares": [1, 0]}}, "shares"),
        ({"data": {"tree": ""}}, "data.path must be one data set for detection"),
        ({"data": {"tree": "nowhere.txt"}}, "tree must be a text file; got '.*nowhere.txt'"),
        ({"data": {"classes": ["round"]}}, "data.classes must be left out with data.tree"),
        ({"model": {"name": "yolov2"}}, "data.tree must be left out for 'yolov2', whose classes are no tree"),
        ({"model": {"tree": ["round"]}}, "model.tree must be left out, as the data decide it"),
    ],
)
def test_what_does_not_fit_is_said(words: Folders, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DelineateError, match=message):
        train(recipe_of(words, **changes), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_segmenter_has_no_words(words: Folders, tmp_path: Path) -> None:
    recipe = {"model": {"name": "unet", "encoder": "resnet18"}, "data": {"path": "digits", "tree": str(words[2])}}
    with pytest.raises(DelineateError, match=r"data.tree must be left out for a segmenter"):
        train(recipe, out=tmp_path / "run", progress=False)


@pytest.mark.slow
def test_words_that_never_had_a_box_are_found(tmp_path: Path) -> None:
    """Boxes name shapes, named pictures their colours: together they find coloured shapes."""
    size = (96, 96)
    folders = write_words(tmp_path, train=64, val=4, named=24, size=size)
    recipe = recipe_of(
        folders,
        model={"width": 0.125, "priors": [[0.9, 0.9]]},
        data={"batch_size": 16},
        augmentation={"preset": "none", "flip_horizontal": 0.5, "flip_vertical": 0.5},
        optimizer={"lr": 0.002},
        trainer={"max_epochs": 50, "validate_every": 50, "checkpoint_steps": None},
    )
    recipe["loss"] = [{"name": "yolov2", "settling": 0}]
    predictor = dl.load(train(recipe, out=tmp_path / "run", progress=False).path, precision="float32")
    right = 0
    pictures = coloured_pictures(24, size=size)
    for picture, name, (left, top, end, bottom) in pictures:
        found = predictor.predict(picture, score_threshold=0.05)
        if not len(found):
            continue
        x, y = (found.boxes[0, :2] + found.boxes[0, 2:]) / 2
        right += bool(left < x < end and top < y < bottom) and WORDS[found.labels[0]] == name
    assert len({name for _, name, _ in pictures}) == len(SHAPES) * len(COLOURS)
    assert right >= 20  # who finds every object and its shape, and guesses colours, has 12; boxes alone reached 6
