"""VOC and YOLO folders that break no format and are still not what they seem, or are and look broken."""

from __future__ import annotations

import numpy as np
import pytest

from delineate.data.objects import voc_xml
from delineate.data.objects.folder import read_objects
from delineate.errors import DataError
from tests.data.object_folders import kinds, picture, text, xml

BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def voc(home, *objects, **more):
    picture(home / "JPEGImages/a.jpg")
    xml(home / "Annotations/a.xml", *objects, **more)


def yolo(home, *labels, config=""):
    """Pictures 0, 1, ... with these label files; None for no file."""
    for number, content in enumerate(labels):
        picture(home / f"images/train/{number}.png")
        if content is not None:
            text(home / f"labels/train/{number}.txt", content)
    if config:
        text(home / "data.yaml", config)


def test_one_column_of_pixels_is_an_object_of_voc(tmp_path):
    corners = [(5, 2, 5, 9), (30, 2, 30, 9), (0, 2, 0, 9), (3, 20, 8, 20), (7, 7, 7, 7)]
    voc(tmp_path, *(("dog", "", box) for box in corners))
    folder = read_objects(tmp_path)
    assert folder.annotations.objects.boxes.tolist() == [[4, 2, 1, 7], [29, 2, 1, 7], [0, 2, 1, 7], [3, 19, 5, 1]]
    assert kinds(folder) == ["zero-area"]  # a click is none
    scored = voc_xml.read_truth(tmp_path)
    assert scored.objects.boxes[:2].tolist() == [[5, 2, 0, 7], [30, 2, 0, 7]]  # as written


def test_voc_flags_in_words(tmp_path):
    words = ("False", "true", "TRUE", "0", "maybe")
    voc(tmp_path, *(("dog", f"<difficult>{word}</difficult>", (1, 1 + i, 9, 9)) for i, word in enumerate(words)))
    folder = read_objects(tmp_path)
    assert folder.annotations.objects.ignored.tolist() == [False, True, True, False]
    assert kinds(folder) == ["malformed"]
    with pytest.raises(DataError, match="difficult must be 0 or 1; got 'False'"):
        voc_xml.read_truth(tmp_path)


def test_what_an_object_gives_twice_costs_the_object(tmp_path):
    voc(tmp_path, ("dog", "", (1, 2, 11, 12)), ("dog", BOX, (2, 2, 11, 12)), ("dog", "", (3, 2, 11, 12)))
    folder = read_objects(tmp_path)
    assert folder.annotations.objects.ids.tolist() == [1, 3]
    assert kinds(folder) == ["malformed"]
    assert "xmin must be given once; got it again in object 2 of" in folder.problems[0].message
    with pytest.raises(DataError, match="xmin must be given once; got it again in object 2 of"):
        voc_xml.read_truth(tmp_path)


def test_a_missing_box_is_called_that(tmp_path):
    voc(tmp_path, ("dog", "", (1, 2, 11, 12)), ("dog", "", ("", 2, 11, 12)), ("dog", "", ("x", 2, 11, 12)))
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace("</annotation>", "<object><name>dog</name></object></annotation>"))
    folder = read_objects(tmp_path)
    assert kinds(folder) == ["no-box", "no-box", "not-finite"]
    assert folder.annotations.objects.ids.tolist() == [1]


@pytest.mark.parametrize("beside", [False, True])
def test_a_picture_may_be_named_inside_and_suffixes_be_large(tmp_path, beside):
    pictures, files = ("", "") if beside else ("JPEGImages", "Annotations")
    for name in ("one.jpg", "two.jpg", "three.jpg"):
        picture(tmp_path / pictures / name)
    box = ("dog", "", (1, 2, 11, 12))
    xml(tmp_path / files / "0.xml", box, filename="sub\\one.jpg")
    xml(tmp_path / files / "again.XML", box, filename="one.jpg")
    xml(tmp_path / files / "two.XML", box, filename="three.jpg")  # its own name comes first
    xml(tmp_path / files / "nobody.xml", box, filename="two.jpg")
    folder = read_objects(tmp_path)
    assert folder.stems == ("one", "two")
    assert kinds(folder) == ["missing-image"] * 2


def test_voc_boxes_in_fractions_are_refused(tmp_path):
    voc(tmp_path, *(("dog", "", (0.1, 0.02 * i, 0.5, 0.6)) for i in range(10)))
    with pytest.raises(DataError, match="boxes must be pixels; all 10 lie within"):
        read_objects(tmp_path)


def test_voc_classes_that_differ_by_case(tmp_path):
    voc(tmp_path, ("dog", "", (1, 2, 11, 12)), ("Dog", "", (3, 2, 11, 12)))
    folder = read_objects(tmp_path)
    assert (kinds(folder), kinds(folder, "warning")) == ([], ["similar-classes"])


@pytest.mark.parametrize("config", ["", "train: images/train\nnames: [cell]\n"])
def test_yolo_labels_that_are_not_found_are_no_background(tmp_path, config):
    yolo(tmp_path, None, None, config=config)
    text(tmp_path / "Labels/train/0.txt", "0 .5 .5 .2 .2\n")
    wanted = "no such file" if not config else "none of them has a label file: labels/.* there is Labels, rename it"
    with pytest.raises(DataError, match=f"yolo: .*{wanted}"):
        read_objects(tmp_path)


def test_yolo_labels_with_a_large_suffix(tmp_path):
    yolo(tmp_path, None, config="train: images/train\nnames: [cell]\n")
    text(tmp_path / "labels/train/0.TXT", "0 .5 .5 .2 .2\n")
    with pytest.raises(DataError, match=r"none of them has a label file: .* there is 0\.TXT, rename it"):
        read_objects(tmp_path)


def test_a_yolo_split_without_labels_is_noted(tmp_path):
    yolo(tmp_path, "0 .5 .5 .2 .2\n", config="train: images/train\nval: images/val\nnames: [cell]\n")
    picture(tmp_path / "images/val/v.png")
    folder = read_objects(tmp_path)
    noted = [(problem.severity, problem.kind, problem.split) for problem in folder.problems]
    assert noted == [("warning", "no-labels", "val")]
    text(tmp_path / "labels/val/v.txt", "")
    assert read_objects(tmp_path).problems == ()  # an empty file says that there is nothing


def test_yolo_labels_whose_picture_is_gone_beside_a_data_file(tmp_path):
    yolo(tmp_path, "0 .5 .5 .2 .2\n", config="train: train.txt\nnames: [cell]\n")
    text(tmp_path / "train.txt", "images/train/0.png\n")
    text(tmp_path / "labels/train/gone.txt", "0 .5 .5 .2 .2\n")
    picture(tmp_path / "images/train/unlisted.png")
    text(tmp_path / "labels/train/unlisted.txt", "0 .5 .5 .2 .2\n")
    text(tmp_path / "labels/test/elsewhere.txt", "0 .5 .5 .2 .2\n")
    folder = read_objects(tmp_path)
    assert [(problem.kind, problem.message) for problem in folder.problems] == [
        ("missing-image", "labels gone.txt have no image")
    ]


def test_yolo_pictures_that_share_a_label_file(tmp_path):
    yolo(tmp_path, "0 .5 .5 .2 .2\n", "0 .5 .5 .4 .2\n", None)
    for stem in "02":
        picture(tmp_path / f"images/train/{stem}.jpg")
    folder = read_objects(tmp_path)
    assert kinds(folder) == ["duplicate-stem"] * 2
    assert (
        folder.problems[0].message == "images must have different names; got 0.jpg, 0.png for 0.txt. Remove all but one"
    )
    assert [path.rsplit("/", 1)[-1] for path in folder.annotations.image_files] == ["1.png", "2.jpg", "2.png"]
    assert np.allclose(folder.annotations.objects.boxes, [[9, 8, 12, 4]])


@pytest.mark.parametrize(
    "row",
    [
        "0 .5 .5 .2 .2 .91 7",  # box, score, track
        "0 .5 .5 .2 .2 .91 1",
        "0 .5 .5 .2 .2 .45 .45 2 .55 .55 1",  # box and two keypoints with visibility
        "0 .5 .5 .2 .2 .45 .45 1 .55 .55 1",
        "0 .5 .5 .2 .2 1.3 .5 .5 .4",
    ],
)
def test_yolo_rows_that_are_more_than_a_box_and_no_outline(tmp_path, row):
    good = "0 .1 .1 .5 .1 .5 .5\n0 0 0 1 0 1 1 0 1\n0 .9 .5 .95 .6 .8 1\n"
    yolo(tmp_path, f"{good}{row}\n")
    folder = read_objects(tmp_path)
    assert folder.annotations.objects.ids.tolist() == [1, 2, 3]
    assert kinds(folder) == ["ambiguous"]
    assert (
        f"outline must not read as a box with a track or keypoints after it; got '{row}'" in folder.problems[0].message
    )


def test_yolo_poses_without_visibility_are_known_by_all_of_them(tmp_path):
    def poses(count):
        return "".join(f"0 .5 .5 .{i + 20} .3 .45 .45 .55 .55 .5 .52\n" for i in range(count))

    yolo(tmp_path, poses(10))
    with pytest.raises(DataError, match="labels must be boxes or outlines for the most part; got 10 of 10 others, the"):
        read_objects(tmp_path)
    yolo(tmp_path, poses(9))
    assert kinds(read_objects(tmp_path)) == []  # too few to tell
    yolo(tmp_path, poses(10) + "0 .1 .1 .5 .1 .5 .5\n")
    assert kinds(read_objects(tmp_path)) == []  # outlines differ in length


def test_a_yolo_box_among_outlines_is_told_in_words_of_training(tmp_path):
    yolo(tmp_path, "0 .1 .1 .5 .1 .5 .5\n0 .5 .5 .1 .1\n")
    message = read_objects(tmp_path).problems[0].message
    assert message.endswith('Masks cannot be made of boxes; draw it, or read columns=["boxes"].')


def test_where_no_class_is_left_the_reason_is_told(tmp_path):
    voc(tmp_path, ("dog", "", (9, 2, 1, 12)))
    with pytest.raises(
        DataError, match=r"name at least one class; got none in .* The first of 1 that cannot be used: bnd"
    ):
        read_objects(tmp_path)
