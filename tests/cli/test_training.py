import json
import shutil
from types import SimpleNamespace

import pytest

from delineate.cli.training import _print_objects

SETTINGS = ("augmentation.preset=none", "augmentation.crop=[16,16]", "data.batch_size=4", "data.workers=0")
SETTINGS += ("trainer.max_epochs=1", "trainer.threads=1", "trainer.precision=float32")
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


def test_train_evaluates_and_says_where_everything_is(typed, halves, tmp_path):
    result = typed("train", "enet", "--data", halves, "--out", tmp_path / "run", *SMALL)
    assert result.exit_code == 0
    assert f"run: {tmp_path / 'run'}\n" in result.output
    assert "halves / val: 3 images" in result.output
    scores = json.loads((tmp_path / "run/metrics.json").read_text())
    assert f"miou {scores['miou']:.4f}" in result.output
    assert f"report: {tmp_path / 'run/report.html'}\n" in result.output
    assert f"use it: delineate predict {tmp_path / 'run'} IMAGES" in result.output
    again = typed("train", "enet", "--data", halves, "--out", tmp_path / "run", *SMALL)
    assert "out must be a folder without" in str(again.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["unett"], "Did you mean 'unet'?"),
        (["unet", "--set", "model.encoder=resnet999"], "encoder must be a known name; got 'resnet999'"),
        (["unet", "--set", "model.encodr=resnet18"], "Did you mean 'encoder'?"),
        (["unet", "--set", "trainer.max_epoch=3"], "Did you mean 'trainer.max_epochs'?"),
        (["unet", "--set", "trainer.max_epochs=three"], "trainer.max_epochs must be `int`"),
        (["unet", "--set", "trainer.max_epochs"], "--set must be key=value"),
        (["enet", "--set", "data.train_split=trian"], "Did you mean 'train'?"),
        (["enet", "--set", "loss.0.name=soft_dise"], "Did you mean 'soft_dice'?"),
        (["absent.yaml"], "recipe must be a readable file; got 'absent.yaml'"),
        (["enet", "--devices", "0"], "devices must be at least 1; got 0."),
    ],
)
def test_what_train_refuses(typed, halves, words, message, tmp_path):
    result = typed("train", *words, "--data", halves)
    assert result.exit_code == 1
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "desk/runs").exists()


def test_a_width_where_a_list_is_wanted(shell, halves):
    # in a process of its own: this one checks annotations before the model can
    result = shell("train", "unet", "--data", halves, "--set", "model.decoder_channels=64")
    assert result.returncode == 1
    assert result.stderr == "error: decoder_channels must be a list of widths, coarsest first; got 64.\n"


def test_resume_of_nothing(typed, tmp_path):
    assert "run must be a folder that training made" in str(typed("train", "--resume", tmp_path).exception)


def test_evaluate_on_another_split_leaves_the_runs_own_scores_alone(typed, trained, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    (run / "metrics.json").write_text("mine")
    result = typed("evaluate", run, "--split", "train", "--no-boundary", "--tta", "flip")
    assert result.exit_code == 0
    assert "halves / train: 4 images" in result.output
    assert "boundary" not in result.output
    folder = run / "evaluations" / "halves-train-flip"
    assert f"report: {folder / 'report.html'}\n" in result.output
    assert json.loads((folder / "metrics.json").read_text())["split"] == "train"
    assert (run / "metrics.json").read_text() == "mine"
    assert "split must be a known name; got 'vall'" in str(typed("evaluate", run, "--split", "vall").exception)


def test_evaluate_with_a_crf_has_a_folder_of_its_own(typed, trained, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    result = typed("evaluate", run, "--no-boundary", "--crf", "iterations=1")
    assert result.exit_code == 0
    assert f"report: {run / 'evaluations/halves-val-crf-iterations-1/report.html'}\n" in result.output


def test_evaluate_with_every_refinement(typed, trained, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    words = ("--tta", "flip", "--crf", "iterations=1", "--superpixels", "graph", "--islands", 30, "--holes", 9)
    assert typed("evaluate", run, "--no-boundary", *words).exit_code == 0
    (folder,) = (run / "evaluations").iterdir()
    assert folder.name == "halves-val-flip-crf-iterations-1-superpixels-graph-islands-30-holes-9"
    page = (folder / "report.html").read_text(encoding="utf-8")
    for text in ("graph, sigma=0.8", "iterations=1", "fewer than 30 pixels", "at most 9 pixels"):
        assert text in page
    assert "islands must be an area of 0 pixels" in str(typed("evaluate", run, "--islands", "-1").exception)


def test_evaluate_cells(typed, trained, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    result = typed("evaluate", run, "--no-boundary", "--cells", "tree")
    assert result.exit_code == 0
    cells = json.loads((run / "metrics.json").read_text())["cells"]
    assert f"cells of 'tree': Rand F {cells['rand']:.4f} at threshold {cells['threshold']:.2f}, split" in result.output
    assert f"pixel error {cells['pixel_error']:.4f}\n" in result.output
    assert "cells of" not in typed("evaluate", run, "--no-boundary").output
    assert "got 'tre'. Did you mean 'tree'?" in str(typed("evaluate", run, "--cells", "tre").exception)


def test_evaluate_refuses_damaged_weights(typed, trained, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    result = typed("evaluate", run)
    assert result.exit_code == 1
    assert f"{weights} must be a safetensors file; got a damaged one" in str(result.exception)
    assert "run must be a folder that training made" in str(typed("evaluate", tmp_path).exception)


def test_the_last_line_of_joints_has_their_own_recall(monkeypatch, capsys):
    monkeypatch.setattr("delineate.report.figures.class_rows", lambda _: (["class", "AP"], [["person", 0.5]]))
    monkeypatch.setattr("delineate.report.figures.error_rows", lambda _: [["missed", 1, 0.1, "not found"]])
    scores = {"ap": 0.5, "ap50": 0.75, "ap75": 0.25, "ar20": 0.625, "errors": {}}
    score = SimpleNamespace(ground_truth="pictures")
    _print_objects(SimpleNamespace(as_score=lambda _: score, images=(), scores=scores))
    assert capsys.readouterr().out.endswith("ap 0.5000  ap50 0.7500  ap75 0.2500  ar20 0.6250\n")
