import copy
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.data.objects.coco_json import read_predictions, read_truth
from delineate.errors import ArgumentError, DataError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from tests.coco_scenes import KINDS, scene

POLYGON = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]
POINTS = [2.0, 3.0, 2, 4.0, 5.0, 1]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
TRUTH = {
    "info": {"year": 2017},
    "images": [
        {"id": 9, "file_name": "nine.jpg", "height": 10, "width": 8},
        {"id": 4, "file_name": "four.jpg", "height": 6, "width": 7, "license": 3},
    ],
    "categories": [
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 3, "name": "cat", "keypoints": ["nose", "tail"], "skeleton": [[1, 2]]},
    ],
    "annotations": [
        {
            "id": 70,
            "image_id": 9,
            "category_id": 3,
            "bbox": [1, 1, 4, 3],
            "area": 11.5,
            "iscrowd": 0,
            "segmentation": POLYGON,
            "keypoints": POINTS,
            "num_keypoints": 2,
        },
        {
            "id": 7,
            "image_id": 4,
            "category_id": 18,
            "bbox": [0, 0, 2.5, 2],
            "iscrowd": 1,
            "segmentation": {"size": [6, 7], "counts": [0, 4, 38]},
            "keypoints": [0, 0, 0, 0, 0, 0],
        },
    ],
}
RESULTS = [
    {
        "image_id": 4,
        "category_id": 3,
        "score": 0.25,
        "bbox": [0.5, 0, 3, 2],
        "segmentation": {"size": [6, 7], "counts": "0Z1"},
        "keypoints": [6.0, 1.0, 1, 2.0, 4.0, 1],
    },
    {
        "image_id": 9,
        "category_id": 18,
        "score": 1,
        "bbox": [-1, 2, 3, 0],
        "segmentation": POLYGON,
        "keypoints": POINTS,
    },
]


def write(folder, content, name="truth.json"):
    path = Path(folder, name)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def changed(content, keys, value):
    """A copy with one value replaced, or taken out when the value is ``...``."""
    content = copy.deepcopy(content)
    place = content
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    elif isinstance(place, list) and keys[-1] == len(place):
        place.append(value)
    else:
        place[keys[-1]] = value
    return content


@pytest.fixture
def truth(tmp_path):
    return read_truth(write(tmp_path, TRUTH, "good.json"), columns="keypoints")


def test_images_and_classes_in_order_of_their_ids(tmp_path):
    truth = read_truth(write(tmp_path, TRUTH))
    assert truth.image_ids == (4, 9)
    assert truth.image_files == ("four.jpg", "nine.jpg")
    assert truth.image_sizes.tolist() == [[6, 7], [10, 8]]
    assert (truth.classes, truth.class_ids) == (("cat", "dog"), (3, 18))
    assert truth.keypoint_names == ("nose", "tail")


def test_true_boxes(tmp_path):
    objects = read_truth(write(tmp_path, TRUTH)).objects
    assert objects.images.tolist() == [1, 0]
    assert objects.labels.tolist() == [0, 1]
    assert objects.boxes.tolist() == [[1, 1, 4, 3], [0, 0, 2.5, 2]]
    assert objects.areas.tolist() == [11.5, 5]  # stated; that of the box
    assert objects.crowd.tolist() == [False, True]
    assert not objects.ignored.any()
    assert objects.ids.tolist() == [70, 7]
    assert objects.scores is objects.masks is objects.keypoints is None


def test_true_masks(tmp_path):
    objects = read_truth(write(tmp_path, TRUTH), columns="masks").objects
    assert objects.masks.areas().tolist() == [12, 4]
    assert objects.areas.tolist() == [11.5, 4]
    assert objects.boxes.tolist() == objects.masks.boxes().tolist() == [[1, 1, 4, 3], [0, 0, 1, 4]]


@pytest.mark.parametrize("missing", [..., 0])
def test_an_image_without_a_size_has_that_of_its_masks(tmp_path, missing):
    """So that predictions of another size are an error, not objects that meet nothing."""
    content = changed(TRUTH, ["annotations", 0, "segmentation"], {"size": [10, 8], "counts": [9, 3, 68]})
    for i in range(2):
        for side in ("height", "width"):
            content = changed(content, ["images", i, side], missing)
    truth = read_truth(write(tmp_path, content), columns="masks")
    assert truth.image_sizes.tolist() == [[6, 7], [10, 8]]
    assert read_truth(write(tmp_path, content)).image_sizes.tolist() == [[0, 0], [0, 0]]
    other = changed(RESULTS[:1], [0, "segmentation"], {"size": [7, 6], "counts": [2, 40]})
    with pytest.raises(DataError, match=r"size must be \(6, 7\), as the image's; got .*7, 6.* in .*r\.json, \$\[0\]"):
        read_predictions(write(tmp_path, other, "r.json"), truth, columns="masks")
    again = {**content["annotations"][0], "id": 8, "segmentation": {"size": [8, 10], "counts": [9, 3, 68]}}
    content["annotations"].append(again)
    with pytest.raises(DataError, match=r"size must be \(10, 8\), as other masks' of the image; got \[8, 10\].*id 8"):
        read_truth(write(tmp_path, content), columns="masks")


def test_true_keypoints(tmp_path):
    objects = read_truth(write(tmp_path, TRUTH), columns="keypoints").objects
    assert objects.keypoints.tolist() == [[[2, 3, 2], [4, 5, 1]], [[0, 0, 0]] * 2]
    assert objects.ignored.tolist() == [False, True]  # as told, or nothing labelled
    told = changed(TRUTH, ["annotations", 0, "num_keypoints"], 0)
    assert read_truth(write(tmp_path, told), columns="keypoints").objects.ignored.tolist() == [True, True]


def test_predictions(tmp_path, truth):
    path = write(tmp_path, RESULTS, "results.json")
    found = read_predictions(path, truth)
    assert found.images.tolist() == [0, 1]
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == [0.25, 1]
    assert found.boxes.tolist() == [[0.5, 0, 3, 2], [-1, 2, 3, 0]]
    assert found.areas.tolist() == [6, 0]
    masks = read_predictions(path, truth, columns="masks")
    assert masks.areas.tolist() == masks.masks.areas().tolist() == [42, 12]
    people = read_predictions(path, truth, columns="keypoints")
    assert people.boxes.tolist() == [[2, 1, 4, 3], [2, 3, 2, 2]]
    assert people.areas.tolist() == [12, 4]
    for columns in KINDS:
        wrapped = write(tmp_path, {"info": {}, "annotations": RESULTS}, "wrapped.json")
        again = read_predictions(wrapped, truth, columns=columns)
        assert again.scores.tolist() == found.scores.tolist()
        nothing = read_predictions(write(tmp_path, b" [ ]\n", "nothing.json"), truth, columns=columns)
        assert (len(nothing), nothing.scores.tolist()) == (0, [])


@pytest.mark.parametrize("columns", KINDS)
def test_files_without_objects(columns, tmp_path):
    truth = read_truth(write(tmp_path, {**TRUTH, "annotations": []}), columns=columns)
    assert (truth.num_images, truth.num_classes, len(truth.objects)) == (2, 2, 0)
    assert len(read_predictions(write(tmp_path, RESULTS), truth, columns=columns)) == 2
    truth = read_truth(write(tmp_path, {**TRUTH, "annotations": [], "images": []}), columns=columns)
    assert len(read_predictions(write(tmp_path, []), truth, columns=columns)) == 0


def test_what_is_not_asked_for_is_not_looked_at(tmp_path, truth):
    """A score of boxes does not fail for a mask, nor one of masks for a box."""
    broken = changed(TRUTH, ["annotations", 0, "segmentation"], "nonsense")
    broken["annotations"][1]["keypoints"] = {}
    assert len(read_truth(write(tmp_path, broken)).objects) == 2
    assert (
        len(read_truth(write(tmp_path, changed(TRUTH, ["annotations", 0, "bbox"], [])), columns="masks").objects) == 2
    )
    results = changed(RESULTS, [0, "segmentation"], 7)
    assert len(read_predictions(write(tmp_path, results), truth)) == 2
    results = changed(RESULTS, [0, "bbox"], None)
    assert len(read_predictions(write(tmp_path, results), truth, columns="masks")) == 2


def test_ids_may_be_left_out(tmp_path):
    content = copy.deepcopy(TRUTH)
    for entry in content["annotations"]:
        del entry["id"]
    assert read_truth(write(tmp_path, content)).objects.ids.tolist() == [0, 1]


def test_ids_of_64_bits_and_names_that_repeat(tmp_path):
    content = copy.deepcopy(TRUTH)
    content["images"] = [{"id": value} for value in (2**63 - 1, 0, 2**63 - 2, -(2**63))]
    content["annotations"] = [{"id": 2**62, "image_id": 2**63 - 2, "category_id": 18, "bbox": [0, 0, 1, 1]}]
    content["categories"] = [{"id": 18, "name": "a"}, {"id": 4, "name": "a"}, {"id": 7, "name": "b"}]
    truth = read_truth(write(tmp_path, content))
    assert truth.image_ids == (-(2**63), 0, 2**63 - 2, 2**63 - 1)
    assert truth.objects.images.tolist() == [2]
    assert truth.classes == ("a (4)", "b", "a (18)")
    content["categories"].append({"id": 2, "name": "a (4)"})  # what another would be called
    assert read_truth(write(tmp_path, content)).classes == ("a (4) (2)", "a (4)", "b (7)", "a (18)")


@pytest.mark.parametrize("columns", KINDS)
def test_generated_scenes_are_read(columns, tmp_path):
    content, results = scene(4, columns)
    truth = read_truth(write(tmp_path, content), columns=columns)
    order = {image: row for row, image in enumerate(sorted(entry["id"] for entry in content["images"]))}
    assert truth.objects.images.tolist() == [order[entry["image_id"]] for entry in content["annotations"]]
    found = read_predictions(write(tmp_path, results), truth, columns=columns)
    assert found.scores.tolist() == [result["score"] for result in results]


def test_real_files(real_data):
    for name, columns, images, objects in (
        ("coco_tiny/annotations/instances_train2017.json", "masks", 32, 288),
        ("coco_pose_mini/annotations/person_keypoints_train2017.json", "keypoints", 30, 87),
    ):
        truth = read_truth(real_data / name, columns=columns)
        assert (truth.num_images, len(truth.objects)) == (images, objects)
        if columns == "masks":
            plain = ~truth.objects.crowd  # the file states areas of outlines, not of pixels
            assert np.corrcoef(truth.objects.areas[plain], truth.objects.masks.areas()[plain])[0, 1] > 0.999


# bad input: one line that names file and record


def refused(read, path, message):
    with pytest.raises(DataError, match=message) as error:
        read(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


HUGE = 10**30
WRONG_TRUTH = [
    (["images"], ..., "boxes", r"missing required field `images`"),
    (["annotations"], ..., "boxes", r"missing required field `annotations`"),
    (["categories"], ..., "boxes", r"missing required field `categories`"),
    (["categories"], [], "boxes", r"categories must name at least one class; got none in"),
    (["images"], {}, "boxes", r"Expected `array`, got `object` - at `\$\.images`"),
    (["annotations", 1], 5, "boxes", r"Expected `object`, got `int` - at `\$\.annotations\[1\]`"),
    (["images", 0, "id"], "9", "boxes", r"Expected `int`, got `str` - at `\$\.images\[0\]\.id`"),
    (["images", 0, "id"], 4, "boxes", r"image ids must not repeat; got 4 more than once in"),
    (["images", 1, "id"], HUGE, "boxes", r"Expected `int` <= 9223372036854775807 - at `\$\.images\[1\]\.id`"),
    (["images", 1, "height"], HUGE, "boxes", r"at `\$\.images\[1\]\.height`"),
    (["categories", 0, "id"], 3, "boxes", r"category ids must not repeat; got 3 more than once in"),
    (["categories", 0, "id"], -HUGE, "boxes", r"at `\$\.categories\[0\]\.id`"),
    (["categories", 0, "name"], ..., "boxes", r"missing required field `name` - at `\$\.categories\[0\]`"),
    (["annotations", 0, "id"], 7, "boxes", r"annotation ids must not repeat; got 7 more than once in"),
    (["annotations", 0, "id"], HUGE, "boxes", r"at `\$\.annotations\[0\]\.id`"),
    (
        ["annotations", 0, "image_id"],
        5,
        "boxes",
        r"image_id must be the id of a listed image; got 5 in .*annotations\[0\]",
    ),
    (
        ["annotations", 1, "category_id"],
        4,
        "boxes",
        r"category_id must be the id of a listed category; got 4 in .*\[1\]",
    ),
    (["annotations", 1, "image_id"], HUGE, "boxes", r"annotations\[1\]\.image_id"),
    (
        ["annotations", 0, "bbox"],
        [1, 2, 3],
        "boxes",
        r"Expected `array` of length 4 - at .*annotations\[0\]\.bbox`",
    ),
    (["annotations", 0, "bbox"], ..., "boxes", r"missing required field `bbox` - at `\$\.annotations\[0\]`"),
    (["annotations", 0, "bbox", 2], "4", "boxes", r"Expected `float`, got `str` - at .*annotations\[0\]\.bbox\[2\]"),
    (
        ["annotations", 1, "bbox", 2],
        1e300,
        "boxes",
        r"bbox must lie within 1e\+15 pixels; got 1e\+300 in .*\[1\] \(id 7\)",
    ),
    (["annotations", 0, "iscrowd"], HUGE, "boxes", r"annotations\[0\]\.iscrowd"),
    (["annotations", 0, "area"], "11", "boxes", r"annotations\[0\]\.area"),
    (["annotations", 0, "area"], 10**400, "boxes", r"Number out of range - at `\$\.annotations\[0\]\.area`"),
    (
        ["annotations", 0, "segmentation"],
        ...,
        "masks",
        r"segmentation must .*; got none in .*annotations\[0\] \(id 70\)",
    ),
    (
        ["annotations", 0, "segmentation"],
        None,
        "masks",
        r"segmentation must .*; got none in .*annotations\[0\] \(id 70\)",
    ),
    (
        ["annotations", 0, "segmentation"],
        [[1, 2, 3, 4, 5]],
        "masks",
        r"got 5 coordinates in .*annotations\[0\] \(id 70\)",
    ),
    (["annotations", 0, "segmentation"], [1, 2, 3, 4, 5, 6], "masks", r"annotations\[0\]\.segmentation\[0\]"),
    (
        ["annotations", 1, "segmentation", "size"],
        [7, 6],
        "masks",
        r"size must be \(6, 7\), .*annotations\[1\] \(id 7\)",
    ),
    (["annotations", 1, "segmentation", "size"], [6], "masks", r"annotations\[1\]\.segmentation\.size"),
    (["annotations", 1, "segmentation", "size", 0], HUGE, "masks", r"annotations\[1\]\.segmentation\.size\[0\]"),
    (["annotations", 1, "segmentation", "counts"], [0, 5], "masks", r"sums to 5, not 6 x 7 pixels in .*\(id 7\)"),
    (["annotations", 1, "segmentation", "counts", 1], HUGE, "masks", r"annotations\[1\]\.segmentation\.counts\[1\]"),
    (["annotations", 1, "segmentation", "counts", 1], 4.0, "masks", r"annotations\[1\]\.segmentation\.counts\[1\]"),
    (["annotations", 1, "segmentation", "counts"], "PPYo", "masks", r"segmentation must be a mask; got .*\(id 7\)"),
    (["annotations", 1, "segmentation", "counts"], "\ud800", "masks", r"truth\.json"),
    (["images", 0, "height"], 0, "masks", r"image must have a height and a width to draw polygons; .*\(id 70\)"),
    (["images", 0, "width"], 2**40, "masks", r"segmentation must be a mask; got size .*\(id 70\)"),
    (
        ["annotations", 0, "keypoints"],
        ...,
        "keypoints",
        r"missing required field `keypoints` - at `\$\.annotations\[0\]`",
    ),
    (
        ["annotations", 1, "keypoints", 6],
        1,
        "keypoints",
        r"keypoints must be 2 times x, y, visibility; got 7 numbers in",
    ),
    (["annotations", 1, "keypoints", 3], 1e200, "keypoints", r"keypoints must lie within .* got 1e\+200 in .*\(id 7\)"),
    (["annotations", 0, "num_keypoints"], HUGE, "keypoints", r"annotations\[0\]\.num_keypoints"),
]


@pytest.mark.parametrize(("keys", "value", "columns", "message"), WRONG_TRUTH, ids=lambda value: str(value)[:40])
def test_wrong_truth_is_named(keys, value, columns, message, tmp_path):
    path = write(tmp_path, changed(TRUTH, keys, value))
    refused(lambda path: read_truth(path, columns=columns), path, message)


WRONG_RESULTS = [
    ([0, "image_id"], 5, "boxes", r"image_id must be the id of a listed image; got 5 in .*\$\[0\]"),
    ([0, "image_id"], "4", "boxes", r"Expected `int`, got `str` - at `\$\[0\]\.image_id`"),
    ([1, "image_id"], HUGE, "boxes", r"image_id must be the id of a listed image; got 10+ in .*\$\[1\]"),
    ([1, "category_id"], 0, "boxes", r"category_id must be the id of a listed category; got 0 in .*\$\[1\]"),
    ([0, "category_id"], ..., "boxes", r"missing required field `category_id` - at `\$\[0\]`"),
    ([0, "score"], ..., "boxes", r"missing required field `score` - at `\$\[0\]`"),
    ([1, "score"], "0.5", "boxes", r"Expected `float`, got `str` - at `\$\[1\]\.score`"),
    ([1, "score"], None, "boxes", r"Expected `float`, got `null` - at `\$\[1\]\.score`"),
    ([1, "score"], float("nan"), "boxes", r"finite numbers; got NaN in .*, about record 1"),
    ([0, "score"], float("inf"), "boxes", r"finite numbers; got Infinity in .*, about record 0"),
    ([1, "score"], -float("inf"), "boxes", r"finite numbers; got -Infinity in .*, about record 1"),
    ([1, "score"], 10**400, "boxes", r"Number out of range - at `\$\[1\]\.score`"),
    ([1, "bbox"], [], "boxes", r"Expected `array` of length 4 - at `\$\[1\]\.bbox`"),
    ([1, "bbox"], [1, 2, 3, 4, 5], "boxes", r"Expected `array` of length 4 - at `\$\[1\]\.bbox`"),
    ([1, "bbox", 0], -1e16, "boxes", r"bbox must lie within 1e\+15 pixels; got 1e\+16 in .*\$\[1\]"),
    ([1, "segmentation"], None, "masks", r"segmentation must be .*; got none in .*\$\[1\]"),
    ([0, "segmentation", "counts"], "0Y1", "masks", r"segmentation must be a mask; got sums to 41, .*\$\[0\]"),
    ([0, "segmentation", "size"], [7, 6], "masks", r"size must be \(6, 7\), as the image's; got \(7, 6\) in .*\$\[0\]"),
    ([1, "segmentation"], "../secret.png", "masks", r"segmentation must name a picture inside the folder .*\$\[1\]"),
    (
        [0, "keypoints"],
        [1, 2, 3],
        "keypoints",
        r"keypoints must be 2 times x, y, visibility; got 3 numbers in .*\$\[0\]",
    ),
    ([0, "keypoints", 0], -1e300, "keypoints", r"keypoints must lie within .*\$\[0\]"),
]


@pytest.mark.parametrize(("keys", "value", "columns", "message"), WRONG_RESULTS, ids=lambda value: str(value)[:40])
def test_wrong_results_are_named(keys, value, columns, message, tmp_path, truth):
    path = write(tmp_path, changed(RESULTS, keys, value), "results.json")
    refused(lambda path: read_predictions(path, truth, columns=columns), path, message)


DEEP = b"[" * 200_000 + b"]" * 200_000
WRONG_BYTES = [
    (b"", r"got, in .*: Input data was truncated"),
    (b"   \n", r"got, in .*: Input data was truncated"),
    (json.dumps(TRUTH).encode()[:-9], r"got, in .*: Input data was truncated"),
    (json.dumps(TRUTH).encode("utf-16"), r"got, in .*malformed"),
    (b"\xff\xfe\x00", r"got, in .*malformed"),
    (b'{"images": [{"id": 1, "file_name": "\xff\xff"}], "annotations": [], "categories": []}', r"got, in "),
    (b"null", r"got, in .*: Expected `\w+`, got `null`"),
    (b"7", r"got, in .*: Expected `\w+`, got `int`"),
    (b'"text"', r"got, in .*: Expected `\w+`, got `str`"),
    (DEEP, r"got, in "),
    (b'{"a": ' + DEEP + b"}", r"got, in .*recursion"),
    (b'{"annotations": ' + DEEP + b"}", r"got, in "),
    (b"PK\x03\x04", r"got, in .*malformed"),
    (b"[{}, ,]", r"got, in "),
    (json.dumps(TRUTH).encode() + b"]", r"got, in .*trailing characters"),
    (b'{"images": [1e999], "annotations": [-1e999], "categories": []}', r"got, in "),
]


@pytest.mark.parametrize(("content", "message"), WRONG_BYTES, ids=lambda value: repr(value[:20]))
def test_what_is_no_coco_json_is_named(content, message, tmp_path, truth):
    path = write(tmp_path, content)
    text = refused(read_truth, path, message)
    assert text.startswith("annotations must be COCO JSON")
    if not content.startswith((b'{"images', b'{"info')):  # which has annotations, though no results
        text = refused(lambda path: read_predictions(path, truth), path, message)
        assert text.startswith("predictions must be COCO results JSON")


def test_files_that_cannot_be_read_are_named(tmp_path, truth):
    for read in (read_truth, lambda path: read_predictions(path, truth)):
        refused(read, tmp_path / "missing.json", r"file must be readable; got No such file or directory for")
        refused(read, tmp_path, r"file must be readable; got Is a directory for")
        large = tmp_path / "large.json"
        with large.open("wb") as file:
            os.truncate(file.fileno(), (2 << 30) + 1)
        refused(read, large, r"file must be at most 2 GiB; got 2\.0 GiB in .*\. Write JSON Lines, which is streamed\.")


def survives(content):
    """Reading either gives well-formed tables or one line that names the file; nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, content)
        good = {columns: read_truth(write(folder, TRUTH, "good.json"), columns=columns) for columns in KINDS}
        for columns, truth in good.items():
            for read, kind in (
                (lambda path, columns=columns: read_truth(path, columns=columns), Annotations),
                (lambda path, columns=columns, truth=truth: read_predictions(path, truth, columns=columns), Objects),
            ):
                result = outcome(read, path)
                assert isinstance(result, (kind, DataError))
                assert isinstance(result, kind) or (str(path) in str(result) and "\n" not in str(result))


def test_other_columns(tmp_path, truth):
    for read in (read_truth, lambda path, columns: read_predictions(path, truth, columns=columns)):
        with pytest.raises(ArgumentError, match=r"columns must be one of boxes, masks, keypoints; got 'panoptic'\."):
            read(write(tmp_path, TRUTH), columns="panoptic")


def outcome(read, path):
    try:
        return read(path)
    except DataError as error:
        return error


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.floats(-1e3, 1e3), max_size=7),
    st.just({}),
)


def places(content, before=()):
    """The path of every value."""
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        yield [*before, key]
        if isinstance(value, (dict, list)):
            yield from places(value, (*before, key))


TEXTS = [json.dumps(TRUTH).encode(), json.dumps(RESULTS).encode()]


@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_any_value_in_any_place(data):
    content = data.draw(st.sampled_from([TRUTH, RESULTS]))
    for _ in range(data.draw(st.integers(1, 2))):
        keys = data.draw(st.sampled_from(list(places(content))))
        content = changed(content, keys, data.draw(st.one_of(ODD, st.just(...))))
    survives(content)


@settings(deadline=None, max_examples=120)
@given(
    text=st.sampled_from(TEXTS),
    cuts=st.lists(
        st.tuples(st.integers(0, 1200), st.integers(0, 30), st.one_of(st.binary(max_size=6), st.sampled_from(TEXTS))),
        min_size=1,
        max_size=3,
    ),
)
def test_any_change_of_bytes(text, cuts):
    for start, length, new in cuts:
        text = text[:start] + new[:60] + text[start + length :]
    survives(text)
