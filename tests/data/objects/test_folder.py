"""Folders of objects in every format, recognised, read and checked."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from delineate.data.formats.layout import held_back
from delineate.data.objects.folder import OBJECT_FORMATS, read_objects
from delineate.errors import DataError, UnknownNameError
from delineate.structures.rle import RLE
from tests.data.object_folders import annotation, coco, kinds, picture, text, xml

SIDEWAYS = 6  # the EXIF orientation of a camera held upright


def test_coco_by_hand(tmp_path):
    for name in ("train2017/b.png", "train2017/a.png", "val2017/c.png"):
        picture(tmp_path / "images" / name)
    square = [2.0, 3, 12, 3, 12, 11, 2, 11]
    coco(
        tmp_path / "annotations/instances_train2017.json",
        [(9, "a.png", 20, 30), (4, "b.png", 20, 30)],
        [
            annotation(1, 9, 2, segmentation=[square], area=77.0),
            annotation(2, 9, 1, (0, 0, 30, 20), segmentation={"size": [20, 30], "counts": [0, 600]}, iscrowd=1),
        ],
    )
    coco(
        tmp_path / "annotations/instances_val2017.json",
        [(5, "c.png", 20, 30)],
        [annotation(7, 5, segmentation=[square])],
    )
    folder = read_objects(tmp_path)
    whole = folder.annotations
    assert (folder.format, folder.columns) == ("coco", ("boxes", "masks"))
    assert whole.image_ids == (4, 5, 9)  # as numbered, over both files
    assert whole.image_files == ("images/train2017/b.png", "images/val2017/c.png", "images/train2017/a.png")
    assert all(folder.path(image).is_file() for image in range(3))
    assert folder.stems == ("b", "c", "a")
    assert whole.image_sizes.tolist() == [[20, 30]] * 3
    assert (whole.classes, whole.class_ids) == (("cat", "dog"), (1, 2))
    assert {split: images.tolist() for split, images in folder.splits.items()} == {"train": [0, 2], "val": [1]}
    objects = whole.objects
    assert objects.images.tolist() == [1, 2, 2]
    assert objects.labels.tolist() == [0, 1, 0]
    assert objects.boxes.tolist() == [[2, 3, 10, 8], [2, 3, 10, 8], [0, 0, 30, 20]]
    assert objects.areas.tolist() == [80, 77, 600]
    assert objects.crowd.tolist() == [False, False, True]
    assert objects.masks[0] == RLE.from_polygons([square], (20, 30))
    assert folder.problems == ()
    assert folder.with_validation() is folder
    truth = folder.truth("train")
    assert (truth.image_ids, truth.objects.images.tolist()) == ((4, 9), [1, 1])
    assert folder.images().tolist() == [0, 1, 2]
    copy = pickle.loads(pickle.dumps(folder))  # noqa: S301
    assert copy.annotations.objects.masks[2] == objects.masks[2]
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'vall'"):
        folder.images("vall")


def test_coco_with_clashing_numbers_beside_its_images_as_roboflow_writes_it(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / split / f"{split}.jpg")
        coco(
            tmp_path / split / "_annotations.coco.json",
            [(0, f"{split}.jpg", 20, 30)],
            [annotation(0, 0, segmentation=[])],
            [(1, "cat"), (3, "background")],
        )
    folder = read_objects(tmp_path)
    assert folder.annotations.image_ids == ("train", "valid")
    assert list(folder.splits) == ["train", "val"]
    assert folder.columns == ("boxes",)
    assert folder.annotations.classes == ("cat",)  # nothing is called background


def test_a_coco_file_named_from_beside_it(tmp_path, monkeypatch):
    picture(tmp_path / "images/a.png")
    coco(tmp_path / "annotations/val.json", [(0, "a.png", 20, 30)], [annotation(1, 0)])
    monkeypatch.chdir(tmp_path / "annotations")
    for path in ("val.json", "../annotations/val.json"):
        folder = read_objects(path)
        assert folder.annotations.image_files == ("images/a.png",)
        assert folder.path(0).is_file()


def test_one_coco_file_and_the_split_that_nobody_named(tmp_path):
    names = [f"{i}.png" for i in range(10)]
    for name in names:
        picture(tmp_path / name)
    coco(tmp_path / "my.json", [(i, name, 20, 30) for i, name in enumerate(names)], [annotation(1, 3)])
    folder = read_objects(tmp_path / "my.json")
    assert list(folder.splits) == ["all"]
    parted = folder.with_validation()
    assert parted.splits["val"].tolist() == np.flatnonzero(held_back([str(i) for i in range(10)])).tolist()
    assert sorted([*parted.splits["train"], *parted.splits["val"]]) == list(range(10))
    assert len(parted.splits["val"]) == 2


COCO_DEFECTS = {
    "unknown-category": annotation(1, 0, 77),
    "unknown-image": annotation(1, 55),
    "zero-area": annotation(1, 0, bbox=(2, 3, 0, 8)),
    "swapped-corners": annotation(1, 0, bbox=(12, 3, -10, 8)),
    "outside": annotation(1, 0, bbox=(30, 3, 4, 4)),
    "far-away": annotation(1, 0, bbox=(1e200, 3, 4, 4)),
    "not-finite": annotation(1, 0, bbox=(float("nan"), 3, 4, 4)),
    "malformed": annotation(1, 0, bbox=(1, 2, 3)),
}


@pytest.mark.parametrize("kind", COCO_DEFECTS)
def test_a_bad_coco_record_is_named_and_left_out(tmp_path, kind):
    picture(tmp_path / "a, NaN .png")
    coco(tmp_path / "annotations.json", [(0, "a, NaN .png", 20, 30)], [COCO_DEFECTS[kind], annotation(9, 0)])
    folder = read_objects(tmp_path)
    assert kinds(folder) == [kind]
    problem = folder.problems[0]
    assert problem.file == str(tmp_path / "annotations.json")
    assert "annotations[0]" in problem.message or "annotation 1 of 0" in problem.message
    assert folder.annotations.objects.ids.tolist() == [9]


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([], "no-outline"),
        ([[1, 1, 9, 1, 9]], "bad-outline"),
        ([[1, 1, 9, 1, 9, 9, 5]], "bad-outline"),
        ([[1, 1, 9, 1]], "bad-outline"),
        ({"size": [20, 30], "counts": [7]}, "bad-outline"),
        ({"size": [9, 9], "counts": [0, 81]}, "mask-size"),
        ({"size": [20, 30], "counts": [600]}, "empty-mask"),
    ],
)
def test_a_bad_coco_outline_is_named_and_left_out(tmp_path, segmentation, kind):
    picture(tmp_path / "a.png")
    whole = [[1, 1, 9, 1, 9, 9]]
    records = [annotation(1, 0, segmentation=whole), annotation(2, 0, segmentation=segmentation)]
    coco(tmp_path / "annotations.json", [(0, "a.png", 20, 30)], [*records, annotation(3, 0, segmentation=whole)])
    folder = read_objects(tmp_path)
    assert kinds(folder) == [kind]
    assert folder.annotations.objects.ids.tolist() == [1, 3]
    assert len(read_objects(tmp_path, columns=["boxes"]).annotations.objects) == 3


def test_keypoints(tmp_path):
    picture(tmp_path / "a.png")
    good = [4, 5, 2, 6, 7, 1]
    records = [
        annotation(1, 0, keypoints=good),
        annotation(2, 0, keypoints=[4, 5, 3, 6, 7, 1], bbox=(1, 1, 4, 4)),
        annotation(3, 0, keypoints=[4, 5, 2], bbox=(2, 1, 4, 4)),
        annotation(4, 0, keypoints=[40, 5, 2, 6, 7, 1], bbox=(3, 1, 4, 4)),
        annotation(5, 0, bbox=(4, 1, 4, 4)),
    ]
    coco(tmp_path / "annotations.json", [(0, "a.png", 20, 30)], records, [(1, "person")], keypoints=["nose", "tail"])
    folder = read_objects(tmp_path)
    assert folder.columns == ("boxes", "keypoints")
    assert folder.annotations.keypoint_names == ("nose", "tail")
    assert folder.annotations.objects.ids.tolist() == [1, 4, 5]
    assert folder.annotations.objects.keypoints[2].tolist() == [[0, 0, 0]] * 2
    assert kinds(folder) == ["keypoints", "visibility"]
    assert kinds(folder, "warning") == ["keypoint-outside"]


def test_warnings_leave_objects_where_they_are(tmp_path):
    picture(tmp_path / "a.png")
    records = [annotation(1, 0), annotation(2, 0, bbox=(-3, 0, 9, 9)), annotation(3, 0), annotation(4, 0, 2)]
    coco(tmp_path / "annotations.json", [(0, "a.png", 20, 30)], [*records, annotation(5, 0, bbox=(21.5, 0, 9, 9))])
    folder = read_objects(tmp_path)
    assert folder.annotations.objects.ids.tolist() == [1, 2, 3, 4, 5]
    assert kinds(folder, "warning") == ["duplicate", "leaves-image"]  # half a pixel is rounding
    assert folder.errors() == ()


def test_pictures_that_are_missing_damaged_or_of_another_size(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"no picture")
    images = [(0, "a.png", 20, 30), (1, "b.png", 40, 60), (2, "c.png", 20, 30), (3, "d.png", 20, 30)]
    coco(tmp_path / "annotations.json", images, [annotation(i, i) for i in range(4)])
    folder = read_objects(tmp_path)
    assert folder.annotations.image_ids == (0,)
    assert folder.annotations.objects.ids.tolist() == [0]
    assert kinds(folder) == ["missing-image", "size-mismatch", "unreadable"]
    mismatch = next(problem for problem in folder.problems if problem.kind == "size-mismatch")
    assert "size is 40 x 60 in" in mismatch.message
    assert mismatch.message.endswith("the image is 20 x 30 (height x width)")


def test_what_was_drawn_on_the_stored_picture_turns_with_it(tmp_path):
    picture(tmp_path / "a.jpg", (20, 30), SIDEWAYS)  # 30 high and 20 wide, seen upright
    picture(tmp_path / "b.jpg", (20, 30), SIDEWAYS)
    outline = [[2, 3, 12, 3, 12, 11, 2, 11]]
    points = [2, 3, 2]
    records = [
        annotation(0, 0, segmentation=outline, keypoints=points),
        annotation(1, 1, segmentation=outline, keypoints=points),
    ]
    categories = [(1, "cat")]
    coco(tmp_path / "annotations.json", [(0, "a.jpg", 20, 30), (1, "b.jpg", 30, 20)], records, categories)
    objects = read_objects(tmp_path).annotations.objects
    # clockwise: x = 20 - y, y = x; a pixel's last row is 19
    assert objects.boxes.tolist() == [[20 - 11, 2, 8, 10], [2, 3, 10, 8]]
    assert objects.keypoints[:, 0].tolist() == [[19 - 3, 2, 2], [2, 3, 2]]
    assert objects.masks[0].size == objects.masks[1].size == (30, 20)
    assert objects.masks.boxes().tolist() == [[9, 2, 8, 10], [2, 3, 10, 8]]


def test_voc_by_hand(tmp_path):
    for stem in "abcde":
        picture(tmp_path / f"JPEGImages/{stem}.jpg")
    xml(tmp_path / "Annotations/a.xml", ("dog", "", (1, 2, 11, 12)), ("cat", "<difficult>1</difficult>", (3, 3, 9, 9)))
    xml(tmp_path / "Annotations/b.xml", size=(0, 0))
    xml(
        tmp_path / "Annotations/c.xml",
        ("dog", "", (9, 2, 1, 12)),
        ("dog", "", ("nan", 2, 1, 12)),
        ("", "", (1, 1, 2, 2)),
    )
    xml(tmp_path / "Annotations/d.xml", head='<!DOCTYPE annotation [<!ENTITY a "aaaa">]>')
    xml(tmp_path / "Annotations/z.xml", ("dog", "", (1, 2, 11, 12)))
    text(tmp_path / "ImageSets/Main/train.txt", "a\nb\nc\nd\n")
    text(tmp_path / "ImageSets/Main/val.txt", "b\ne\n")
    text(tmp_path / "ImageSets/Main/dog_val.txt", "b -1\n")
    folder = read_objects(tmp_path)
    assert (folder.format, folder.columns, folder.stems) == ("voc", ("boxes",), ("a", "b", "c"))
    assert {split: images.tolist() for split, images in folder.splits.items()} == {"train": [0, 1, 2], "val": [1]}
    objects = folder.annotations.objects
    assert folder.annotations.classes == ("cat", "dog")
    assert objects.boxes.tolist() == [[1, 2, 10, 10], [3, 3, 6, 6]]
    assert (objects.labels.tolist(), objects.ignored.tolist()) == ([1, 0], [False, True])
    assert kinds(folder) == sorted(
        ["swapped-corners", "not-finite", "malformed", "unreadable", "missing-image", "missing-annotation"]
    )
    assert "without document type or entities" in next(p.message for p in folder.problems if p.kind == "unreadable")
    assert {problem.kind for problem in folder.errors("val")} == {"missing-annotation", "missing-image", "unreadable"}


def test_voc_files_beside_their_images(tmp_path):
    for split in ("train", "test"):
        picture(tmp_path / split / "same.jpg")
        xml(tmp_path / split / "same.xml", ("dog", "", (1, 2, 11, 12)))
    folder = read_objects(tmp_path)
    assert folder.format == "voc"
    assert folder.stems == ("test-same", "train-same")
    assert {split: images.tolist() for split, images in folder.splits.items()} == {"test": [0], "train": [1]}


def test_yolo_by_hand(tmp_path):
    for stem in "abcd":
        picture(tmp_path / f"images/train/{stem}.png")
    picture(tmp_path / "images/val/e.png")
    text(tmp_path / "data.yaml", "path: ../datasets/this\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    text(tmp_path / "labels/train/a.txt", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.5 0.2 0.4\n")
    text(tmp_path / "labels/train/b.txt", "")
    wrong = "1 0.5 0.5 0.2\n1 nan 0.5 0.2 0.4\n7 0.5 0.5 0.2 0.4\n1 9 5 0.2 0.4\n1 .5 .5 -.2 .4\n1 .5 .5 0 .4\n"
    text(tmp_path / "labels/train/c.txt", f"\n{wrong}0 0.5 0.5 1 1\n")
    folder = read_objects(tmp_path)
    assert (folder.format, folder.columns) == ("yolo", ("boxes",))
    assert {split: images.tolist() for split, images in folder.splits.items()} == {"train": [0, 1, 2, 3], "val": [4]}
    objects = folder.annotations.objects
    assert objects.images.tolist() == [0, 0, 2]
    assert objects.labels.tolist() == [1, 0, 0]
    assert np.allclose(objects.boxes, [[12, 6, 6, 8], [0, 6, 6, 8], [0, 0, 30, 20]])
    assert kinds(folder) == sorted(
        ["malformed", "not-finite", "unknown-category", "malformed", "swapped-corners", "zero-area"]
    )
    messages = [problem.message for problem in folder.problems]
    assert any("got '1 0.5 0.5 0.2' in" in message and message.endswith("c.txt, line 2.") for message in messages)
    assert any("got '7 0.5 0.5 0.2 0.4' in" in message and message.endswith("c.txt, line 4.") for message in messages)
    assert any(message.startswith("object 6 of c has a box without area") for message in messages)
    assert {problem.split for problem in folder.errors()} == {"train"}
    assert kinds(folder, "warning") == ["no-labels"]  # of val


def test_yolo_polygons_and_lists(tmp_path):
    for stem in "abc":
        picture(tmp_path / f"{stem}.png")
    text(tmp_path / "classes.txt", "cell\n")
    text(
        tmp_path / "a.txt",
        "0 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.1 0.1 0.5 0.1 0.5\n0 0.5 0.5 0.1 0.1\n0 .2 .2 .4 .2 .4 .4 .2 .4",
    )
    text(tmp_path / "train.txt", f"{tmp_path}/a.png\nb.png\n")
    text(tmp_path / "val.txt", "c.png\n")
    folder = read_objects(tmp_path)
    assert folder.columns == ("boxes", "masks")
    assert folder.annotations.objects.ids.tolist() == [1, 4]
    assert folder.annotations.objects.masks.areas().tolist()[1] == 6 * 4
    assert kinds(folder) == ["malformed", "no-outline"]
    assert [len(images) for images in folder.splits.values()] == [2, 1]
    assert read_objects(tmp_path, columns=["boxes"]).annotations.objects.ids.tolist() == [1, 3, 4]


def test_yolo_labels_without_an_image_and_files_that_are_no_text(tmp_path):
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "images/b.png")
    text(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.4\n")
    (tmp_path / "labels/b.txt").write_bytes(b"\xff\xfe\x00")
    text(tmp_path / "labels/z.txt", "0 0.5 0.5 0.2 0.4\n")
    folder = read_objects(tmp_path)
    assert folder.annotations.classes == ("class 0",)
    assert folder.stems == ("a",)
    assert kinds(folder) == ["missing-image", "unreadable"]


def test_instance_maps(tmp_path):
    ids = np.zeros((20, 30), np.uint16)
    ids[2:6, 3:9], ids[8:12, 3:9] = 700, 4
    for stem in ("a", "b", "c", "d"):
        picture(tmp_path / f"images/{stem}.png")
    (tmp_path / "labels").mkdir()
    Image.fromarray(ids).save(tmp_path / "labels/a.png")
    Image.fromarray(np.zeros_like(ids)).save(tmp_path / "labels/b.png")
    Image.fromarray(ids[:10]).save(tmp_path / "labels/c.png")
    text(tmp_path / "train.txt", "a\nc\n")
    text(tmp_path / "val.txt", "b\n")
    folder = read_objects(tmp_path)
    assert (folder.format, folder.columns) == ("instance-maps", ("boxes", "masks"))
    objects = folder.annotations.objects
    assert (folder.stems, objects.ids.tolist()) == (("a", "b"), [4, 700])
    assert objects.boxes.tolist() == [[3, 8, 6, 4], [3, 2, 6, 4]]
    assert np.array_equal(objects.masks[1].decode(), ids == 700)
    assert {split: images.tolist() for split, images in folder.splits.items()} == {"train": [0], "val": [1]}
    assert kinds(folder) == ["missing-mask", "size-mismatch"]


def test_instance_maps_of_several_classes(tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[2:6, 3:9] = 1
    picture(tmp_path / "images/a.png")
    for name, shift in (("cell", 0), ("nucleus", 5)):
        (tmp_path / "masks" / name).mkdir(parents=True)
        Image.fromarray(np.roll(ids, shift, axis=1)).save(tmp_path / "masks" / name / "a.png")
    folder = read_objects(tmp_path)
    assert folder.annotations.classes == ("cell", "nucleus")
    assert folder.annotations.objects.labels.tolist() == [0, 1]
    assert folder.annotations.objects.boxes[:, 0].tolist() == [3, 8]


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match=r"path must be a folder, or a COCO JSON file; got .*where nothing is"):
        read_objects(tmp_path / "nowhere")
    with pytest.raises(DataError, match="path must hold objects in a known format; got") as error:
        read_objects(tmp_path)
    assert all(f"{name}: " in str(error.value) for name in OBJECT_FORMATS)
    with pytest.raises(UnknownNameError, match="format must be a known name; got 'coko'"):
        read_objects(tmp_path, "coko")
    with pytest.raises(UnknownNameError, match="column must be a known name; got 'mask'"):
        read_objects(tmp_path, columns=["mask"])
    picture(tmp_path / "a.jpg")
    xml(tmp_path / "a.xml", ("dog", "", (1, 2, 11, 12)))
    with pytest.raises(DataError, match="columns must be some of boxes; got masks for"):
        read_objects(tmp_path, columns=["masks"])
    xml(tmp_path / "a.xml")
    with pytest.raises(DataError, match="annotations must name at least one class; got none in"):
        read_objects(tmp_path)


@pytest.mark.parametrize("content", ['{"images": 3, "annotations": [], "categories": []}', '{"images": [', "[]", "7"])
def test_json_of_another_shape(tmp_path, content):
    picture(tmp_path / "a.png")
    text(tmp_path / "annotations.json", content)
    with pytest.raises(DataError, match=r"annotations must be COCO JSON; got, in .*annotations\.json"):
        read_objects(tmp_path)


def test_files_whose_categories_differ(tmp_path):
    for split, name in (("train", "cat"), ("val", "cow")):
        picture(tmp_path / f"{split}/{split}.png")
        records = [annotation(0, 0)]
        coco(tmp_path / f"annotations/instances_{split}.json", [(0, f"{split}.png", 20, 30)], records, [(1, name)])
    with pytest.raises(DataError, match=r"categories must be the same in every file; got: 1 is 'cow' in .* and 'cat'"):
        read_objects(tmp_path)


@pytest.mark.parametrize(
    ("path", "format", "images", "objects", "splits", "columns", "errors"),
    [
        ("bccd", "voc", 292, 3941, {"train": 205, "val": 87}, ("boxes",), ["zero-area"] * 2),
        ("coco_tiny", "coco", 38, 424, {"train": 32, "val": 6}, ("boxes", "masks"), []),
        ("coco_pose_mini", "coco", 30, 87, {"train": 30}, ("boxes", "masks", "keypoints"), []),
        ("voc3_labelme/bbox_detection/data_annotated", "labelme", 3, 9, {"all": 3}, ("boxes",), []),
        ("voc3_labelme/bbox_detection/data_dataset_voc", "voc", 3, 9, {"all": 3}, ("boxes",), []),
        ("voc3_labelme/instance_segmentation/data_annotated", "labelme", 3, 12, {"all": 3}, ("boxes", "masks"), []),
        ("voc3_labelme/instance_segmentation/data_dataset_coco", "coco", 3, 12, {"all": 3}, ("boxes", "masks"), []),
    ],
)
def test_real_data(real_data, path, format, images, objects, splits, columns, errors):
    folder = read_objects(real_data / path)
    assert (folder.format, folder.annotations.num_images) == (format, images)
    assert len(folder.annotations.objects) == objects
    assert {split: len(rows) for split, rows in folder.splits.items()} == splits
    assert folder.columns == columns
    assert kinds(folder) == errors
    assert all(folder.path(image).is_file() for image in range(images))


def test_real_instance_maps(real_data, tmp_path):
    names = (real_data / "dsb2018/val.txt").read_text().split()[:12]
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / f"{name}.png").symlink_to(real_data / "dsb2018" / part / f"{name}.png")
    folder = read_objects(tmp_path)
    ids = [np.asarray(Image.open(tmp_path / f"labels/{stem}.png")) for stem in folder.stems]
    counts = np.bincount(folder.annotations.objects.images, minlength=12).tolist()
    assert counts == [len(np.unique(one)) - 1 for one in ids]
    areas = np.concatenate([np.unique(one[one > 0], return_counts=True)[1] for one in ids])
    assert folder.annotations.objects.masks.areas().tolist() == areas.tolist()


def test_labelme_shapes_are_the_masks_of_their_published_coco_file(real_data):
    home = real_data / "voc3_labelme/instance_segmentation"
    ours = read_objects(home / "data_annotated").annotations
    theirs = read_objects(home / "data_dataset_coco").annotations

    def named(truth):
        rows = zip(truth.objects.images, truth.objects.labels, truth.objects.areas, strict=True)
        files = [file.rsplit("/", 1)[-1] for file in truth.image_files]
        return sorted((files[image], truth.classes[label], area) for image, label, area in rows)

    for (file, name, area), (other_file, other_name, other_area) in zip(named(ours), named(theirs), strict=True):
        assert (file, name) == (other_file, other_name)
        assert area == pytest.approx(other_area, rel=0.1)  # drawn by another rule for the pixels of an edge
