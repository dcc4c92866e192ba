import json
import shutil

import pytest

from delineate.cli.refinement import numbers

FEW = ("--bilateral-weight", "3,6", "--bilateral-sigma-xy", "10", "--bilateral-sigma-rgb", "20", "--iterations", 2)


def test_tune_prints_the_best_and_writes_what_evaluate_takes(typed, trained, tmp_path):
    run = shutil.copytree(trained.path, tmp_path / "run")
    result = typed("tune-crf", run, *FEW, "--images", 2)
    assert result.exit_code == 0
    found = json.loads((run / "crf.json").read_text())
    assert "halves / val: 2 images, 4 trials" in " ".join(result.output.split())
    assert "bilateral_weight" in result.output
    assert (
        "in all: bilateral_sigma_xy 10, bilateral_sigma_rgb 20, gaussian_weight 3, gaussian_sigma 3, 2 iterations"
        in (result.output)
    )
    without, best = found["without"]["miou"], found["trials"][0]["miou"]
    assert f"without a CRF: miou {without:.4f}  best: miou {best:.4f}\n" in result.output
    assert f"written: {run / 'crf.json'}\n" in result.output
    assert f"use it: delineate predict {run} IMAGES --crf {run / 'crf.json'}\n" in result.output
    evaluated = typed("evaluate", run, "--no-boundary", "--crf", run / "crf.json", "--out", tmp_path / "scores")
    assert evaluated.exit_code == 0


def test_another_file_split_and_one_round(typed, trained, tmp_path):
    out = tmp_path / "new" / "streets.json"
    result = typed("tune-crf", trained.path, *FEW, "--split", "train", "--rounds", 1, "--tta", "flip", "--out", out)
    assert result.exit_code == 0
    assert json.loads(out.read_text())["split"] == "train"
    assert "4 images, 2 trials" in " ".join(result.output.split())
    assert not (trained.path / "crf.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bilateral-weight", "5;6"], "--bilateral-weight must be numbers with commas between them; got '5;6'."),
        (["--gaussian-sigma", "-1"], "gaussian_sigma must hold values of 0 or more"),
        (["--images", "0"], "images must be at least 1; got 0"),
        (["--split", "vall"], "split must be a known name; got 'vall'"),
    ],
)
def test_what_tune_refuses(typed, trained, words, message):
    result = typed("tune-crf", trained.path, *words)
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_tune_of_nothing(typed, tmp_path):
    assert "run must be a folder that training made" in str(typed("tune-crf", tmp_path).exception)


def test_numbers():
    assert numbers("a", "3") == [3.0]
