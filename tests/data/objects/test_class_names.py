import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.data.objects.class_names import (
    AMBIGUOUS,
    UNKNOWN,
    UnnumberedAnnotations,
    class_index,
    class_index_beside,
    files_in,
    find_class_names,
    image_index,
    images_of_files,
    is_numbered,
    read_class_names,
    text_files,
)
from delineate.errors import DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

NOTHING = Objects.of([], [], [])


def annotations(image_ids=(3, 12), files=("a/one.jpg", "b/two.jpg"), classes=("cat", "dog"), class_ids=(1, 5)):
    return Annotations.of(image_ids, classes, NOTHING, image_files=files, class_ids=class_ids)


def test_an_image_is_called_by_id_and_by_file():
    names = image_index(annotations())
    assert names.find([3, "3", "a/one.jpg", "one.jpg", "one", "a/one"]).tolist() == [0] * 6
    assert names.find([12, "two", 1, "thr", "03"]).tolist() == [1, 1, UNKNOWN, UNKNOWN, UNKNOWN]
    assert names.find([]).dtype == np.int64


def test_a_name_of_two_images_is_neither():
    names = image_index(annotations(image_ids=(1, 2), files=("2.jpg", "1.jpg")))
    assert names.find([1, 2, "1", "2", "1.jpg"]).tolist() == [0, 1, AMBIGUOUS, AMBIGUOUS, 1]
    assert names.problem("1") == "image must stand for one image; got '1', which two of them are called"
    folders = image_index(annotations(files=("a/x.png", "b/x.png")))
    assert folders.find(["x", "a/x", "b/x.png"]).tolist() == [AMBIGUOUS, 0, 1]


def test_a_class_is_called_by_name_and_by_id():
    names = class_index(annotations())
    assert names.find(["cat", 5, "1", "dogs", 0]).tolist() == [0, 1, 0, UNKNOWN, UNKNOWN]
    assert names.problem("dgo") == "class must be one of the 2 known ones; got 'dgo' (did you mean 'dog'?)"
    swapped = class_index(annotations(classes=("1", "0"), class_ids=(0, 1)))
    assert swapped.find(["0", "1", 0, 1]).tolist() == [AMBIGUOUS, AMBIGUOUS, 0, 1]


def test_a_number_is_no_slip_of_a_name():
    one = class_index(annotations(classes=("cat",), class_ids=(0,)))
    assert one.problem("7").endswith("1 known ones; got '7' (numbers count from 0 in the order of cat)")
    assert class_index(annotations()).problem(2).endswith("got '2' (numbers are ids: 1 is cat, 5 is dog)")
    assert class_index(annotations()).problem("²").endswith("(did you mean 'cat'?)")
    many = tuple("abcdefg")
    several = class_index(annotations(classes=many, class_ids=range(7)))
    assert several.problem("-1").endswith("(numbers count from 0 in the order of a, b, c, d, e, ...)")
    assert (
        image_index(annotations()).problem("4") == "image must be one of the 2 known ones; got '4' (did you mean '3'?)"
    )


def test_numbers_beside_a_list_count_its_names(tmp_path):
    (tmp_path / "found").mkdir()
    for truth in (annotations(), UnnumberedAnnotations.of((3,), ("cat", "dog"), NOTHING)):
        (tmp_path / "classes.txt").write_text("dog\ncow\ncat")
        names = class_index_beside(truth, tmp_path / "found")
        assert names.find(["cat", "0", 0, 2, "dog", 1, 3, 5]).tolist() == [0, 1, 1, 0, 1, UNKNOWN, UNKNOWN, UNKNOWN]
        assert names.problem("1").endswith(f"got '1' (1 is 'cow' in {tmp_path}/classes.txt; the truth has cat, dog)")
        assert names.problem("3").endswith("got '3' (numbers count from 0 in the order of dog, cow, cat)")
        (tmp_path / "classes.txt").unlink()
    assert class_index_beside(annotations(), tmp_path).find([0, 1, 5]).tolist() == [UNKNOWN, 0, 1]
    nameless = class_index_beside(UnnumberedAnnotations.of((3,), ("1", "cat"), NOTHING), tmp_path)
    assert nameless.find(["cat", "1", "0", 0]).tolist() == [1, 0, UNKNOWN, UNKNOWN]
    assert "got '0' (the truth does not number its classes, 1, cat; list the names in the" in nameless.problem("0")


def test_what_is_numbered():
    assert is_numbered(annotations())
    assert not is_numbered(UnnumberedAnnotations.of((3,), ("cat", "dog"), NOTHING))
    assert is_numbered(UnnumberedAnnotations.of((3,), ("cat", "dog"), NOTHING).class_agnostic())


def test_a_list_of_classes_is_no_file_of_an_image(tmp_path):
    for name in ("a.txt", "classes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in text_files(tmp_path, "predictions")] == ["a.txt"]


def test_a_long_name_is_shortened():
    assert len(image_index(annotations()).problem("x" * 5000)) < 200


def test_files_belong_to_images():
    truth = annotations()
    assert images_of_files([Path("two.txt"), Path("3.txt")], truth).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"one file an image; got two\.txt and b/12\.txt"):
        images_of_files([Path("two.txt"), Path("b/12.txt")], truth)
    with pytest.raises(DataError, match=r"image must be one of the 2 known ones; got 'tow' .*by the file b/tow\.txt"):
        images_of_files([Path("b/tow.txt")], truth)


def test_files_are_sorted_and_hidden_ones_left_out(tmp_path):
    for name in ("b.txt", "a.TXT", "._a.txt", "c.md"):
        (tmp_path / name).touch()
    assert [path.name for path in files_in(tmp_path, ".txt", "labels")] == ["a.TXT", "b.txt"]
    with pytest.raises(DataError, match=r"labels must be a folder with \.xml files; got .*, which holds none"):
        files_in(tmp_path, ".xml", "labels")
    with pytest.raises(DataError, match=r"labels must be a folder; got .*nowhere, where nothing is"):
        files_in(tmp_path / "nowhere", ".txt", "labels")
    with pytest.raises(DataError, match=r"must be a folder; got .*b\.txt, where a file is"):
        files_in(tmp_path / "b.txt", ".txt", "labels")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("data.yaml", "train: ../images\nnc: 2\nnames: ['no', traffic light]\n"),
        ("data.yml", "names:\n  0: no\n  1: traffic light\n"),
        ("dataset.yaml", "\ufeffnames: {1: traffic light, 0: no}\n"),
        ("classes.txt", "no\ntraffic light\n"),
        ("voc.names", "no\r\ntraffic light\r\n"),
    ],
)
def test_class_names_in_the_ways_people_write_them(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert find_class_names([tmp_path / "nowhere", tmp_path]) == ("no", "traffic light")
    assert read_class_names(tmp_path / name) == ("no", "traffic light")


def test_the_nearest_list_counts(tmp_path):
    assert find_class_names([tmp_path]) is None
    (tmp_path / "labels").mkdir()
    (tmp_path / "classes.txt").write_text("a")
    (tmp_path / "labels/x.names").write_text("b")
    assert find_class_names([tmp_path / "labels", tmp_path]) == ("b",)
    (tmp_path / "data.yaml").write_text("names: [c]")
    assert find_class_names([tmp_path]) == ("c",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.yaml", "names: {0: a, 2: b}", r"number its classes 0, 1, 2 \.\.\. without gaps; got 0, 2 in"),
        ("data.yaml", "names: []", r"without gaps; got none in"),
        ("data.yaml", "names: [a, a]", r"must not repeat names; got 'a' twice in"),
        ("data.yaml", "nc: 3\nnames: [a, b]", r"must name the nc classes; got 2 names and nc 3 in"),
        ("data.yaml", "nc: 3", r"names must be a list of names, or names by number"),
        ("data.yaml", "names: [[a]]", r"names must be a list of names"),
        ("data.yaml", "names: {x: a}", r"names must be a list of names"),
        ("data.yaml", "- a", r"names must be a list of names"),
        ("data.yaml", "kpt_shape: [17, 3]\nnames: [a]", r"must be boxes or polygons; got keypoints \(kpt_shape in"),
        ("data.yaml", "names: [a", r"must be UTF-8 YAML; got, in"),
        ("data.yaml", b"names: [\xff]", r"must be UTF-8 YAML; got, in"),
        ("data.yaml", b"\n" * (5 << 20), r"must be a short file; got 5,242,880 bytes"),
        ("classes.txt", "a\nb\na", r"must not repeat names"),
    ],
)
def test_errors_name_the_list(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as raised:
        find_class_names([tmp_path])
    assert str(tmp_path / name) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_lists_are_one_too_many(tmp_path):
    (tmp_path / "a.names").write_text("a")
    (tmp_path / "b.names").write_text("a")
    with pytest.raises(DataError, match=r"must be one file; got a\.names, b\.names in"):
        find_class_names([tmp_path])


def read_or_refused(read):
    """What a reader gives, and "" or the text of its refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=60), st.text("names: [{}]&*|!\n-0a\x00é", max_size=60).map(str.encode)))
def test_any_yaml_gives_names_or_a_data_error(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.yaml")
        path.write_bytes(content)
        names, refusal = read_or_refused(lambda: read_class_names(path))
        assert str(path) in refusal if names is None else all(isinstance(name, str) for name in names)
