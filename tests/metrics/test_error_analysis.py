import math
from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.kernels.matching import IGNORED, TRUE
from delineate.metrics import error_analysis
from delineate.metrics.detection import box_scores
from delineate.metrics.error_analysis import ERRORS, LEFT_OUT, classified_errors, detection_errors
from delineate.ops.matching import box_overlaps, mask_overlaps
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks

BOX = [0, 0, 10, 10]
NAMES = {kind: name for name, kind in ERRORS.items()} | {TRUE: "true", IGNORED: "ignored", LEFT_OUT: "left out"}
MAIN = (*ERRORS, "missed")


def annotated(truths, images=1, classes=2, **columns):
    """True objects (image, class, box)."""
    objects = Objects.of([t[0] for t in truths], [t[1] for t in truths], [t[2] for t in truths], **columns)
    return Annotations.of(range(images), tuple(f"class {k}" for k in range(classes)), objects)


def detected(rows):
    """Predictions (image, class, box, score)."""
    return Objects.of(*([row[i] for row in rows] for i in range(3)), scores=[row[3] for row in rows])


def kinds(errors):
    return [NAMES[kind] for kind in errors.kinds.tolist()]


def random_scene(seed, *, grid=True, ignored=0.15, images=6, classes=3):
    """Clutter with every kind of error; on a grid, with many equal overlaps and scores."""
    generator = np.random.default_rng(seed)
    truths, found = [], []
    for image in range(images):
        for _ in range(generator.integers(0, 6)):
            box = np.append(generator.uniform(0, 20, 2), generator.uniform(2, 14, 2))
            label = int(generator.integers(classes))
            truths.append((image, label, box))
            for _ in range(generator.integers(0, 4)):
                near = box + generator.normal(0, generator.choice([0.3, 1.5, 4]), 4)
                taken_for = label if generator.random() < 0.7 else int(generator.integers(classes))
                found.append((image, taken_for, np.maximum(near, 1), generator.random()))
        for _ in range(generator.integers(0, 4)):
            box = np.append(generator.uniform(0, 20, 2), generator.uniform(2, 14, 2))
            found.append((image, int(generator.integers(classes)), box, generator.random()))
    if grid:
        truths = [(i, k, np.round(box)) for i, k, box in truths]
        found = [(i, k, np.round(box), round(score, 1)) for i, k, box, score in found]
    flags = generator.random((2, len(truths))) < ignored
    order = generator.permutation(len(found))
    return annotated(truths, images, classes, crowd=flags[0], ignored=flags[1]), detected([found[i] for i in order])


def overlap(a, b, crowd):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - width * height)


def naive_errors(truth, predictions, tf, tb):
    """Kinds, the truths that were missed, and repairs, each detection by itself."""
    o, p = truth.objects, predictions
    counts = [not (o.crowd[t] or o.ignored[t]) for t in range(len(o))]
    falling = sorted(range(len(p)), key=lambda d: (-p.scores[d], d))
    iou = {
        (d, t): overlap(p.boxes[d].tolist(), o.boxes[t].tolist(), o.crowd[t])
        for d in range(len(p))
        for t in range(len(o))
        if p.images[d] == o.images[t]
    }
    finder, kind = {}, {}
    for d in falling:
        same = [t for t in range(len(o)) if (d, t) in iou and o.labels[t] == p.labels[d]]
        free = [t for t in same if counts[t] and t not in finder and iou[d, t] >= tf]
        if free:
            finder[max(free, key=lambda t: (iou[d, t], t))] = d
            kind[d] = "true"
        elif any(iou[d, t] >= tf and not counts[t] for t in same):
            kind[d] = "ignored"
    repair = {}
    for d in falling:
        if d in kind:
            continue
        here = [t for t in range(len(o)) if (d, t) in iou and counts[t]]
        same = max([(iou[d, t], -t) for t in here if o.labels[t] == p.labels[d]], default=(0.0, 0))
        other = max([(iou[d, t], -t) for t in here if o.labels[t] != p.labels[d]], default=(0.0, 0))
        if tb <= same[0] <= tf:
            kind[d], aim = "localisation", -same[1]
        elif other[0] >= tf:
            kind[d], aim = "classification", -other[1]
        else:
            kind[d] = "duplicate" if same[0] > tf else "background" if max(same[0], other[0]) <= tb else "both"
            continue
        if aim not in finder:
            repair.setdefault(aim, d)
    missed = [t for t in range(len(o)) if counts[t] and t not in finder and t not in repair]
    return [kind[d] for d in range(len(p))], missed, repair, finder


def naive_precision(rows, positives):
    """101-point average precision of (score, image, row, right); of nothing left to find, whether nothing is found."""
    if positives == 0:
        return float(not rows)
    hits, curve = 0, []
    for place, row in enumerate(sorted(rows, key=lambda row: (-row[0], row[1], row[2])), start=1):
        hits += row[3]
        curve.append((hits / positives, hits / place))
    best = [max((p for r, p in curve if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101)]
    return sum(best) / 101


def naive_gains(truth, predictions, tf, tb):
    kind, missed, repair, finder = naive_errors(truth, predictions, tf, tb)
    o, p = truth.objects, predictions
    counts = [t for t in range(len(o)) if not (o.crowd[t] or o.ignored[t])]
    repaired = {d: t for t, d in repair.items()}

    def mean(fixed, gone=()):
        values = []
        for k in range(truth.num_classes):
            if not any(o.labels[t] == k for t in counts):
                continue
            rows = []
            for d, name in enumerate(kind):
                label, right = p.labels[d], name == "true"
                if name == "ignored" or (name in fixed and d not in repaired):
                    continue
                if name in fixed:
                    right, label = True, o.labels[repaired[d]]
                if label == k:
                    rows.append((p.scores[d], p.images[d], d, right))
            values.append(naive_precision(rows, sum(o.labels[t] == k and t not in gone for t in counts)))
        return sum(values) / len(values) if values else float("nan")

    base = mean(())
    gains = {name: mean((name,)) - base for name in ERRORS}
    gains["missed"] = mean((), missed) - base
    repaired = {}  # from here on what is wrong is dropped
    gains["false_positives"] = mean(tuple(ERRORS)) - base
    gains["false_negatives"] = mean((), [t for t in counts if t not in finder]) - base
    return base, gains


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(0, 0, BOX, 0.9)], ["true"]),
        ([(0, 1, BOX, 0.9)], ["classification"]),
        ([(0, 0, [0, 0, 10, 4], 0.9)], ["localisation"]),  # IoU 0.4
        ([(0, 1, [0, 0, 10, 4], 0.9)], ["both"]),
        ([(0, 0, BOX, 0.8), (0, 0, BOX, 0.9)], ["duplicate", "true"]),
        ([(0, 0, [50, 50, 4, 4], 0.9)], ["background"]),
        ([(0, 0, [0, 0, 10, 1], 0.9)], ["localisation"]),  # IoU 0.1 exactly: the lower end is inside
        ([(0, 1, [0, 0, 10, 1], 0.9)], ["background"]),  # the same for another class is background
        ([(0, 0, [0, 0, 10, 5], 0.9)], ["true"]),  # IoU 0.5 exactly
        ([(0, 1, [0, 0, 10, 5], 0.9)], ["classification"]),
        ([(0, 0, BOX, 0.9), (0, 0, [0, 0, 10, 5], 0.8)], ["true", "localisation"]),
        ([(1, 0, BOX, 0.9)], ["background"]),  # the other image has no truth
    ],
)
def test_every_kind_by_hand(rows, expected):
    assert kinds(classified_errors(annotated([(0, 0, BOX)], images=2), detected(rows))) == expected


def test_a_localisation_error_goes_before_a_classification_error():
    """Four tenths of its own class, nine tenths of another."""
    truth = annotated([(0, 0, [0, 0, 10, 4]), (0, 1, [0, 0, 10, 9])])
    errors = classified_errors(truth, detected([(0, 0, BOX, 0.9)]))
    assert kinds(errors) == ["localisation"]
    assert errors.targets.tolist() == [0]
    assert errors.repairs.tolist() == [0, -1]
    assert errors.missed.tolist() == [False, True]


def test_a_classification_error_goes_before_a_duplicate():
    truth = annotated([(0, 0, BOX), (0, 1, BOX)])
    errors = classified_errors(truth, detected([(0, 0, BOX, 0.9), (0, 0, BOX, 0.8)]))
    assert kinds(errors) == ["true", "classification"]
    assert errors.targets.tolist() == [0, 1]


def test_the_most_confident_error_repairs_and_the_others_are_dropped():
    """A truth of class 0, aimed at by a bad place (0.9) and a bad class (0.8)."""
    truth = annotated([(0, 0, BOX)], classes=1 + 1)
    predictions = detected([(0, 1, BOX, 0.8), (0, 0, [0, 0, 10, 4], 0.9)])
    errors = classified_errors(truth, predictions)
    assert errors.repairs.tolist() == [1]
    scores = detection_errors(truth, predictions)
    assert scores["ap"] == 0
    assert scores["delta_ap"]["localisation"] == pytest.approx(1)
    assert scores["delta_ap"]["classification"] == 0


def test_gains_by_hand():
    """Class 0: two truths, one found at rank 2 behind background; class 1: one truth, missed, without detections."""
    truth = annotated([(0, 0, BOX), (0, 0, [30, 0, 10, 10]), (0, 1, [60, 0, 10, 10])])
    scores = detection_errors(truth, detected([(0, 0, [90, 90, 5, 5], 0.9), (0, 0, BOX, 0.8)]))
    half = 51 / 101  # recalls 0 to 0.5
    assert scores["ap"] == pytest.approx(half / 2 / 2)
    assert scores["delta_ap"]["background"] == pytest.approx((half - half / 2) / 2)
    assert scores["delta_ap"]["false_positives"] == pytest.approx((half - half / 2) / 2)
    assert scores["delta_ap"]["missed"] == pytest.approx(((0.5 - half / 2) + 1) / 2)  # class 1 has nothing left to find
    assert scores["delta_ap"]["false_negatives"] == pytest.approx(scores["delta_ap"]["missed"])
    assert [scores["delta_ap"][name] for name in ("classification", "localisation", "both", "duplicate")] == [0] * 4
    assert scores["counts"] == {
        **dict.fromkeys(MAIN, 0),
        "background": 1,
        "missed": 2,
        "true_positives": 1,
        "ignored": 0,
        "left_out": 0,
    }
    per_class = scores["per_class"]["class 0"]
    assert per_class["ap"] == pytest.approx(half / 2)
    assert per_class["delta_ap"]["background"] == pytest.approx(half / 2)
    assert (per_class["counts"]["background"], per_class["counts"]["missed"], per_class["positives"]) == (1, 1, 2)


def test_a_class_that_keeps_false_positives_and_loses_its_truths_gains_nothing():
    scores = detection_errors(annotated([(0, 0, BOX)]), detected([(0, 0, [50, 50, 5, 5], 0.9)]))
    assert scores["counts"]["missed"] == 1
    assert scores["delta_ap"]["missed"] == 0


def test_what_falls_on_crowds_and_ignored_truths_is_no_error():
    truth = annotated(
        [(0, 0, [0, 0, 40, 40]), (0, 0, [60, 0, 10, 10])], crowd=[True, False], ignored=[False, True], images=1
    )
    inside = [(0, 0, [5 * i, 0, 5, 5], 0.5) for i in range(3)]
    on_ignored = [(0, 0, [60, 0, 10, 10], 0.4), (0, 0, [60, 0, 10, 10], 0.3)]
    wrong_class = [(0, 1, [10, 10, 5, 5], 0.9)]
    errors = classified_errors(truth, detected(inside + on_ignored + wrong_class))
    assert kinds(errors) == ["ignored"] * 5 + ["background"]
    assert not errors.missed.any()
    scores = detection_errors(truth, detected(inside + on_ignored + wrong_class))
    assert math.isnan(scores["ap"])
    assert all(math.isnan(gain) for gain in scores["delta_ap"].values())
    assert scores["counts"]["ignored"] == 5


def test_detections_beyond_the_limit_are_left_out():
    truth = annotated([(0, 0, BOX)])
    predictions = detected([(0, 0, BOX, 0.1), (0, 0, BOX, 0.9), (0, 1, BOX, 0.2), (0, 0, BOX, 0.8)])
    assert kinds(classified_errors(truth, predictions, max_detections=1)) == [
        "left out",
        "true",
        "classification",
        "left out",
    ]
    assert detection_errors(truth, predictions, max_detections=1)["counts"]["left_out"] == 2


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), thresholds=st.sampled_from([(0.5, 0.1), (0.75, 0.25), (0.3, 0.05), (1, 0.5)]))
def test_equals_the_definition(seed, thresholds):
    truth, predictions = random_scene(seed)
    tf, tb = thresholds
    errors = classified_errors(truth, predictions, foreground_threshold=tf, background_threshold=tb)
    kind, missed, repair, finder = naive_errors(truth, predictions, tf, tb)
    assert kinds(errors) == kind
    assert np.flatnonzero(errors.missed).tolist() == missed
    assert {t: d for t, d in enumerate(errors.repairs.tolist()) if d >= 0} == repair
    assert np.flatnonzero(errors.found).tolist() == sorted(finder)
    scores = detection_errors(truth, predictions, foreground_threshold=tf, background_threshold=tb)
    base, gains = naive_gains(truth, predictions, tf, tb)
    assert scores["ap"] == pytest.approx(base, abs=1e-12, nan_ok=True)
    assert scores["delta_ap"] == pytest.approx(gains, abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_counts_add_up_and_no_repair_costs(seed):
    truth, predictions = random_scene(seed)
    scores = detection_errors(truth, predictions)
    counts = dict(scores["counts"])
    missed = counts.pop("missed")
    assert sum(counts.values()) == len(predictions)
    errors = classified_errors(truth, predictions)
    silent = truth.objects.crowd | truth.objects.ignored
    assert missed + counts["true_positives"] + (errors.repairs >= 0).sum() == (~silent).sum()
    assert all(math.isnan(gain) or gain > -1e-12 for gain in scores["delta_ap"].values())
    for name, count in scores["counts"].items():
        assert count == sum(values["counts"][name] for values in scores["per_class"].values())
    defined = [values["ap"] for values in scores["per_class"].values() if values["positives"]]
    assert scores["ap"] == pytest.approx(np.mean(defined) if defined else float("nan"), nan_ok=True)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_the_average_precision_is_that_of_the_main_table(seed):
    truth, predictions = random_scene(seed, ignored=0)
    assert detection_errors(truth, predictions)["ap"] == pytest.approx(
        box_scores(truth, predictions)["ap50"], abs=1e-12, nan_ok=True
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_with_every_error_repaired_nothing_is_lost(seed):
    truth, predictions = random_scene(seed, grid=False)
    errors = classified_errors(truth, predictions)
    right = np.flatnonzero(errors.kinds == TRUE)
    aims = np.flatnonzero(errors.repairs >= 0)
    mended = errors.repairs[aims]
    labels, boxes = predictions.labels.copy(), predictions.boxes.copy()
    wrong_class = errors.kinds[mended] == ERRORS["classification"]
    labels[mended[wrong_class]] = truth.objects.labels[aims[wrong_class]]
    boxes[mended] = truth.objects.boxes[aims]
    repaired = replace(predictions, labels=labels, boxes=boxes).select(np.concatenate([right, mended]))
    seen = replace(truth, objects=truth.objects.select(~errors.missed))
    after = detection_errors(seen, repaired)
    assert all(after["counts"][name] == 0 for name in MAIN)
    if len(repaired):
        assert after["ap"] == pytest.approx(1)
        assert list(after["delta_ap"].values()) == pytest.approx([0] * 8, abs=1e-12)


def test_a_perfect_prediction_has_no_error():
    truth, _ = random_scene(3, ignored=0)
    objects = replace(truth.objects, scores=np.linspace(0.1, 0.9, len(truth.objects)))
    scores = detection_errors(truth, objects)
    assert scores["ap"] == pytest.approx(1)
    assert sum(scores["counts"][name] for name in MAIN) == 0
    assert list(scores["delta_ap"].values()) == pytest.approx([0] * 8, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_images_and_rows_may_be_reordered(seed):
    truth, predictions = random_scene(seed, grid=False)
    generator = np.random.default_rng(seed)
    images, rows = generator.permutation(6), generator.permutation(len(predictions))
    moved = replace(truth, objects=replace(truth.objects, images=images[truth.objects.images]))
    shuffled = replace(predictions, images=images[predictions.images]).select(rows)
    whole, other = detection_errors(truth, predictions), detection_errors(moved, shuffled)
    assert other["counts"] == whole["counts"]
    assert other["delta_ap"] == pytest.approx(whole["delta_ap"], abs=1e-12, nan_ok=True)
    assert kinds(classified_errors(moved, shuffled)) == [
        kinds(classified_errors(truth, predictions))[row] for row in rows
    ]


def test_equal_scores_keep_their_order_when_one_is_repaired():
    truth, predictions = random_scene(7)
    order = np.lexsort((np.arange(len(predictions)), predictions.images))
    apart = predictions.scores.copy()
    apart[order] -= 1e-9 * np.arange(len(predictions))
    tied, untied = detection_errors(truth, predictions), detection_errors(truth, replace(predictions, scores=apart))
    assert len(set(predictions.scores.tolist())) < len(predictions)
    assert tied["delta_ap"] == pytest.approx(untied["delta_ap"], abs=1e-12)


def test_blocks_and_threads_change_nothing(monkeypatch):
    truth, predictions = random_scene(11, images=9)
    whole = detection_errors(truth, predictions)
    monkeypatch.setattr(error_analysis, "_MOST_PAIRS", 7)
    monkeypatch.setattr("delineate.kernels.error_analysis.thread_count", lambda: 3)
    assert detection_errors(truth, predictions) == whole


def test_masks_that_are_rectangles_err_as_boxes_do():
    generator = np.random.default_rng(0)
    tables = []
    for count in (12, 40):
        boxes = np.concatenate([generator.integers(0, 12, (count, 2)), generator.integers(1, 9, (count, 2))], axis=1)
        masks = []
        for x, y, width, height in boxes:
            mask = np.zeros((24, 24), bool)
            mask[y : y + height, x : x + width] = True
            masks.append(RLE.encode(mask))
        images, labels = generator.integers(0, 3, count), generator.integers(0, 2, count)
        tables.append(
            Objects.of(images, labels, boxes, scores=generator.random(count), masks=RLEMasks.from_rles(masks))
        )
    truth = Annotations.of(range(3), ("a", "b"), tables[0])
    by_boxes = detection_errors(truth, tables[1], box_overlaps)
    assert detection_errors(truth, tables[1], mask_overlaps) == by_boxes
    assert sum(by_boxes["counts"][name] > 0 for name in MAIN) > 3


def published(seed, images=12, classes=4):
    """A scene from NumPy's frozen generator, so that it is the same everywhere."""
    g = np.random.RandomState(seed)
    truth, found = [], []
    for image in range(images):
        for _ in range(g.randint(0, 7)):
            box = np.concatenate([g.uniform(0, 300, 2), g.uniform(10, 120, 2)])
            label = g.randint(classes)
            truth.append((image, label, box))
            for _ in range(g.randint(0, 4)):
                near = box + g.normal(0, (0.02, 0.15, 0.4)[g.randint(3)], 4) * np.tile(box[2:], 2)
                found.append((image, label if g.rand() < 0.7 else g.randint(classes), np.maximum(near, 1), g.rand()))
        for _ in range(g.randint(0, 4)):
            box = np.concatenate([g.uniform(0, 300, 2), g.uniform(10, 120, 2)])
            found.append((image, g.randint(classes), box, g.rand()))
    return annotated(truth, images, classes), detected(found)


# AP, gains in the order of MAIN, false positives, false negatives; counts in the order of MAIN
TIDECV = {
    1: (
        (26.1238349109636, 4.353141358091868, 7.616943578650076, 1.2190921061963103, 0.7073408536716599),
        (9.314074951451214, 13.8623079340901, 33.77715518804631, 18.309895549994547),
        [5, 10, 5, 6, 17, 12],
    ),
    4: (
        (25.726911290030117, 8.676779079006806, 5.575812388931205, 0.35954556994159503, 0.26021832952524804),
        (9.149326333732262, 13.555810938236661, 26.500811482247116, 19.23274126863233),
        [7, 10, 3, 4, 30, 12],
    ),
    5: (
        (19.972890146157464, 12.987569361331719, 13.783904650969344, 3.657472890146149, 0.2046839299314449),
        (2.4912875902974996, 8.950966525223961, 24.086515794436597, 23.789486091466298),
        [9, 17, 9, 3, 13, 14],
    ),
}


@pytest.mark.parametrize("seed", TIDECV)
def test_equals_the_authors_tool(seed):
    """Figures of tidecv 1.0.1 for the same boxes, without crowds and equal scores, where it differs on purpose."""
    first, second, counts = TIDECV[seed]
    scores = detection_errors(*published(seed))
    assert [100 * scores["ap"], *(100 * gain for gain in scores["delta_ap"].values())] == pytest.approx(
        [*first, *second], abs=1e-9
    )
    assert [scores["counts"][name] for name in MAIN] == counts


def test_no_predictions_no_truths_and_neither():
    truth, predictions = random_scene(5, ignored=0)
    nothing = predictions.select(np.zeros(0, np.int64))
    scores = detection_errors(truth, nothing)
    assert scores["ap"] == 0
    assert scores["counts"]["missed"] == len(truth.objects)
    assert scores["delta_ap"]["missed"] == scores["delta_ap"]["false_negatives"] == 1
    empty = replace(truth, objects=truth.objects.select(np.zeros(0, np.int64)))
    scores = detection_errors(empty, predictions)
    assert math.isnan(scores["ap"])
    assert scores["counts"]["background"] == len(predictions) == sum(scores["counts"].values())
    assert math.isnan(detection_errors(empty, nothing)["delta_ap"]["missed"])


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    truth, predictions = random_scene(0)
    with pytest.raises(ArgumentError, match=r"background_threshold must lie above 0 and below .*; got 0\.5 and 0\.5\."):
        detection_errors(truth, predictions, background_threshold=0.5)
    with pytest.raises(ArgumentError, match=r"; got 0 and 0\.5\."):
        classified_errors(truth, predictions, background_threshold=0)
    with pytest.raises(ArgumentError, match=r"predictions must have scores; got none\."):
        detection_errors(truth, replace(predictions, scores=None))
    with pytest.raises(ArgumentError, match=r"predictions\.labels must be below 3.*; got 3\."):
        detection_errors(truth, replace(predictions, labels=predictions.labels * 0 + 3))
