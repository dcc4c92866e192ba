import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def test_a_healthy_folder_passes(typed, halves):
    result = typed("data", "check", halves)
    assert result.exit_code == 0
    assert "mask-folders, 2 classes, images: 4 in train, 3 in val" in result.output
    assert "nothing would break training" in result.output


def test_five_defects_are_named_and_the_exit_status_is_1(typed, halves):
    truncated = halves / "train/images/train0.png"
    truncated.write_bytes(truncated.read_bytes()[:400])
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(halves / "train/masks/train1.png")
    Image.fromarray(np.full((24, 32), 9, np.uint8)).save(halves / "train/masks/train2.png")
    (halves / "val/masks/val0.png").unlink()
    shutil.copy(halves / "train/images/train3.png", halves / "val/images/val1.png")

    result = typed("data", "check", halves, "--out", "report.json")
    assert result.exit_code == 1
    errors = [line for line in result.output.splitlines() if line.startswith("error ")]
    expected = {
        "unreadable": "train/images/train0.png",
        "size-mismatch": "train/masks/train1.png",
        "unknown-id": "train/masks/train2.png",
        "missing-mask": "val/images/val0.png",
        "duplicate-across-splits": "val/images/val1.png",
    }
    assert {line.split()[1]: line.split()[2] for line in errors} == expected
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert not report["ok"]
    assert report["errors"] == 5
    named = {problem["kind"]: problem["file"] for problem in report["problems"] if problem["severity"] == "error"}
    assert named == {kind: str(halves / file) for kind, file in expected.items()}


def test_json_alone_goes_to_the_screen(typed, halves):
    result = typed("data", "check", halves, "--json")
    assert json.loads(result.output)["images"] == {"train": 4, "val": 3}


@pytest.mark.data
def test_camvid_passes(typed, real_data):
    result = typed("data", "check", real_data / "camvid")
    assert result.exit_code == 0
    assert "11 classes, images: 367 in train, 101 in val" in result.output


def test_what_is_no_data_set(typed, halves, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "empty", "with nothing in it"),
        (tmp_path / "gone", "path must be a folder that exists"),
        (halves / "classes.txt", "path must be a data set's folder; got a file"),
    ):
        result = typed("data", "check", path)
        assert result.exit_code == 1
        assert message in str(result.exception)
    assert "Did you mean 'voc'?" in str(typed("data", "check", halves, "--format", "vok").exception)


def test_stats_counts_and_draws(typed, halves):
    result = typed("data", "stats", halves, "--split", "val", "--plot", "classes.png")
    assert result.exit_code == 0
    assert "halves / val: 3 images" in result.output
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if line}
    pixels = [int(rows[name][2].replace(",", "")) for name in ("road", "tree")]
    assert sum(pixels) == 3 * 24 * 32
    with Image.open("classes.png") as plot:
        assert plot.width > 400
    plain = json.loads(typed("data", "stats", halves, "--split", "val", "--json").output)
    assert [entry["pixels"] for entry in plain["classes"]] == pixels


def test_stats_of_an_unknown_split(typed, halves):
    assert "split must be a known name; got 'test'" in str(typed("data", "stats", halves, "--split", "test").exception)
