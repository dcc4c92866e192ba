"""What a session begins with is checked before its run has a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from delineate.engine import preparation
from delineate.engine.preparation import check_parts, check_recipe, load_start, new_model
from delineate.engine.recipe import build_recipe
from delineate.engine.run import Run
from delineate.engine.session import Session
from delineate.engine.training import train
from delineate.errors import ArgumentError, RecipeError, RunError
from delineate.models.catalogue import create_model


@pytest.fixture
def values(squares: Path, tiny: dict[str, Any]) -> dict[str, Any]:
    return {**tiny, "data": {**tiny["data"], "path": str(squares)}}


def test_something_is_left_to_learn() -> None:
    with torch.device("meta"):
        model = create_model("enet", num_classes=3)
    parts = [name for name, _ in model.named_children()]
    check_parts(model, build_recipe({"model": "enet", "start": {"freeze": parts[:-1]}}))
    with pytest.raises(RecipeError, match=r"start.freeze must leave something to learn; got all of enet \(initial, "):
        check_parts(model, build_recipe({"model": "enet", "start": {"freeze": parts}}))


def test_nothing_is_left_behind_by_what_cannot_start(values: dict[str, Any], tiny_run: Run, tmp_path: Path) -> None:
    def refused(kind: type[Exception], message: str, **changes: Any) -> None:
        with pytest.raises(kind, match=message):
            train({**values, **changes}, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()

    refused(
        RecipeError,
        "start.weights: .* a run's folder or a file; got '.*nowhere'",
        start={"weights": "nowhere"},
    )
    weights = {"weights": str(tiny_run.path)}
    refused(RecipeError, "start.weights: weights must have names and shapes", start=weights, model={"name": "unet"})
    loss = [{"name": "cross_entropy", "class_weights": [1, 2]}]
    refused(ArgumentError, "class_weights must hold 3 values, one a class; got", loss=loss)
    loss = [{"name": "cross_entropy"}, {"name": "soft_dice", "auxiliary_weight": [1, 0.5]}]
    text = r"loss 'soft_dice' must hold one weight a side head; got \[1.0, 0.5\], where model '{}' has"
    refused(RecipeError, text.format("enet") + " 0 side heads", loss=loss)
    pspnet = {"name": "pspnet", "encoder": "resnet18"}
    refused(RecipeError, text.format("pspnet") + r" 1 side head\. One number", loss=loss, model=pspnet)
    stages: list[dict[str, Any]] = [{}, {"model": pspnet, "loss": loss}]
    refused(RecipeError, r"stages\.1: .*" + text.format("pspnet") + " 1 side head", stages=stages)


def test_side_heads_are_counted_without_a_trace(values: dict[str, Any]) -> None:
    values["model"] = {"name": "pspnet", "encoder": "resnet18"}
    values["loss"] = [{"name": "cross_entropy", "auxiliary_weight": [0.4]}]
    state = torch.get_rng_state()
    session = Session(build_recipe(values), devices=1)
    assert torch.equal(torch.get_rng_state(), state)
    fresh = new_model(session.recipe, {"encoder": "resnet18", "num_classes": 3}).state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in session.model.state_dict().items())


def test_weights_from_a_run_and_from_its_files(values: dict[str, Any], tiny_run: Run) -> None:
    recipe = build_recipe(values)
    model = new_model(recipe, {"num_classes": 3})
    assert load_start(model, recipe) is None
    for path in (tiny_run.path, tiny_run.weights, tiny_run.last_checkpoint):
        report = load_start(model, build_recipe({**values, "start": {"weights": str(path)}}))
        assert report is not None
        assert report.complete


def test_a_download_that_fails_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **options: Any) -> torch.nn.Module:
        raise ConnectionError("no route to host\nand a page more")

    monkeypatch.setattr(preparation, "create_model", offline)
    recipe = build_recipe({"model": {"name": "unet", "pretrained": True}})
    with pytest.raises(RunError, match=r"weights of model 'unet' must be downloaded .* \(no route to host\)\. To do"):
        new_model(recipe, {"pretrained": True})
    with pytest.raises(ConnectionError, match="no route"):  # not of any download
        new_model(recipe, {})


def test_what_goes_on_needs_neither_network_nor_starting_weights(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["model"] = {"name": "unet", "encoder": "resnet18", "decoder_channels": [8, 8, 8, 8]}
    values["trainer"] |= {"max_epochs": 1}
    run = train(values, out=tmp_path / "run", progress=False)
    made = []

    def noted(name: str, **options: Any) -> torch.nn.Module:
        made.append(options)
        return create_model(name, **options)

    monkeypatch.setattr(preparation, "create_model", noted)
    train(resume=run.path, settings=["model.pretrained=true", "start.weights=gone.pth"], progress=False)
    assert "pretrained" not in made[0]


def test_looking_through_a_recipe_makes_no_weights(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    values["loss"] = [{"name": "cross_entropy", "class_weights": "enet"}]
    model, _ = check_recipe(build_recipe(values))
    assert all(parameter.is_meta for parameter in model.parameters())
