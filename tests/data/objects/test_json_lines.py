import contextlib
import gzip
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.data.objects import text_rows
from delineate.data.objects.class_names import UnnumberedAnnotations
from delineate.data.objects.json_lines import prediction_blocks, read_predictions
from delineate.errors import ArgumentError, DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE

TRUTH = Annotations.of(
    (7, 9, 20),
    ("cat", "dog"),
    Objects.of([0], [0], [[0, 0, 1, 1]], keypoints=[[[1, 2, 2], [3, 4, 2]]]),
    image_sizes=[(5, 6), (4, 8), (0, 0)],
    image_files=["0007.jpg", "0009.jpg", ""],
    class_ids=(1, 18),
)


def record(image_id=7, category_id=1, score=0.5, **content):
    return {"image_id": image_id, "category_id": category_id, "score": score, **(content or {"bbox": [1, 2, 3, 4]})}


def lines(path, *records, end="\n"):
    path.write_text("".join(json.dumps(one) + end for one in records))
    return path


def test_boxes_by_hand(tmp_path):
    by_name = {"image_id": "0009", "category": "dog", "bbox": [0, 0.5, 1e1, 0], "score": 1, "area": "passed over"}
    file = lines(
        tmp_path / "a.jsonl", record(20, 18, 0.25), by_name, record("7", 1, 0, bbox=[-1, -2, 3, 4]), end="\r\n\n"
    )
    objects = read_predictions(file, TRUTH)
    assert objects.images.tolist() == [2, 1, 0]
    assert objects.labels.tolist() == [1, 1, 0]
    assert objects.scores.tolist() == [0.25, 1, 0]
    assert objects.boxes.tolist() == [[1, 2, 3, 4], [0, 0.5, 10, 0], [-1, -2, 3, 4]]
    assert objects.areas.tolist() == [12, 0, 12]
    assert objects.ids.tolist() == [0, 1, 2]


def test_images_called_by_text(tmp_path):
    truth = Annotations.of(("a", "b"), ("cat",), Objects.of([], [], []))
    assert read_predictions(lines(tmp_path / "a.jsonl", record("b", 0)), truth).images.tolist() == [1]


@pytest.mark.parametrize("content", [b"", b"\n \n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("columns", ["boxes", "masks", "keypoints"])
def test_no_detections(tmp_path, content, columns):
    (tmp_path / "a.jsonl").write_bytes(content)
    objects = read_predictions(tmp_path / "a.jsonl", TRUTH, columns=columns)
    assert len(objects) == len(objects.scores) == 0
    assert (objects.masks is None) == (columns != "masks")


def test_keypoints(tmp_path):
    file = lines(tmp_path / "a.jsonl", record(keypoints=[1, 2, 2, 5, 9, 1]), record(keypoints=[0, 0, 0, -1, 4, 0]))
    objects = read_predictions(file, TRUTH, columns="keypoints")
    assert objects.keypoints.tolist() == [[[1, 2, 2], [5, 9, 1]], [[0, 0, 0], [-1, 4, 0]]]
    assert objects.boxes.tolist() == [[1, 2, 4, 7], [-1, 0, 1, 4]]
    assert objects.areas.tolist() == [28, 4]


def test_masks_in_every_form(tmp_path):
    mask = np.zeros((5, 6), bool)
    mask[1:4, 2:4] = True
    compressed = RLE.encode(mask).to_coco()
    runs = {"size": [5, 6], "counts": [11, 3, 2, 3, 11]}
    polygon = [[2.0, 1.0, 4.0, 1.0, 4.0, 4.0, 2.0, 4.0]]
    records = [record(segmentation=form) for form in (compressed, runs, polygon, compressed)]
    objects = read_predictions(lines(tmp_path / "a.jsonl", *records), TRUTH, columns="masks")
    assert [found.decode().tolist() for found in objects.masks] == [mask.tolist()] * 4
    assert objects.areas.tolist() == [6] * 4
    assert objects.boxes.tolist() == [[2, 1, 2, 3]] * 4


def random_records(count, seed=0):
    generator = np.random.default_rng(seed)
    boxes = generator.uniform(0, 50, (count, 4)).tolist()
    images, categories = generator.choice([7, 9, 20], count).tolist(), generator.choice([1, 18], count).tolist()
    scores = generator.random(count).tolist()
    return [
        record(image, category, score, bbox=box)
        for image, category, score, box in zip(images, categories, scores, boxes, strict=True)
    ]


def test_agrees_with_pycocotools_whatever_the_blocks(tmp_path, monkeypatch):
    coco = pytest.importorskip("pycocotools.coco")
    records = random_records(500)
    reference = coco.COCO()
    reference.dataset = {"images": [{"id": i} for i in TRUTH.image_ids], "categories": [{"id": 1}, {"id": 18}]}
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        expected = reference.loadRes(json.loads(json.dumps(records))).dataset["annotations"]
    file = lines(tmp_path / "a.jsonl", *records)
    for block in (4 << 20, 300, 7):
        monkeypatch.setattr(text_rows, "_BLOCK", block)
        parts = list(prediction_blocks(file, TRUTH))
        assert len(parts) == 1 or all(len(part) < 5 for part in parts)
        objects = read_predictions(file, TRUTH)
        assert len(objects) == sum(map(len, parts)) == 500
        assert [TRUTH.image_ids[i] for i in objects.images] == [one["image_id"] for one in expected]
        assert [TRUTH.class_ids[i] for i in objects.labels] == [one["category_id"] for one in expected]
        for name, column in (("bbox", objects.boxes), ("score", objects.scores), ("area", objects.areas)):
            assert column.tolist() == [one[name] for one in expected]
        assert objects.ids.tolist() == list(range(500))


def test_gzip_is_recognised_by_its_first_bytes(tmp_path):
    file = lines(tmp_path / "a.jsonl", *random_records(50))
    packed = gzip.compress(file.read_bytes())
    for name in ("b.jsonl.gz", "b.jsonl"):
        (tmp_path / name).write_bytes(packed)
        assert (read_predictions(tmp_path / name, TRUTH).boxes == read_predictions(file, TRUTH).boxes).all()
    (tmp_path / "cut.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match=r"file must be whole; got damaged compression in .*cut\.gz"):
        read_predictions(tmp_path / "cut.gz", TRUTH)
    (tmp_path / "bad.gz").write_bytes(packed[:40] + bytes(20) + packed[60:])
    with pytest.raises(DataError, match=r"damaged compression in .*bad\.gz|line must be a COCO result"):
        read_predictions(tmp_path / "bad.gz", TRUTH)


def test_numbers_of_a_truth_without_numbers_count_a_list(tmp_path):
    truth = UnnumberedAnnotations.of(("a",), ("cat", "dog"), Objects.of([], [], []))
    file = lines(tmp_path / "a.jsonl", {**record("a", None), "category": "dog"}, record("a", 0))
    with pytest.raises(
        DataError, match=r"got '0' \(the truth does not number its classes, cat, dog; .*a\.jsonl, line 2"
    ):
        read_predictions(file, truth)
    (tmp_path / "classes.txt").write_text("dog\ncat")
    assert read_predictions(file, truth).labels.tolist() == [1, 1]
    numbered = Annotations.of(("a",), ("cat", "dog"), truth.objects)
    assert read_predictions(file, numbered).labels.tolist() == [1, 0]  # ids of the truth, whatever the list


@pytest.mark.parametrize(
    ("old", "new", "advice"),
    [
        (
            "image_id",
            "file_name",
            r"missing required field `image_id`\. Call 'file_name' image_id \(an id, or an image's n",
        ),
        ("image_id", "image", r"missing required field `image_id`\. Call 'image' image_id"),
        ('"category_id": 1', '"label": "cat"', r"got neither in {place}\. Call 'label' category\."),
        ('"category_id": 1', '"class_id": 3', r"got neither in {place}\. Call 'class_id' category_id\."),
        ('"category_id": 1', '"category_id": "cat"', r"category_id`\. A class's name belongs in category\."),
        ('"category_id": 1', '"category": 1', r"category`\. A class's number belongs in category_id\."),
        ("score", "confidence", r"required field `score`\. Call 'confidence' score\."),
        ("bbox", "box", r"required field `bbox`\. Call 'box' bbox\."),
    ],
)
def test_a_field_of_another_name_is_pointed_out(tmp_path, old, new, advice):
    (tmp_path / "a.jsonl").write_text("\n".join([GOOD, "", GOOD.replace(old, new)]))
    message = advice.replace("{place}", r".*a\.jsonl, line 3")
    with pytest.raises(DataError, match=message) as raised:
        read_predictions(tmp_path / "a.jsonl", TRUTH)
    assert f"{tmp_path / 'a.jsonl'}, line 3" in str(raised.value)


def test_relative_boxes_are_no_pixels(tmp_path):
    records = [record(bbox=[0.5, 0.25, 0.5, 1]) for _ in range(10)]
    with pytest.raises(
        DataError, match=r"boxes must be pixels; all 10 lie within 0\.\.1\.5, .* in .*a\.jsonl\. Multiply"
    ):
        read_predictions(lines(tmp_path / "a.jsonl", *records), TRUTH)
    assert len(read_predictions(lines(tmp_path / "a.jsonl", *records, record()), TRUTH)) == 11


GOOD = json.dumps(record())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line must be a COCO result; got, in {place}: Input data was truncated"),
        ("3", r"line must be a COCO result; got, in {place}: Expected `object`, got `int`"),
        (
            "[" + GOOD + "]",
            r"got, in {place}: Expected `object`, got `array`.* A file that is one JSON list is called \.json",
        ),
        (GOOD + GOOD, r"line must be a COCO result; got, in {place}: JSON is malformed: trailing characters"),
        (GOOD.replace("[1, 2, 3, 4]", "[1, 2, 3]"), r"got, in {place}: Expected `array` of length 4"),
        (GOOD.replace("0.5", '"high"'), r"got, in {place}: Expected `float`, got `str` - at `\$\.score`"),
        (GOOD.replace("0.5", "NaN"), r"got, in {place}: JSON is malformed: invalid character"),
        (GOOD.replace("0.5", "1e999"), r"got, in {place}: Number out of range"),
        (GOOD.replace("0.5", "1" + "0" * 400), r"got, in {place}: .*"),
        (GOOD.replace("bbox", "box"), r"got, in {place}: Object missing required field `bbox`"),
        (GOOD.replace(', "score": 0.5', ""), r"got, in {place}: Object missing required field `score`"),
        (GOOD.replace('"category_id": 1, ', ""), r"line must have category_id or category; got neither in {place}\."),
        (
            GOOD.replace("7", "8"),
            r"image must be one of the 3 known ones; got '8' \(did you mean '7'\?\), in {place}\.",
        ),
        (GOOD.replace('d": 1', 'd": 2'), r"class must be one of the 2 known ones; got '2' .*, in {place}\."),
        (GOOD.replace('category_id": 1', 'category": "cot"'), r"got 'cot' \(did you mean 'cat'\?\), in {place}\."),
        (b'{"image_id": "\xff"}', r"line must be a COCO result; got, in {place}: .*"),
        ('{"a":' * 100_000, r"line must be a COCO result; got, in {place}: .*"),
    ],
)
def test_errors_name_file_and_line(tmp_path, line, message, monkeypatch):
    file = tmp_path / "a.jsonl"
    content = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(b"\n".join([GOOD.encode()] * 3 + [b" ", content, GOOD.encode()]))
    for block in (4 << 20, 150):
        monkeypatch.setattr(text_rows, "_BLOCK", block)
        with pytest.raises(DataError, match=message.replace("{place}", r".*a\.jsonl, line 5")) as raised:
            read_predictions(file, TRUTH)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("columns", "content", "message"),
    [
        (
            "masks",
            {"segmentation": {"size": [5, 5], "counts": "1"}},
            r"size must be \(5, 6\), as the image's; got \(5, 5\)",
        ),
        ("masks", {"segmentation": {"size": [5, 6], "counts": "é"}}, r"segmentation must be a mask"),
        ("masks", {"segmentation": {"size": [5, 6], "counts": "1"}}, r"segmentation must be a mask"),
        ("masks", {"segmentation": {"size": [5, 6], "counts": [3]}}, r"segmentation must be a mask"),
        ("masks", {"segmentation": [[1, 2, 3, 4]]}, r"polygon must be x, y of at least three corners; got 4"),
        ("masks", {"segmentation": []}, r"segmentation must be polygons or run lengths; got none"),
        ("masks", {"segmentation": None}, r"Expected `str \| object \| array`, got `null`"),
        ("keypoints", {"keypoints": [1, 2, 2]}, r"keypoints must be 2 times x, y, visibility; got 3 numbers"),
    ],
)
def test_errors_of_masks_and_keypoints(tmp_path, columns, content, message):
    with pytest.raises(DataError, match=message) as raised:
        read_predictions(lines(tmp_path / "a.jsonl", record(**content)), TRUTH, columns=columns)
    assert f"{tmp_path / 'a.jsonl'}, line 1" in str(raised.value)


def test_errors_about_files(tmp_path):
    with pytest.raises(DataError, match=r"file must be readable; got No such file or directory for .*none\.jsonl"):
        read_predictions(tmp_path / "none.jsonl", TRUTH)
    with pytest.raises(DataError, match=r"file must be readable; got Is a directory"):
        read_predictions(tmp_path, TRUTH)
    with pytest.raises(ArgumentError, match=r"columns must be one of boxes, masks, keypoints; got 'panoptic'\."):
        read_predictions(tmp_path, TRUTH, columns="panoptic")
    file = lines(tmp_path / "a.jsonl", record(), record(bbox=[0, 0, 1e200, 1e200]))
    with pytest.raises(DataError, match=r"bbox must lie within 1e\+15 pixels; got 1e\+200 in .*a\.jsonl, line 2\."):
        read_predictions(file, TRUTH)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 20), st.floats(), st.text(max_size=3), st.just(10**30)),
    lambda inner: st.one_of(st.lists(inner, max_size=6), st.dictionaries(st.sampled_from(["size", "counts"]), inner)),
    max_leaves=8,
)
KEYS = st.sampled_from(["image_id", "category_id", "category", "score", "bbox", "segmentation", "keypoints"])
CHANGED = st.dictionaries(KEYS, VALUES, max_size=2).map(
    lambda changes: json.dumps(
        {**record(bbox=[1, 2, 3, 4], segmentation=[[0] * 6], keypoints=[0] * 6), **changes}
    ).encode()
)


def read_or_refused(read):
    """What a reader gives, and "" or the text of its refusal."""
    try:
        return read(), ""
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.binary(max_size=40), st.lists(CHANGED, max_size=3).map(b"\n".join)), st.booleans())
def test_any_content_gives_objects_or_a_data_error(content, packed):
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "a.jsonl")
        file.write_bytes(gzip.compress(content) if packed else content)
        for columns in ("boxes", "masks", "keypoints"):
            objects, refusal = read_or_refused(lambda columns=columns: read_predictions(file, TRUTH, columns=columns))
            if objects is None:
                assert str(file) in refusal
            else:
                lines_of = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
                assert len(objects) == sum(bool(line.strip()) for line in lines_of)
