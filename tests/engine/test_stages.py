from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from delineate.engine.checkpointing import TrainingInterrupted
from delineate.engine.recipe import build_recipe, read_recipe
from delineate.engine.semantic import SemanticSegmentation
from delineate.engine.stages import final_recipe, stage_recipes
from delineate.engine.training import train
from delineate.errors import ArgumentError, RecipeError
from tests.engine.test_resume import Crash

THIN = {"width": 1 / 16, "fc_channels": 8}


def test_values_are_laid_over_section_by_section() -> None:
    stages = [
        {"trainer": {"max_epochs": 3}},
        {"model": "enet", "augmentation": {"preset": "none"}, "loss": [{"name": "soft_dice"}]},
        {"model": {"encoder": "resnet34"}, "augmentation": {"flip_vertical": 0.1}, "start": {"freeze": ["encoder"]}},
    ]
    base = {"model": {"name": "unet", "encoder": "resnet18"}, "augmentation": {"preset": "strong"}, "stages": stages}
    first, second, third = stage_recipes(build_recipe(base))
    whole = build_recipe(base)
    assert (first.trainer.max_epochs, second.trainer.max_epochs) == (3, whole.trainer.max_epochs)
    assert (first.model, second.model) == (whole.model, {"name": "enet"})
    assert second.augmentation == build_recipe({"augmentation": {"preset": "none"}}).augmentation
    assert second.loss == [{"name": "soft_dice"}]
    assert third.model == {**whole.model, "encoder": "resnet34"}
    assert third.augmentation == {**whole.augmentation, "flip_vertical": 0.1}
    assert third.start.freeze == ("encoder",)
    assert final_recipe(whole) == third
    assert final_recipe(first) == first


def test_a_stage_says_what_is_wrong_with_it() -> None:
    recipe = build_recipe({"stages": [{}, {"trainer": {"max_epoch": 3}}]})
    with pytest.raises(RecipeError, match=r"stages.1: .*trainer.max_epoch'. Did you mean 'trainer.max_epochs'"):
        stage_recipes(recipe)
    with pytest.raises(RecipeError, match=r"stages.1 must not set stages; got them. Write one list of all."):
        stage_recipes(build_recipe({"stages": [{}, {"stages": [{}]}]}))


def test_a_stage_starts_from_the_one_before_unless_it_says_from_what() -> None:
    stages = [{}, {"start": {"freeze": ["initial"]}}, {"start": {"weights": "none"}}, {"start": {"weights": "x"}}, {}]
    recipe = build_recipe({"model": "enet", "start": {"weights": "y"}, "stages": stages})
    assert [stage.start.weights for stage in stage_recipes(recipe)] == ["y", "before", "none", "x", "before"]


@pytest.fixture
def staged(squares: Path, tiny: dict[str, Any]) -> dict[str, Any]:
    return {
        **tiny,
        "data": {**tiny["data"], "path": str(squares)},
        "model": {"name": "fcn32s", **THIN},
        "trainer": {**tiny["trainer"], "max_epochs": 1, "ema_decay": None},
        "stages": [{}, {"model": {"name": "fcn16s"}}, {"model": {"name": "fcn8s"}, "optimizer": {"lr": 1e-9}}],
    }


def test_fcn_32s_then_16s_then_8s(staged: dict[str, Any], tmp_path: Path) -> None:
    run = train(staged, out=tmp_path / "run", progress=False)
    folders = [run.path / "stages" / "1", run.path / "stages" / "2", run.path]
    names = ["fcn32s", "fcn16s", "fcn8s"]
    assert [load_name(folder) for folder in folders] == names
    coarse, middle, fine = (load_file(folder / "model.safetensors") for folder in folders)
    # the last stage hardly moved: what it took over is still there, and its new skip is where it began, at zero
    torch.testing.assert_close(fine["stages.0.0.weight"], middle["stages.0.0.weight"])
    assert not torch.equal(middle["stages.0.0.weight"], coarse["stages.0.0.weight"])
    assert fine["skips.1.score.weight"].abs().max() < 1e-6
    # the folder's recipe makes all of it again, each stage's its own part
    assert len(build_recipe(read_recipe(run.recipe)).stages) == 3
    own = build_recipe(read_recipe(folders[1] / "recipe.yaml"))
    assert (own.stages, own.start.weights) == ([], str(folders[0].resolve()))
    assert run.missing() == []


def test_a_stage_from_its_own_first_weights_learns_what_it_would_alone(staged: dict[str, Any], tmp_path: Path) -> None:
    last = {"model": {"name": "enet"}, "start": {"weights": "none"}}  # shares nothing with the stage before
    run = train({**staged, "stages": [{}, last]}, out=tmp_path / "run", progress=False)
    alone = train({**staged, "model": {"name": "enet"}, "stages": []}, out=tmp_path / "alone", progress=False)
    ours, theirs = load_file(run.weights), load_file(alone.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def load_name(folder: Path) -> str:
    from delineate.engine.weights import read_card

    return read_card(folder / "model.safetensors").name


def test_a_stopped_run_goes_on_with_the_stage_it_was_in(
    staged: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(staged, out=tmp_path / "whole", progress=False)
    step, calls = SemanticSegmentation.training_step, []

    def crash(self: SemanticSegmentation, *arguments: Any) -> torch.Tensor:
        calls.append(type(self.model).__name__)
        if len(calls) == 5:  # three steps an epoch: in the second stage
            raise Crash
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SemanticSegmentation, "training_step", crash)
        with pytest.raises(Crash):
            train(staged, out=tmp_path / "stopped", progress=False)
    assert not (tmp_path / "stopped" / "model.safetensors").exists()
    first = (tmp_path / "stopped" / "stages" / "1" / "model.safetensors").stat().st_mtime_ns
    stopped = train(resume=tmp_path / "stopped", progress=False)
    assert (tmp_path / "stopped" / "stages" / "1" / "model.safetensors").stat().st_mtime_ns == first
    ours, theirs = load_file(whole.weights), load_file(stopped.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_frozen_parts_keep_weights_and_statistics(squares: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    values = {**tiny, "data": {**tiny["data"], "path": str(squares)}}
    first = train(values, out=tmp_path / "first", progress=False)
    start = {"weights": str(first.path), "freeze": ["stage1", "down1"]}
    second = train({**values, "start": start}, out=tmp_path / "second", progress=False)
    before, after = load_file(first.weights), load_file(second.weights)
    for name in before:
        frozen = name.startswith(("stage1.", "down1."))
        if frozen or before[name].is_floating_point():
            assert torch.allclose(before[name], after[name], rtol=1e-5) == frozen, name


def test_errors(squares: Path, tiny: dict[str, Any], staged: dict[str, Any], tmp_path: Path) -> None:
    values = {**tiny, "data": {**tiny["data"], "path": str(squares)}}
    with pytest.raises(RecipeError, match=r"start.freeze must name parts of enet; got 'stage'. Did you mean 'stage"):
        train({**values, "start": {"freeze": ["stage"]}}, out=tmp_path / "a", progress=False)
    with pytest.raises(ArgumentError, match=r"devices must be 1 for a recipe with stages; got 2. Train each stage"):
        train(staged, out=tmp_path / "b", devices=2, progress=False)


def test_every_stage_is_looked_through_before_the_first(staged: dict[str, Any], tmp_path: Path) -> None:
    def refused(stage: dict[str, Any], message: str, **base: Any) -> None:
        with pytest.raises(RecipeError, match=message):
            train({**staged, **base, "stages": [{}, stage]}, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()

    refused({"model": "unte"}, r"stages.1: model must be a known name; got 'unte'. Did you mean 'unet'")
    refused({"model": {"name": 3}}, r"stages.1: model.name must be the name of a model; got 3")
    refused({"model": 3}, r"stages.1: model must be a mapping; got `int`")
    refused({"model": "enet"}, r"stages.1: model must share weights with that of the stage before; got 'enet'")
    refused({"loss": [{"name": "focal", "gama": 1}]}, r"stages.1: option of loss 'focal' .* Did you mean 'gamma'")
    refused({"loss": [{"name": "focal", "alpha": [1, 2]}]}, r"stages.1: alpha must hold 3 values")
    refused({"loss": [{"name": "cross_entropy", "class_weights": "enett"}]}, r"stages.1: class_weights .* mean 'enet'")
    refused({"start": {"freeze": ["encode"]}}, r"stages.1: start.freeze must name parts of fcn32s; got 'encode'")
    refused({"data": {"train_split": "easy"}}, r"stages.1: split must be a known name; got 'easy'")
    refused({}, r"stages.0: start.weights: .* a run's folder or a file; got '.*nowhere'", start={"weights": "nowhere"})


def test_an_empty_section_of_a_stage_changes_nothing() -> None:
    base = build_recipe({"data": {"path": "cells"}, "adversarial": {}, "stages": [{"data": None, "adversarial": None}]})
    (stage,) = stage_recipes(base)
    assert stage.data == base.data
    assert stage.adversarial is None


def test_a_stage_before_the_last_is_resumed_with_its_run(
    staged: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C names the whole run; values set when it goes on are kept, also if it stops again at once."""
    step = SemanticSegmentation.training_step

    def interrupted(self: SemanticSegmentation, *arguments: Any) -> torch.Tensor:
        signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SemanticSegmentation, "training_step", interrupted)
        with pytest.raises(TrainingInterrupted, match=rf"Continue with --resume {tmp_path / 'run'}$"):
            train(staged, out=tmp_path / "run", progress=False)
        with pytest.raises(TrainingInterrupted):
            train(resume=tmp_path / "run", settings=["stages.2.trainer.max_epochs=2"], progress=False)
    run = train(resume=tmp_path / "run", progress=False)
    assert len(run.curves.read_text().splitlines()) == 3


def test_what_a_finished_stage_was_not_trained_with_is_said(
    staged: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    staged["stages"] = [{"augmentation": {"preset": "none"}}, {}]  # a crop that the images decide
    run = train(staged, out=tmp_path / "run", progress=False)
    train(resume=run.path, settings=["stages.1.trainer.max_epochs=2", "data.workers=1"], progress=False)
    assert caplog.text == ""
    train(resume=run.path, settings=["trainer.max_epochs=3"], progress=False)
    assert "stages.0 is finished and stays as it was trained: trainer.max_epochs 1, not 3." in caplog.text


def test_a_resumed_run_keeps_its_stages_and_its_models(staged: dict[str, Any], tmp_path: Path) -> None:
    staged["stages"] = staged["stages"][:2]
    run = train(staged, out=tmp_path / "run", progress=False)
    kept = run.recipe.read_bytes()
    with pytest.raises(RecipeError, match=r"stages must stay 2 in a run that goes on; got 0. Train further stages in"):
        train(resume=run.path, settings=["stages=[]"], progress=False)
    with pytest.raises(RecipeError, match=r"stages.1: a run that goes on must keep its model; got 'skips.1.*has none"):
        train(resume=run.path, settings=["stages.1.model.name=fcn8s"], progress=False)
    own = run.path / "stages" / "1"
    with pytest.raises(RecipeError, match=r"must keep its model; got '.*' of \(.*\), where '.*stages.1' has one of \("):
        train(resume=own, settings=["model.width=0.125"], progress=False)
    assert run.recipe.read_bytes() == kept
    assert build_recipe(read_recipe(own / "recipe.yaml")).model["width"] == 1 / 16


def test_a_half_written_stage_is_not_finished(staged: dict[str, Any], tmp_path: Path) -> None:
    run = train({**staged, "stages": staged["stages"][:2]}, out=tmp_path / "run", progress=False)
    card = run.path / "stages" / "1" / "model.json"
    before = card.read_text()
    card.unlink()  # killed between the weights and their card
    train(resume=run.path, progress=False)
    assert card.read_text() == before


def test_paths_are_kept_from_the_root(
    squares: Path, staged: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(squares.parent)
    first = train({**staged, "stages": []}, out=tmp_path / "first", progress=False)
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(squares)
    stages = [{"start": {"weights": "first"}, "data": {"path": relative}}, {"data": {"path": [relative]}}]
    run = train({**staged, "stages": stages}, out=tmp_path / "run", progress=False)
    written = build_recipe(read_recipe(run.recipe)).stages
    assert written[0] == {"start": {"weights": str(first.path.resolve())}, "data": {"path": str(squares.resolve())}}
    assert written[1] == {"data": {"path": [str(squares.resolve())]}}
