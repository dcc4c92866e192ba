import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
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


def write_boxes(root: Path) -> Path:
    """COCO boxes of two classes in two splits; the first one has a box without area."""
    random = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, numbers in (("train", (0, 1, 2)), ("val", (3, 4))):
        records = []
        for number in numbers:
            coarse = Image.fromarray(random.integers(0, 255, (6, 8, 3), dtype=np.uint8))
            coarse.resize((32, 24), Image.Resampling.BICUBIC).save(root / f"images/{number}.png")
            for place in range(8):
                box = [3 * place, place, 4 + place, 5 + number]
                records.append({"id": len(records) + 1, "image_id": number, "category_id": 1 + place % 2, "bbox": box})
        images = [{"id": i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in numbers]
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog, wet"}]
        content = {"images": images, "annotations": records, "categories": categories}
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    return write_boxes(tmp_path / "boxes")


def test_objects_are_recognised_and_checked(typed, boxes):
    result = typed("data", "check", boxes)
    assert result.exit_code == 0
    assert "coco, 2 classes, images: 3 in train, 2 in val" in result.stdout
    assert result.stderr == "note: read as objects; --task semantic would draw them to label maps\n"
    file = boxes / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][4]["bbox"][2] = 0
    file.write_text(json.dumps(content))
    result = typed("data", "check", boxes, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [problem["kind"] for problem in report["problems"] if problem["severity"] == "error"] == ["zero-area"]
    assert "coco, 3 classes" in typed("data", "check", boxes, "--task", "semantic").stdout  # one is the background


def test_stats_of_objects(typed, boxes):
    result = typed("data", "stats", boxes, "--plot", "boxes.png")
    assert result.exit_code == 0
    assert "boxes / train: 3 images" in result.stdout
    assert "24 objects, 8.0 an image (median 8, most 8); images without any: 0" in result.stdout
    assert Path("boxes.png").is_file()
    plain = json.loads(typed("data", "stats", boxes, "--split", "val", "--json").stdout)
    assert [entry["objects"] for entry in plain["classes"]] == [8, 8]


def test_anchors_are_ready_for_a_recipe(typed, boxes):
    result = typed("data", "anchors", boxes, "--count", "2", "--most", "3", "--size", "96", "128")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[2:5]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert "2 priors of 24 boxes at 96 x 128 (height x width)" in result.stdout
    priors = yaml.safe_load(result.stdout[result.stdout.index("model:") :])["model"]["priors"]
    assert len(priors) == 2
    found = json.loads(typed("data", "anchors", boxes, "--stride", "1", "--size", "96", "128", "--json").stdout)
    assert [entry["count"] for entry in found] == list(range(1, 10))
    cells, pixels = np.array(priors), np.array(found[1]["priors"])
    assert np.allclose(32 * cells, pixels, atol=0.002)


def test_convert_there_and_back(typed, boxes):
    result = typed("data", "convert", boxes, "--to", "yolo", "--out", "there")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == "40 objects of 2 classes, images: 3 in train, 2 in val"
    assert "dog, wet" in Path("there/data.yaml").read_text(encoding="utf-8")
    again = typed("data", "convert", boxes, "--to", "yolo", "--out", "there")
    assert "out must not exist, or be empty; got there with data.yaml in it. --force" in str(again.exception)
    assert typed("data", "convert", boxes, "--to", "yolo", "--out", "there", "--force").exit_code == 0
    back = json.loads(typed("data", "convert", "there", "--to", "coco", "--out", "back", "--json").stdout)
    assert (back["images"], back["objects"], back["losses"]) == (5, 40, [])
    for split in ("train", "val"):
        old, new = (
            json.loads((root / f"annotations/instances_{split}.json").read_text())["annotations"]
            for root in (boxes, Path("back"))
        )
        assert [record["bbox"] for record in new] == [record["bbox"] for record in old]
    assert "Did you mean 'yolo'?" in str(typed("data", "convert", boxes, "--to", "yol", "--out", "x").exception)
