"""The doctor for folders of objects, one defect at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects.doctor import check_objects
from tests.data.object_folders import annotation, coco, picture, text, xml


def photo(path, seed):
    """Smooth colours, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8))
    coarse.resize((30, 20), Image.Resampling.BICUBIC).save(path)


def folder(root, records, **more):
    """COCO with two pictures in each of two splits; ``records`` are those of the first one's."""
    for number in range(4):
        photo(root / f"images/{number}.png", number)
    rest = [annotation(91, 2), annotation(92, 3, 2, (5, 5, 9, 9))]
    for split, images, listed in (("train", (0, 1), records), ("val", (2, 3), rest)):
        file = root / f"annotations/instances_{split}.json"
        coco(file, [(i, f"{i}.png", 20, 30) for i in images], listed, **more)
    return root


def kinds(report, severity=None):
    return sorted(problem.kind for problem in report.problems if severity in (None, problem.severity))


def of_kind(report, kind):
    return [problem for problem in report.problems if problem.kind == kind]


def test_a_healthy_folder(tmp_path):
    steps = []
    records = [annotation(i, i % 2, 1 + i // 2 % 2, (i / 2, 1, 3 + i / 4, 4 + i / 2)) for i in range(24)]
    report = check_objects(folder(tmp_path, records), progress=lambda *step: steps.append(step))
    assert kinds(report) == []
    assert (report.ok, report.format, report.classes) == (True, "coco", ("cat", "dog"))
    assert report.images == {"train": 2, "val": 2}
    assert steps == [(i, 4) for i in range(1, 5)]
    assert "coco, 2 classes, images: 2 in train, 2 in val" in report.summary()


def test_records_that_break_training(tmp_path):
    records = [
        annotation(1, 0, bbox=(1, 1, 0, 5)),
        annotation(2, 0, bbox=(40, 1, 5, 5)),
        annotation(3, 0, category=7),
        annotation(4, 0, bbox=(1, 1, -2, 5)),
        annotation(5, 1, bbox=(2, 2, float("nan"), 5)),
        *(annotation(10 + i, 1, 1 + i % 2, (i, 2, 4, 5 + i / 2)) for i in range(12)),
    ]
    report = check_objects(folder(tmp_path, records))
    assert not report.ok
    expected = ["not-finite", "outside", "swapped-corners", "unknown-category", "zero-area"]
    assert kinds(report, "error") == expected
    assert all(problem.split == "train" for problem in report.errors)
    assert [row[0] for row in report.table()][:5] == ["error"] * 5  # errors come first
    assert json.loads(json.dumps(report.to_dict()))["errors"] == 5


def test_empty_outlines_and_keypoints(tmp_path):
    pose = {"keypoints": [5, 6, 2, 9, 9, 0, 0, 0, 0], "segmentation": [[2.0, 3, 12, 3, 12, 11, 2, 11]]}
    records = [
        annotation(1, 0, **pose),
        annotation(2, 1, **pose | {"segmentation": [[3.0, 3, 3, 3, 3, 3]]}),
        annotation(3, 1, bbox=(15, 3, 9, 9), **pose | {"keypoints": [5, 6, 3, 0, 0, 0, 0, 0, 0]}),
    ]
    file = folder(tmp_path, records, keypoints=["nose", "tail", "ear"]) / "annotations/instances_train.json"
    report = check_objects(file)
    assert {"empty-mask", "visibility"} <= set(kinds(report, "error"))
    (placed,) = of_kind(report, "unlabelled-keypoint")
    assert placed.message.startswith("1 keypoints have a place, but visibility 0")
    (unused,) = of_kind(report, "unused-keypoint")
    assert unused.message == "no object has the keypoints tail, ear labelled"


def test_boxes_in_one_place(tmp_path):
    records = [
        annotation(1, 0, 1, (2, 3, 10, 10)),
        annotation(2, 0, 1, (2, 3, 10, 10)),
        annotation(3, 0, 1, (2, 3, 10, 10.25)),
        annotation(4, 0, 2, (2, 3, 10, 10)),
        annotation(5, 1, 1, (2, 3, 10, 10)),
        annotation(6, 1, 1, (2, 3, 10, 10), iscrowd=1),
        annotation(7, 1, 2, (20, 3, 1.5, 10)),
    ]
    report = check_objects(folder(tmp_path, records))
    assert report.ok
    assert len(of_kind(report, "duplicate")) == 2  # exactly the same, the crowd too
    near = [problem.message for problem in of_kind(report, "near-duplicate-box")]
    assert near == [
        f"objects {one} and 3 of images/0.png, each a cat, are almost the same box (IoU 0.98)" for one in (1, 2)
    ]
    doubled = [problem.message.split(" are ")[0] for problem in of_kind(report, "two-classes")]
    assert doubled == [f"objects {one} and 4 of images/0.png" for one in (1, 2, 3)]
    (tiny,) = of_kind(report, "tiny-object")
    assert tiny.message == "1 of 9 boxes have a side below 2 pixels, such as 1.5 x 10 in images/1.png"


def test_what_splits_lack(tmp_path):
    records = [annotation(i, 0, 1, (i, 1, 3 + i / 4, 4 + i / 2)) for i in range(12)]
    records.append(annotation(50, 1, 1, iscrowd=1))
    report = check_objects(folder(tmp_path, records))
    messages = [(problem.kind, problem.split, problem.message) for problem in report.warnings]
    assert ("class-balance", "train", "dog never occurs in split 'train'") in messages
    (alone,) = of_kind(report, "crowd-only")
    assert alone.message.startswith("1 image of split 'train' has crowds or difficult objects and nothing else")
    assert not any(split == "val" and "fewer than" in message for _, split, message in messages)
    few = check_objects(folder(tmp_path / "few", records[:3]))
    assert [p.message for p in of_kind(few, "class-balance") if "fewer" in p.message] == [
        "cat (3) has fewer than 10 objects in split 'train'"
    ]


def test_nothing_to_learn_is_an_error(tmp_path):
    report = check_objects(folder(tmp_path, [annotation(1, 0, iscrowd=1)]))
    (problem,) = of_kind(report, "no-objects")
    assert (problem.severity, problem.split) == ("error", "train")
    assert problem.message == "no image of split 'train' has an object that counts; there is nothing to learn"


def test_pictures_that_are_cut_off_copied_or_alike(tmp_path):
    root = folder(tmp_path, [annotation(i, i % 2, 1 + i // 2 % 2, (i / 2, 1, 3 + i / 4, 4 + i / 2)) for i in range(24)])
    content = (root / "images/0.png").read_bytes()
    (root / "images/0.png").write_bytes(content[: len(content) // 2])
    (root / "images/2.png").write_bytes((root / "images/1.png").read_bytes())
    with Image.open(root / "images/1.png") as image:
        image.resize((60, 40)).resize((30, 20)).save(root / "images/3.png")
    report = check_objects(root)
    assert kinds(report, "error") == ["duplicate-across-splits", "unreadable"]
    assert of_kind(report, "unreadable")[0].file.endswith("images/0.png")
    assert kinds(report, "warning") == ["near-duplicate"]
    assert len(report.near_duplicates) == 1


def test_an_image_without_objects_is_ordinary(tmp_path):
    for name in ("a", "b"):
        photo(tmp_path / f"images/{name}.png", ord(name))
    lines = "".join(f"0 0.5 0.5 0.{i} 0.{i}\n" for i in range(10, 22))
    text(tmp_path / "labels/a.txt", lines)
    text(tmp_path / "labels/b.txt", "")
    text(tmp_path / "data.yaml", "names: [cell]\n")
    report = check_objects(tmp_path)
    assert report.ok
    assert "class-balance" not in kinds(report)


def test_difficult_objects_of_voc(tmp_path):
    picture(tmp_path / "JPEGImages/a.png")
    xml(tmp_path / "Annotations/a.xml", ("cat", "<difficult>1</difficult>", (1, 2, 9, 8)))
    assert kinds(check_objects(tmp_path), "error") == ["no-objects"]


@pytest.mark.data
def test_bccd_has_two_boxes_without_area(real_data):
    report = check_objects(real_data / "bccd")
    assert kinds(report, "error") == ["zero-area"] * 2
    assert report.images == {"train": 205, "val": 87}
