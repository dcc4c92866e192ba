from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.engine.object_scoring import Evidence
from delineate.metrics.detection import average_precision
from delineate.ops.matching import box_overlaps, match_objects
from delineate.report.mistake_pictures import FINDER, FOUND, NEIGHBOUR, SIDE, TRUTH, crop_window, mistake_picture
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

GREY = np.full((300, 400, 3), 128, np.uint8)
TRUE, GUESS = [100.0, 100.0, 100.0, 80.0], [130.0, 110.0, 100.0, 80.0]


def evidence_of(**columns: object) -> Evidence:
    true = {name: values[:1] for name, values in columns.items()}
    guessed = {name: values[1:] for name, values in columns.items()}
    truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [TRUE], **true), image_sizes=[(300, 400)])
    found = Objects.of([0], [0], [GUESS], scores=[0.5], **guessed)
    return Evidence(truth, found, average_precision(match_objects(truth, found)), box_overlaps)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def inside(box: list[float]) -> np.ndarray:
    mask = np.zeros((300, 400), bool)
    x, y, width, height = map(int, box)
    mask[y : y + height, x : x + width] = True
    return mask


def test_truth_and_detection_have_their_colours_and_places():
    picture = mistake_picture("boxes", evidence_of(), GREY, truth=0, detection=0)
    assert max(picture.shape[:2]) == SIDE
    left, top, right, _ = crop_window(np.array([TRUE, GUESS]), (300, 400))
    scale = SIDE / (right - left)
    for colour, box in ((TRUTH, TRUE), (FOUND, GUESS)):
        rows, columns = np.nonzero((picture == colour).all(axis=2))
        edges = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        x, y, width, height = box
        wanted = (np.array([x, y, x + width, y + height]) - [left, top, left, top]) * scale
        np.testing.assert_allclose(edges, wanted, atol=4)


def test_the_truth_is_dashed_and_the_detection_is_not():
    picture = mistake_picture("boxes", evidence_of(), GREY, truth=0)
    drawn = (picture == TRUTH).all(axis=2)
    row = drawn[np.flatnonzero(drawn.any(axis=1))[1]]
    between = row[np.flatnonzero(row)[0] : np.flatnonzero(row)[-1]]
    assert 0.4 < between.mean() < 0.9
    picture = mistake_picture("boxes", evidence_of(), GREY, detection=0)
    drawn = (picture == FOUND).all(axis=2)
    row = drawn[np.flatnonzero(drawn.any(axis=1))[1]]
    assert row[np.flatnonzero(row)[0] : np.flatnonzero(row)[-1]].all()


def test_only_what_is_concerned_is_drawn_and_others_faintly():
    picture = mistake_picture("boxes", evidence_of(), GREY, detection=0)
    assert has(picture, FOUND)
    assert has(picture, NEIGHBOUR)
    assert not has(picture, TRUTH)
    picture = mistake_picture("boxes", evidence_of(), GREY, truth=0)
    assert has(picture, TRUTH)
    assert not has(picture, FOUND)
    assert not has(picture, NEIGHBOUR)


def test_the_detection_that_was_first_is_drawn_beside():
    evidence = evidence_of()
    assert has(mistake_picture("boxes", evidence, GREY, truth=0, finder=0), FINDER)


def test_masks_are_outlined_and_tinted():
    shift = np.roll(inside(TRUE), 30, axis=1)
    masks = RLEMasks.from_rles([RLE.encode(inside(TRUE)), RLE.encode(shift)])
    evidence = mask_evidence(masks)
    picture = mistake_picture("masks", evidence, GREY, truth=0, detection=0)
    assert has(picture, TRUTH)
    assert has(picture, FOUND)
    tinted = (picture[..., 0].astype(int) - picture[..., 2] > 20).mean()
    assert 0.1 < tinted < 0.6
    untouched = (picture == 128).all(axis=2).mean()
    assert 0.3 < untouched < 0.9


def mask_evidence(masks: RLEMasks) -> Evidence:
    truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [TRUE], masks=masks.select([0])))
    found = Objects.of([0], [0], [GUESS], scores=[0.5], masks=masks.select([1]))
    return Evidence(truth, found, average_precision(match_objects(truth, found)), box_overlaps)


def test_keypoints_that_are_labelled_are_dots():
    points = np.zeros((2, 3, 3))
    points[:, 0] = [150, 140, 2]
    evidence = evidence_of(keypoints=points)
    picture = mistake_picture("keypoints", evidence, GREY, truth=0)
    left, top, right, _ = crop_window(np.array([TRUE]), (300, 400))
    scale = SIDE / (right - left)
    assert tuple(picture[round((140 - top) * scale), round((150 - left) * scale)]) == TRUTH


def test_coco_persons_get_limbs():
    points = np.full((2, 17, 3), 2.0)
    points[:, :, 0] = np.linspace(110, 190, 17)
    points[:, :, 1] = np.linspace(110, 170, 17)[::-1]
    few = mistake_picture("keypoints", evidence_of(keypoints=points[:, :16]), GREY, truth=0)
    many = mistake_picture("keypoints", evidence_of(keypoints=points), GREY, truth=0)
    assert (many == TRUTH).all(axis=2).sum() > 1.1 * (few == TRUTH).all(axis=2).sum()


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3)])
def test_odd_images_are_drawn(size: tuple[int, int]):
    picture = mistake_picture("boxes", evidence_of(), np.zeros((*size, 3), np.uint8), truth=0, detection=0)
    assert 1 <= max(picture.shape[:2]) <= SIDE


sides = st.floats(0, 300, allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(
    x=st.floats(-50, 500),
    y=st.floats(-50, 400),
    width=sides,
    height=sides,
    rows=st.integers(1, 400),
    columns=st.integers(1, 500),
)
def test_a_crop_lies_in_the_image_and_holds_what_of_the_box_does(
    x: float, y: float, width: float, height: float, rows: int, columns: int
):
    left, top, right, bottom = crop_window(np.array([[x, y, width, height]]), (rows, columns))
    assert 0 <= left < right <= columns
    assert 0 <= top < bottom <= rows
    assert left <= min(max(x, 0), columns) <= right
    assert left <= min(max(x + width, 0), columns) <= right
    assert top <= min(max(y, 0), rows) <= bottom
    assert top <= min(max(y + height, 0), rows) <= bottom
