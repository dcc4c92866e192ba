"""Data sets of objects from one format to another and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data.objects.conversion import WRITING_FORMATS, convert_objects
from delineate.data.objects.folder import OBJECT_FORMATS, read_objects
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.structures.rle import RLE
from tests.data.object_folders import annotation, coco, picture, text, xml

SQUARE = [2.0, 3, 12, 3, 12, 11, 2, 11]
PARTS = [[2, 13, 5, 13, 5, 18], [8, 13, 12, 13, 12, 18, 8, 18]]
CURVE = [14.3, 2.1, 21.7, 3.5, 24.9, 9.3, 18.1, 12.7, 15.5, 8.9]


def outlined(root, names=("a.png", "b.png", "c.png"), categories=((1, "cat"), (7, "dog"))):
    """COCO with polygons, a ring of run lengths, parts, an image without objects, and two splits."""
    for name in names:
        picture(root / "images" / name)
    ring = np.zeros((20, 30), bool)
    ring[2:9, 20:28] = True
    ring[4:6, 22:25] = False
    first, second = categories[0][0], categories[1][0]
    coco(
        root / "annotations/instances_train.json",
        [(3, names[0], 20, 30), (8, names[1], 20, 30)],
        [
            annotation(11, 3, second, segmentation=[SQUARE], area=80),
            annotation(12, 3, first, (14.3, 2.1, 10.6, 10.6), segmentation=[CURVE], area=61.5),
            annotation(13, 3, first, (20, 2, 8, 7), segmentation=RLE.encode(ring).to_coco(), area=50),
            annotation(14, 3, second, (2, 13, 10, 5), area=27.5, segmentation=PARTS),
        ],
        categories,
    )
    coco(
        root / "annotations/instances_val.json",
        [(9, names[2], 20, 30)],
        [annotation(15, 9, second, segmentation=[SQUARE], area=80)],
        categories,
    )
    return root


def told(folder):
    """What a folder holds, picture by picture: classes, boxes, masks, flags and splits."""
    whole = folder.annotations
    objects = whole.objects
    splits = {split: sorted(folder.stems[i] for i in rows) for split, rows in folder.splits.items()}
    things: dict[str, list] = {stem: [] for stem in folder.stems}
    for row, image in enumerate(objects.images.tolist()):
        mask = objects.masks[row].counts if objects.masks is not None else ""
        box = tuple(round(value, 6) for value in objects.boxes[row].tolist())
        things[folder.stems[image]].append((whole.classes[objects.labels[row]], box, mask, bool(objects.crowd[row])))
    return splits, {stem: sorted(rows) for stem, rows in things.items()}


def content(path):
    return {
        split: json.loads(file.read_text()) for file in sorted(path.glob("annotations/*.json")) for split in [file.stem]
    }


def losses(conversion):
    return dict(conversion.losses)


def test_every_format_that_is_written_can_be_read():
    assert set(WRITING_FORMATS) == set(OBJECT_FORMATS)


def test_coco_to_coco_changes_nothing(tmp_path):
    source = outlined(tmp_path / "in")
    conversion = convert_objects(source, tmp_path / "out", to="coco")
    before, after = content(source), content(tmp_path / "out")
    for split, whole in before.items():
        assert after[split]["images"] == whole["images"]
        assert after[split]["categories"] == whole["categories"]
        for old, new in zip(whole["annotations"], after[split]["annotations"], strict=True):
            assert new == {"iscrowd": 0} | old
    assert conversion.losses == ()
    assert "lost: nothing" in conversion.summary()
    assert (conversion.images, conversion.objects, conversion.splits) == (3, 5, {"train": 2, "val": 1})


@pytest.mark.parametrize("to", ["yolo", "labelme"])
def test_masks_come_back_the_same_through_polygons(tmp_path, to):
    source = outlined(tmp_path / "in")
    away = convert_objects(source, tmp_path / "away", to=to)
    back = convert_objects(tmp_path / "away", tmp_path / "back", to="coco")
    (splits, before), (splits_after, after) = told(read_objects(source)), told(read_objects(tmp_path / "back"))
    assert splits == splits_after
    assert {stem: [(row[0], row[2]) for row in rows] for stem, rows in before.items()} == {
        stem: [(row[0], row[2]) for row in rows] for stem, rows in after.items()
    }
    assert (away.read, away.written, back.read) == ("coco", to, to)
    corners = [a["segmentation"] for whole in content(tmp_path / "back").values() for a in whole["annotations"]]
    assert [SQUARE] in corners
    assert [CURVE] in corners  # to the last digit, though fractions lie between


def test_yolo_by_hand(tmp_path):
    picture(tmp_path / "in/images/a.png")
    coco(
        tmp_path / "in/annotations/instances_train.json", [(1, "a.png", 20, 30)], [annotation(1, 1, 2, (3, 5, 12, 10))]
    )
    convert_objects(tmp_path / "in", tmp_path / "out", to="yolo")
    assert (tmp_path / "out/labels/a.txt").read_text() == "1 0.3 0.5 0.4 0.5\n"
    assert (tmp_path / "out/train.txt").read_text() == "./images/a.png\n"
    assert (tmp_path / "out/data.yaml").read_text() == "train: train.txt\nnc: 2\nnames:\n  0: cat\n  1: dog\n"
    assert (tmp_path / "out/images/a.png").read_bytes() == (tmp_path / "in/images/a.png").read_bytes()


def test_voc_and_back_keeps_boxes_flags_and_classes(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / f"in/JPEGImages/{name}.png")
    xml(
        tmp_path / "in/Annotations/a.xml",
        ("dog", "", (1, 2, 9, 8)),
        ("cat", "<difficult>1</difficult>", (3.5, 4, 9, 9.25)),
    )
    xml(tmp_path / "in/Annotations/b.xml")
    text(tmp_path / "in/classes.txt", "dog\ncow\ncat\n")
    text(tmp_path / "in/ImageSets/Main/train.txt", "a\n")
    text(tmp_path / "in/ImageSets/Main/val.txt", "b\n")
    there = convert_objects(tmp_path / "in", tmp_path / "there", to="coco")
    assert losses(there) == {"difficult objects that become crowds": 1}
    record = content(tmp_path / "there")["instances_train"]["annotations"][1]
    assert (record["bbox"], record["iscrowd"], record["ignore"]) == ([3.5, 4, 5.5, 5.25], 1, 1)
    back = convert_objects(tmp_path / "there", tmp_path / "back", to="voc")
    assert losses(back) == {"crowds that become difficult objects": 1}
    old, new = read_objects(tmp_path / "in"), read_objects(tmp_path / "back")
    assert told(old) == told(new)
    assert new.annotations.classes == ("dog", "cow", "cat")
    assert new.annotations.objects.ignored.tolist() == [False, True]


def test_instance_maps_and_back(tmp_path):
    ids = np.zeros((20, 30), np.uint16)
    ids[2:9, 3:9], ids[4:6, 5:7], ids[12:15, 20:29] = 1, 0, 500
    for name, values in (("a", ids), ("b", ids * 0)):
        picture(tmp_path / f"in/images/{name}.png")
        (tmp_path / "in/labels").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / f"in/labels/{name}.png")
    there = convert_objects(tmp_path / "in", tmp_path / "there", to="coco")
    assert (there.losses, there.objects) == ((), 2)
    assert isinstance(content(tmp_path / "there")["instances_all"]["annotations"][0]["segmentation"]["counts"], str)
    convert_objects(tmp_path / "there", tmp_path / "back", to="instance-maps")
    with Image.open(tmp_path / "back/labels/a.png") as drawn:
        assert np.array_equal(np.array(drawn) > 0, ids > 0)
        assert drawn.mode == "I;16"
    assert told(read_objects(tmp_path / "in")) == told(read_objects(tmp_path / "back"))


def test_maps_of_classes_say_what_is_covered(tmp_path):
    source = outlined(tmp_path / "in")
    inner = [4.0, 4, 10, 4, 10, 9, 4, 9]
    file = source / "annotations/instances_train.json"
    whole = json.loads(file.read_text())
    whole["annotations"].append(annotation(20, 3, 7, (4, 4, 6, 5), segmentation=[inner], area=30))
    file.write_text(json.dumps(whole))
    conversion = convert_objects(source, tmp_path / "out", to="instance-maps")
    hidden = losses(conversion)["masks that lose pixels to smaller objects over them"]
    assert hidden == 2  # the ring lies on the curve as well
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == ["cat", "dog"]
    folder = read_objects(tmp_path / "out")
    assert (folder.annotations.classes, len(folder.annotations.objects)) == (("cat", "dog"), 6)
    square = RLE.from_polygons([SQUARE], (20, 30)).decode() & ~RLE.from_polygons([inner], (20, 30)).decode()
    assert any(np.array_equal(mask.decode(), square) for mask in folder.annotations.objects.masks)


def test_what_is_dropped_is_counted(tmp_path):
    picture(tmp_path / "in/images/a.png")
    records = [
        annotation(1, 1, keypoints=[5, 6, 2], num_keypoints=1),
        annotation(2, 1, iscrowd=1, keypoints=[0, 0, 0]),
        annotation(3, 1, bbox=(2, 3, 0, 8), keypoints=[0, 0, 0]),
        annotation(4, 1, bbox=(20, 10, 15, 5), area=12, keypoints=[0, 0, 0]),
    ]
    coco(tmp_path / "in/annotations.json", [(1, "a.png", 20, 30)], records, keypoints=["nose"])
    yolo = convert_objects(tmp_path / "in", tmp_path / "yolo", to="yolo")
    assert losses(yolo) == {
        "records that cannot be used (zero-area); see delineate data check": 1,
        "stated areas that are not those of mask or box": 1,
        "crowds and difficult objects, left out": 1,
        "objects whose keypoints are left out": 1,
        "boxes that leave their image, cut at its frame": 1,
    }
    assert (tmp_path / "yolo/labels/a.txt").read_text().count("\n") == 2
    voc = convert_objects(tmp_path / "in", tmp_path / "voc", to="voc")
    assert losses(voc)["crowds that become difficult objects"] == 1
    labelme = convert_objects(tmp_path / "in", tmp_path / "labelme", to="labelme")
    assert losses(labelme)["classes without an object, which LabelMe's files cannot name"] == 1
    assert "lost: 1 x crowds and difficult objects, left out" in labelme.summary()
    again = convert_objects(tmp_path / "in", tmp_path / "coco", to="coco")
    kept = content(tmp_path / "coco")["instances_all"]
    assert kept["categories"][0]["keypoints"] == ["nose"]
    assert [record["keypoints"] for record in kept["annotations"]] == [[5, 6, 2], [0, 0, 0], [0, 0, 0]]
    assert again.to_dict()["losses"] == [
        {"what": "records that cannot be used (zero-area); see delineate data check", "count": 1}
    ]
    with pytest.raises(DataError, match="objects must have masks to be drawn; got boxes alone"):
        convert_objects(tmp_path / "in", tmp_path / "maps", to="instance-maps")
    assert not (tmp_path / "maps").exists()


HOSTILE = ("traffic light, red", "Füße & <Söckchen>", "no", "1e3", "\N{SNOWMAN} 7 8 9")


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "labelme", "instance-maps"])
def test_hostile_names(tmp_path, to):
    names = ("two words.png", "köln, nord.png", "a.jpg.png")
    for name in (*names, "x/same.png", "y/same.png"):
        picture(tmp_path / "in/images" / name)
    listed = [(i, name, 20, 30) for i, name in enumerate((*names, "x/same.png", "y/same.png"), 1)]
    records = [annotation(i, i, i, segmentation=[SQUARE], area=80) for i in range(1, 6)]
    coco(tmp_path / "in/annotations/instances_train.json", listed, records, list(enumerate(HOSTILE, 1)))
    conversion = convert_objects(tmp_path / "in", tmp_path / "out", to=to)
    folder = read_objects(tmp_path / "out")
    found = {folder.annotations.classes[label] for label in folder.annotations.objects.labels}
    assert found == set(HOSTILE)
    assert (conversion.images, len(folder.annotations.objects)) == (5, 5)
    assert [len(rows) for rows in folder.splits.values()] == [5]
    assert not [problem for problem in folder.problems if problem.severity == "error"]
    if to in ("coco", "yolo"):
        assert folder.annotations.classes == HOSTILE
    assert losses(conversion)["images whose file gets another name"] >= 3  # two of the same name, one that ends twice


def test_class_names_that_a_format_cannot_hold(tmp_path):
    for number, (name, to, message) in enumerate(
        (
            ("two\nlines", "yolo", "class name must be printable"),
            (" cat", "voc", "class name must be printable, without blanks at its ends"),
            ("_background_", "labelme", "classes must have names that LabelMe takes for classes"),
            ("a/b", "instance-maps", "classes must have names that folders can have; got 'a/b'"),
            ("train", "instance-maps", "classes must have names that folders can have; got 'train'"),
        )
    ):
        source = outlined(tmp_path / str(number), categories=((1, name), (7, "dog")))
        with pytest.raises(DataError, match=message):
            convert_objects(source, tmp_path / "out", to=to)
        assert sorted(path.name for path in tmp_path.iterdir()) == [str(i) for i in range(number + 1)]  # no trace


def test_where_it_may_write(tmp_path):
    source = outlined(tmp_path / "in")
    out = tmp_path / "out"
    for place in (source, source / "new", tmp_path):
        with pytest.raises(DataError, match="out must lie apart from the data set"):
            convert_objects(source, place, to="yolo", replace_existing=True)
    with pytest.raises(DataError, match="out must lie apart"):
        convert_objects(source / "annotations/instances_train.json", source / "new", to="yolo")
    convert_objects(source, out, to="yolo")
    with pytest.raises(DataError, match=r"out must not exist, or be empty; got .* with data.yaml in it. --force"):
        convert_objects(source, out, to="yolo")
    (out / "labels/stale.txt").write_text("0 .5 .5 .1 .1\n")
    convert_objects(source, out, to="yolo", replace_existing=True)
    assert not (out / "labels/stale.txt").exists()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match=r"out must hold nothing else to be replaced; got thesis.tex"):
        convert_objects(source, out, to="yolo", replace_existing=True)
    assert (out / "thesis.tex").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="out must be a folder"):
        convert_objects(source, tmp_path / "file", to="yolo")


def test_splits_of_other_names(tmp_path):
    source = outlined(tmp_path / "in")
    (source / "annotations/instances_val.json").rename(source / "annotations/instances_minival.json")
    with pytest.raises(DataError, match="splits must be called train, val or test in yolo; got 'minival'"):
        convert_objects(source, tmp_path / "out", to="yolo")
    assert convert_objects(source, tmp_path / "out", to="coco").splits == {"minival": 1, "train": 2}
    alone = convert_objects(source / "annotations/instances_minival.json", tmp_path / "yolo", to="yolo")
    assert alone.splits == {"all": 1}
    (source / "annotations/instances_train.json").unlink()
    assert convert_objects(source, tmp_path / "voc", to="voc").splits == {"all": 1}


def test_names_that_are_too_long(tmp_path):
    long = "ä" * 120 + ".png"
    picture(tmp_path / "in/images" / long)
    coco(tmp_path / "in/annotations.json", [(1, long, 20, 30)], [annotation(1, 1)])
    convert_objects(tmp_path / "in", tmp_path / "out", to="voc")
    assert read_objects(tmp_path / "out").annotations.image_files == ("JPEGImages/" + "ä" * 100 + ".png",)


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    source = outlined(tmp_path / "in")
    convert_objects(source, tmp_path / "out", to="coco")
    before = content(tmp_path / "out")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("delineate.data.objects.conversion.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        convert_objects(source, tmp_path / "out", to="coco", replace_existing=True)
    assert content(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_links_and_progress(tmp_path):
    source = outlined(tmp_path / "in")
    steps = []
    convert_objects(source, tmp_path / "out", to="voc", images="link", progress=lambda *step: steps.append(step))
    assert (source / "images/a.png").samefile(tmp_path / "out/JPEGImages/a.png")
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ArgumentError, match='images must be "copy" or "link"; got "move"'):
        convert_objects(source, tmp_path / "other", to="voc", images="move")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'labelme'"):
        convert_objects(source, tmp_path / "other", to="labelm")


def test_boxes_alone_of_a_picture_that_lies_on_its_side(tmp_path):
    picture(tmp_path / "in/images/a.jpg", size=(20, 30), orientation=6)  # stands 30 high, 20 wide
    coco(tmp_path / "in/annotations.json", [(1, "a.jpg", 20, 30)], [annotation(1, 1, bbox=(2, 3, 10, 8))])
    for to in ("coco", "voc", "yolo", "labelme"):
        convert_objects(tmp_path / "in", tmp_path / to, to=to)
        assert told(read_objects(tmp_path / to))[1] == told(read_objects(tmp_path / "in"))[1]


def test_polygons_along_the_frame_stay_polygons_in_yolo(tmp_path):
    """Lines whose numbers are whole where a track's or a keypoint's would be."""
    picture(tmp_path / "in/images/a.png")
    outlines = [
        [15.0, 10, 20, 0, 15, 0],
        [15.0, 10, 10, 8, 30, 0, 30, 20, 30, 10],
        [15.0, 10, 12, 12, 0, 0, 12, 0],
    ]
    records = [annotation(i, 1, segmentation=[outline]) for i, outline in enumerate(outlines, 1)]
    coco(tmp_path / "in/annotations.json", [(1, "a.png", 20, 30)], records)
    convert_objects(tmp_path / "in", tmp_path / "out", to="yolo")
    old, new = read_objects(tmp_path / "in").annotations.objects, read_objects(tmp_path / "out").annotations.objects
    assert [mask.counts for mask in new.masks] == [mask.counts for mask in old.masks]


@pytest.mark.data
@pytest.mark.parametrize(("name", "to"), [("coco_tiny", "yolo"), ("coco_tiny", "labelme")])
def test_real_outlines_come_back(real_data, tmp_path, name, to):
    split = real_data / name / "annotations/instances_val2017.json"
    whole = read_objects(split).annotations
    whole_objects = whole.objects.select(~whole.objects.crowd)
    convert_objects(split, tmp_path / "away", to=to, images="link")
    convert_objects(tmp_path / "away", tmp_path / "back", to="coco", images="link")
    back = read_objects(tmp_path / "back").annotations
    assert sorted(mask.counts for mask in back.objects.masks) == sorted(mask.counts for mask in whole_objects.masks)
    names = sorted(whole.classes[label] for label in whole_objects.labels)
    assert sorted(back.classes[label] for label in back.objects.labels) == names


@pytest.mark.data
def test_bccd_loses_its_two_boxes_without_area(real_data, tmp_path):
    conversion = convert_objects(real_data / "bccd", tmp_path / "out", to="coco", images="link")
    assert losses(conversion) == {"records that cannot be used (zero-area); see delineate data check": 2}
    assert (conversion.images, conversion.objects) == (292, 3941)
    assert conversion.splits == {"train": 205, "val": 87}
    assert Path(tmp_path / "out/annotations/instances_val.json").is_file()
