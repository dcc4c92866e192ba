import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.data.objects import text_rows, voc_text, voc_xml
from delineate.data.objects.class_names import UnnumberedAnnotations, read_class_names
from delineate.data.objects.text_rows import plain_number, read_rows
from delineate.data.objects.voc_text import read_predictions, read_predictions_by_image, split_of_results
from delineate.errors import ArgumentError, DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

TRUTH = Annotations.of(
    ("2007_01", "2007_02"),
    ("cat", "teddy_bear", "bear"),
    Objects.of([], [], []),
    image_sizes=[(50, 100), (40, 80)],
    image_files=["2007_01.jpg", "2007_02.jpg"],
)


def folder_of(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_devkit_files_by_hand(tmp_path):
    files = {
        "comp4_det_val_cat.txt": "2007_02 0.5 1 2 11 22\r\n\r\n  2007_01\t.25  1.5 2 1.5 2\n",
        "comp4_det_val_teddy_bear.txt": "",
        "bear.txt": "\ufeff2007_01.jpg 1e-3 0 0 3 4",
    }
    objects = read_predictions(folder_of(tmp_path, files), TRUTH)
    assert objects.labels.tolist() == [2, 0, 0]
    assert objects.images.tolist() == [0, 1, 0]
    assert objects.scores.tolist() == [0.001, 0.5, 0.25]
    assert objects.boxes.tolist() == [[0, 0, 3, 4], [1, 2, 10, 20], [1.5, 2, 0, 0]]
    assert objects.areas.tolist() == [12, 200, 0]
    assert objects.ids.tolist() == [0, 1, 2]


def test_empty_files_are_no_detections(tmp_path):
    assert len(read_predictions(folder_of(tmp_path, {"cat.txt": "", "bear.txt": "\n \n"}), TRUTH)) == 0


@pytest.mark.parametrize(
    ("stem", "label"),
    [
        ("cat", 0),
        ("comp3_det_test_cat", 0),
        ("x_y_det_val_teddy_bear", 1),
        ("comp3_det_val_bear", 2),
        ("comp3_det_val_small_cat", 0),
        ("teddy_bear", 1),
    ],
)
def test_a_results_file_is_called_after_its_class(tmp_path, stem, label):
    folder_of(tmp_path, {f"{stem}.txt": "2007_01 1 0 0 1 1"})
    assert read_predictions(tmp_path, TRUTH).labels.tolist() == [label]


def by_hand(folder, truth):
    """Rows as the devkit's description has them, one line at a time."""
    found = []
    for path in sorted(Path(folder).iterdir()):
        label = truth.classes.index(path.stem.split("_val_")[1])
        for line in path.read_text().splitlines():
            image, score, *corners = line.split(" ")
            x1, y1, x2, y2 = map(float, corners)
            found.append((truth.image_ids.index(image), label, float(score), x1, y1, x2 - x1, y2 - y1))
    return np.array(found)


def test_agrees_with_a_plain_loop_whatever_the_blocks(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    for name in TRUTH.classes:
        corners = generator.uniform(0, 40, (300, 2))
        rows = np.concatenate(
            [generator.random((300, 1)), corners, corners + generator.uniform(0, 9, (300, 2))], axis=1
        )
        images = generator.choice(TRUTH.image_ids, 300)
        lines = [
            f"{image} " + " ".join(f"{value:.17g}" for value in row) for image, row in zip(images, rows, strict=True)
        ]
        (tmp_path / f"comp4_det_val_{name}.txt").write_text("\n".join(lines))
    expected = by_hand(tmp_path, TRUTH)
    for block, batch in ((4 << 20, 50_000), (61, 7), (1000, 1)):
        monkeypatch.setattr(text_rows, "_BLOCK", block)
        monkeypatch.setattr(text_rows, "_BATCH", batch)
        found = read_predictions(tmp_path, TRUTH)
        columns = np.concatenate([np.stack([found.images, found.labels, found.scores], axis=1), found.boxes], axis=1)
        assert (columns == expected).all()


def test_all_layouts_of_the_toy_give_the_same_boxes(real_data):
    toy = real_data / "refvec/pascal_ap_toy"
    truth = voc_xml.read_truth(toy / "gts_vocpascal_format", classes=read_class_names(toy / "voc.names"))
    expected = read_predictions_by_image(toy / "dets_classname_abs_xywh", truth, box_format="xywh")
    lines = sorted((toy / "dets_classname_abs_xywh").glob("*.txt"))
    assert len(expected) == sum(len(path.read_text().split("\n")) - path.read_text().endswith("\n") for path in lines)
    assert set(expected.labels.tolist()) == {truth.classes.index("cat")}
    for layout, box_format, most in (
        ("classid_abs_xywh", "xywh", 0),
        ("classid_abs_xyx2y2", "xyxy", 0),
        ("classname_abs_xyx2y2", "xyxy", 0),
        ("classid_rel_xcycwh", "cxcywh_relative", 1),
        ("classname_rel_xcycwh", "cxcywh_relative", 1),
    ):
        found = read_predictions_by_image(toy / f"dets_{layout}", truth, box_format=box_format)
        for name in ("images", "labels", "scores"):
            assert (getattr(found, name) == getattr(expected, name)).all()
        assert np.abs(found.boxes - expected.boxes).max() <= most


def test_files_an_image_by_hand(tmp_path):
    folder_of(tmp_path, {"2007_02.txt": "cat 0.5 0.5 0.5 0.25 1\n2 0.25 0 0 0 0\n", "2007_01.txt": ""})
    objects = read_predictions_by_image(tmp_path, TRUTH, box_format="cxcywh_relative")
    assert objects.images.tolist() == [1, 1]
    assert objects.labels.tolist() == [0, 2]
    assert objects.boxes.tolist() == [[30, 0, 20, 40], [0, 0, 0, 0]]  # of an image of 40 x 80
    pixels = read_predictions_by_image(tmp_path, TRUTH, box_format="xywh")
    assert pixels.boxes[0].tolist() == [0.5, 0.5, 0.25, 1]


def test_numbers_count_the_list_beside_them(tmp_path):
    truth = UnnumberedAnnotations.of(TRUTH.image_ids, TRUTH.classes, TRUTH.objects)
    folder_of(tmp_path / "found", {"2007_01.txt": "cat 1 0 0 9 9\n0 1 0 0 9 9\n2 1 0 0 9 9"})
    with pytest.raises(
        DataError, match=r"got '0' \(the truth does not number its classes, cat, .*2007_01\.txt, line 2"
    ):
        read_predictions_by_image(tmp_path / "found", truth, box_format="xywh")
    found = read_predictions_by_image(tmp_path / "found", TRUTH, box_format="xywh")
    assert found.labels.tolist() == [0, 0, 2]
    for place in ("classes.txt", "found/classes.txt"):
        (tmp_path / place).write_text("bear\nteddy_bear\ncat" if place[0] == "c" else "teddy_bear\ncat\nbear")
        found = read_predictions_by_image(tmp_path / "found", truth, box_format="xywh")
        assert found.labels.tolist() == ([0, 2, 0] if place[0] == "c" else [0, 1, 2])


def test_a_list_among_results_is_no_class(tmp_path):
    folder_of(tmp_path, {"cat.txt": "2007_01 1 0 0 9 9", "classes.txt": "cat\ndog"})
    assert read_predictions(tmp_path, TRUTH).labels.tolist() == [0]


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (["comp3_det_val_cat", "comp3_det_val_teddy_bear", "classes"], "val"),
        (["comp3_det_val_cat", "comp3_det_train_bear"], None),
        (["comp3_det_val_cat", "bear"], None),
        (["comp3_det_val"], None),
        (["cat"], None),
        (["classes"], None),
        ([], None),
    ],
)
def test_the_split_that_all_results_name(tmp_path, names, split):
    folder_of(tmp_path, {f"{name}.txt": "" for name in names})
    assert split_of_results(tmp_path) == split
    assert split_of_results(tmp_path / "nowhere") is None


@pytest.mark.parametrize("count", [9, 10])
def test_relative_boxes_are_no_pixels(tmp_path, count):
    def refused(read):
        with pytest.raises(
            DataError, match=r"boxes must be pixels; all 10 lie within 0\.\.1\.5, as relative ones do, in "
        ):
            read()

    folder_of(tmp_path / "voc", {"cat.txt": "2007_01 1 0 0 0.5 1\n" * count})
    folder_of(tmp_path / "image", {"2007_01.txt": "cat 1 0 0.25 0.5 1\n" * count})
    reads = [lambda: read_predictions(tmp_path / "voc", TRUTH)]
    for box_format in ("xyxy", "xywh"):
        reads.append(lambda form=box_format: read_predictions_by_image(tmp_path / "image", TRUTH, box_format=form))
    for read in reads:
        if count == 10:
            refused(read)
        else:
            assert len(read()) == 9
    assert len(read_predictions_by_image(tmp_path / "image", TRUTH, box_format="cxcywh_relative")) == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1\n",
            r"line must be image score xmin ymin xmax ymax; got '2007_01 1 0 0 1' in",
        ),
        ("2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1 1 1", r"got '2007_01 1 0 0 1 1 1' in"),
        ("2007_01 1 0 0 1 1\n\n2007_03 1 0 0 1 1", r"image must be one of the 2 known ones; got '2007_03' \(did you"),
        (
            "2007_01 1 0 0 1 1\n\n2007_01 1 0 x 1 1",
            r"line must be .*, all numbers finite, at most 1e12; got '2007_01 1 0 x 1 1' in",
        ),
        ("2007_01 1 0 0 1 1\n\n2007_01 nan 0 0 1 1", r", all numbers finite, at most 1e12; got '2007_01 nan"),
        ("2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1 -inf", r", all numbers finite, at most 1e12; got"),
        ("2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1 1e13", r", all numbers finite, at most 1e12; got"),
        ("2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1 1_0", r", all numbers finite, at most 1e12; got"),
        ("2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1 ٣", r", all numbers finite, at most 1e12; got"),
        ("2007_01 1 0 0 1 1\n\n2007_01 1 0 2 1 1", r"corners must be xmin ymin xmax ymax, the smaller first; got"),
        (b"2007_01 1 0 0 1 1\n\n2007_01 1 0 0 1 \xff", r"file must be UTF-8 text; got a foreign byte in"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, message):
    folder_of(tmp_path, {"bear.txt": "2007_01 1 0 0 1 1\n", "cat.txt": content})
    with pytest.raises(DataError, match=message) as raised:
        read_predictions(tmp_path, TRUTH)
    assert f"{tmp_path / 'cat.txt'}, line 3" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat.txt", "comp3_det_val_cat.txt"], r"one file a class; got cat\.txt and .*comp3_det_val_cat\.txt"),
        (["comp3_det_val_caat.txt"], r"must be of the true classes; got .*caat\.txt\. .*classes are such as cat"),
        (["readme.txt"], r"must be of the true classes; got .*readme\.txt"),
        (["2007_01.txt"], r"must have a file for each class; got .*2007_01\.txt.*read_predictions_by_image"),
        (["notes.md"], r"must be a folder with \.txt files"),
    ],
)
def test_errors_about_file_names(tmp_path, names, message):
    with pytest.raises(DataError, match=message):
        read_predictions(folder_of(tmp_path, dict.fromkeys(names, "")), TRUTH)


def test_errors_about_folders(tmp_path):
    with pytest.raises(DataError, match=r"predictions must be a folder; got .*nowhere, where nothing is"):
        read_predictions(tmp_path / "nowhere", TRUTH)
    (tmp_path / "cat.txt").mkdir()
    with pytest.raises(DataError, match=r"file must be readable; got .*cat\.txt \(Is a directory\)"):
        read_predictions(tmp_path, TRUTH)


@pytest.mark.parametrize(
    ("files", "box_format", "message"),
    [
        (
            {"2007_01.txt": "cat 1 12 44 344 481"},
            "cxcywh_relative",
            r"must be fractions of the image.* pixels are read",
        ),
        (
            {"2007_01.txt": "cat 1 12 44 34 -1"},
            "xywh",
            r"no negative size; lines are class score left top width height",
        ),
        (
            {"2007_01.txt": "cat 1 12 44 11 45"},
            "xyxy",
            r"no negative size; lines are class score left top right bottom",
        ),
        ({"2007_01.txt": "cow 1 12 44 11 45"}, "xyxy", r"class must be one of the 3 known ones; got 'cow'.*line 1"),
        ({"2007_01.txt": "7 1 12 44 11 45"}, "xyxy", r"class must be one of the 3 known ones; got '7'"),
        ({"2007_03.txt": ""}, "xyxy", r"image must be one of the 2 known ones; got '2007_03'"),
        ({"2007_01.txt": "", "2007_01.TXT": ""}, "xyxy", r"one file an image"),
    ],
)
def test_errors_of_files_an_image(tmp_path, files, box_format, message):
    with pytest.raises(DataError, match=message):
        read_predictions_by_image(folder_of(tmp_path, files), TRUTH, box_format=box_format)


def test_the_box_format_must_be_said(tmp_path):
    with pytest.raises(ArgumentError, match=r"box_format must be one of xyxy, xywh, cxcywh_relative; got 'coco'"):
        read_predictions_by_image(tmp_path, TRUTH, box_format="coco")


def test_relative_boxes_need_image_sizes(tmp_path):
    truth = Annotations.of(("a",), ("cat",), Objects.of([], [], []))
    folder_of(tmp_path, {"a.txt": "cat 1 0.5 0.5 1 1"})
    with pytest.raises(
        DataError, match=r"image must have a known size; got 'cat 1 0\.5 0\.5 1 1' in .*a\.txt, line 1\."
    ):
        read_predictions_by_image(tmp_path, truth, box_format="cxcywh_relative")
    assert len(read_predictions_by_image(tmp_path, truth, box_format="xyxy")) == 1


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_rows, "_BLOCK", 100)
    monkeypatch.setattr(text_rows, "_LONGEST_LINE", 1 << 20)
    folder_of(tmp_path, {"cat.txt": b"1 " * (1 << 20)})
    with pytest.raises(DataError, match=r"line must hold one record; got one of more than 1 MiB in .*cat\.txt"):
        read_predictions(tmp_path, TRUTH)


def test_rows_of_numbers_alone(tmp_path):
    folder_of(tmp_path, {"a.txt": "1 2\n", "b.txt": "", "c.txt": "\n3\n4 5 6"})
    rows = read_rows(sorted(tmp_path.iterdir()), lambda widths: widths > 0, "numbers")
    assert rows.counts.tolist() == [1, 0, 2]
    assert rows.numbers.tolist() == [1, 2, 3, 4, 5, 6]
    assert rows.lengths.tolist() == [2, 1, 3]


@given(st.floats(-1e12, 1e12))
def test_a_number_is_read_as_python_reads_it(value):
    assert plain_number(repr(value)) == value


WORDS = st.sampled_from(
    ["2007_01", "cat", "0", "1", "2.5", "-3", "nan", "1e400", "1e300", "1_0", "٣", "\x00", "é", "x"]
)
LINES = st.lists(st.lists(WORDS, max_size=7).map(" ".join), max_size=4).map("\n".join)


def read_or_refused(read):
    """What a reader gives, and "" or the text of its refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=40), LINES.map(str.encode)), st.sampled_from(voc_text.BOX_FORMATS))
def test_any_content_gives_objects_or_a_data_error(content, box_format):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for read, file in (
            (lambda: read_predictions(folder / "class", TRUTH), folder / "class/cat.txt"),
            (lambda: read_predictions_by_image(folder, TRUTH, box_format=box_format), folder / "2007_01.txt"),
        ):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            objects, refusal = read_or_refused(read)
            if objects is None:
                assert f"{file}, line " in refusal
            else:
                assert len(objects) == sum(bool(line.split()) for line in content.decode("utf-8-sig").split("\n"))
