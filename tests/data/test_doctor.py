import json
import shutil

import numpy as np
import pytest
from PIL import Image

from delineate.data import doctor
from delineate.data.doctor import check_dataset
from delineate.data.formats.layout import Problem
from delineate.errors import DataError

SIZE = (40, 60)


def photo(seed, size=SIZE):
    """Smooth colours, different for each seed."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size[::-1], Image.Resampling.BICUBIC)


def halves(size=SIZE, labels=(0, 1)):
    mask = np.full(size, labels[0], np.uint8)
    mask[:, size[1] // 2 :] = labels[1]
    return mask


def healthy(root, train=4, val=3):
    for split, start, count in (("train", 0, train), ("val", 100, val)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for seed in range(start, start + count):
            photo(seed).save(root / split / "images" / f"{seed:03d}.png")
            Image.fromarray(halves()).save(root / split / "masks" / f"{seed:03d}.png")
    (root / "classes.txt").write_text("road\ntree\n")
    return root


def found(report, kind):
    return [problem for problem in report.problems if problem.kind == kind]


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def test_a_healthy_folder(tmp_path):
    calls = []
    report = check_dataset(healthy(tmp_path), progress=lambda done, total: calls.append((done, total)))
    assert report.ok
    assert report.problems == ()
    assert report.images == {"train": 4, "val": 3}
    assert report.classes == ("road", "tree")
    assert calls == [(done, 7) for done in range(1, 8)]
    assert "0 errors, 0 warnings: nothing would break training" in report.summary()


@pytest.mark.parametrize(
    ("images", "told"),
    [({"train": 4}, True), ({"all": 2, "test": 1}, True), ({"all": 1}, False), ({"train": 4, "val": 1}, False)],
)
def test_the_summary_tells_that_training_holds_images_back(images, told):
    report = doctor.CheckReport("cells", "mask-folders", ("a",), images, ())
    assert ("(no validation split: training holds a fifth back)" in report.summary()) == told


def test_five_defects_are_all_named(tmp_path):
    root = healthy(tmp_path)
    cut(root / "train/images/000.png")
    Image.fromarray(halves((30, 60))).save(root / "train/masks/001.png")
    Image.fromarray(halves(labels=(0, 7))).save(root / "train/masks/002.png")
    (root / "val/masks/100.png").unlink()
    shutil.copy(root / "train/images/003.png", root / "val/images/101.png")
    report = check_dataset(root)
    assert not report.ok
    errors = {problem.kind: problem for problem in report.errors}
    assert len(report.errors) == 5
    for kind, file in (
        ("unreadable", "train/images/000.png"),
        ("size-mismatch", "train/masks/001.png"),
        ("unknown-id", "train/masks/002.png"),
        ("missing-mask", "val/images/100.png"),
        ("duplicate-across-splits", "val/images/101.png"),
    ):
        assert errors[kind].file == str(root / file)
    assert "truncated" in errors["unreadable"].message
    assert errors["size-mismatch"].message == "mask is 30 x 60, its image 001.png is 40 x 60 (height x width)"
    assert errors["unknown-id"].message == "mask has id 7 (1200 pixels) outside the 2 classes"
    assert str(root / "train/images/003.png") in errors["duplicate-across-splits"].message
    assert [row[2] for row in report.table()[:5]] == [problem.file[len(str(root)) + 1 :] for problem in report.errors]


def test_defects_of_one_record_do_not_hide_each_other(tmp_path):
    root = healthy(tmp_path)
    cut(root / "train/images/000.png")
    Image.fromarray(halves((30, 60), labels=(0, 9))).save(root / "train/masks/000.png")
    (root / "train/images/001.png").write_bytes(b"")
    Image.fromarray(halves(labels=(5, 9))).save(root / "train/masks/001.png")
    (root / "train/images/002.png").write_text("no picture")
    cut(root / "train/masks/002.png")
    report = check_dataset(root)
    kinds = sorted((problem.kind, problem.file[len(str(root)) + 7 :]) for problem in report.errors)
    assert kinds == [
        ("size-mismatch", "masks/000.png"),
        ("unknown-id", "masks/000.png"),
        ("unknown-id", "masks/001.png"),
        ("unreadable", "images/000.png"),
        ("unreadable", "images/001.png"),
        ("unreadable", "images/002.png"),
        ("unreadable", "masks/002.png"),
    ]


def test_a_mask_without_an_image_is_named(tmp_path):
    root = healthy(tmp_path)
    (root / "train/images/001.png").unlink()
    report = check_dataset(root)
    assert [problem.file for problem in found(report, "missing-image")] == [str(root / "train/masks/001.png")]
    assert not report.ok


def test_the_same_pixels_in_another_file_format(tmp_path):
    root = healthy(tmp_path)
    photo(0).save(root / "val/images/100.png", compress_level=0)
    (problem,) = check_dataset(root).errors
    assert problem.kind == "duplicate-across-splits"
    assert "the same pixels as" in problem.message


def test_a_copy_within_a_split_and_a_near_copy_across_splits_are_warnings(tmp_path):
    root = healthy(tmp_path)
    shutil.copy(root / "train/images/000.png", root / "train/images/001.png")
    photo(2).save(root / "val/images/100.png.jpg", quality=80)
    (root / "val/images/100.png").unlink()
    (root / "val/images/100.png.jpg").rename(root / "val/images/100.jpg")
    report = check_dataset(root)
    assert report.ok
    assert [problem.file for problem in found(report, "duplicate")] == [str(root / "train/images/001.png")]
    (near,) = found(report, "near-duplicate")
    assert near.file == str(root / "val/images/100.jpg")
    assert near.message.startswith("1 of 3 images of 'val' look almost like one of 'train' (100.jpg and 002.png)")
    ((one, other, distance),) = report.near_duplicates
    assert (one, other) == (str(root / "train/images/002.png"), str(root / "val/images/100.jpg"))
    assert 0 <= distance <= 6


def test_empty_masks_and_missing_or_rare_classes_are_warnings(tmp_path):
    root = healthy(tmp_path)
    (root / "classes.txt").write_text("road\ntree\nsign\npost\n")
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(root / "train/masks/000.png")
    speck = halves()
    speck[0, 0] = 2
    Image.fromarray(speck).save(root / "train/masks/001.png")
    report = check_dataset(root)
    assert report.ok
    assert [problem.message for problem in found(report, "empty-mask")] == ["no pixel has a label (000.png)"]
    assert [problem.message for problem in found(report, "class-balance")] == [
        "post never occurs in split 'train'",
        "sign (0.014 %) covers less than 0.1 % of the labelled pixels of split 'train'; class weights may help",
        "sign, post never occur in split 'val'",
    ]


def test_background_only_is_an_empty_mask(tmp_path):
    root = healthy(tmp_path)
    (root / "classes.txt").write_text("background\ntree\n")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(root / "val/masks/100.png")
    report = check_dataset(root)
    assert [problem.message for problem in found(report, "empty-mask")] == ["every pixel is background (100.png)"]


def test_a_turned_photo_has_the_size_it_is_seen_at(tmp_path):
    root = healthy(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees: stored 40 x 60, seen 60 x 40
    (root / "train/images/000.png").unlink()
    photo(0).save(root / "train/images/000.jpg", exif=exif)
    Image.fromarray(halves((60, 40))).save(root / "train/masks/000.png")
    assert check_dataset(root).ok
    Image.fromarray(halves((61, 40))).save(root / "train/masks/000.png")
    (problem,) = check_dataset(root).errors
    assert problem.message == "mask is 61 x 40, its image 000.jpg is 60 x 40 (height x width)"


def test_numbered_classes_know_every_id(tmp_path):
    root = healthy(tmp_path)
    (root / "classes.txt").unlink()
    Image.fromarray(halves(labels=(0, 3))).save(root / "train/masks/000.png")
    Image.fromarray(halves(labels=(2, 255))).save(root / "train/masks/001.png")
    report = check_dataset(root)
    assert report.ok
    assert report.classes == ("class 0", "class 1", "class 2", "class 3")
    assert not found(report, "unknown-id")


def test_many_problems_of_a_kind_are_cut_in_the_table_only(tmp_path):
    problems = tuple(Problem("error", "unknown-id", str(tmp_path / f"{i}.png"), "id 9") for i in range(25))
    report = doctor.CheckReport(str(tmp_path), "mask-folders", ("a",), {"all": 25}, problems)
    rows = report.table()
    assert len(rows) == 11
    assert rows[0] == ["error", "unknown-id", "0.png", "id 9"]
    assert rows[-1] == ["error", "unknown-id", "...", "and 15 more"]
    assert len(report.to_dict()["problems"]) == 25
    assert "25 errors, 0 warnings: training would break" in report.summary()


def test_json_repeats_the_report(tmp_path):
    root = healthy(tmp_path)
    (root / "val/masks/100.png").unlink()
    values = json.loads(json.dumps(check_dataset(root).to_dict()))
    assert values["ok"] is False
    assert (values["errors"], values["warnings"]) == (1, 0)
    assert values["images"] == {"train": 4, "val": 3}
    assert values["problems"][0]["file"] == str(root / "val/images/100.png")


def test_digits_have_no_files():
    report = check_dataset("digits")
    assert report.ok
    assert report.summary() == "digits: scenes are made on the fly, there are no files to check"
    assert report.to_dict()["problems"] == []


def test_an_unknown_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="path must be a data set in a known layout"):
        check_dataset(tmp_path)


@pytest.mark.slow
@pytest.mark.data
def test_camvid_is_healthy(real_data):
    report = check_dataset(real_data / "camvid")
    assert report.ok
    assert report.images == {"train": 367, "val": 101}
    assert len(report.table()) <= 3
