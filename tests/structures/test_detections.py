"""Detections: columns, pictures, and the forms that other tools read."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
import supervision

from delineate.errors import ArgumentError, MissingDependencyError
from delineate.structures.detections import Detections
from delineate.structures.rle_masks import RLEMasks
from delineate.structures.taxonomy import Taxonomy

CELLS = Taxonomy(("red", "white"), colours=((200, 0, 0), (0, 0, 200)))


def two(**columns: object) -> Detections:
    return Detections.of([[1, 2, 5, 6], [3, 3, 9, 8]], [0.25, 0.75], [0, 1], CELLS, size=(10, 12), **columns)


def masks(*places: tuple[slice, slice]) -> RLEMasks:
    from delineate.structures.rle import RLE

    drawn = []
    for place in places:
        mask = np.zeros((10, 12), bool)
        mask[place] = True
        drawn.append(RLE.encode(mask))
    return RLEMasks.from_rles(drawn)


def test_the_best_come_first_and_every_column_follows() -> None:
    drawn = masks((slice(2, 6), slice(1, 5)), (slice(3, 8), slice(3, 9)))
    joints = np.arange(2 * 1 * 3, dtype=np.float32).reshape(2, 1, 3)
    found = two(masks=drawn, keypoints=joints)
    assert found.scores.tolist() == [0.75, 0.25]
    assert found.labels.tolist() == [1, 0]
    assert found.boxes.tolist() == [[3, 3, 9, 8], [1, 2, 5, 6]]
    assert found.masks is not None
    assert found.masks.areas().tolist() == [30, 16]
    assert found.keypoints is not None
    assert found.keypoints[:, 0, 0].tolist() == [3, 0]
    assert found.counts() == {"red": 1, "white": 1}
    assert len(found.above(0.5)) == 1
    assert len(found.above(0.75)) == 1  # at least
    assert len(found.above(0.8)) == 0


def test_equal_scores_keep_their_order() -> None:
    found = Detections.of(np.zeros((3, 4)), [0.5, 0.5, 0.5], [1, 0, 1], CELLS, size=(4, 4))
    assert found.labels.tolist() == [1, 0, 1]


def test_no_object_is_an_ordinary_result() -> None:
    found = Detections.of([], [], [], CELLS, size=(10, 12))
    assert len(found) == 0
    assert found.counts() == {}
    assert found.to_coco(3) == []
    assert (found.overlay() == 255).all()
    assert found.plot().size == (12 * 32, 10 * 32)


def test_coco_results_are_worked_out_by_hand() -> None:
    found = two(masks=masks((slice(2, 6), slice(1, 5)), (slice(3, 8), slice(3, 9))))
    first, second = found.to_coco(7, category_ids=[1, 90])
    assert first["image_id"] == 7
    assert first["category_id"] == 90
    assert first["bbox"] == [3.0, 3.0, 6.0, 5.0]
    assert first["score"] == 0.75
    assert second["category_id"] == 1
    assert second["segmentation"]["size"] == [10, 12]
    joints = two(keypoints=np.array([[[1, 2, 0.5]], [[3, 4, 0.9]]], np.float32)).to_coco(7)
    assert joints[0]["keypoints"] == pytest.approx([3, 4, 0.9])
    assert "segmentation" not in joints[0]


def test_the_overlay_draws_boxes_and_masks_and_leaves_the_rest() -> None:
    image = np.full((10, 12, 3), 100, np.uint8)
    boxes_only = two(image=image).overlay()
    assert boxes_only[3, 3].tolist() == [0, 0, 200]  # the corner of the better box, drawn over the other
    assert boxes_only[2, 1].tolist() == [200, 0, 0]
    assert boxes_only[0, 11].tolist() == [100, 100, 100]
    assert image[3, 3].tolist() == [100, 100, 100]  # the image itself stays
    filled = two(image=image, masks=masks((slice(2, 6), slice(1, 5)), (slice(3, 8), slice(3, 9)))).overlay(0.5)
    assert filled[5, 6].tolist() == [50, 50, 150]  # half way from 100 to the class's colour


def test_a_box_below_a_pixel_is_a_dot() -> None:
    boxes = [[3.2, 4.1, 3.9, 4.3], [11.5, 2.0, 12.0, 7.0], [6, 6, 6, 9]]  # small, narrow at the border, without area
    found = Detections.of(boxes, [0.9, 0.8, 0.7], [0, 1, 1], CELLS, size=(10, 12))
    drawn = found.overlay()
    assert drawn[4, 3].tolist() == [200, 0, 0]
    assert drawn[4, 11].tolist() == [0, 0, 200]
    assert (drawn[6:9, 6] == 255).all()
    assert found.plot().size == (12 * 32, 10 * 32)


def test_objects_of_a_single_class_have_colours_of_their_own() -> None:
    one = Taxonomy(("cell",))
    found = Detections.of([[0, 0, 4, 4], [6, 6, 10, 10]], [0.9, 0.8], [0, 0], one, size=(12, 12))
    drawn = found.overlay()
    assert drawn[0, 0].tolist() != drawn[6, 6].tolist()


def test_joints_and_limbs_are_drawn_where_they_were_seen() -> None:
    joints = np.array([[[2, 2, 1], [9, 2, 1], [9, 8, 0]]], np.float32)
    found = Detections.of([[0, 0, 0, 0]], [0.9], [1], CELLS, size=(10, 12), keypoints=joints, limbs=((0, 1), (1, 2)))
    drawn = found.overlay()
    assert drawn[2, 5].tolist() == [0, 0, 200]  # the limb between the first two
    assert drawn[6, 9].tolist() == [255, 255, 255]  # none to the third, which was not seen


def test_pictures_say_class_and_score() -> None:
    found = two(image=np.full((10, 12, 3), 100, np.uint8))
    picture = np.asarray(found.plot())
    assert picture.shape == (320, 384, 3)
    above = picture[96 - 12 : 96, 96:130]  # of the better object's box
    assert (above == [0, 0, 200]).all(axis=2).any()  # its class's colour
    assert (above > 180).all(axis=2).any()  # its name


def test_among_many_objects_captions_stay_within_their_boxes() -> None:
    few, many = ([[20.0 * place, 40, 20.0 * place + 12, 60] for place in range(count)] for count in (5, 40))
    drawn = {}
    for name, boxes in (("few", few), ("many", many), ("wide", [*many[:-1], [0, 100, 400, 140]])):
        found = Detections.of(boxes, [0.5] * len(boxes), [0] * len(boxes), CELLS, size=(480, 800))
        drawn[name] = np.asarray(found.plot())
        assert drawn[name].shape == (480, 800, 3)
    assert (drawn["few"][30:39] != 255).any()
    assert (drawn["many"][30:39] == 255).all()
    assert (drawn["wide"][90:99] != 255).any()


def test_supervision_takes_them() -> None:
    found = two(masks=masks((slice(2, 6), slice(1, 5)), (slice(3, 8), slice(3, 9)))).to_supervision()
    assert found.xyxy.tolist() == [[3, 3, 9, 8], [1, 2, 5, 6]]
    assert found.class_id.tolist() == [1, 0]
    assert found.data["class_name"].tolist() == ["white", "red"]
    assert found.mask.sum((1, 2)).tolist() == [30, 16]
    assert len(Detections.of([], [], [], CELLS, size=(3, 3)).to_supervision()) == 0
    assert isinstance(found, supervision.Detections)


def test_without_supervision_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: object, **options: object) -> object:
        if name == "supervision":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match=r"pip install 'delineate\[supervision\]'"):
        two().to_supervision()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"masks": masks((slice(0, 2), slice(0, 2)))}, "masks must hold one row for each of 2 objects; got 1"),
        ({"scores": np.array([0.5, np.nan], np.float32)}, "scores must be finite numbers"),
        ({"labels": np.array([0, 2])}, "labels must be classes 0 to 1"),
        ({"image": np.zeros((3, 3, 3), np.uint8)}, "image must be"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: dict[str, object], message: str) -> None:
    given = {
        "boxes": np.zeros((2, 4), np.float32),
        "scores": np.array([0.5, 0.4], np.float32),
        "labels": np.array([0, 1]),
        **columns,
    }
    with pytest.raises(ArgumentError, match=message):
        Detections(**given, taxonomy=CELLS, size=(10, 12))  # type: ignore[arg-type]


def test_an_overlay_needs_a_share() -> None:
    with pytest.raises(ArgumentError, match="alpha must lie between 0 and 1"):
        two().overlay(1.5)
