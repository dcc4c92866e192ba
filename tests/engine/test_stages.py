from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

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
    with pytest.raises(RecipeError, match=r"stages.1 must not set stages or start.weights"):
        stage_recipes(build_recipe({"stages": [{}, {"start": {"weights": "x"}}]}))


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
