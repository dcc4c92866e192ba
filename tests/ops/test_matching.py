from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from delineate.errors import ArgumentError
from delineate.ops import matching
from delineate.ops.matching import (
    COCO_AREA_RANGES,
    COCO_IOU_THRESHOLDS,
    COCO_SIGMAS,
    boundary_overlaps,
    box_overlaps,
    grouped,
    joined_matches,
    keypoint_overlaps,
    mask_overlaps,
    match_objects,
)
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks
from tests.coco_scenes import crowded_scene, read, reference, scene

OVERLAPS = {"boxes": box_overlaps, "masks": mask_overlaps, "keypoints": keypoint_overlaps()}
FALSE, TRUE, IGNORED = 0, 1, 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def annotated(objects, images=3, classes=("cell", "nucleus")):
    return Annotations.of(range(images), classes, objects)


def boxes(rows, images=None, labels=None, **columns):
    return Objects.of(images or [0] * len(rows), labels or [0] * len(rows), rows, **columns)


def test_constants_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    params, people = Params("bbox"), Params("keypoints")
    assert list(COCO_IOU_THRESHOLDS) == params.iouThrs.tolist()
    assert list(COCO_AREA_RANGES) == params.areaRngLbl
    assert [list(limits) for limits in COCO_AREA_RANGES.values()] == params.areaRng
    assert list(COCO_SIGMAS) == people.kpt_oks_sigmas.tolist()


def test_by_hand():
    """Two images, two classes; only the same class of the same image is compared."""
    truth = annotated(boxes([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], images=[0, 2, 2], labels=[0, 0, 1]))
    found = boxes(
        [[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9]],
        images=[1, 2, 2, 0, 2],
        labels=[0, 0, 1, 1, 0],
        scores=[0.9, 0.8, 0.3, 0.6, 0.7],
    )
    matches = match_objects(truth, found, iou_thresholds=(0.5, 0.75), area_ranges={"all": (0, 1e10)})
    assert matches.detections.tolist() == [0, 1, 4, 3, 2]
    assert matches.labels.tolist() == [0, 0, 0, 1, 1]
    assert matches.images.tolist() == [1, 2, 2, 0, 2]
    assert matches.scores.tolist() == [0.9, 0.8, 0.7, 0.6, 0.3]
    assert matches.ranks.tolist() == [0, 0, 1, 0, 0]
    assert matches.states.tolist() == [[[FALSE, TRUE, FALSE, FALSE, TRUE], [FALSE, FALSE, TRUE, FALSE, TRUE]]]
    assert matches.matched.tolist() == [[-1, 1, -1, -1, 2], [-1, -1, 1, -1, 2]]
    assert matches.positives.tolist() == [[2], [1]]
    assert matches.class_starts.tolist() == [0, 3, 5]
    assert (matches.thresholds, matches.areas) == ((0.5, 0.75), ("all",))


def per_image(evaluator, truth, predictions, matches):
    """Every detection that pycocotools looked at, with ours beside it."""
    params = evaluator.params
    image_of, class_of = {v: i for i, v in enumerate(truth.image_ids)}, {v: i for i, v in enumerate(truth.class_ids)}
    seen = 0
    for entry in filter(None, evaluator.evalImgs):
        a = [list(limits) for limits in params.areaRng].index(list(entry["aRng"]))
        own = np.flatnonzero(
            (matches.images == image_of[entry["image_id"]]) & (matches.labels == class_of[entry["category_id"]])
        )
        assert (matches.detections[own] + 1).tolist() == entry["dtIds"]
        assert matches.ranks[own].tolist() == list(range(len(own)))
        expected = np.where(entry["dtIgnore"], IGNORED, np.where(entry["dtMatches"] != 0, TRUE, FALSE))
        assert np.array_equal(matches.states[a][:, own], expected)
        if a == 0:
            rows = matches.matched[:, own]
            ids = np.append(truth.objects.ids, 0)[rows]  # the last for -1
            assert np.array_equal(ids, entry["dtMatches"])
            seen += len(own)
    assert seen == len(matches.detections)


@pytest.mark.parametrize("kind", OVERLAPS)
def test_the_fate_of_each_detection_equals_pycocotools(kind, tmp_path):
    for seed in range(800, 812):
        truth, results = scene(seed, kind) if seed % 6 else crowded_scene(seed, kind)
        if not results:
            continue
        evaluator = reference(truth, results, kind)
        annotations, predictions = read(tmp_path, truth, results, kind)
        params = evaluator.params
        matches = match_objects(
            annotations,
            predictions,
            OVERLAPS[kind],
            area_ranges=dict(zip(params.areaRngLbl, map(tuple, params.areaRng), strict=True)),
            max_detections=params.maxDets[-1],
        )
        per_image(evaluator, annotations, predictions, matches)
        for a, limits in enumerate(params.areaRng):
            counted = [entry for entry in evaluator.evalImgs if entry and entry["aRng"] == limits]
            assert matches.positives[:, a].sum() == sum(int((entry["gtIgnore"] == 0).sum()) for entry in counted)


def test_groups_by_hand():
    truth = annotated(boxes([[0, 0, 1, 1]] * 3, images=[2, 0, 2], labels=[1, 0, 1]))
    found = boxes([[0, 0, 1, 1]] * 4, images=[1, 2, 2, 2], labels=[0, 1, 1, 1], scores=[0.1, 0.2, 0.9, 0.2])
    groups = grouped(truth, found, max_detections=2)
    assert groups.detections.tolist() == [0, 2, 1]  # the third of image 2 is beyond the limit
    assert groups.ranks.tolist() == [0, 0, 1]
    assert groups.truths.tolist() == [1, 0, 2]
    assert groups.detection_starts.tolist() == [0, 0, 1, 3]
    assert groups.truth_starts.tolist() == [0, 1, 1, 3]
    assert groups.block_starts.tolist() == [0, 0, 0, 4]


def test_only_so_many_of_an_image_and_class_are_looked_at():
    truth = annotated(boxes([[0, 0, 9, 9]]))
    found = boxes([[0, 0, 9, 9]] * 5, scores=[0.5, 0.9, 0.5, 0.7, 0.5])
    matches = match_objects(truth, found, max_detections=3)
    assert matches.detections.tolist() == [1, 3, 0]
    assert matches.positives[0, 0] == 1


def test_every_ignored_truth_and_those_outside_a_range_do_not_count():
    truth = annotated(
        boxes(
            [[0, 0, 10, 10]] * 5,
            areas=[1024, 1024.5, 9216, 9217, 500],
            crowd=[False, False, False, False, True],
            ignored=[False, True, False, False, False],
        )
    )
    positives = match_objects(truth, boxes([], scores=[])).positives
    assert positives.tolist() == [[3, 1, 2, 2], [0, 0, 0, 0]]


def test_parts_matched_one_by_one_are_the_whole(tmp_path):
    columns = ("detections", "labels", "images", "scores", "ranks", "states", "matched", "positives")
    for seed, limit in ((1, 100), (6, 100), (12, 2), (21, 1)):
        annotations, predictions = read(tmp_path, *crowded_scene(seed) if seed == 6 else scene(seed))
        part_of = np.random.default_rng(seed).integers(0, 3, annotations.num_images)[predictions.images]
        parts = [predictions.select(part_of == part) for part in (2, 0, 1)]
        joined = joined_matches([(match_objects(annotations, p, max_detections=limit), len(p)) for p in parts])
        whole = match_objects(annotations, Objects.concatenate(parts), max_detections=limit)
        assert len(whole.detections) > 2
        for name in columns:
            assert np.array_equal(getattr(joined, name), getattr(whole, name))
        assert (joined.thresholds, joined.areas) == (whole.thresholds, whole.areas)


@pytest.mark.parametrize("kind", OVERLAPS)
def test_blocks_of_groups_are_the_whole(kind, monkeypatch, tmp_path):
    """Of many pairs no more than so many are compared at once, unless one image and class has more."""
    annotations, predictions = read(tmp_path, *scene(2, kind), kind)
    asked = []

    def overlaps(found, truths, groups):
        assert all(starts[0] == 0 for starts in (groups.detection_starts, groups.truth_starts, groups.block_starts))
        assert groups.block_starts[-1] == (np.diff(groups.detection_starts) * np.diff(groups.truth_starts)).sum()
        assert len(groups.ranks) == len(groups.detections) == groups.detection_starts[-1]
        asked.append(groups)
        return OVERLAPS[kind](found, truths, groups)

    whole = match_objects(annotations, predictions, overlaps)
    (everything,) = asked
    pairs, largest = everything.block_starts[-1], np.diff(everything.block_starts).max()
    for most in (pairs, pairs // 2, pairs // 5, 1):
        asked.clear()
        monkeypatch.setattr(matching, "_MOST_PAIRS", int(most))
        parts = match_objects(annotations, predictions, overlaps)
        for name in ("detections", "ranks", "states", "matched", "positives"):
            assert np.array_equal(getattr(parts, name), getattr(whole, name))
        assert all(groups.block_starts[-1] <= most + largest for groups in asked)
        for name in ("detections", "ranks", "truths"):
            assert np.array_equal(np.concatenate([getattr(g, name) for g in asked]), getattr(everything, name))
        assert (len(asked) > 1) == (most < pairs)


def random_masks(generator, count, size=(30, 40)):
    masks = np.zeros((count, *size), bool)
    for mask in masks:
        top, left = generator.integers(0, 25), generator.integers(0, 35)
        mask[top : top + generator.integers(1, 25), left : left + generator.integers(1, 30)] = True
        mask &= generator.random(size) < 0.95
    return masks


def masked(pixels, **columns):
    masks = RLEMasks.from_rles([RLE.encode(mask) for mask in pixels])
    return Objects.of([0] * len(pixels), [0] * len(pixels), masks.boxes(), masks=masks, **columns)


def test_overlaps_of_masks_and_boundaries_from_pixels():
    generator = np.random.default_rng(0)
    found, true, crowd = random_masks(generator, 8), random_masks(generator, 6), np.arange(6) % 3 == 0
    predictions, truths = masked(found, scores=generator.random(8)), masked(true, crowd=crowd)
    groups = grouped(annotated(truths), predictions, max_detections=100)
    encoded = [
        [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in side]
        for side in (found[groups.detections], true)
    ]
    expected = coco_mask.iou(*encoded, crowd.astype(int).tolist())
    assert np.array_equal(mask_overlaps(predictions, truths, groups).reshape(8, 6), expected)
    for ratio, reach in ((0.02, 1), (0.06, 3)):  # of a diagonal of 50
        edges = [[edge(mask, reach) for mask in side] for side in (found[groups.detections], true)]
        for (i, j), whole in np.ndenumerate(expected):
            both = (edges[0][i] & edges[1][j]).sum()
            along = both / (edges[0][i].sum() if crowd[j] else (edges[0][i] | edges[1][j]).sum())
            found_overlap = boundary_overlaps(predictions, truths, groups, ratio=ratio).reshape(8, 6)[i, j]
            assert found_overlap == pytest.approx(min(whole, along), abs=1e-12)


def edge(mask, reach):
    """A pixel is inside when all within reach, the image's frame counting as outside, is."""
    padded = np.pad(mask, reach)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1,) * 2)
    return mask & ~windows.all(axis=(2, 3))


@pytest.mark.parametrize("overlaps", [mask_overlaps, boundary_overlaps])
def test_masks_of_other_sizes_are_not_compared(overlaps):
    """Their run lengths say nothing of each other; where the two never meet, sizes may differ."""
    one, other = np.ones((1, 8, 8), bool), np.ones((1, 9, 9), bool)
    truths, found = masked(one), masked(np.ones((2, 8, 8), bool), scores=[0.5, 0.4])
    mixed = Objects.concatenate([found, masked(other, scores=[0.3])])
    with pytest.raises(ArgumentError, match=r"predictions must have masks of .*, \(8, 8\); got \(9, 9\) in row 2"):
        match_objects(annotated(truths), mixed, overlaps)
    with pytest.raises(ArgumentError, match=r"truths must have masks of .*, \(8, 8\); got \(9, 9\) in row 1"):
        match_objects(annotated(Objects.concatenate([truths, masked(other)])), found, overlaps)
    elsewhere = replace(mixed, images=np.array([0, 0, 1]))
    matches = match_objects(annotated(truths), elsewhere, overlaps)
    assert matches.states[0, 0].tolist() == [TRUE, FALSE, FALSE]


def test_boundaries_of_what_meets_nothing_are_not_asked():
    generator = np.random.default_rng(1)
    predictions, truths = masked(random_masks(generator, 3), scores=[0.1, 0.2, 0.3]), masked(random_masks(generator, 0))
    groups = grouped(annotated(truths), predictions, max_detections=100)
    assert boundary_overlaps(predictions, truths, groups).shape == (0,)


def test_nothing_at_all():
    for truths, found in ((0, 0), (2, 0), (0, 2)):
        truth = annotated(boxes([[0, 0, 5, 5]] * truths))
        matches = match_objects(truth, boxes([[0, 0, 5, 5]] * found, scores=[0.5] * found))
        assert matches.states.shape == (4, 10, found)
        assert not matches.states[0].any()
        assert matches.positives[:, 0].tolist() == [truths, 0]
        assert matches.class_starts.tolist() == [0, found, found]
    nowhere = Annotations.of((), ("cell",), boxes([]))
    assert len(match_objects(nowhere, boxes([], scores=[])).detections) == 0


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    truth, found = annotated(boxes([[0, 0, 5, 5]])), boxes([[0, 0, 5, 5]], scores=[0.5])
    points = Objects.of([0], [0], [[0, 0, 5, 5]], scores=[0.5], keypoints=np.zeros((1, 3, 3)))
    for message, arguments, options in (
        (r"predictions must have scores; got none\.", (truth, boxes([[0, 0, 5, 5]])), {}),
        (
            r"predictions\.images must be below 3, as the annotations have them; got 7\.",
            (truth, boxes([[0, 0, 1, 1]], images=[7], scores=[1])),
            {},
        ),
        (
            r"predictions\.labels must be below 2, as the annotations have them; got 2\.",
            (truth, boxes([[0, 0, 1, 1]], labels=[2], scores=[1])),
            {},
        ),
        (r"iou_thresholds must lie between 0 and 1; got \(50,\)\.", (truth, found), {"iou_thresholds": (50,)}),
        (r"iou_thresholds must lie between 0 and 1; got \(\)\.", (truth, found), {"iou_thresholds": ()}),
        (r"iou_thresholds must lie between 0 and 1; got \(nan,\)\.", (truth, found), {"iou_thresholds": (np.nan,)}),
        (
            r"area_ranges must be \(least, largest\) areas; got {'a': \(2, 1\)}",
            (truth, found),
            {"area_ranges": {"a": (2, 1)}},
        ),
        (r"area_ranges must be \(least, largest\) areas; got {}", (truth, found), {"area_ranges": {}}),
        (r"max_detections must be at least 1; got 0\.", (truth, found), {"max_detections": 0}),
        (r"predictions must have masks; got none\.", (truth, found, mask_overlaps), {}),
        (
            r"truths must have masks; got none\.",
            (truth, masked(np.ones((1, 4, 4), bool), scores=[1]), mask_overlaps),
            {},
        ),
        (r"predictions must have 17 keypoints, one a sigma; got 3\.", (truth, points, keypoint_overlaps()), {}),
        (r"truths must have 3 keypoints, one a sigma; got None\.", (truth, points, keypoint_overlaps([0.1] * 3)), {}),
    ):
        with pytest.raises(ArgumentError, match=message):
            match_objects(*arguments, **options)
    for sigmas in ([0.1, 0.0], [[0.1]], [np.nan]):
        with pytest.raises(ArgumentError, match=r"sigmas must be above 0, one a keypoint; got"):
            keypoint_overlaps(sigmas)
