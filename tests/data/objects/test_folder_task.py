"""What a folder is taken for."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects.folder_task import FolderTask, folder_task
from delineate.errors import ArgumentError, DataError
from tests.data.object_folders import annotation, coco, picture, text, xml


def maps(root, dtype, folder="labels"):
    picture(root / "images/a.png")
    (root / folder).mkdir(exist_ok=True)
    Image.fromarray(np.eye(20, 30).astype(dtype)).save(root / folder / "a.png")
    return root


def voc(root):
    picture(root / "JPEGImages/a.png")
    xml(root / "Annotations/a.xml", ("cat", "", (1, 2, 9, 8)))
    return root


def yolo(root):
    picture(root / "images/a.png")
    text(root / "labels/a.txt", "0 .5 .5 .1 .1\n")
    return root


def labelme(root):
    picture(root / "a.png")
    text(root / "a.json", '{"shapes": [], "imagePath": "a.png"}')
    return root


def beside(root):
    picture(root / "a.png")
    xml(root / "a.xml", ("cat", "", (1, 2, 9, 8)))
    return root


def instances(root):
    picture(root / "images/a.png")
    coco(root / "annotations.json", [(1, "a.png", 20, 30)], [annotation(1, 1)])
    return root


@pytest.mark.parametrize("make", [voc, yolo, labelme, beside, instances])
def test_objects_alone(tmp_path, make):
    assert folder_task(make(tmp_path)).task == "objects"


def test_numbers_of_16_bits_without_a_class_list_are_objects(tmp_path):
    assert folder_task(maps(tmp_path / "deep", np.uint16)).task == "objects"
    assert folder_task(maps(tmp_path / "flat", np.uint8)) == FolderTask("semantic")
    named = maps(tmp_path / "named", np.uint16)
    text(named / "classes.txt", "road\ntree\n")
    assert folder_task(named).task == "semantic"


def test_both_are_label_maps_and_say_so(tmp_path):
    voc(tmp_path)
    (tmp_path / "SegmentationClass").mkdir()
    Image.fromarray(np.eye(20, 30).astype(np.uint8)).save(tmp_path / "SegmentationClass/a.png")
    found = folder_task(tmp_path)
    assert found == FolderTask("semantic", "the folder also has VOC XML; --task objects reads them")
    assert folder_task(tmp_path, task="objects") == FolderTask("objects")


def test_a_format_decides(tmp_path):
    assert folder_task(tmp_path, format="labelme").task == "objects"
    assert folder_task(tmp_path, format="cityscapes").task == "semantic"
    file = instances(tmp_path) / "annotations.json"
    assert folder_task(file).task == "objects"
    assert folder_task(tmp_path, format="coco").task == "objects"
    assert folder_task(tmp_path, task="semantic", format="coco").task == "semantic"


def test_what_is_neither(tmp_path):
    with pytest.raises(DataError, match=r"with nothing in it. Looked for cityscapes.*; or for objects, coco: "):
        folder_task(tmp_path)
    with pytest.raises(DataError, match="path must be a folder that exists"):
        folder_task(tmp_path / "gone")
    with pytest.raises(ArgumentError, match='task must be "semantic", "objects" or "auto"; got "boxes"'):
        folder_task(tmp_path, task="boxes")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "task"),
    [("bccd", "objects"), ("dsb2018", "objects"), ("coco_pose_mini", "objects"), ("camvid", "semantic")],
)
def test_real_folders(real_data, name, task):
    assert folder_task(real_data / name).task == task
