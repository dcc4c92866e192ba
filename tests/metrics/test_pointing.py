import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.metrics.localisation_metric import PointLocalisation, peak_points
from delineate.metrics.pointing import point_localisation
from delineate.metrics.ranking import average_precision_11_point, average_precision_all_point
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

CLASSES = ("cat", "dog")


def one(point, box, tolerance=18, ignored=False):
    truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [box], ignored=[ignored]))
    found = point_localisation(np.array([[point]], float), np.array([[0.5]]), truth, tolerance=tolerance)
    return found["per_class"]["cat"]


def test_the_tolerance_enlarges_the_box_on_each_side():
    box = (30, 40, 10, 20)  # to (40, 60)
    for point in ((12, 22), (58, 78), (35, 50)):
        assert one(point, box)["ap"] == 1
    for point in ((11.9, 50), (58.1, 50), (35, 21.9), (35, 78.1)):
        assert one(point, box)["ap"] == 0
    assert one((41, 50), box, tolerance=1)["true_positives"] == 1
    assert one((41, 50), box, tolerance=0.5)["true_positives"] == 0


def test_by_hand():
    """Cat: right at 0.9, an image without cats at 0.8, missed at 0.7. No image holds a dog."""
    truth = Annotations.of((1, 2, 3), CLASSES, Objects.of([0, 2, 2], [0, 0, 0], [[0, 0, 9, 9]] * 3))
    points = np.full((3, 2, 2), 5.0)
    points[2] = 90
    found = point_localisation(points, np.array([[0.9, 0.1], [0.8, 0.1], [0.7, 0.1]]), truth)
    cat = found["per_class"]["cat"]
    assert (cat["ap"], cat["recall"], cat["images"]) == (0.5, 0.5, 2)  # two cats in one image are one image
    assert (cat["true_positives"], cat["false_positives"]) == (1, 2)
    assert cat["ap_11_point"] == pytest.approx(6 / 11)
    assert math.isnan(found["per_class"]["dog"]["ap"])
    assert found["map"] == 0.5


def test_difficult_objects():
    """Alone in their image they take it out; beside another one a point on them is right."""
    assert math.isnan(one((5, 5), (0, 0, 9, 9), ignored=True)["ap"])
    assert one((5, 5), (0, 0, 9, 9), ignored=True)["false_positives"] == 0
    both = Objects.of([0, 0], [0, 0], [[0, 0, 9, 9], [500, 0, 9, 9]], ignored=[True, False])
    found = point_localisation(np.full((1, 1, 2), 5.0), np.ones((1, 1)), Annotations.of((1,), ("cat",), both))
    assert found["map"] == 1


def test_peak_points_by_hand():
    maps = torch.tensor([[[[0.0, 0.0, 3.0], [1.0, 0.0, 0.0]], [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]]])
    points, scores = peak_points(maps)
    assert points.tolist() == [[[2.5, 0.5], [0.5, 0.5]]]  # of equal ones the first
    assert scores.tolist() == [[3, 2]]
    scaled, _ = peak_points(maps.bfloat16(), image_sizes=[(20, 300)])
    assert scaled.tolist() == [[[250, 5], [50, 5]]]
    assert peak_points(torch.zeros(0, 2, 3, 3))[0].shape == (0, 2, 2)


def scene(seed, images=7, size=12):
    generator = np.random.default_rng(seed)
    maps = torch.from_numpy(generator.permutation(images * 2 * size * size).reshape(images, 2, size, size) / 1000.0)
    targets = []
    for _ in range(images):
        count = generator.integers(0, 4)
        boxes = np.sort(generator.integers(0, size, (count, 2, 2)), axis=1).reshape(-1, 4)
        difficult, labels = generator.random(count) < 0.3, generator.integers(0, 2, count)
        columns = {"boxes": boxes.astype(float), "labels": labels, "difficult": difficult}
        targets.append({name: torch.from_numpy(column) for name, column in columns.items()})
    return maps, targets


def naive(maps, targets, label, tolerance):
    """Image by image and from the most confident down."""
    rows, positives = [], 0
    for score_map, target in zip(maps[:, label].numpy(), targets, strict=True):
        own = [
            (box, hard)
            for box, k, hard in zip(*(target[key].tolist() for key in ("boxes", "labels", "difficult")), strict=True)
            if k == label
        ]
        y, x = np.unravel_index(score_map.argmax(), score_map.shape)
        hit = any(
            a - tolerance <= x + 0.5 <= c + tolerance and b - tolerance <= y + 0.5 <= d + tolerance
            for (a, b, c, d), _ in own
        )
        held = any(not hard for _, hard in own)
        positives += held
        if held or not own:
            rows.append((score_map.max(), held and hit))
    right = np.cumsum([hit for _, hit in sorted(rows, key=lambda row: -row[0])])
    if not positives:
        return math.nan, math.nan
    curve = right / np.arange(1, len(right) + 1), right / positives
    return average_precision_all_point(*curve), average_precision_11_point(*curve)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 7), tolerance=st.sampled_from([0, 1.5]))
def test_equals_the_definition_in_any_batches(seed, cut, tolerance):
    maps, targets = scene(seed)
    metric = PointLocalisation(CLASSES, tolerance=tolerance)
    for share in (slice(0, cut), slice(cut, None)):
        metric.update(maps[share], targets[share])
    found = metric.compute()
    for k, name in enumerate(CLASSES):
        figures = found["per_class"][name]
        expected = naive(maps, targets, k, tolerance)
        assert (figures["ap"], figures["ap_11_point"]) == pytest.approx(expected, nan_ok=True)


def test_points_are_scaled_to_the_image():
    maps, targets = scene(4)
    larger = [{**target, "boxes": target["boxes"] * torch.tensor([3, 2, 3, 2])} for target in targets]
    plain, scaled = PointLocalisation(CLASSES, tolerance=0), PointLocalisation(CLASSES, tolerance=0)
    plain.update(maps, targets)
    scaled.update(maps, larger, image_sizes=[(24, 36)] * 7)
    np.testing.assert_equal(plain.compute(), scaled.compute())


@pytest.mark.parametrize(("scores", "ap"), [([0.9, 0.1], 1), ([0.1, 0.9], 0.5)])
def test_images_are_ranked_by_scores_of_their_own(scores, ap):
    """Only the first image holds a cat, and its point is right."""
    box = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([0])}
    metric = PointLocalisation(("cat",))
    none = {name: column[:0] for name, column in box.items()}
    metric.update(torch.zeros(2, 1, 4, 4), [box, none], scores=torch.tensor(scores)[:, None])
    assert metric.compute()["map"] == ap


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    truth = Annotations.of((1,), ("cat",), Objects.of([0], [0], [[0, 0, 9, 9]]))
    with pytest.raises(ArgumentError, match=r"tolerance must be at least 0 pixels; got -1\."):
        point_localisation(np.zeros((1, 1, 2)), np.zeros((1, 1)), truth, tolerance=-1)
    with pytest.raises(ArgumentError, match=r"scores must be \(1, 1\), the images and classes of truth; got \(1, 3\)"):
        point_localisation(np.zeros((1, 3, 2)), np.zeros((1, 3)), truth)
    with pytest.raises(ArgumentError, match=r"points must be \(1, 1, 2\); got \(1, 1, 3\)\."):
        point_localisation(np.zeros((1, 1, 3)), np.zeros((1, 1)), truth)
    with pytest.raises(ArgumentError, match=r"scores must be finite; got NaN or infinity\."):
        point_localisation(np.zeros((1, 1, 2)), np.full((1, 1), np.nan), truth)
    with pytest.raises(ArgumentError, match=r"maps must hold finite scores; got NaN or infinity\."):
        peak_points(torch.full((1, 1, 2, 2), torch.nan))
    with pytest.raises(ArgumentError, match=r"image_sizes must hold 1 sizes, one a map; got 2\."):
        peak_points(torch.zeros(1, 1, 2, 2), image_sizes=[(3, 3)] * 2)
    metric = PointLocalisation(CLASSES)
    with pytest.raises(ArgumentError, match=r"maps must have 2 classes; got 1\."):
        metric.update(torch.zeros(1, 1, 2, 2), [])
    with pytest.raises(ArgumentError, match=r"maps must be of 0 images, as targets; got 1\."):
        metric.update(torch.zeros(1, 2, 2, 2), [])
