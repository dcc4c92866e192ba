"""LabelMe's shapes as objects."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image

from delineate.data.objects.folder import read_objects


def shape(kind, points, label="cell", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


SQUARE = shape("polygon", [[2, 2], [10, 2], [10, 8], [2, 8]])


@pytest.fixture
def labelled(tmp_path):
    """A folder with one labelled picture, opened."""

    def opened(*shapes, columns=None, size=(20, 30), path="a.png"):
        Image.new("L", (30, 20)).save(tmp_path / "a.png")
        content = {"shapes": list(shapes), "imagePath": path, "imageData": "not decoded: %%%"}
        content |= {"imageHeight": size[0], "imageWidth": size[1]} if size else {}
        (tmp_path / "a.json").write_text(json.dumps(content))
        return read_objects(tmp_path, columns=columns)

    return opened


def test_shapes_by_hand(labelled):
    rectangle = shape("rectangle", [[12, 9], [4, 3]], "box")
    circle = shape("circle", [[15, 10], [15, 14]], "disc", group_id=None)
    folder = labelled(rectangle, circle, SQUARE)
    objects = folder.annotations.objects
    assert (folder.format, folder.columns) == ("labelme", ("boxes", "masks"))
    assert folder.annotations.classes == ("box", "cell", "disc")
    assert objects.labels.tolist() == [0, 2, 1]
    assert objects.boxes[[0, 2]].tolist() == [[4, 3, 8, 6], [2, 2, 8, 6]]
    assert objects.boxes[1] == pytest.approx([11, 6, 8, 8])
    assert objects.masks.areas()[[0, 2]].tolist() == [48, 48]
    assert objects.masks.areas()[1] == pytest.approx(math.pi * 16, abs=4)
    assert folder.problems == ()


def test_a_group_is_one_object(labelled):
    left = shape("polygon", [[2, 2], [6, 2], [6, 6], [2, 6]], group_id=3)
    right = shape("polygon", [[12, 2], [16, 2], [16, 6], [12, 6]], group_id=3)
    other = shape("polygon", [[20, 2], [24, 2], [24, 6], [20, 6]], "bird", group_id=3)
    objects = labelled(left, SQUARE, right, other).annotations.objects
    assert objects.ids.tolist() == [1, 2, 4]
    assert objects.boxes[0].tolist() == [2, 2, 14, 4]
    assert objects.masks.areas().tolist() == [32, 48, 16]


def test_rectangles_alone_are_boxes(labelled):
    rectangles = [shape("rectangle", [[4, 3], [12, 9]]), shape("rectangle", [[1, 1], [5, 1], [5, 9], [1, 9]])]
    assert labelled(*rectangles).columns == ("boxes",)
    folder = labelled(*rectangles, columns=["masks"])
    assert folder.columns == ("boxes", "masks")
    assert folder.annotations.objects.masks.areas().tolist() == [48, 32]


@pytest.mark.parametrize(
    ("wrong", "severity", "kind"),
    [
        (shape("line", [[1, 1], [5, 5]]), "warning", "no-outline"),
        (shape("point", [[1, 1]]), "warning", "no-outline"),
        (shape("mask", [[1, 1], [5, 5]], mask="aaaa"), "warning", "no-outline"),
        (shape("rectangle", [[1, 1], [5, 5]], "__ignore__"), "warning", "no-class"),
        (shape("polygon", [[1, 1], [5, 5]]), "error", "bad-outline"),
        (shape("polygon", []), "error", "bad-outline"),
        (shape("circle", [[1, 1]]), "error", "bad-outline"),
        (shape("rectangle", [[1, 1], [5, 5], [7, 7]]), "error", "bad-outline"),
        (shape("rectangle", [[1, 1], [5, 5]], " "), "error", "bad-outline"),
        (shape("polygon", [[1, 1], [5, 5, 5], [1, 5]]), "error", "malformed"),
        (shape("polygon", [[1, 1], [None, 5], [1, 5]]), "error", "malformed"),
        ({"points": [[1, 1], [5, 5], [1, 5]]}, "error", "malformed"),
        (shape("polygon", [[1e300, 1], [5, 5], [1, 5]]), "error", "bad-outline"),
        (shape("rectangle", [[4, 4], [4, 9]]), "error", "empty-mask"),
        (shape("polygon", [[40, 1], [50, 5], [40, 5]]), "error", "empty-mask"),
    ],
)
def test_a_bad_shape_is_named_and_left_out(labelled, wrong, severity, kind):
    folder = labelled(SQUARE, wrong)
    assert [(problem.severity, problem.kind) for problem in folder.problems] == [(severity, kind)]
    assert folder.problems[0].file.endswith("a.json")
    assert "shape 2" in folder.problems[0].message
    assert folder.annotations.objects.ids.tolist() == [1]


def test_a_file_of_its_own_size_or_none(labelled):
    assert labelled(SQUARE, size=None).annotations.image_sizes.tolist() == [[20, 30]]
    Image.new("L", (30, 20)).save(labelled(SQUARE).root / "b.png")
    folder = labelled(SQUARE)
    assert [problem.kind for problem in folder.problems] == ["unlabelled"]
    assert folder.stems == ("a",)


@pytest.mark.parametrize("path", ["..\\elsewhere\\a.png", "/etc/passwd", "gone.png", None])
def test_a_picture_is_never_looked_for_outside(labelled, path):
    assert labelled(SQUARE, path=path).annotations.image_files == ("a.png",)


def test_files_that_are_no_labels(labelled):
    home = labelled(SQUARE).root
    (home / "b.json").write_text('{"version": 3}')
    (home / "c.json").write_text('{"shapes": [')
    (home / "d.json").write_text((home / "a.json").read_text())
    folder = read_objects(home)
    found = {problem.kind: problem.severity for problem in folder.problems}
    assert found == {"other-file": "warning", "unreadable": "error", "duplicate-image": "error"}
    assert len(folder.annotations.objects) == 1


def test_a_folder_named_from_where_one_stands(labelled, monkeypatch):
    home = labelled(SQUARE).root
    (home / ".hidden").mkdir()
    (home / ".hidden/x.json").write_text("[")
    (home / "deeper").mkdir()
    monkeypatch.chdir(home / "deeper")
    folder = read_objects("..")
    assert (folder.stems, folder.problems) == (("a",), ())
