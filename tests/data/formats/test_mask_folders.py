import pickle

import numpy as np
import pytest
from PIL import Image

from delineate.data.formats import mask_folders
from delineate.data.formats.layout import Layout
from delineate.errors import DataError

IDS = np.array([[0, 1], [1, 2]], np.uint8)


def put(root, name, array=None):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2, 3), np.uint8) if array is None else array).save(path)


def pair(root, image, mask, ids=IDS):
    put(root, image)
    put(root, mask, ids)


def stems(layout):
    return {split: [record.stem for record in records] for split, records in layout.splits.items()}


@pytest.mark.parametrize(
    ("images", "masks", "splits"),
    [
        ("images/{}.jpg", "masks/{}.png", None),
        ("images/{}.png", "labels/{}.png", None),
        ("Images/{}.png", "Annotations/{}.tif", None),
        ("img/{}.png", "gt/{}_gt.png", None),
        ("train/images/{}.png", "train/masks/{}.png", "train"),
        ("training/image/{}.png", "training/label/{}.png", "train"),
        ("images/train/{}.png", "masks/train/{}.png", "train"),
        ("images/training/{}.png", "annotations/training/{}.png", "train"),
        ("train/{}.png", "trainannot/{}.png", "train"),
        ("val/{}.png", "val_labels/{}_L.png", "val"),
        ("train_images/{}.png", "train_masks/{}.png", "train"),
        ("images_test/{}.png", "masks-test/{}.png", "test"),
        ("{}.jpg", "{}_mask.png", None),
        ("train/{}_sat.jpg", "train/{}_mask.png", "train"),
    ],
)
def test_arrangements(tmp_path, images, masks, splits):
    for stem in ("1", "2"):
        pair(tmp_path, images.format(stem), masks.format(stem))
    layout = mask_folders.read(tmp_path)
    assert isinstance(layout, Layout), layout
    assert list(layout.splits) == [splits or "all"]
    records = layout.splits[splits or "all"]
    assert len(records) == 2
    assert [record.mask for record in records] == [tmp_path / masks.format(stem) for stem in ("1", "2")]
    assert np.array_equal(layout.read_ids(records[0]), IDS)
    assert [problem for problem in layout.problems if problem.severity == "error"] == []


def test_splits_by_folder_with_an_unlabelled_one(tmp_path):
    for split in ("train", "val"):
        pair(tmp_path, f"images/{split}/{split}.png", f"masks/{split}/{split}.png")
    put(tmp_path, "images/test/t.png")
    put(tmp_path, "images/val/extra.png")
    layout = mask_folders.read(tmp_path)
    assert stems(layout) == {"train": ["train"], "val": ["extra", "val"]}
    assert [(p.kind, p.split) for p in layout.problems if p.severity == "error"] == [("missing-mask", "val")]


def test_lists_choose_and_orphans_that_no_list_names_do_not_matter(tmp_path):
    for stem in "abcd":
        pair(tmp_path, f"images/{stem}.png", f"labels/{stem}.png")
    put(tmp_path, "labels/orphan.png", IDS)
    put(tmp_path, "images/e.png")
    (tmp_path / "train.txt").write_text("b\na\ne\n")
    (tmp_path / "val.txt").write_text("c\n")
    layout = mask_folders.read(tmp_path)
    assert stems(layout) == {"train": ["b", "a", "e"], "val": ["c"]}
    kinds = [(p.severity, p.kind) for p in layout.problems if p.kind != "no-class-names"]
    assert kinds == [("warning", "unlisted"), ("error", "missing-mask")]


def test_orphans_both_ways_are_errors(tmp_path):
    pair(tmp_path, "images/a.png", "masks/a.png")
    put(tmp_path, "images/b.png")
    put(tmp_path, "masks/c.png", IDS)
    layout = mask_folders.read(tmp_path)
    errors = {p.kind: p.message for p in layout.problems if p.severity == "error"}
    assert errors == {"missing-image": "mask c.png has no image", "missing-mask": "image b.png has no mask"}
    assert layout.splits["all"][1].mask is None


@pytest.mark.parametrize("names", [["images/a.png"], ["masks/a.png"], ["a.txt"], ["train/a.png", "test/b.png"]])
def test_other_folders_are_not_recognised(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert mask_folders.read(tmp_path) == "no such pair of folders"


def test_folders_without_a_common_name_say_so(tmp_path):
    pair(tmp_path, "images/a.png", "masks/b.png")
    assert mask_folders.read(tmp_path) == "images/ and masks, but no name in both, such as a.png or b.png"


def test_class_list_and_void(tmp_path):
    pair(tmp_path, "images/a.png", "masks/a.png", np.array([[0, 1], [2, 255]], np.uint8))
    (tmp_path / "classes.txt").write_text("sky 1 2 3\nvoid 0 0 0\nroad 4 5 6\n")
    layout = mask_folders.read(tmp_path)
    labels, unknown = layout.labels_of(layout.read_ids(layout.splits["all"][0]))
    assert layout.taxonomy.names == ("sky", "road")
    assert layout.taxonomy.colours == ((1, 2, 3), (4, 5, 6))
    assert labels.tolist() == [[0, 255], [1, 255]]
    assert unknown == {}


def test_colour_masks_through_the_class_list(tmp_path):
    colours = np.array([[[1, 2, 3], [0, 0, 0]], [[4, 5, 6], [9, 9, 9]]], np.uint8)
    pair(tmp_path, "images/a.png", "masks/a.png", colours)
    with pytest.raises(DataError, match=r"Name the colours in classes\.txt"):
        mask_folders.read(tmp_path)
    (tmp_path / "classes.txt").write_text("sky 1 2 3\nvoid 0 0 0\nroad 4 5 6\n")
    layout = mask_folders.read(tmp_path)
    labels, unknown = layout.labels_of(layout.read_ids(layout.splits["all"][0]))
    assert labels.tolist() == [[0, 255], [1, 255]]
    assert unknown == {-2 - 0x090909: 1}


def test_layouts_pickle_with_their_reader(tmp_path):
    pair(tmp_path, "images/a.png", "masks/a.png")
    layout = pickle.loads(pickle.dumps(mask_folders.read(tmp_path)))  # noqa: S301
    assert np.array_equal(layout.read_ids(layout.splits["all"][0]), IDS)


def test_camvid(real_data):
    layout = mask_folders.read(real_data / "camvid")
    assert {split: len(records) for split, records in layout.splits.items()} == {"train": 367, "val": 101}
    assert layout.taxonomy.num_classes == 11
    assert layout.problems == ()
    counts = np.zeros(256, np.int64)
    for record in layout.splits["train"]:
        labels, unknown = layout.labels_of(layout.read_ids(record))
        assert unknown == {}
        counts += np.bincount(labels.reshape(-1), minlength=256)
    expected = [10682767, 14750079, 623349, 20076880, 2845085, 6166762, 743859, 714595, 3719877, 405385, 184967]
    assert counts[:11].tolist() == expected
    assert counts[255] == 2503995
    assert counts.sum() == 367 * 360 * 480


def test_isbi(real_data):
    layout = mask_folders.read(real_data / "isbi2012_em")
    assert {split: len(records) for split, records in layout.splits.items()} == {"train": 24}
    assert layout.taxonomy.names == ("background", "foreground")
    ids = layout.read_ids(layout.splits["train"][0])
    labels, unknown = layout.labels_of(ids)
    assert unknown == {}
    assert np.array_equal(labels, ids == 255)
    assert len(layout.with_validation().splits["val"]) == 5


def test_nuclei_counted_one_by_one_are_one_class(real_data):
    layout = mask_folders.read(real_data / "dsb2018")
    assert {split: len(records) for split, records in layout.splits.items()} == {"train": 200, "val": 50}
    assert [(p.severity, p.kind) for p in layout.problems] == [("warning", "instance-ids")]
    ids = layout.read_ids(layout.splits["val"][0])
    assert np.array_equal(layout.labels_of(ids)[0], ids > 0)
