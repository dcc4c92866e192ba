"""VOC's XML, letter by letter."""

from __future__ import annotations

from xml.etree import ElementTree

from delineate.data.objects.content import Content
from delineate.data.objects.writing_voc import write
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def test_one_file(tmp_path):
    objects = Objects.of([0, 0], [1, 0], [[1, 2, 8, 6], [0.5, 2, 8, 6.25]], ignored=[False, True])
    annotations = Annotations.of(("a",), ("cat", "dogs & <cows>"), objects, image_sizes=[(20, 30)])
    content = Content(annotations, ("a & b.jpg",), {"train": [0]}, [None, None])
    assert write(content, tmp_path) == 2
    root = ElementTree.parse(tmp_path / "Annotations/a & b.xml").getroot()
    assert root.findtext("filename") == "a & b.jpg"
    assert [root.findtext(f"size/{side}") for side in ("width", "height")] == ["30", "20"]
    assert [thing.findtext("name") for thing in root.iter("object")] == ["dogs & <cows>", "cat"]
    assert [thing.findtext("difficult") for thing in root.iter("object")] == ["0", "1"]
    corners = [[corner.text for corner in thing.find("bndbox")] for thing in root.iter("object")]
    assert corners == [["1", "2", "9", "8"], ["0.5", "2", "8.5", "8.25"]]
    assert (tmp_path / "ImageSets/Main/train.txt").read_text() == "a & b\n"
    assert (tmp_path / "classes.txt").read_text() == "cat\ndogs & <cows>\n"


def test_a_list_that_would_be_misread_is_not_written(tmp_path):
    objects = Objects.of([0], [0], [[1, 2, 8, 6]])
    annotations = Annotations.of(("a",), ("sky 1 2 3", "cow"), objects, image_sizes=[(20, 30)])
    content = Content(annotations, ("a.jpg",), {"all": [0]}, [None])
    write(content, tmp_path)
    assert not (tmp_path / "classes.txt").exists()
    assert not (tmp_path / "ImageSets").exists()
    assert content.losses == {"classes without an object, and the order of classes": 1}
