import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data.formats.layout import (
    Layout,
    Record,
    describe_id,
    missing_mask_problems,
    split_name,
    with_unique_stems,
)
from delineate.data.formats.mask_folders import MaskFiles
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy


def layout(splits=None, labels=None, *, classes=3, root=Path("data"), **options):
    labels = {0: 0, 1: 1, 2: 2, 255: 255} if labels is None else labels
    taxonomy = (
        Taxonomy.numbered(classes)
        if classes <= 255
        else Taxonomy(Taxonomy(tuple(map(str, range(classes))), ignore_index=65535).names, ignore_index=65535)
    )
    return Layout(root, "mask-folders", taxonomy, splits or {}, (), MaskFiles(), labels, **options)


def records(*stems):
    return tuple(Record(stem, Path(f"images/{stem}.png"), Path(f"masks/{stem}.png")) for stem in stems)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_ids_become_labels_and_unknown_ids_are_counted(dtype):
    ids = np.array([[0, 1, 2], [7, 7, 255]], dtype)
    labels, unknown = layout().labels_of(ids)
    assert labels.tolist() == [[0, 1, 2], [255, 255, 255]]
    assert labels.dtype == np.uint8
    assert unknown == {7: 2}


def test_ids_far_apart_and_below_zero():
    ids = np.array([[-5, 0, 2**31 - 1, 9]], np.int32)
    labels, unknown = layout(labels={-5: 1, 2**31 - 1: 2, 0: 0}).labels_of(ids)
    assert labels.tolist() == [[1, 0, 2, 255]]
    assert unknown == {9: 1}
    near, unknown = layout(labels={-1: 0, 4: 1}).labels_of(np.array([[-1, 4, 3]], np.int32))
    assert near.tolist() == [[0, 1, 255]]
    assert unknown == {3: 1}


def test_labels_equal_a_dictionary_applied_pixel_by_pixel():
    rng = np.random.default_rng(0)
    ids = rng.integers(-3, 300, (9, 11)).astype(np.int32)
    table = {value: int(rng.integers(0, 3)) for value in range(-3, 200)}
    labels, unknown = layout(labels=table).labels_of(ids)
    assert labels.tolist() == [[table.get(int(value), 255) for value in row] for row in ids]
    assert sum(unknown.values()) == (ids >= 200).sum()


def test_any_other_id_may_have_a_label():
    labels, unknown = layout(labels={0: 0}, other_label=1).labels_of(np.array([[0, 9, 40000]], np.uint16))
    assert labels.tolist() == [[0, 1, 1]]
    assert unknown == {}


def test_many_classes_are_int32():
    big = layout(labels={i: i for i in range(300)}, classes=300)
    labels, unknown = big.labels_of(np.array([[0, 299, 300]], np.uint16))
    assert labels.dtype == np.int32
    assert labels.tolist() == [[0, 299, 65535]]
    assert unknown == {300: 1}


def test_validation_is_a_fifth_that_depends_on_the_stems_alone():
    stems = [f"{i:03d}" for i in range(100)]
    split = layout({"all": records(*stems)}).with_validation()
    held = {record.stem for record in split.splits["val"]}
    assert len(held) == 20
    assert list(split.splits) == ["train", "val"]
    assert {record.stem for record in split.splits["train"]} == set(stems) - held
    assert [record.stem for record in split.splits["train"]] == [stem for stem in stems if stem not in held]
    turned = layout({"all": records(*reversed(stems))}).with_validation()
    assert {record.stem for record in turned.splits["val"]} == held
    assert split.with_validation() is split


def test_new_pictures_move_at_most_one_old_one_each():
    stems = [f"{i:03d}" for i in range(100)]
    before = {record.stem for record in layout({"all": records(*stems)}).with_validation().splits["val"]}
    grown = layout({"all": records(*stems, "new")}).with_validation()
    assert len(before - {record.stem for record in grown.splits["val"]}) <= 1


@pytest.mark.parametrize(("count", "held"), [(2, 1), (3, 1), (8, 2), (24, 5)])
def test_small_sets_have_both_parts(count, held):
    split = layout({"train": records(*map(str, range(count))), "test": records("t")}).with_validation()
    assert len(split.splits["val"]) == held
    assert list(split.splits) == ["train", "val", "test"]


def test_validation_is_only_taken_where_it_can_be():
    single, given = layout({"all": records("a")}), layout({"train": records("a", "b"), "val": records("c")})
    assert single.with_validation() is single
    assert given.with_validation() is given
    with pytest.raises(ArgumentError, match="fraction must lie between 0 and 1; got 1"):
        given.with_validation(1)


def test_records_of_all_splits_come_once():
    both = layout({"train": records("a", "b"), "trainval": records("a", "b", "c")})
    assert [record.stem for record in both.records()] == ["a", "b", "c"]
    with pytest.raises(UnknownNameError, match=r"got 'tran'\. Did you mean 'train'\?"):
        both.records("tran")


def test_a_mask_drawn_on_the_unturned_picture_is_turned_with_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    ids = np.arange(24, dtype=np.uint8).reshape(4, 6)
    Image.fromarray(ids).save(tmp_path / "raw.png")
    Image.fromarray(np.rot90(ids, -1)).save(tmp_path / "shown.png")
    for name in ("raw", "shown"):
        record = Record("a", tmp_path / "a.jpg", tmp_path / f"{name}.png")
        assert np.array_equal(layout().read_ids(record), np.rot90(ids, -1))


def test_reading_no_mask_names_the_image():
    with pytest.raises(DataError, match=r"mask must exist for every image; got none for images.a\.png"):
        layout().read_ids(Record("a", Path("images/a.png"), None))


def test_missing_masks_are_errors_unless_a_whole_split_has_none():
    bare = Record("b", Path("images/b.png"), None)
    found = missing_mask_problems({"train": (*records("a"), bare), "test": (bare, bare), "val": ()})
    assert [(p.severity, p.kind, p.split) for p in found] == [
        ("error", "missing-mask", "train"),
        ("warning", "unlabelled-split", "test"),
    ]
    assert found[0].file == str(Path("images/b.png"))


def test_shared_stems_get_the_folder_before_them():
    pair = [
        Record("1", Path("r/a/1.png"), None),
        Record("1", Path("r/b/1.png"), None),
        Record("2", Path("r/2.png"), None),
    ]
    assert [record.stem for record in with_unique_stems(pair, Path("r"))] == ["a-1", "b-1", "2"]


@pytest.mark.parametrize(
    ("folder", "split"),
    [("train", "train"), ("VALIDATION", "val"), ("val2017", "val"), ("train_2", "train"), ("masks", None), ("", None)],
)
def test_split_names(folder, split):
    assert split_name(folder) == split


def test_ids_in_words():
    assert describe_id(-1) == "id -1"
    assert describe_id(-2) == "colour (0, 0, 0)"


def test_pickles():
    whole = layout({"all": records("a", "b")})
    assert pickle.loads(pickle.dumps(whole)) == whole  # noqa: S301
