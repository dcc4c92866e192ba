"""COCO files as training reads them: what scoring would refuse, and what only training can be hurt by."""

from __future__ import annotations

import pytest

from delineate.data.objects import coco_json
from delineate.data.objects.folder import read_objects
from delineate.errors import DataError
from tests.data.object_folders import annotation, coco, kinds, picture

SQUARE = [[2, 3, 12, 3, 12, 11, 2, 11]]


def one_picture(home, records, size=(20, 30), **more):
    picture(home / "a.png", (20, 30))
    coco(home / "annotations.json", [(0, "a.png", *size)], records, **more)


def test_boxes_in_fractions_are_refused(tmp_path):
    one_picture(tmp_path, [annotation(i, 0, bbox=(0.1, 0.02 * i, 0.3, 0.4)) for i in range(12)])
    with pytest.raises(DataError, match=r"boxes must be pixels; all 12 lie within 0\.\.1\.5, .*annotations\.json"):
        read_objects(tmp_path)


def test_corners_in_place_of_width_and_height_are_named(tmp_path):
    corners = [(2, 3, 12, 11), (20, 8, 28, 19), (15, 10, 29, 20)]
    one_picture(tmp_path, [annotation(i, 0, bbox=box) for i, box in enumerate(corners)])
    folder = read_objects(tmp_path)
    assert kinds(folder) == ["mostly-outside"] * 2
    assert all("would fit as x0, y0, x1, y1" in problem.message for problem in folder.errors())
    one_picture(tmp_path, [annotation(i, 0, bbox=box) for i, box in enumerate([*corners, (25, 2, 4, 4)])])
    assert not any("would fit" in problem.message for problem in read_objects(tmp_path).problems)  # 4 < 25: no corners


def test_a_mask_away_from_its_box_is_noted(tmp_path):
    records = [annotation(1, 0, segmentation=SQUARE), annotation(2, 0, bbox=(20, 3, 8, 8), segmentation=SQUARE)]
    one_picture(tmp_path, [*records, annotation(3, 0, 2, bbox=(0, 0, 30, 20), segmentation=SQUARE)])
    folder = read_objects(tmp_path)
    assert (kinds(folder), kinds(folder, "warning")) == ([], ["mask-off-box"])
    message = folder.problems[0].message
    assert message.startswith("annotation 2 of 0 has a mask at x 2, y 3, width 10, height 8, away from its box, x 20")


def test_an_area_that_is_none_is_that_of_the_mask_or_box(tmp_path):
    areas = [0, -7, 33.0, None]
    records = [annotation(i, 0, bbox=(2, 3, 10, 9), segmentation=SQUARE, area=area) for i, area in enumerate(areas)]
    one_picture(tmp_path, records)
    assert read_objects(tmp_path).annotations.objects.areas.tolist() == [80, 80, 33, 80]
    assert read_objects(tmp_path, columns=["boxes"]).annotations.objects.areas.tolist() == [90, 90, 33, 90]
    scored = coco_json.read_truth(tmp_path / "annotations.json")
    assert scored.objects.areas.tolist() == [0, -7, 33, 90]  # a score takes what is stated


def test_for_boxes_alone_a_box_or_an_outline_is_enough(tmp_path):
    records = [annotation(1, 0), annotation(2, 0, segmentation=SQUARE), annotation(3, 0), annotation(4, 0)]
    del records[1]["bbox"]
    del records[2]["bbox"]
    records[3] = {**records[3], "bbox": None, "segmentation": [[1, 1, 9, 1]]}
    one_picture(tmp_path, records)
    folder = read_objects(tmp_path, columns=["boxes"])
    assert folder.annotations.objects.ids.tolist() == [1, 2]
    assert folder.annotations.objects.boxes.tolist() == [[2, 3, 10, 8]] * 2
    assert kinds(folder) == ["bad-outline", "no-box"]
    assert "(id 4)" in next(problem.message for problem in folder.problems if problem.kind == "bad-outline")


def test_run_lengths_of_another_size_where_no_size_is_stated(tmp_path):
    sizes = [(20, 30), (10, 60), (20, 30)]
    records = [
        annotation(i, 0, bbox=(0, i, 30, 10), segmentation={"size": list(size), "counts": [0, 600]})
        for i, size in enumerate(sizes)
    ]
    one_picture(tmp_path, records, (0, 0))
    folder = read_objects(tmp_path)
    assert kinds(folder) == ["mask-size"]
    assert "as other masks' of the image; got [10, 60]" in folder.problems[0].message
    assert folder.annotations.objects.ids.tolist() == [0, 2]


def test_a_file_that_is_written_in_another_way_is_no_slip(tmp_path):
    records = [{**annotation(i, 0), "category_id": "1"} for i in range(3)]
    one_picture(tmp_path, [*records, annotation(7, 0), annotation(8, 0)])
    with pytest.raises(DataError, match=r"annotations must be COCO's for the most part; got 3 of 5 others in .*, the"):
        read_objects(tmp_path)
    one_picture(tmp_path, [*records[:2], annotation(7, 0), annotation(8, 0)])
    assert kinds(read_objects(tmp_path)) == ["malformed"] * 2


def test_classes_that_never_occur_and_classes_that_are_alike(tmp_path):
    classes = [(1, "cat"), (2, "Dog"), (3, "dog")]
    one_picture(
        tmp_path, [annotation(1, 0), annotation(2, 0, 2), annotation(3, 0, 3, (1, 1, 0, 4))], categories=classes
    )
    folder = read_objects(tmp_path)
    assert kinds(folder) == ["zero-area"]
    messages = {problem.kind: problem.message for problem in folder.problems}
    assert messages["unused-class"] == "1 of 3 classes have no object that can be used: dog"
    assert messages["similar-classes"].startswith("classes Dog, dog differ by case or blanks only")
