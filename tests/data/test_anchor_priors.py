"""Priors of box sizes by k-means on overlaps, and the box sizes they are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from delineate.data import anchor_priors as module
from delineate.data.anchor_priors import (
    AnchorPriors,
    anchor_priors,
    box_sizes,
    describe_priors,
    letterboxed_box_sizes,
    mean_best_iou,
)
from delineate.errors import ArgumentError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

CENTRES = np.array([[8.0, 12.0], [40.0, 20.0], [30.0, 90.0], [200.0, 60.0], [180.0, 300.0]])


def separated(each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Boxes within 5 % of five sizes, shuffled, and the means of each five's own boxes."""
    generator = np.random.default_rng(seed)
    boxes = CENTRES[:, None] * generator.uniform(0.95, 1.05, (5, each, 2))
    return generator.permutation(boxes.reshape(-1, 2)), boxes.mean(axis=1)


def naive_ious(sizes: np.ndarray, priors: np.ndarray) -> list[list[float]]:
    rows = []
    for width, height in sizes.tolist():
        row = []
        for wide, high in priors.tolist():
            shared = min(width, wide) * min(height, high)
            row.append(shared / (width * height + wide * high - shared))
        rows.append(row)
    return rows


def test_by_hand():
    boxes = np.array([[10.0, 10.0], [12.0, 10.0], [100.0, 50.0], [100.0, 54.0]])
    priors = anchor_priors(boxes, 2)
    assert priors.sizes.tolist() == [[11, 10], [100, 52]]
    assert priors.shares.tolist() == [0.5, 0.5]
    assert priors.mean_iou == pytest.approx((10 / 11 + 11 / 12 + 50 / 52 + 52 / 54) / 4)
    assert priors.boxes == 4
    one = anchor_priors(boxes, 1)
    assert one.sizes.tolist() == [[55.5, 31]]


@pytest.mark.parametrize("seed", range(3))
def test_separated_clusters_are_found_exactly(seed):
    boxes, means = separated(40, seed)
    priors = anchor_priors(boxes, 5, seed=seed)
    np.testing.assert_allclose(priors.sizes, means[np.argsort(means.prod(axis=1))], rtol=1e-12)
    np.testing.assert_allclose(priors.shares, 0.2)
    areas = priors.sizes.prod(axis=1)
    assert (np.diff(areas) > 0).all()


def test_a_sample_that_starts_are_tried_on_is_refined_on_all_boxes(monkeypatch):
    monkeypatch.setattr(module, "_SAMPLE", 100)
    monkeypatch.setattr(module, "_CHUNK", 77)
    boxes, means = separated(300)
    np.testing.assert_allclose(anchor_priors(boxes, 5).sizes, means[np.argsort(means.prod(axis=1))], rtol=1e-12)


def test_every_prior_is_the_mean_of_the_boxes_it_fits_best():
    boxes = np.random.default_rng(0).lognormal(3, 0.8, (500, 2))
    priors = anchor_priors(boxes, 6)
    best = np.array(naive_ious(boxes, priors.sizes)).argmax(axis=1)
    for number, size in enumerate(priors.sizes):
        np.testing.assert_allclose(size, boxes[best == number].mean(axis=0), rtol=1e-3)
        assert priors.shares[number] == pytest.approx((best == number).mean())


def test_mean_overlap_equals_a_naive_twin():
    generator = np.random.default_rng(1)
    boxes, priors = generator.lognormal(3, 1, (300, 2)), generator.lognormal(3, 1, (7, 2))
    expected = np.mean([max(row) for row in naive_ious(boxes, priors)])
    assert mean_best_iou(boxes, priors) == pytest.approx(expected, rel=1e-12)
    assert mean_best_iou(boxes, boxes) == 1
    found = anchor_priors(boxes, 7)
    assert found.mean_iou == mean_best_iou(boxes, found.sizes)
    assert found.mean_iou > expected


def test_more_priors_fit_better():
    boxes = np.random.default_rng(2).lognormal(3, 0.8, (400, 2))
    fits = [anchor_priors(boxes, count).mean_iou for count in (1, 2, 5, 9)]
    assert fits == sorted(fits)
    assert fits[0] > 0.3
    assert fits[-1] > 0.6


def test_scaling_all_boxes_scales_the_priors():
    boxes = np.random.default_rng(3).lognormal(3, 0.8, (300, 2))
    priors = anchor_priors(boxes, 4)
    np.testing.assert_array_equal(
        anchor_priors(boxes / 32, 4).sizes, priors.sizes / 32
    )  # a power of two rounds nothing
    np.testing.assert_allclose(anchor_priors(boxes * 3.7, 4).sizes, priors.sizes * 3.7, rtol=1e-4)
    turned = anchor_priors(boxes[:, ::-1], 4)
    np.testing.assert_allclose(turned.mean_iou, priors.mean_iou, rtol=1e-12)


def test_the_same_seed_gives_the_same_priors_whatever_the_chunks(monkeypatch):
    boxes = np.random.default_rng(4).lognormal(3, 0.8, (300, 2))
    first, again = (anchor_priors(columns, 3, seed=7, restarts=2) for columns in (boxes, boxes.copy()))
    np.testing.assert_array_equal(first.sizes, again.sizes)
    monkeypatch.setattr(module, "_CHUNK", 70)
    np.testing.assert_allclose(anchor_priors(boxes, 3, seed=7, restarts=2).sizes, first.sizes, rtol=1e-9)


def test_restarts_can_only_help():
    boxes = np.random.default_rng(5).lognormal(3, 1, (300, 2))
    assert anchor_priors(boxes, 9, restarts=8).mean_iou >= anchor_priors(boxes, 9, restarts=1).mean_iou


def test_a_centre_that_lost_its_boxes_moves_to_the_box_that_is_met_worst():
    boxes, means = separated(10)
    columns = np.ascontiguousarray(boxes.T)
    start = np.repeat(CENTRES[:1], 5, axis=0)  # the first of equal centres takes all boxes
    found = module._clustered(columns, start)
    np.testing.assert_allclose(found[np.argsort(found.prod(axis=1))], means[np.argsort(means.prod(axis=1))])


def test_repeated_sizes():
    boxes = np.repeat(np.array([[2.0, 3.0], [10.0, 10.0], [3.0, 2.0]]), [50, 1, 50], axis=0)
    priors = anchor_priors(boxes, 3)
    assert sorted(priors.sizes.tolist()) == [[2, 3], [3, 2], [10, 10]]
    assert priors.mean_iou == 1
    with pytest.raises(ArgumentError, match=r"count must be at most the number of different box sizes, 3; got 4\."):
        anchor_priors(boxes, 4)


@pytest.mark.parametrize(
    ("boxes", "options", "text"),
    [
        (np.ones((3, 2)), {"count": 0}, r"count must be at least 1; got 0\."),
        (np.ones((3, 2)), {"count": 1, "restarts": 0}, r"restarts must be at least 1; got 0\."),
        (np.zeros((0, 2)), {"count": 1}, r"count must be at most the number of different box sizes, 0; got 1\."),
        (np.ones((3, 4)), {"count": 1}, r"sizes must be \(N, 2\), width and height; got shape \(3, 4\)\."),
        (np.array([[1.0, 1.0], [0.0, 2.0]]), {"count": 1}, r"finite; got \[0\.0, 2\.0\] in row 1\. Leave out boxes"),
        (np.array([[1.0, math.nan]]), {"count": 1}, r"sizes must be positive and finite; got \[1\.0, nan\] in row 0"),
    ],
)
def test_what_cannot_be_is_refused(boxes, options, text):
    with pytest.raises(ArgumentError, match=text):
        anchor_priors(boxes, **options)


def test_overlaps_without_boxes_or_priors():
    assert math.isnan(mean_best_iou(np.zeros((0, 2)), CENTRES))
    with pytest.raises(ArgumentError, match=r"priors must hold at least one size; got none\."):
        mean_best_iou(CENTRES, np.zeros((0, 2)))


def annotations(sizes=((100, 200), (50, 50), (400, 100)), **columns) -> Annotations:
    objects = Objects.of(
        images=[0, 0, 1, 2, 2],
        labels=[0, 0, 0, 0, 0],
        boxes=[[5, 5, 50, 20], [0, 0, 0, 10], [1, 1, 25, 50], [0, 0, 10, 100], [0, 0, 100, 400]],
        **columns,
    )
    return Annotations.of(("a", "b", "c"), ("cell",), objects, image_sizes=sizes)


def test_box_sizes_by_hand():
    # (width, height) of input / image: (2, 4), (8, 8), (4, 1); the second box has no area
    assert box_sizes(annotations(), (400, 400)).tolist() == [[100, 80], [200, 400], [40, 100], [400, 400]]
    assert box_sizes(annotations(), (200, 400), stride=4).tolist() == [[25, 10], [50, 50], [10, 12.5], [100, 50]]
    # keeping the aspect: factors 2, 8 and 1
    assert letterboxed_box_sizes(annotations(), (400, 400)).tolist() == [[100, 40], [200, 400], [10, 100], [100, 400]]


def test_crowds_ignored_objects_and_other_images_are_left_out():
    marked = annotations(crowd=[False, False, False, True, False], ignored=[True, False, False, False, False])
    assert box_sizes(marked, (400, 400)).tolist() == [[200, 400], [400, 400]]
    assert box_sizes(annotations(), (400, 400), images=[1]).tolist() == [[200, 400]]
    assert box_sizes(annotations(), (400, 400), images=[]).shape == (0, 2)
    assert letterboxed_box_sizes(annotations(), (400, 400), images=np.array([2])).shape == (2, 2)


def test_images_of_unknown_size_matter_only_where_they_have_boxes_that_count():
    unknown = annotations(sizes=((100, 200), (50, 50), (0, 0)))
    text = r"annotations must state the size of every image; got none for 'c'\. Read it from the image\."
    with pytest.raises(ArgumentError, match=text):
        box_sizes(unknown, (400, 400))
    assert box_sizes(unknown, (400, 400), images=[0, 1]).shape == (2, 2)


@pytest.mark.parametrize("sizes", [box_sizes, letterboxed_box_sizes])
def test_sizes_that_cannot_be(sizes):
    with pytest.raises(ArgumentError, match=r"input_size must be a positive \(height, width\); got \(0, 416\)\."):
        sizes(annotations(), (0, 416))
    with pytest.raises(ArgumentError, match=r"stride must be positive; got 0\."):
        sizes(annotations(), (416, 416), stride=0)


def test_a_description():
    priors = AnchorPriors(np.array([[10.0, 20.0]]), np.array([1.0]), 0.5, 12345)
    assert describe_priors(priors, input_size=(300, 400)) == (
        "1 prior of 12,345 boxes at 300 x 400 (height x width), mean IoU 50.0 %\n"
        "  pixels 10.0 x 20.0 (width x height), 100.0 % of the boxes\n"
        "anchors = 10.0000,20.0000"
    )
