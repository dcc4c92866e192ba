"""Weights know pixels as they learned them: who starts from a run takes over its preprocessing, or is told why not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from delineate.engine.recipe import build_recipe
from delineate.engine.run import Run
from delineate.engine.session import Session
from delineate.engine.start_preprocessing import started_preprocessing
from delineate.engine.training import train
from delineate.engine.weights import ModelCard, read_card, save_weights
from delineate.errors import RecipeError
from delineate.files import write_json
from delineate.models.catalogue import create_model
from delineate.models.pretrained import MatchReport
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

THEIRS = Preprocessing((0.1, 0.2, 0.3), (1.0, 1.0, 0.5))


def save_enet(folder: Path, preprocessing: Preprocessing = THEIRS) -> Path:
    """A run's weights that saw pixels in another way."""
    options = {"in_channels": preprocessing.channels, "num_classes": 3}
    card = ModelCard("enet", options, preprocessing, Taxonomy.numbered(3))
    save_weights(folder / "model.safetensors", create_model("enet", **options).state_dict(), card)
    return folder


@pytest.fixture
def recipe(squares: Path, tiny: dict[str, Any]) -> dict[str, Any]:
    trainer = {**tiny["trainer"], "max_epochs": 1}
    return {**tiny, "data": {**tiny["data"], "path": str(squares)}, "trainer": trainer}


def starting_from(recipe: dict[str, Any], weights: Path) -> Session:
    return Session(build_recipe({**recipe, "start": {"weights": str(weights)}}), devices=1)


def test_the_weights_preprocessing_comes_with_them(recipe: dict[str, Any], tmp_path: Path) -> None:
    weights = save_enet(tmp_path / "started")
    for start in (weights, weights / "model.safetensors"):
        session = starting_from(recipe, start)
        assert session.preprocessing == session.card.preprocessing == THEIRS
        assert session.note == "preprocessing: that of the weights, mean [0.1, 0.2, 0.3], std [1, 1, 0.5]"


def test_without_a_card_or_with_the_usual_one_nothing_is_said(recipe: dict[str, Any], tmp_path: Path) -> None:
    bare = save_enet(tmp_path / "bare") / "model.safetensors"
    bare.with_suffix(".json").unlink()
    for start in (bare, save_enet(tmp_path / "usual", Preprocessing())):
        session = starting_from(recipe, start)
        assert (session.preprocessing, session.note) == (Preprocessing(), "")


def test_weights_whose_first_layer_does_not_fit_bring_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    grey = save_enet(tmp_path / "grey", Preprocessing((0.5,), (0.25,)))
    session = starting_from(recipe, grey)
    assert session.preprocessing == Preprocessing()
    assert session.note == (
        "preprocessing: the usual one, not the weights' (mean [0.5], std [0.25]), as their first layer differs"
    )


class Insisting(nn.Sequential):
    preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3)


def test_a_model_that_insists_on_its_own_is_not_started_from_others(recipe: dict[str, Any], tmp_path: Path) -> None:
    started = save_enet(tmp_path / "started")
    checked = build_recipe({**recipe, "start": {"weights": str(started)}})
    report = MatchReport(("0.weight",), (), (), ())
    message = r"start.weights must know pixels as 'enet' does \(mean \[0.5, 0.5, 0.5\], .* Leave out model.weights\."
    with pytest.raises(RecipeError, match=message):
        started_preprocessing(Insisting(nn.Conv2d(3, 2, 1)), checked, report)
    assert started_preprocessing(Insisting(nn.Conv2d(3, 2, 1)), checked, None) == (Insisting.preprocessing, "")
    same = save_enet(tmp_path / "same", Insisting.preprocessing)
    checked = build_recipe({**recipe, "start": {"weights": str(same)}})
    assert started_preprocessing(Insisting(nn.Conv2d(3, 2, 1)), checked, report) == (Insisting.preprocessing, "")


def test_a_resumed_run_keeps_it_though_what_it_started_from_is_gone(recipe: dict[str, Any], tmp_path: Path) -> None:
    started = save_enet(tmp_path / "started")
    run = train({**recipe, "start": {"weights": str(started)}}, out=tmp_path / "run", progress=False)
    assert read_card(run.weights).preprocessing == THEIRS
    shutil.rmtree(started)
    train(resume=run.path, settings=["trainer.max_epochs=2"], progress=False)
    assert read_card(run.weights).preprocessing == THEIRS
    assert [one["preprocessing"] for one in run.read_environment()["sessions"]] == [
        {"mean": list(THEIRS.mean), "std": list(THEIRS.std)}
    ] * 2


def test_a_resumed_run_keeps_what_published_weights_asked_for(recipe: dict[str, Any], tmp_path: Path) -> None:
    """A model that goes on is made without its published weights, which would have said how it sees pixels."""
    write_json(tmp_path / "environment.json", {"sessions": [{}, {"preprocessing": THEIRS.to_dict()}]})
    plain, checked = nn.Sequential(nn.Conv2d(3, 2, 1)), build_recipe(recipe)
    assert started_preprocessing(plain, checked, None, Run(tmp_path)) == (THEIRS, "")
    older = Run(tmp_path / "older")  # of a version that did not note it
    assert started_preprocessing(plain, checked, None, older) == (Preprocessing(), "")
