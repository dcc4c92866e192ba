from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data.class_lists import read_class_list
from delineate.data.formats import mask_ids
from delineate.data.formats.mask_ids import interpreted
from delineate.errors import DataError


@pytest.fixture
def meaning(tmp_path):
    def of(*arrays, classes=None, suffix="png", palette=None):
        paths = []
        for place, array in enumerate(arrays):
            picture = Image.fromarray(np.array(array))
            if palette:
                picture = Image.fromarray(np.array(array), "P")
                picture.putpalette(palette)
            paths.append(tmp_path / f"{place:03d}.{suffix}")
            picture.save(paths[-1])
        if classes is not None:
            (tmp_path / "classes.txt").write_text(classes)
        return interpreted(paths, read_class_list(tmp_path / "classes.txt") if classes else None)

    return of


def byte(*values):
    return np.array([values], np.uint8)


def kinds(found):
    return [problem.kind for problem in found.problems]


def test_black_and_white_is_background_and_foreground(meaning):
    found = meaning(byte(0, 255), byte(0, 0))
    assert found.taxonomy.names == ("background", "foreground")
    assert found.taxonomy.background == 0
    assert found.label_of_id == {0: 0, 1: 1, 255: 1, -1: 255}
    assert found.problems == ()


def test_zero_and_one_too_and_then_255_is_ignored(meaning):
    assert meaning(byte(0, 1)).label_of_id[255] == 255
    assert meaning(byte(0, 1, 255)).label_of_id == {0: 0, 1: 1, 255: 255, -1: 255}


def test_two_named_classes_in_black_and_white(meaning):
    found = meaning(byte(0, 255), classes="cell\nmembrane")
    assert found.taxonomy.names == ("cell", "membrane")
    assert found.label_of_id[255] == 1
    assert meaning(byte(0, 1, 255), classes="cell\nmembrane").label_of_id[255] == 255


def test_one_stray_id_does_not_turn_white_into_ignored(meaning):
    found = meaning(byte(0, 255), byte(0, 7), classes="cell\nmembrane")
    assert found.label_of_id == {0: 0, 1: 1, 255: 1, -1: 255}


def test_one_named_class_lies_on_a_background(meaning):
    found = meaning(byte(0, 255), classes="nucleus 9 8 7")
    assert found.taxonomy.names == ("background", "nucleus")
    assert found.taxonomy.colours == ((0, 0, 0), (9, 8, 7))
    assert found.label_of_id[255] == 1
    assert meaning(byte(0, 1, 255), classes="nucleus").label_of_id == {0: 0, 1: 1, 255: 255, -1: 255}


def test_one_named_class_in_colour_lies_on_black(meaning):
    picture = np.array([[[0, 0, 0], [9, 8, 7]]], np.uint8)
    found = meaning(picture, classes="nucleus 9 8 7")
    assert found.id_of_colour == {0: 0, 0x090807: 1}
    assert found.taxonomy.names == ("background", "nucleus")


def test_one_class_and_void_is_what_the_list_says(meaning):
    found = meaning(byte(0, 1), classes="cell\nvoid")
    assert found.taxonomy.names == ("cell",)
    assert found.label_of_id[1] == 255


def test_three_named_classes_are_not_looked_for_in_the_masks(meaning, monkeypatch):
    monkeypatch.setattr(mask_ids, "read_ids", None)
    found = meaning(byte(0, 255), classes="a\nb\nc")
    assert found.label_of_id == {0: 0, 1: 1, 2: 2, 255: 255, -1: 255}


def test_numbers_where_nothing_is_named(meaning):
    found = meaning(byte(0, 1, 4, 255), byte(2, 2, 2, 2))
    assert found.taxonomy.names == ("class 0", "class 1", "class 2", "class 3", "class 4")
    assert found.label_of_id == {255: 255, -1: 255, 0: 0, 1: 1, 2: 2, 3: 3, 4: 4}
    assert kinds(found) == ["no-class-names"]


def test_ids_far_apart_are_classes_of_their_own(meaning):
    found = meaning(byte(0, 128, 64, 255))
    assert found.taxonomy.names == ("class 0", "class 64", "class 128")
    assert found.label_of_id == {255: 255, -1: 255, 0: 0, 64: 1, 128: 2}


def test_colours_of_the_palette(meaning):
    found = meaning(byte(0, 1, 2), palette=[1, 1, 1, 2, 2, 2, 3, 3, 3])
    assert found.taxonomy.colours == ((1, 1, 1), (2, 2, 2), (3, 3, 3))


def test_objects_counted_one_by_one(meaning):
    found = meaning(np.array([[0, 1, 2, 3]], np.uint16), np.array([[0, 0, 0, 1]], np.uint16))
    assert found.taxonomy.names == ("background", "object")
    assert (found.label_of_id, found.other_label) == ({0: 0, -1: 255}, 1)
    assert kinds(found) == ["instance-ids"]
    named = meaning(np.array([[0, 1, 2, 3]], np.uint16), np.array([[0, 0, 0, 1]], np.uint16), classes="cell")
    assert (named.taxonomy.names, named.other_label) == (("background", "cell"), 1)


def test_classes_of_16_bits_are_not_taken_for_objects(meaning):
    assert meaning(np.array([[0, 3, 2]], np.uint16), np.array([[0, 1, 3]], np.uint16)).other_label is None


def test_jpeg_masks_are_black_and_white_or_refused(meaning):
    square = np.zeros((64, 64), np.uint8)
    square[16:48, 16:48] = 255
    found = meaning(square, suffix="jpg")
    assert found.black_and_white
    assert kinds(found) == ["lossy-mask"]
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None] * 4, 64, 0)
    with pytest.raises(DataError, match=r"mask must be a lossless file, such as PNG; got .*000\.jpg"):
        meaning(ramp, suffix="jpg")


def test_damaged_masks_are_left_to_whoever_reads_them(meaning, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    meaning(byte(0, 255))
    found = interpreted([tmp_path / "broken.png", tmp_path / "000.png"], None)
    assert found.label_of_id[255] == 1
    with pytest.raises(DataError, match=r"broken\.png"):
        interpreted([tmp_path / "broken.png"], None)


def test_the_look_at_many_masks_is_bounded(meaning, monkeypatch):
    seen = []
    monkeypatch.setattr(mask_ids, "read_ids", lambda path: seen.append(path.name) or byte(0, 255))
    monkeypatch.setattr(mask_ids, "mask_palette", lambda path: None)
    interpreted([Path(f"{i:05d}.png") for i in range(1000)], None)
    assert len(seen) == mask_ids.SCANNED_MASKS
    assert (seen[0], seen[1], seen[-1]) == ("00000.png", "00005.png", "00995.png")


def test_no_masks_at_all(meaning):
    assert meaning().taxonomy.names == ("background", "foreground")
    assert meaning(classes="a\nb\nc").taxonomy.names == ("a", "b", "c")
