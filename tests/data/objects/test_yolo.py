import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from delineate.data.objects.class_names import UnnumberedAnnotations
from delineate.data.objects.yolo import read_predictions, read_truth
from delineate.errors import ArgumentError, DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

SIZES = {"a": (50, 100), "b": (40, 80), "c": (10, 10)}
TRUTH = Annotations.of(("a", "b"), ("cat", "dog"), Objects.of([], [], []), image_sizes=[(50, 100), (40, 80)])


@pytest.fixture
def home(tmp_path):
    """Three images beside labels of two, as in a data set with splits."""

    folder = tmp_path / "home"

    def written(**labels):
        for name in ("images/val", "labels/val"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for stem, (height, width) in SIZES.items():
            Image.new("L", (width, height)).save(folder / f"images/val/{stem}.png")
        for stem, content in labels.items():
            (folder / f"labels/val/{stem}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return written


SQUARE = "0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6"  # of 50 x 100: x 10 to 30, y 10 to 30


def test_boxes_by_hand(home):
    folder = home(a="1 0.5 0.5 0.25 1\n0 0 0 0 0\n", c="\n")
    truth = read_truth(folder / "labels/val")
    assert truth.image_ids == ("a", "b", "c")
    assert truth.image_files == ("a.png", "b.png", "c.png")
    assert truth.image_sizes.tolist() == [[50, 100], [40, 80], [10, 10]]
    assert truth.classes == ("class 0", "class 1")
    assert truth.objects.images.tolist() == [0, 0]
    assert truth.objects.labels.tolist() == [1, 0]
    assert truth.objects.boxes.tolist() == [[37.5, 0, 25, 50], [0, 0, 0, 0]]
    assert truth.objects.areas.tolist() == [1250, 0]


def test_polygons_by_hand(home):
    folder = home(a=f"0 {SQUARE}\n1 0 0 1 0 1 1\n", b="0 0.5 0.5 1 0.5 1 1 0.5 1")
    boxes = read_truth(folder / "labels/val").objects
    assert boxes.masks is None
    assert boxes.boxes == pytest.approx(np.array([[10, 10, 20, 20], [0, 0, 100, 50], [40, 20, 40, 20]]))
    masks = read_truth(folder / "labels/val", columns="masks").objects
    assert masks.areas.tolist() == [400, masks.masks[1].decode().sum(), 800]
    assert abs(masks.areas[1] - 2500) < 100  # half of the image
    inside = np.zeros((50, 100), bool)
    inside[10:30, 10:30] = True
    assert (masks.masks[0].decode() == inside).all()
    assert masks.masks[2].size == (40, 80)
    assert (masks.boxes == masks.masks.boxes()).all()


def test_boxes_and_polygons_mixed_are_boxes(home):
    folder = home(a=f"0 {SQUARE}\n1 0.5 0.5 0.25 1\n0 {SQUARE}")
    truth = read_truth(folder / "labels/val")
    assert truth.objects.boxes == pytest.approx(np.array([[10, 10, 20, 20], [37.5, 0, 25, 50], [10, 10, 20, 20]]))
    with pytest.raises(
        DataError, match=r"line must be a polygon; got '1 0\.5 0\.5 0\.25 1' in .*a\.txt, line 2\. Masks"
    ):
        read_truth(folder / "labels/val", columns="masks")


def test_labels_beside_images_and_one_folder_for_all(tmp_path):
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
    Image.new("L", (100, 50)).save(tmp_path / "images/a.jpg")
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 1 1")
    whole = read_truth(tmp_path)
    assert whole.objects.boxes.tolist() == [[0, 0, 100, 50]]
    beside = tmp_path / "obj"
    beside.mkdir()
    (tmp_path / "images/a.jpg").rename(beside / "a.jpg")
    (tmp_path / "labels/a.txt").rename(beside / "a.txt")
    (beside / "classes.txt").write_text("cat")
    truth = read_truth(beside)
    assert (truth.classes, truth.image_ids, len(truth.objects)) == (("cat",), ("a",), 1)


def test_class_names(home):
    folder = home(a="1 0.5 0.5 1 1")
    (folder.parent / "classes.txt").write_text("somebody\nelse's\n")
    assert read_truth(folder / "labels/val").classes == ("class 0", "class 1")
    (folder / "data.yaml").write_text("nc: 3\nnames: [cat, dog, cow]")
    assert read_truth(folder / "labels/val").classes == ("cat", "dog", "cow")
    (folder / "labels/val/classes.txt").write_text("x\ny\n")
    assert read_truth(folder / "labels/val").classes == ("x", "y")
    assert read_truth(folder / "labels/val", classes=["one", "two"]).classes == ("one", "two")
    with pytest.raises(DataError, match=r"class must be one of the 1 named ones, from 0; got '1 0\.5.*a\.txt, line 1"):
        read_truth(folder / "labels/val", classes=["one"])


def test_predictions_by_hand(tmp_path):
    (tmp_path / "b.txt").write_text("1 0.5 0.5 0.25 1 0.75\n0 0 0 0 0 1e-3")
    (tmp_path / "a.txt").write_text("")
    objects = read_predictions(tmp_path, TRUTH)
    assert objects.images.tolist() == [1, 1]
    assert objects.labels.tolist() == [1, 0]
    assert objects.scores.tolist() == [0.75, 0.001]
    assert objects.boxes.tolist() == [[30, 0, 20, 40], [0, 0, 0, 0]]


UNNUMBERED = UnnumberedAnnotations.of(("a", "b"), ("cat", "dog"), Objects.of([], [], []), image_sizes=[(50, 100)] * 2)


@pytest.mark.parametrize("truth", [TRUTH, UNNUMBERED])
@pytest.mark.parametrize("place", ["found/labels/classes.txt", "found/classes.txt", "found/x.names", "found/data.yaml"])
def test_numbers_count_the_list_beside_them(tmp_path, truth, place):
    (tmp_path / "found/labels").mkdir(parents=True)
    (tmp_path / "found/labels/a.txt").write_text("0 0.5 0.5 1 1 0.5\n2 0.5 0.5 1 1 0.5")
    names = "names: [dog, cow, cat]" if place.endswith("yaml") else "dog\ncow\ncat\n"  # no cow is found, nor asked for
    (tmp_path / place).write_text(names)
    for folder in ("found", "found/labels"):
        assert read_predictions(tmp_path / folder, truth).labels.tolist() == [1, 0]
    (tmp_path / "found/labels/b.txt").write_text("\n1 0.5 0.5 1 1 0.5")
    with pytest.raises(
        DataError, match=r"one of the true ones; got '1 .*b\.txt, line 2\. 1 is 'cow' in .*has cat, dog\."
    ):
        read_predictions(tmp_path / "found", truth)
    (tmp_path / "found/labels/b.txt").write_text("3 0.5 0.5 1 1 0.5")
    with pytest.raises(DataError, match=r"class must be one of the 3 in .*, from 0; got '3"):
        read_predictions(tmp_path / "found", truth)


def test_numbers_without_a_list_stand_for_nothing_in_a_truth_without_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("\n")
    assert len(read_predictions(tmp_path, UNNUMBERED)) == 0
    (tmp_path / "a.txt").write_text("\n1 0.5 0.5 1 1 0.5")
    message = (
        r"number known to stand for one of cat, dog; got '1 .*a\.txt, line 2\. .*in a classes\.txt beside the pred"
    )
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path, UNNUMBERED)
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1 0.5")
    sizes = [(50, 100)]
    alone = UnnumberedAnnotations.of(("a",), ("cat",), Objects.of([], [], []), image_sizes=sizes)
    assert read_predictions(tmp_path, alone).labels.tolist() == [0]  # one class has one order


def test_a_list_says_nothing_of_classes_without_names(tmp_path):
    truth = Annotations.of(("a",), ("class 0", "class 1"), Objects.of([], [], []), image_sizes=[(50, 100)])
    (tmp_path / "a.txt").write_text("1 0.5 0.5 1 1 0.5")
    (tmp_path / "classes.txt").write_text("dog\ncat")
    assert read_predictions(tmp_path, truth).labels.tolist() == [1]


def test_predicted_polygons(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text(f"0 {SQUARE} 0.5\n")
    objects = read_predictions(tmp_path, TRUTH, columns="masks")
    assert (objects.areas.tolist(), objects.scores.tolist()) == ([400], [0.5])
    assert read_predictions(tmp_path, TRUTH).boxes == pytest.approx(np.array([[10, 10, 20, 20]]))


def test_no_detections(tmp_path):
    (tmp_path / "a.txt").write_text("")
    assert len(read_predictions(tmp_path, TRUTH)) == 0
    assert len(read_predictions(tmp_path, TRUTH, columns="masks").masks) == 0


def test_truth_written_with_scores_is_read_back(home):
    generator = np.random.default_rng(0)
    lines = {}
    for stem in SIZES:
        rows = np.concatenate([generator.integers(0, 3, (200, 1)), generator.uniform(0.3, 0.6, (200, 4))], axis=1)
        lines[stem] = "\n".join(f"{row[0]:.0f} " + " ".join(f"{value:.17g}" for value in row[1:]) for row in rows)
    folder = home(**lines)
    truth = read_truth(folder / "labels/val")
    expected = [
        (image, int(label), (cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
        for image, (stem, (height, width)) in enumerate(SIZES.items())
        for label, cx, cy, w, h in (map(float, line.split()) for line in lines[stem].splitlines())
    ]
    objects = truth.objects
    columns = np.concatenate([np.stack([objects.images, objects.labels], axis=1), objects.boxes], axis=1)
    assert columns == pytest.approx(np.array(expected), abs=1e-12)
    predicted = folder / "predicted"
    predicted.mkdir()
    for stem, content in lines.items():
        (predicted / f"{stem}.txt").write_text(content.replace("\n", " 0.5\n") + " 0.5")
    found = read_predictions(predicted, truth)
    assert (found.boxes == objects.boxes).all()
    assert (found.labels == objects.labels).all()
    assert set(found.scores.tolist()) == {0.5}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "0 0.5 0.5 1",
            r"line must be class centre_x centre_y width height, or class x1 y1 .*; got '0 0\.5 0\.5 1' in",
        ),
        ("0 0.5 0.5 1 1 0.9", r"line must be class centre_x"),
        ("cat 0.5 0.5 1 1", r"line must be class .*, all numbers finite, at most 1e12; got 'cat"),
        ("0 0.5 0.5 inf 1", r"numbers finite"),
        ("0.5 0.5 0.5 1 1", r"class must be a whole number from 0; got '0\.5 0\.5"),
        ("-1 0.5 0.5 1 1", r"class must be a whole number from 0"),
        ("1e9 0.5 0.5 1 1", r"class must be a whole number from 0"),
        ("0 0.5 0.5 -0.1 1", r"width and height must be at least 0; got"),
        ("0 320 240 64 48", r"coordinates must be fractions of the image, 0 to 1; got '0 320 240 64 48' in"),
        ("0 1 1 20 1 20 20", r"coordinates must be fractions of the image"),
        (b"0 0.5 0.5 \xff 1", r"file must be UTF-8 text"),
    ],
)
def test_errors_name_file_and_line(home, line, message):
    folder = home(
        a="0 0.5 0.5 1 1", b=(line if isinstance(line, bytes) else line.encode()).join([b"\n0 0 0 0 0\n", b"\n"])
    )
    with pytest.raises(DataError, match=message) as raised:
        read_truth(folder / "labels/val")
    assert f"{folder / 'labels/val/b.txt'}, line 3" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_errors_about_files(home, tmp_path):
    with pytest.raises(DataError, match=r"labels must be a folder; got .*nowhere"):
        read_truth(tmp_path / "nowhere")
    folder = home()
    with pytest.raises(DataError, match=r"labels must be those of one split; got .*labels with val\. Pass one of them"):
        read_truth(folder)
    with pytest.raises(DataError, match=r"labels must be a folder with \.txt files"):
        read_truth(folder / "labels/val")
    home(d="")
    with pytest.raises(DataError, match=r"labels must have an image; got .*d\.txt without one"):
        read_truth(folder / "labels/val")
    Image.new("L", (1, 1)).save(folder / "images/val/a.jpg")
    with pytest.raises(DataError, match=r"images must have different names; got a\.jpg and .*a\.png"):
        read_truth(folder / "labels/val")
    (folder / "predicted").mkdir()
    (folder / "predicted/a.txt").touch()
    with pytest.raises(DataError, match=r"labels must have images, in .*predicted or beside them; got none"):
        read_truth(folder / "predicted")
    with pytest.raises(ArgumentError, match=r"columns must be boxes or masks; got 'keypoints'\."):
        read_predictions(folder / "predicted", TRUTH, columns="keypoints")


def test_a_damaged_image_is_named(home):
    folder = home(a="")
    (folder / "images/val/b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"image must be a picture .*b\.png"):
        read_truth(folder / "labels/val")


@pytest.mark.parametrize(
    ("stem", "line", "message"),
    [
        ("a", "0 0.5 0.5 1 1", r"line must be class .* score; got '0 0\.5 0\.5 1 1' in .*line 1"),
        ("a", "2 0.5 0.5 1 1 1", r"class must be one of the 2 true ones, from 0; got '2 0\.5"),
        ("c", "", r"image must be one of the 2 known ones; got 'c'"),
        ("a", "0 0.5 0.5 1 1 nan", r"numbers finite"),
    ],
)
def test_errors_of_predictions(tmp_path, stem, line, message):
    (tmp_path / f"{stem}.txt").write_text(line)
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path, TRUTH)


def test_predictions_need_image_sizes(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 1 1 1")
    with pytest.raises(DataError, match=r"image must have a known size; got .*a\.txt, line 1\. Relative boxes need"):
        read_predictions(tmp_path, Annotations.of(("a",), ("cat",), Objects.of([], [], [])))


WORDS = st.sampled_from(["0", "1", "0.5", "2.5", "-1", "nan", "1e300", "1_0", "٣", "\x00", "é", "x"])
LINES = st.lists(st.lists(WORDS, max_size=10).map(" ".join), max_size=4).map("\n".join).map(str.encode)
NUMBERS = st.lists(st.sampled_from(["0", "1", "0.5", "0.25"]), min_size=5, max_size=12).map(" ".join).map(str.encode)


def read_or_refused(read):
    """What a reader gives, and "" or the text of its refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=40), LINES, NUMBERS), st.sampled_from(["boxes", "masks"]))
def test_any_content_gives_objects_or_a_data_error(content, columns):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a.txt").write_bytes(content)
        Image.new("L", (9, 7)).save(folder / "a.bmp")
        for read in (
            lambda: read_truth(folder, columns=columns).objects,
            lambda: read_predictions(folder, TRUTH, columns=columns),
        ):
            objects, refusal = read_or_refused(read)
            if objects is None:
                assert f"{folder / 'a.txt'}, line " in refusal
            else:
                assert len(objects) == sum(bool(line.split()) for line in content.decode("utf-8-sig").split("\n"))
                assert (objects.masks is None) == (columns == "boxes")
