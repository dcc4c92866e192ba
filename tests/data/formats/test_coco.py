import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from delineate.data import json_files
from delineate.data.formats import coco
from delineate.data.formats.layout import Layout
from delineate.errors import DataError

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]
DOT = [2, 2, 3, 2, 3, 3, 2, 3]


def annotation(category, outline, image=1, **more):
    return {"id": 10 * category, "image_id": image, "category_id": category, "segmentation": outline, **more}


def content(*annotations, **changes):
    images = [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}]
    return {"images": images, "annotations": list(annotations), "categories": CATEGORIES, **changes}


@pytest.fixture
def put(tmp_path):
    def written(value, name="annotations/instances_train2017.json", pictures=("images/train2017/a.png",)):
        for picture in pictures:
            (tmp_path / picture).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6)).save(tmp_path / picture)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
        return tmp_path

    return written


def labels(layout, split="train"):
    return layout.labels_of(layout.read_ids(layout.splits[split][0]))


def test_categories_without_gaps_and_smaller_over_larger(put):
    layout = coco.read(put(content(annotation(7, [DOT]), annotation(3, [SQUARE], iscrowd=0, bbox=[1, 1, 4, 4]))))
    assert layout.taxonomy.names == ("background", "cat", "dog")
    assert layout.taxonomy.background == 0
    drawn, unknown = labels(layout)
    expected = np.zeros((6, 8), np.uint8)
    expected[1:5, 1:5] = 1
    expected[2:3, 2:3] = 2
    assert np.array_equal(drawn, expected)
    assert unknown == {}
    assert set(np.unique(layout.read_ids(layout.splits["train"][0])).tolist()) == {-1, 3, 7}


def test_of_equal_areas_the_later_is_on_top(put):
    layout = coco.read(put(content(annotation(3, [SQUARE]), annotation(7, [SQUARE]))))
    assert labels(layout)[0][2, 2] == 2


def test_crowds_and_both_forms_of_run_lengths(put):
    mask = np.zeros((6, 8), np.uint8, order="F")
    mask[4:, 6:] = 1
    text = reference.encode(mask)
    runs = [40, 2, 4, 2]
    crowd = annotation(3, {"size": [6, 8], "counts": runs}, iscrowd=1)
    layout = coco.read(put(content(crowd, annotation(7, {"size": [6, 8], "counts": text["counts"].decode()}))))
    assert np.array_equal(labels(layout)[0] == 2, mask)
    assert np.array_equal(labels(coco.read(put(content(crowd))))[0] == 1, mask)


def test_an_image_without_objects_is_background(put):
    drawn, unknown = labels(coco.read(put(content())))
    assert not drawn.any()
    assert unknown == {}


def test_a_size_that_is_not_given_is_the_files(put):
    value = content(annotation(3, [SQUARE]), images=[{"id": 1, "file_name": "a.png"}])
    assert labels(coco.read(put(value)))[0].shape == (6, 8)


@pytest.mark.parametrize(
    ("json_name", "picture", "file_name", "split"),
    [
        ("annotations/instances_val2014.json", "val2014/a.png", "a.png", "val"),
        ("annotations/instances_train.json", "images/a.png", "a.png", "train"),
        ("annotations/instances_fold1.json", "images/a.png", "images/a.png", "fold1"),
        ("annotations/train.json", "images/train/a.png", "train/a.png", "train"),
        ("annotations.json", "JPEGImages/a.png", "JPEGImages/a.png", "all"),
        ("annotations.json", "deep/down/a.png", "a.png", "all"),
        ("valid/_annotations.coco.json", "valid/a.png", "a.png", "val"),
        ("annotations.json", "images/a.png", "/home/someone/a.png", "all"),
        ("annotations.json", "images/a.png", "..\\..\\a.png", "all"),
    ],
)
def test_arrangements(put, json_name, picture, file_name, split):
    images = [{"id": 1, "file_name": file_name, "height": 6, "width": 8}]
    layout = coco.read(put(content(annotation(3, [SQUARE]), images=images), json_name, [picture]))
    assert isinstance(layout, Layout), layout
    assert [r.image for r in layout.splits[split]] == [layout.root / picture]
    assert labels(layout, split)[0].any()


def test_names_never_lead_out_of_the_folder(put, tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "secret.png")
    images = [{"id": 1, "file_name": "../secret.png"}, {"id": 2, "file_name": "a.png"}]
    value = json.dumps(content(images=images))
    inner = tmp_path / "data"
    (inner / "images").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(inner / "images/a.png")
    (inner / "annotations.json").write_text(value)
    layout = coco.read(inner)
    assert [r.image.name for r in layout.splits["all"]] == ["a.png"]
    assert [(p.severity, p.kind) for p in layout.problems] == [("error", "missing-image")]


def test_a_category_called_background_is_label_0(put):
    categories = [{"id": 0, "name": "_background_"}, {"id": 1, "name": "cat"}]
    layout = coco.read(put(content(annotation(1, [SQUARE]), categories=categories)))
    assert layout.taxonomy.names == ("background", "cat")
    assert labels(layout)[0].max() == 1


def test_category_0_may_be_an_object_and_names_may_repeat(put):
    categories = [{"id": 0, "name": "cell"}, {"id": 5, "name": "cell"}]
    layout = coco.read(put(content(annotation(0, [SQUARE]), categories=categories)))
    assert layout.taxonomy.names == ("background", "cell", "cell (5)")
    assert labels(layout)[0].max() == 1


def test_what_does_not_fit_together_is_listed(put):
    value = content(annotation(9, [SQUARE]), annotation(3, [SQUARE], image=4))
    value["images"] += [{"id": 2, "file_name": "gone.png"}, {"id": 3, "file_name": "a.png"}]
    layout = coco.read(put(value))
    assert [(p.severity, p.kind, p.split) for p in layout.problems] == [
        ("error", "unknown-category", "train"),
        ("error", "missing-image", "train"),
        ("error", "missing-image", "train"),
        ("error", "duplicate-image", "train"),
    ]
    assert layout.problems[0].message == "annotation 90 has category 9, which is not listed"
    assert labels(layout)[1] == {9: 16}


def test_hundreds_of_mistakes_are_summed_up(put):
    layout = coco.read(put(content(*[annotation(9, [SQUARE])] * 300)))
    assert len(layout.problems) == 51
    assert layout.problems[-1].message == "250 more such lines"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        ({"images": []}, "missing required field `annotations`"),
        (content(images=[{"id": "1", "file_name": "a"}]), r"Expected `int`, got `str` - at `\$.images\[0\].id`"),
        (content(images=[{"id": 1, "file_name": "a", "height": -4}]), r"`int` >= 0 - at `\$.images\[0\].height`"),
        (content({"image_id": 1}), r"missing required field `category_id` - at `\$.annotations\[0\]`"),
        (content(images=[{"id": 1, "file_name": "a"}] * 2), "images must have ids of their own; got 1 more than once"),
        (content(categories=CATEGORIES[:1] * 2), "categories must have ids of their own; got 3"),
        (content(categories=[]), "categories must name at least one class"),
        ('{"images": ' + "[" * 100000, "COCO instances JSON"),
    ],
)
def test_json_of_the_wrong_shape_is_one_line_with_the_place(put, value, message):
    with pytest.raises(DataError, match=message) as raised:
        coco.read(put(value))
    assert "instances_train2017.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([], "polygons must hold at least one polygon"),
        (None, "Expected `object | array`, got `null`"),
        ([[]], "at least three corners"),
        ([[1, 1, 2, 2]], "at least three corners"),
        ([[1, 1, 2, 2, 3, 3, 4]], "even number of coordinates; got 7"),
        ([["x", 1, 2, 2, 3, 3]], r"Expected `float`, got `str` - at `\$\[0\]\[0\]`"),
        ([[1e300, 1, 2, 2, 3, 3]], "near an image of 6 x 8"),
        ({"size": [8, 6], "counts": [48]}, r"image's size \(6, 8\); got \(8, 6\)"),
        ({"size": [6, 8], "counts": [47]}, "sum to 6 x 8 pixels; got 47"),
        ({"size": [6, 8], "counts": [-1, 49]}, "none negative"),
        ({"size": [6, 8], "counts": "zz~"}, "compressed run lengths"),
        ({"size": [6, 8]}, "missing required field `counts`"),
    ],
)
def test_malformed_outlines_name_file_and_annotation(put, outline, message):
    layout = coco.read(put(content(annotation(3, outline))))
    with pytest.raises(DataError, match=message) as raised:
        labels(layout)
    assert "instances_train2017.json, annotation 30 of a.png" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_giant_files_are_refused_before_they_are_read(put, monkeypatch):
    root = put(content())
    monkeypatch.setattr(json_files, "MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"at most .* GiB; got .* in .*instances_train2017\.json"):
        coco.read(root)


def test_an_image_that_claims_to_be_huge_is_refused(put):
    images = [{"id": 1, "file_name": "a.png", "height": 10**6, "width": 10**6}]
    layout = coco.read(put(content(annotation(3, [SQUARE]), images=images)))
    with pytest.raises(DataError, match="at most 100,000,000 pixels; got 1000000 x 1000000"):
        labels(layout)


def test_files_that_disagree_about_a_category(put):
    put(content(), "annotations/instances_val.json")
    root = put(content(categories=[{"id": 3, "name": "cow"}]))
    with pytest.raises(DataError, match="categories must be the same in every file"):
        coco.read(root)


def test_other_json_is_not_recognised(put):
    labelme = {"version": "5.0", "shapes": [], "imagePath": "a.png"}
    assert coco.read(put(labelme, "annotations/a.json")) == "no such file"
    assert coco.read(put({"images": [], "annotations": []}, "annotations/captions_train2017.json")) == "no such file"


def test_a_file_without_its_images_says_so(put):
    assert coco.read(put(content(), pictures=())).startswith("instances_train2017.json, but none of its images")


def test_pickles(put):
    layout = coco.read(put(content(annotation(3, [SQUARE]))))
    assert np.array_equal(labels(pickle.loads(pickle.dumps(layout)))[0], labels(layout)[0])  # noqa: S301


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_real_images_equal_pycocotools(real_data):
    root = real_data / "coco_tiny"
    layout = coco.read(root)
    assert {split: len(records) for split, records in layout.splits.items()} == {"train": 32, "val": 6}
    assert layout.taxonomy.num_classes == 81
    assert layout.problems == ()
    listed = json.loads((root / "annotations/instances_val2017.json").read_text())
    label_of = {c["id"]: i for i, c in enumerate(sorted(listed["categories"], key=lambda c: c["id"]), 1)}
    for image, record in zip(listed["images"], layout.splits["val"], strict=True):
        height, width = image["height"], image["width"]
        masks = []
        for entry in listed["annotations"]:
            if entry["image_id"] == image["id"]:
                parts = reference.frPyObjects(entry["segmentation"], height, width)
                merged = reference.merge(parts) if isinstance(parts, list) else parts
                masks.append((reference.decode(merged).astype(bool), label_of[entry["category_id"]]))
        expected = np.zeros((height, width), np.uint8)
        for mask, label in sorted(masks, key=lambda pair: -pair[0].sum()):
            expected[mask] = label
        drawn, unknown = layout.labels_of(layout.read_ids(record))
        assert np.array_equal(drawn, expected)
        assert unknown == {}
