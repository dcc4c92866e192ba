from pathlib import Path

import pytest

from delineate.data.formats.pairing import image_core, mask_core, paired, pictures_under


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(pairs):
    return {record.stem: record.mask and record.mask.name for record in pairs.records}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.jpg", "a.png"),
        ("a.b.JPG", "a.b.png"),
        ("a.jpg", "a_mask.gif"),
        ("a.jpg", "a-label.png"),
        ("a.jpg", "a_gt.tif"),
        ("a.png", "a_L.png"),
        ("a.png", "mask_a.png"),
        ("a.png", "a.mask.png"),
        ("img_7.png", "mask_7.png"),
        ("7_sat.jpg", "7_mask.png"),
        ("7_training.tif", "7_manual1.gif"),
        ("case_0000.png", "case.png"),
        ("city/a.png", "city/a.png"),
        ("a_l.png", "a_l.png"),
    ],
)
def test_names_that_belong_together(tmp_path, image, mask):
    touch(tmp_path, f"images/{image}", f"masks/{mask}")
    pairs = paired("all", tmp_path / "images", tmp_path / "masks")
    assert [record.mask for record in pairs.records] == [tmp_path / "masks" / mask]
    assert pairs.problems == []
    assert pairs.matched == 1


def test_orphans_on_both_sides(tmp_path):
    touch(tmp_path, "i/a.png", "i/b.png", "m/b.png", "m/c.png", "m/notes.txt", "i/.hidden.png", "i/.cache/x.png")
    pairs = paired("val", tmp_path / "i", tmp_path / "m")
    assert found(pairs) == {"a": None, "b": "b.png"}
    assert [(p.severity, p.kind, Path(p.file).name, p.split) for p in pairs.problems] == [
        ("error", "missing-image", "c.png", "val")
    ]


def test_the_exact_name_wins_over_a_similar_one(tmp_path):
    touch(tmp_path, "i/a.png", "i/a_mask.png", "m/a.png", "m/a_mask.png", "i/b.png", "m/b.png", "m/b_gt.png")
    pairs = paired("all", tmp_path / "i", tmp_path / "m")
    assert found(pairs) == {"a": "a.png", "a_mask": "a_mask.png", "b": "b.png"}
    assert [(p.severity, p.kind) for p in pairs.problems] == [("warning", "extra-mask")]


def test_two_pictures_of_one_stem(tmp_path):
    touch(tmp_path, "i/a.jpg", "i/a.png", "m/a.png")
    pairs = paired("all", tmp_path / "i", tmp_path / "m")
    assert [record.image.name for record in pairs.records] == ["a.jpg"]
    assert [p.kind for p in pairs.problems] == ["duplicate-stem"]


def test_one_folder_for_both(tmp_path):
    touch(
        tmp_path, "1/x_1.tif", "1/x_1_mask.tif", "2/x_1.tif", "2/x_1_mask.tif", "7_sat.jpg", "7_mask.png", "left_l.png"
    )
    pairs = paired("all", tmp_path, tmp_path)
    assert found(pairs) == {"1-x_1": "x_1_mask.tif", "2-x_1": "x_1_mask.tif", "7_sat": "7_mask.png", "left_l": None}


def test_the_order_is_that_of_the_paths(tmp_path):
    touch(tmp_path, "c.png", "a.png", "b/z.png", "B.JPG", "d.txt")
    assert [path.relative_to(tmp_path).as_posix() for path in pictures_under(tmp_path)] == [
        "B.JPG",
        "a.png",
        "c.png",
        "b/z.png",
    ]


def test_cores_never_become_empty():
    assert mask_core("_mask") == "_mask"
    assert mask_core("mask_") == "mask_"
    assert image_core("img_") == "img_"
