"""The format of a path is recognised, or the error says what was looked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects.opening import PREDICTION_FORMATS, TRUTH_FORMATS, open_predictions, open_truth
from delineate.data.objects.shards import write_shard
from delineate.errors import DataError, UnknownNameError
from delineate.structures.annotations import Annotations

VOC = """<annotation><filename>a.jpg</filename><size><width>60</width><height>50</height></size>
<object><name>cell</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    path = tmp_path / "instances.json"
    images = [{"id": 1, "file_name": "a.jpg", "height": 50, "width": 60}]
    annotations = [{"id": 1, "image_id": 1, "category_id": 0, "bbox": [10, 10, 10, 10]}]
    categories = [{"id": 0, "name": "cell"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_every_truth_format_is_recognised(coco, tmp_path):
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/a.xml").write_text(VOC)
    (tmp_path / "yolo/labels").mkdir(parents=True)
    (tmp_path / "yolo/labels/a.txt").write_text("0 0.25 0.3 0.1666666667 0.2\n")
    (tmp_path / "yolo/images").mkdir()
    Image.new("RGB", (60, 50)).save(tmp_path / "yolo/images/a.png")
    (tmp_path / "maps").mkdir()
    ids = np.zeros((50, 60), np.uint8)
    ids[10:20, 10:20] = 1
    Image.fromarray(ids).save(tmp_path / "maps/a.png")
    seen = set()
    for name, path in (
        ("coco", coco),
        ("voc", tmp_path / "voc"),
        ("yolo", tmp_path / "yolo"),
        ("instance-maps", tmp_path / "maps"),
    ):
        for truth in (open_truth(path), open_truth(path, format=name)):
            np.testing.assert_allclose(truth.objects.boxes, [[10, 10, 10, 10]], atol=1e-6)
            assert truth.image_sizes.tolist() == [[50, 60]]
        seen.add(name)
    assert seen == set(TRUTH_FORMATS)


def test_every_prediction_format_is_recognised(coco, tmp_path):
    truth = open_truth(coco)
    record = {"image_id": 1, "category_id": 0, "bbox": [10, 10, 10, 10], "score": 0.5}
    (tmp_path / "found.json").write_text(json.dumps([record]))
    (tmp_path / "found.jsonl").write_text(json.dumps(record) + "\n")
    write_shard(tmp_path / "shards/0.npz", open_predictions(tmp_path / "found.json", truth), truth)
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/comp4_det_val_cell.txt").write_text("a 0.5 10 10 20 20\n")
    (tmp_path / "yolo/labels").mkdir(parents=True)
    (tmp_path / "yolo/labels/a.txt").write_text("0 0.25 0.3 0.1666666667 0.2 0.5\n")
    for name, place in (
        ("coco", "found.json"),
        ("json-lines", "found.jsonl"),
        ("shards", "shards"),
        ("voc", "voc"),
        ("yolo", "yolo"),
    ):
        assert name in PREDICTION_FORMATS
        for format in ("auto", name):
            found = open_predictions(tmp_path / place, truth, format=format)
            np.testing.assert_allclose(found.boxes, [[10, 10, 10, 10]], atol=1e-6)
            assert found.scores.tolist() == [0.5]
    for name, line in (
        ("text-xyxy", "cell 0.5 10 10 20 20"),
        ("text-xywh", "cell 0.5 10 10 10 10"),
        ("text-relative", "cell 0.5 0.25 0.3 0.1666666667 0.2"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(line + "\n")
        found = open_predictions(tmp_path / name, truth, format=name)
        np.testing.assert_allclose(found.boxes, [[10, 10, 10, 10]], atol=1e-6)
        with pytest.raises(DataError, match="Say --prediction-format"):
            open_predictions(tmp_path / name, truth)


def test_a_split_of_a_voc_root(coco, tmp_path):
    (tmp_path / "root/Annotations").mkdir(parents=True)
    (tmp_path / "root/ImageSets/Main").mkdir(parents=True)
    for name in ("a", "b"):
        (tmp_path / f"root/Annotations/{name}.xml").write_text(VOC)
    (tmp_path / "root/ImageSets/Main/val.txt").write_text("b\n")
    assert open_truth(tmp_path / "root").image_ids == ("a", "b")
    assert open_truth(tmp_path / "root", split="val").image_ids == ("b",)
    with pytest.raises(DataError, match=r"split must have a list in .*; got 'test'\. It holds val"):
        open_truth(tmp_path / "root", split="test")
    with pytest.raises(DataError, match="split must be left out but for a VOC root; got 'val'"):
        open_truth(coco, split="val")


def test_results_that_do_not_go_with_the_truth(coco, tmp_path):
    record = {"image_id": 1, "category_id": 0, "bbox": [0.1, 0.1, 0.5, 0.5], "score": 0.5}
    (tmp_path / "relative.json").write_text(json.dumps([record] * 12))
    with pytest.raises(DataError, match=r"boxes must be pixels; all 12 lie within 0\.\.1\.5.*relative\.json"):
        open_predictions(tmp_path / "relative.json", open_truth(coco))
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/a.xml").write_text(VOC)
    with pytest.raises(DataError, match=r"image_id must be a name as 'a'.*; got 1\. Write JSON Lines"):
        open_predictions(tmp_path / "relative.json", open_truth(tmp_path / "voc"))


def test_what_is_none_of_them(coco, tmp_path):
    truth = open_truth(coco)
    assert isinstance(truth, Annotations)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    for path, message in (
        (tmp_path / "gone", "ground truth must be a file or a folder; got nothing at"),
        (tmp_path / "empty", r"ground truth must be COCO JSON.*got .*empty with none\."),
        (tmp_path / "notes.txt", "ground truth must be COCO JSON, a VOC folder or a YOLO folder; got the file"),
    ):
        with pytest.raises(DataError, match=message):
            open_truth(path)
    for path, message in (
        (tmp_path / "gone", "predictions must be a file or a folder; got nothing at"),
        (tmp_path / "empty", "predictions must be JSON, JSON Lines"),
        (tmp_path / "notes.txt", "predictions must be COCO results"),
    ):
        with pytest.raises(DataError, match=message):
            open_predictions(path, truth)
    with pytest.raises(UnknownNameError, match="Did you mean 'coco'"):
        open_truth(coco, format="coca")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/instances.json").write_text("{}")
    with pytest.raises(DataError, match=r"Name one of its JSON files, .*instances\.json say"):
        open_truth(tmp_path / "folder")
