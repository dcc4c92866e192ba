import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from delineate.errors import ArgumentError
from delineate.metrics.localisation import (
    MAP_THRESHOLDS,
    cam_box,
    max_box_accuracy,
    topk_localisation_error,
)
from delineate.metrics.localisation_metric import LocalisationScores, TopKLocalisation
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def annotations(boxes, labels=None, classes=3):
    """Of a list of xyxy lists, one an image."""
    images = np.repeat(np.arange(len(boxes)), [len(rows) for rows in boxes])
    flat = np.array([row for rows in boxes for row in rows], float).reshape(-1, 4)
    flat[:, 2:] -= flat[:, :2]
    labels = np.zeros(len(images), int) if labels is None else [label for rows in labels for label in rows]
    return Annotations.of(range(len(boxes)), tuple("abcdef"[:classes]), Objects.of(images, labels, flat))


def targets(boxes, labels):
    return [
        {"boxes": torch.tensor(rows, dtype=torch.float64).reshape(-1, 4), "labels": torch.tensor(own, dtype=torch.long)}
        for rows, own in zip(boxes, labels, strict=True)
    ]


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0


def scene(seed, images=5, shape=(16, 20)):
    generator = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(generator.random((images, *shape)), (0, 2, 2))
    boxes = [np.sort(generator.integers(0, 16, (n, 2, 2)), axis=1).reshape(-1, 4).tolist() for n in (2, 0, 1, 3, 1)]
    return maps, boxes[:images]


def test_cam_box_by_hand():
    """Above 0.2 of the peak: a component of three pixels, and the peak alone; 0.2 itself is not above."""
    score_map = np.zeros((5, 6))
    score_map[0, 5] = 1.0
    score_map[2:5, 1] = 0.21
    score_map[2, 2] = 0.2
    assert cam_box(score_map).tolist() == [1, 2, 2, 5]
    assert cam_box(score_map, share=0.5).tolist() == [5, 0, 6, 1]
    assert cam_box(score_map * 7).tolist() == [1, 2, 2, 5]


def test_cam_box_of_nothing():
    assert np.isnan(cam_box(np.zeros((3, 3)))).all()
    assert np.isnan(cam_box(np.full((3, 3), -1.0))).all()
    assert np.isnan(cam_box(np.zeros((0, 3)))).all()


def test_max_box_accuracy_by_hand():
    """A broad low blob and a narrow peak; only the peak meets the truth, and only once it stands alone or as any."""
    score_map = np.zeros((10, 10))
    score_map[0:6, 0:6] = 0.4
    score_map[8:10, 8:10] = 1.0
    found = max_box_accuracy([score_map], annotations([[[8, 8, 10, 10]]]))
    assert found["max_box_accuracy"] == found["max_box_accuracy_v2"] == 1
    for figures in found["per_threshold"].values():
        assert figures["any_threshold"] == MAP_THRESHOLDS[1]
        assert figures["largest_threshold"] == MAP_THRESHOLDS[41]
    both = max_box_accuracy([score_map, score_map], annotations([[[8, 8, 10, 10]], [[0, 0, 6, 6]]]))
    assert both["max_box_accuracy"] == 0.5  # no one threshold serves both images with the largest component
    assert both["max_box_accuracy_v2"] == 1


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_max_box_accuracy_equals_the_definition(seed):
    maps, boxes = scene(seed)
    hits = {(kind, least): np.zeros(101) for kind in ("largest", "any") for least in (0.3, 0.5, 0.7)}
    for score_map, truths in zip(maps, boxes, strict=True):
        scaled = (score_map - score_map.min()) / (score_map.max() - score_map.min())
        for t, threshold in enumerate(MAP_THRESHOLDS if truths else ()):
            labels, count = ndimage.label(scaled >= threshold, np.ones((3, 3)))
            sizes = np.bincount(labels.ravel())[1:]
            slices = ndimage.find_objects(labels)
            overlaps = [max(iou((x.start, y.start, x.stop, y.stop), box) for box in truths) for y, x in slices]
            assert count == len(overlaps)
            for least in (0.3, 0.5, 0.7):
                hits["largest", least][t] += overlaps[sizes.argmax()] >= least
                hits["any", least][t] += max(overlaps) >= least
    images = sum(bool(truths) for truths in boxes)
    found = max_box_accuracy(list(maps), annotations(boxes))
    assert found["images"] == images
    assert found["max_box_accuracy"] == hits["largest", 0.5].max() / images
    for (kind, least), counts in hits.items():
        figures = found["per_threshold"][f"{least:g}"]
        assert figures[kind] == counts.max() / images
        assert figures[f"{kind}_threshold"] == MAP_THRESHOLDS[int(counts.argmax())]
    means = [hits["any", least].max() / images for least in (0.3, 0.5, 0.7)]
    assert found["max_box_accuracy_v2"] == pytest.approx(sum(means) / 3)


def test_maps_of_any_scale_and_flat_ones():
    maps, boxes = scene(1)
    truth = annotations(boxes)
    # a power of two scales without rounding
    np.testing.assert_equal(max_box_accuracy(list(maps * 64), truth), max_box_accuracy(list(maps), truth))
    flat = max_box_accuracy([np.full((4, 4), 0.3)], annotations([[[0, 0, 4, 4]]]))
    assert flat["max_box_accuracy"] == 1  # at threshold 0 the box is the image
    assert flat["per_threshold"]["0.5"]["largest_threshold"] == 0


def test_no_images_is_undefined():
    for found in (max_box_accuracy([], annotations([])), max_box_accuracy([np.eye(3)], annotations([[]]))):
        assert math.isnan(found["max_box_accuracy"])
        assert math.isnan(found["per_threshold"]["0.3"]["any_threshold"])
        assert found["images"] == 0
    errors = topk_localisation_error(np.zeros((1, 2), int), np.zeros((1, 2, 4)), annotations([[]]))
    assert math.isnan(errors["top1_error"])


def test_localisation_scores_add_up():
    maps, boxes = scene(2)
    whole = max_box_accuracy(list(maps), annotations(boxes))
    first, second = LocalisationScores(), LocalisationScores()
    labels = [[0] * len(rows) for rows in boxes]
    for metric, share in ((first, slice(0, 2)), (second, slice(2, 5))):
        metric.update(torch.from_numpy(maps[share]), targets(boxes[share], labels[share]))
    first.merge_state(second)
    assert first.compute() == whole
    first.reset()
    assert int(first.images) == 0


def test_topk_by_hand():
    """Right at once; right class but box too small, then right; wrong class throughout; an image without truths."""
    truth = annotations([[[0, 0, 4, 4]], [[0, 0, 4, 4], [5, 5, 9, 9]], [[0, 0, 4, 4]], []], [[1], [0, 0], [2], []])
    whole, small, other = [0, 0, 4, 4], [0, 0, 2, 3], [5, 5, 9, 8]
    boxes = np.array([[whole, small], [small, other], [whole, whole], [whole, whole]], float)
    labels = np.array([[1, 0], [0, 0], [1, -1], [0, 0]])
    known = np.array([whole, small, whole, whole], float)
    found = topk_localisation_error(labels, boxes, truth, known_boxes=known)
    assert found == {"top1_error": 2 / 3, "top5_error": 1 / 3, "known_error": 1 / 3, "images": 3}
    assert topk_localisation_error(labels, boxes, truth, ks=(1,), iou_threshold=0.3)["top1_error"] == 1 / 3
    known[0] = np.nan
    assert topk_localisation_error(labels, boxes, truth, known_boxes=known)["known_error"] == 2 / 3


def test_corners_may_name_pixels_as_in_the_challenges_kit():
    """Of 10 x 10 pixels 10 x 5: half of it, but as edges 9 x 4 of 9 x 9."""
    truth, boxes = annotations([[[0, 0, 9, 9]]]), np.array([[[0, 0, 9, 4.0]]])
    for inclusive, error in ((False, 1.0), (True, 0.0)):
        found = topk_localisation_error(
            np.zeros((1, 1), int), boxes, truth, known_boxes=boxes[0], ks=(1,), inclusive_pixels=inclusive
        )
        assert found == {"top1_error": error, "known_error": error, "images": 1}
        metric = TopKLocalisation(ks=(1,), inclusive_pixels=inclusive)
        guesses = torch.from_numpy(boxes)
        metric.update(torch.zeros(1, 1, dtype=int), guesses, targets([[[0, 0, 9, 9]]], [[0]]), known_boxes=guesses[0])
        assert metric.compute() == found
    apart = np.array([[[11, 0, 20, 9.0]]])  # a pixel between them: nothing is shared
    assert topk_localisation_error(np.zeros((1, 1), int), apart, truth, inclusive_pixels=True)["top1_error"] == 1


def test_the_iou_of_a_guess_may_equal_the_threshold():
    truth = annotations([[[0, 0, 4, 4]]])
    assert topk_localisation_error(np.zeros((1, 1), int), np.array([[[0, 0, 4, 2.0]]]), truth)["top1_error"] == 0
    assert topk_localisation_error(np.zeros((1, 1), int), np.array([[[0, 0, 4, 1.99]]]), truth)["top1_error"] == 1


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 5))
def test_topk_equals_the_definition_in_any_batches(seed, cut):
    generator = np.random.default_rng(seed)
    _, boxes = scene(seed)
    labels = [generator.integers(0, 3, len(rows)).tolist() for rows in boxes]
    guesses = np.sort(generator.integers(0, 16, (5, 4, 2, 2)), axis=2).reshape(5, 4, 4).astype(float)
    classes, known = generator.integers(0, 3, (5, 4)), guesses[:, 0]
    ks, least = (1, 3), 0.2
    metric = TopKLocalisation(ks=ks, iou_threshold=least)
    for share in (slice(0, cut), slice(cut, 5)):
        metric.update(
            torch.from_numpy(classes[share]),
            torch.from_numpy(guesses[share]),
            targets(boxes[share], labels[share]),
            known_boxes=torch.from_numpy(known[share]),
        )
    found = metric.compute()
    assert found == topk_localisation_error(
        classes, guesses, annotations(boxes, labels), known_boxes=known, ks=ks, iou_threshold=least
    )
    counted = [i for i in range(5) if boxes[i]]
    for k in ks:
        right = [
            any(
                classes[i, g] == label and iou(guesses[i, g], box) >= least
                for g in range(k)
                for box, label in zip(boxes[i], labels[i], strict=True)
            )
            for i in counted
        ]
        assert found[f"top{k}_error"] == 1 - sum(right) / 4
    assert found["known_error"] == 1 - sum(any(iou(known[i], box) >= least for box in boxes[i]) for i in counted) / 4


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    truth = annotations([[[0, 0, 4, 4]]])
    with pytest.raises(ArgumentError, match=r"share must be at least 0 and below 1; got 20\."):
        cam_box(np.eye(3), share=20)
    with pytest.raises(ArgumentError, match=r"score_maps must hold 1 maps, one an image; got 2\."):
        max_box_accuracy([np.eye(3)] * 2, truth)
    with pytest.raises(ArgumentError, match=r"score_maps\[0\] must hold finite scores; got NaN or infinity\."):
        max_box_accuracy([np.full((3, 3), np.nan)], truth)
    with pytest.raises(ArgumentError, match=r"maps\[0\] must be \(H, W\); got \(2, 3, 3\)\."):
        LocalisationScores().update(torch.zeros(1, 2, 3, 3), targets([[[0, 0, 4, 4]]], [[0]]))
    labels, boxes = np.zeros((1, 2), int), np.zeros((1, 2, 4))
    with pytest.raises(ArgumentError, match=r"guess_labels must be \(1, G\), a row an image; got \(3, 2\)\."):
        topk_localisation_error(np.zeros((3, 2), int), boxes, truth)
    with pytest.raises(ArgumentError, match=r"guess_boxes must be \(1, 2, 4\), as guess_labels; got \(1, 2, 5\)\."):
        topk_localisation_error(labels, np.zeros((1, 2, 5)), truth)
    with pytest.raises(ArgumentError, match=r"known_boxes must be \(1, 4\); got \(2, 4\)\."):
        topk_localisation_error(labels, boxes, truth, known_boxes=np.zeros((2, 4)))
    with pytest.raises(ArgumentError, match=r"ks must be at least 1; got \(0,\)\."):
        topk_localisation_error(labels, boxes, truth, ks=(0,))
    with pytest.raises(ArgumentError, match=r"iou_threshold must be above 0 and at most 1; got 50\."):
        TopKLocalisation(iou_threshold=50)
    with pytest.raises(ArgumentError, match=r"targets\[0\]\['labels'\] must be at least 0; got \[-1\]\."):
        LocalisationScores().update(torch.zeros(1, 3, 3), targets([[[0, 0, 4, 4]]], [[-1]]))
