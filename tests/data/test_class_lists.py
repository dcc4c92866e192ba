import json

import pytest

from delineate.data.class_lists import find_class_list, read_class_list
from delineate.errors import DataError


@pytest.fixture
def listed(tmp_path):
    def written(text, name="classes.txt"):
        (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")
        return read_class_list(tmp_path / name)

    return written


def test_one_name_a_line_and_void_is_not_a_class(listed):
    classes = listed("sky\nvoid\nroad\n")
    assert classes.taxonomy().names == ("sky", "road")
    assert classes.label_of_id() == {0: 0, 1: 255, 2: 1, 255: 255, -1: 255}


@pytest.mark.parametrize("name", ["void", "Ignore", "unlabelled", "UNLABELED", "__ignore__ "])
def test_names_that_are_ignored(listed, name):
    assert listed(f"a\nb\n{name}\n").label_of_id()[2] == 255


def test_camvid(real_data):
    classes = read_class_list(real_data / "camvid/classes.txt")
    assert classes.taxonomy().num_classes == 11
    assert classes.label_of_id()[11] == 255
    assert classes.taxonomy().index("bicyclist") == 10


@pytest.mark.parametrize(
    "text",
    [
        "sky 128 128 128\ntall building 128 0 0",
        "sky,128,128,128\ntall building, 128, 0, 0",
        "sky\t128,128,128\r\ntall building: 128 0 0\r\n",
        "128 128 128 sky\n128 0 0\ttall building",
        "\ufeff# names\nsky:128,128,128::\n\ntall building:128,0,0:part:act".replace(":part:act", "::"),
        "name,r,g,b\nsky,128,128,128\ntall building,128,0,0",
    ],
)
def test_colours_in_the_ways_people_write_them(listed, text):
    classes = listed(text)
    assert classes.taxonomy().names == ("sky", "tall building")
    assert classes.taxonomy().colours == ((128, 128, 128), (128, 0, 0))
    assert classes.id_of_colour() == {0x808080: 0, 0x800000: 1}


@pytest.mark.parametrize(
    "content",
    [
        ["sky", "road"],
        {"classes": ["sky", "road"]},
        {"names": ["sky", "road"], "ignore_index": 255},
        {"0": "sky", "1": "road"},
        {"sky": 0, "road": 1},
        {"labels": {"sky": 0, "road": 1}},
        [{"name": "road", "id": 1}, {"name": "sky", "id": 0}],
        {"1": {"name": "road"}, "0": {"name": "sky"}},
        [{"name": "sky"}, {"name": "road", "colour": [1, 2, 3]}],
    ],
)
def test_json_in_the_ways_people_write_it(listed, content):
    classes = listed(content, "classes.json")
    assert classes.taxonomy().names == ("sky", "road")
    assert classes.label_of_id() == {0: 0, 1: 1, 255: 255, -1: 255}


def test_json_with_ids_colours_and_ignored_classes(listed):
    content = [
        {"name": "edge", "id": 7, "ignore": True, "color": [9, 9, 9]},
        {"name": "road", "id": 40, "colour": [1, 2, 3]},
        {"name": "background", "id": 3, "color": [0, 0, 0]},
    ]
    classes = listed(content, "classes.json")
    assert classes.taxonomy().names == ("background", "road")
    assert classes.taxonomy().background == 0
    assert classes.label_of_id() == {3: 0, 7: 255, 40: 1, 255: 255, -1: 255}
    assert classes.id_of_colour() == {0: 3, 0x090909: 7, 0x010203: 40}
    by_name = listed({"road": [1, 2, 3], "sky": {"color": [4, 5, 6]}}, "b.json")
    assert by_name.taxonomy().colours == ((1, 2, 3), (4, 5, 6))


def test_a_stored_taxonomy_is_read_back(listed):
    classes = listed({"names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]], "background": None}, "classes.json")
    assert classes.taxonomy().colours == ((1, 2, 3), (4, 5, 6))


def test_labelmes_list_counts_from_minus_one(listed):
    classes = listed("__ignore__\n_background_\ncat\n", "labels.txt")
    assert classes.taxonomy().names == ("background", "cat")
    assert classes.taxonomy().background == 0
    assert classes.label_of_id() == {-1: 255, 0: 0, 1: 1, 255: 255}


def test_more_than_255_classes_are_ignored_by_another_label(listed):
    classes = listed("\n".join(f"class {i}x" for i in range(300)))
    assert classes.taxonomy().num_classes == 300
    assert classes.taxonomy().ignore_index == 65535
    assert classes.label_of_id()[255] == 255


def test_palette_colours_where_the_list_has_none(listed):
    assert listed("a\nb").taxonomy(((1, 1, 1), (2, 2, 2), (3, 3, 3))).colours == ((1, 1, 1), (2, 2, 2))
    assert listed("a\nb").id_of_colour() == {}


def test_two_classes_of_one_colour_cannot_be_told_by_colour(listed):
    assert listed("a 1 1 1\nb 1 1 1").id_of_colour() == {}


def test_numbers_at_the_end_of_a_name_are_part_of_it(listed):
    assert listed("class 1\nclass 2").taxonomy().names == ("class 1", "class 2")


def test_the_first_file_in_the_first_folder_is_found(tmp_path):
    assert find_class_list(tmp_path) is None
    (tmp_path / "sub").mkdir()
    (tmp_path / "labels.txt").write_text("a\nb")
    (tmp_path / "sub/classes.txt").write_text("c\nd")
    assert find_class_list(tmp_path, tmp_path / "sub").taxonomy().names == ("a", "b")
    assert find_class_list(tmp_path / "sub", tmp_path).taxonomy().names == ("c", "d")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "classes.txt", "must name at least one class; got none"),
        ("void\n", "classes.txt", "must name at least one class"),
        ("a\nb\na\n", "classes.txt", "must not repeat names; got a twice"),
        ("a 1 2 300\n", "classes.txt", r"colour must be 0 to 255; got \(1, 2, 300\) in .*line 1"),
        ("{", "classes.json", "must be JSON"),
        ("3", "classes.json", "must be a list or a mapping of classes; got int"),
        ("[3]", "classes.json", r"Expected `object`, got `int` at \[0\]"),
        ('[{"name": "a"}, {"id": 3}]', "classes.json", r"missing required field `name` at \[1\]"),
        ('[{"name": "a", "colour": [1, 2]}]', "classes.json", r"Expected `array` of length 3.* at \[0\]"),
        ('[{"name": "a", "colour": [1, 2, 999]}]', "classes.json", "the colour"),
        ('[{"name": "a", "id": 1}, {"name": "b", "id": 1}]', "classes.json", "must not repeat ids; got 1 twice"),
    ],
)
def test_errors_name_the_file_and_the_place(listed, tmp_path, text, name, message):
    with pytest.raises(DataError, match=message) as raised:
        listed(text, name)
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_foreign_bytes_and_giant_files(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"UTF-8 text; got a foreign byte at 3 in .*classes\.txt"):
        read_class_list(tmp_path / "classes.txt")
    with (tmp_path / "labels.txt").open("wb") as file:
        file.truncate(5 << 20)
    with pytest.raises(DataError, match=r"must be a short file; got 5,242,880 bytes"):
        read_class_list(tmp_path / "labels.txt")
