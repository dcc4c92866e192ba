"""A run folder is never taken twice, and says what it lacks."""

from __future__ import annotations

import json
import math

import pytest

from delineate.engine.run import RUN_VARIABLE, Run, environment_facts, new_run, open_run
from delineate.errors import RunError
from delineate.files import write_json


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(RUN_VARIABLE, "")  # so that what a test sets is gone after it
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def test_names_are_unique():
    runs = [new_run("digits-unet") for _ in range(3)]
    assert [run.path.as_posix() for run in runs] == [f"runs/digits-unet{end}" for end in ("", "-2", "-3")]
    assert all(run.path.is_dir() for run in runs)


def test_a_chosen_folder_is_made_or_taken_when_free(tmp_path):
    assert new_run("x", tmp_path / "a" / "b").path == tmp_path / "a" / "b"
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert new_run("x", str(tmp_path / "a")).path == tmp_path / "a"
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("recipe.yaml", r"without a run; got '.*taken'. Choose another, or continue it with --resume .*taken"),
        ("model.safetensors", r"without weights; got '.*', which holds 'model\.safetensors'"),
        ("checkpoints/last.ckpt", r"which holds 'checkpoints/last\.ckpt'"),
    ],
)
def test_nothing_is_overwritten(tmp_path, file, text):
    (tmp_path / "taken" / file).parent.mkdir(parents=True)
    (tmp_path / "taken" / file).write_text("precious")
    with pytest.raises(RunError, match=text):
        new_run("x", tmp_path / "taken")
    assert (tmp_path / "taken" / file).read_text() == "precious"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"got '.*file', which is a file"):
        new_run("x", tmp_path / "file")


def test_other_processes_of_a_run_find_its_folder(monkeypatch):
    first = new_run("x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_run("x").path == first.path.resolve()
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert new_run("x").path.name == "x-2"


def test_what_is_missing_is_listed(tmp_path, tiny_run):
    assert Run(tmp_path).missing() == [
        "recipe.yaml",
        "model.safetensors",
        "model.json",
        "checkpoints/last.ckpt",
        "metrics.csv",
        "environment.json",
    ]
    assert tiny_run.missing() == []


def test_a_folder_without_a_recipe_is_no_run(tmp_path, tiny_run):
    with pytest.raises(RunError, match=r"run must be a folder that training made; got '.*', which holds no recipe"):
        open_run(tmp_path)
    assert open_run(str(tiny_run.path)) == Run(tiny_run.path)


def test_a_run_that_was_not_evaluated_says_how(tmp_path):
    with pytest.raises(RunError, match=r"without metrics\.json. Run: delineate evaluate "):
        Run(tmp_path).read_metrics()
    assert Run(tmp_path).read_environment() == {}
    assert Run(tmp_path).read_curves() == {}


def test_curves_skip_empty_cells(tmp_path):
    run = Run(tmp_path)
    run.curves.write_text("epoch,step,lr,val/miou\n1,3,0.1,\n2,6,0.05,0.25\n3,9,1e-05,\n")
    assert run.read_curves() == {"lr": [(1, 0.1), (2, 0.05), (3, 1e-5)], "val/miou": [(2, 0.25)]}
    run.curves.write_text("epoch,step,lr\n")
    assert run.read_curves() == {"lr": []}


def test_the_curves_of_a_run(tiny_run):
    curves = tiny_run.read_curves()
    assert [epoch for epoch, _ in curves["val/miou"]] == [1, 2]
    assert all(math.isfinite(value) for points in curves.values() for _, value in points)
    assert {"lr", "train/loss", "val/loss", "val/miou", "val/pixel_accuracy"} <= set(curves)


def test_the_environment_is_plain_values(tmp_path, tiny_run):
    facts = environment_facts(seed=3, skipped=["a.png"])
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["libraries"]["torch"]
    assert facts["seed"] == 3
    assert facts["cores"] >= 1
    session = tiny_run.read_environment()["sessions"][-1]
    assert session["finished"]
    assert (session["epochs"], session["train_images"], session["val_images"], session["skipped"]) == (2, 12, 5, [])


def test_undefined_numbers_are_null_on_disk_and_nan_again(tmp_path):
    run, nan = Run(tmp_path), float("nan")
    write_json(run.metrics, {"miou": nan, 3: (0.5, [nan]), "text": "NaN", "none": 0})
    assert json.loads(run.metrics.read_text()) == {"miou": None, "3": [0.5, [None]], "text": "NaN", "none": 0}
    back = run.read_metrics()
    assert math.isnan(back["miou"])
    assert math.isnan(back["3"][1][0])
    assert (back["text"], back["none"]) == ("NaN", 0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(run.metrics, {"miou": float("inf")})
    assert math.isnan(run.read_metrics()["miou"])  # the old file stayed


def test_a_run_that_failed_before_its_first_checkpoint_may_be_tried_again(tmp_path):
    failed = Run(tmp_path / "failed")
    failed.path.mkdir()
    failed.recipe.write_text("model: {name: unet}\n")
    failed.environment.write_text("{}")
    assert new_run("again", failed.path).path == failed.path
