from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import ArgumentError
from delineate.metrics import error_analysis
from delineate.metrics.confusion import detection_confusion
from delineate.metrics.confusion_metric import DetectionConfusion
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects

NAMES = ("a", "b", "c")
BOX = [0, 0, 10, 10]


def annotated(truths, images=1, **columns):
    """True objects (image, class, box)."""
    objects = Objects.of([t[0] for t in truths], [t[1] for t in truths], [t[2] for t in truths], **columns)
    return Annotations.of(range(images), NAMES, objects)


def detected(rows):
    """Predictions (image, class, box, score)."""
    return Objects.of(*([row[i] for row in rows] for i in range(3)), scores=[row[3] for row in rows])


def scene(seed, images=5):
    """Crowded images on a grid, with many equal overlaps and scores."""
    generator = np.random.default_rng(seed)

    def table(count):
        boxes = np.concatenate([generator.integers(0, 8, (count, 2)), generator.integers(3, 8, (count, 2))], axis=1)
        return generator.integers(0, images, count), generator.integers(0, 3, count), boxes

    count = int(generator.integers(0, 25))
    flags = generator.random((2, count)) < 0.15
    truth = Annotations.of(range(images), NAMES, Objects.of(*table(count), crowd=flags[0], ignored=flags[1]))
    count = int(generator.integers(0, 60))
    return truth, Objects.of(*table(count), scores=generator.integers(0, 11, count) / 10)


def naive(truth, predictions, iou_threshold, score_threshold):
    """Again and again the best pair of what is left, image by image."""
    o, p, size = truth.objects, predictions, truth.num_classes

    def overlap(d, t):
        a, b = p.boxes[d].tolist(), o.boxes[t].tolist()
        width = max(min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]), 0)
        height = max(min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]), 0)
        shared = width * height
        return shared / (a[2] * a[3] if o.crowd[t] else a[2] * a[3] + b[2] * b[3] - shared)

    matrix = np.zeros((size + 1, size + 1), np.int64)
    for image in range(truth.num_images):
        found = [d for d in range(len(p)) if p.images[d] == image and p.scores[d] >= score_threshold]
        here = [t for t in range(len(o)) if o.images[t] == image]
        truths = [t for t in here if not (o.crowd[t] or o.ignored[t])]
        silent = [t for t in here if o.crowd[t] or o.ignored[t]]
        while found and truths:
            best = max((overlap(d, t), p.scores[d], -d, -t) for d in found for t in truths)
            if best[0] < iou_threshold:
                break
            d, t = -best[2], -best[3]
            matrix[o.labels[t], p.labels[d]] += 1
            found.remove(d)
            truths.remove(t)
        for t in truths:
            matrix[o.labels[t], size] += 1
        for d in found:
            if not any(o.labels[t] == p.labels[d] and overlap(d, t) >= iou_threshold for t in silent):
                matrix[size, p.labels[d]] += 1
    return matrix


def test_by_hand():
    """An a found as a, an a taken for b, a c that is missed, a b on background, and one below the score threshold."""
    truth = annotated([(0, 0, BOX), (0, 0, [20, 0, 10, 10]), (1, 2, BOX)], images=2)
    predictions = detected(
        [
            (0, 0, BOX, 0.3),
            (0, 1, [20, 0, 10, 8], 0.9),
            (1, 1, [50, 50, 5, 5], 0.25),
            (1, 2, BOX, 0.24),
        ]
    )
    assert detection_confusion(truth, predictions).tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]


def test_the_better_place_wins_over_the_higher_score():
    truth = annotated([(0, 0, BOX)])
    predictions = detected([(0, 0, [0, 0, 10, 8], 0.9), (0, 1, [0, 0, 10, 9], 0.4)])
    matrix = detection_confusion(truth, predictions)
    assert matrix[0, 1] == 1
    assert matrix[3, 0] == 1
    level = replace(predictions, boxes=np.array([BOX, BOX], np.float64))
    assert detection_confusion(truth, level)[0, 0] == 1  # equal places: the higher score


def test_a_detection_whose_best_truth_is_taken_takes_another():
    """Detection 1 lies 0.9 on truth 0, which detection 0 takes, and 0.6 on truth 1."""
    truth = annotated([(0, 0, [0, 0, 10, 10]), (0, 1, [0, 0, 10, 6])])
    predictions = detected([(0, 0, [0, 0, 10, 10], 0.9), (0, 1, [0, 0, 10, 9], 0.8)])
    assert detection_confusion(truth, predictions)[:2, :2].tolist() == [[1, 0], [0, 1]]


def test_thresholds_are_reached_by_equal_values():
    truth, predictions = annotated([(0, 0, BOX)]), detected([(0, 0, [0, 0, 10, 5], 0.25)])
    assert detection_confusion(truth, predictions)[0, 0] == 1
    assert detection_confusion(truth, predictions, iou_threshold=0.51)[0, 0] == 0
    assert detection_confusion(truth, predictions, score_threshold=0.26).sum() == 1  # the truth is missed


def test_crowds_and_ignored_truths_are_in_no_cell():
    truth = annotated([(0, 0, [0, 0, 40, 40]), (0, 1, [60, 0, 10, 10])], crowd=[True, False], ignored=[False, True])
    on_them = [(0, 0, [5 * i, 0, 5, 5], 0.9) for i in range(3)] + [(0, 1, [60, 0, 10, 10], 0.9)] * 2
    assert not detection_confusion(truth, detected(on_them)).any()
    matrix = detection_confusion(truth, detected([*on_them, (0, 2, [5, 5, 5, 5], 0.9)]))
    assert matrix[3, 2] == matrix.sum() == 1  # of another class: on background


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), thresholds=st.sampled_from([(0.5, 0.25), (0.3, 0), (0.75, 0.5), (1, 0)]))
def test_equals_the_definition(seed, thresholds):
    truth, predictions = scene(seed)
    iou, score = thresholds
    matrix = detection_confusion(truth, predictions, iou_threshold=iou, score_threshold=score)
    assert matrix.tolist() == naive(truth, predictions, iou, score).tolist()
    silent = truth.objects.crowd | truth.objects.ignored
    assert matrix[:3].sum(axis=1).tolist() == np.bincount(truth.objects.labels[~silent], minlength=3).tolist()
    confident = np.bincount(predictions.labels[predictions.scores >= score], minlength=3)
    assert (matrix[:, :3].sum(axis=0) <= confident).all()
    if not silent.any():
        assert (matrix[:, :3].sum(axis=0) == confident).all()
    assert matrix[3, 3] == 0


def test_blocks_change_nothing(monkeypatch):
    truth, predictions = scene(3)
    whole = detection_confusion(truth, predictions)
    monkeypatch.setattr(error_analysis, "_MOST_PAIRS", 5)
    assert detection_confusion(truth, predictions).tolist() == whole.tolist()
    assert whole[:3, :3].any()


def test_a_perfect_prediction_is_diagonal():
    truth, _ = scene(1)
    objects = truth.objects.select(~(truth.objects.crowd | truth.objects.ignored))
    _, rows = np.unique(np.column_stack([objects.images, objects.boxes]), axis=0, return_index=True)  # none coincide
    objects = objects.select(rows)
    found = replace(objects, scores=np.ones(len(objects)))
    matrix = detection_confusion(replace(truth, objects=objects), found)
    assert matrix.tolist() == np.diag([*np.bincount(objects.labels, minlength=3), 0]).tolist()


def test_no_predictions_no_truths_and_neither():
    truth, predictions = scene(2)
    none = np.zeros(0, np.int64)
    nothing, empty = predictions.select(none), replace(truth, objects=truth.objects.select(none))
    silent = truth.objects.crowd | truth.objects.ignored
    assert detection_confusion(truth, nothing)[:, 3].sum() == (~silent).sum() > 0
    assert detection_confusion(empty, predictions, score_threshold=0)[3].sum() == len(predictions) > 0
    assert not detection_confusion(empty, nothing).any()


def dictionaries(objects, images, predicted):
    """The table as torchvision writes it."""
    batch = []
    for image in range(images):
        part = objects.select(objects.images == image)
        corners = np.concatenate([part.boxes[:, :2], part.boxes[:, :2] + part.boxes[:, 2:]], axis=1)
        columns = {"boxes": torch.from_numpy(corners), "labels": torch.from_numpy(part.labels)}
        if predicted:
            columns["scores"] = torch.from_numpy(part.scores)
        else:
            columns["iscrowd"], columns["difficult"] = torch.from_numpy(part.crowd), torch.from_numpy(part.ignored)
        batch.append(columns)
    return batch


@pytest.mark.parametrize("seed", range(4))
def test_the_metric_counts_batches_as_the_function_counts_tables(seed):
    truth, predictions = scene(seed)
    expected = detection_confusion(truth, predictions, score_threshold=0.1)
    found, true = (dictionaries(objects, 5, i == 0) for i, objects in enumerate((predictions, truth.objects)))
    first, second = (DetectionConfusion(NAMES, score_threshold=0.1) for _ in range(2))
    first.update(found[:2], true[:2])
    second.update(found[2:], true[2:])
    first.merge_state(second)
    assert first.compute().tolist() == expected.tolist()
    assert first.compute().dtype == torch.int64
    first.reset()
    assert not first.confusion.any()


def test_a_batch_without_flags_or_objects():
    metric = DetectionConfusion(NAMES)
    metric.update([], [])
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    metric.update([{**nothing, "scores": torch.zeros(0)}], [nothing])
    assert not metric.compute().any()
    one = {"boxes": torch.tensor([[0.0, 0.0, 5.0, 5.0]]), "labels": torch.tensor([2])}
    metric.update([{**nothing, "scores": torch.zeros(0)}], [one])
    assert metric.compute()[2, 3] == metric.compute().sum() == 1


@pytest.mark.gpu
def test_boxes_on_a_gpu_count_the_same():
    truth, predictions = scene(0)
    metric = DetectionConfusion(NAMES).cuda()
    batches = (dictionaries(objects, 5, i == 0) for i, objects in enumerate((predictions, truth.objects)))
    metric.update(*([{key: column.cuda() for key, column in image.items()} for image in batch] for batch in batches))
    assert metric.compute().tolist() == detection_confusion(truth, predictions).tolist()


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    truth, predictions = scene(0)
    with pytest.raises(ArgumentError, match=r"iou_threshold must lie above 0 and at most at 1; got 0\."):
        detection_confusion(truth, predictions, iou_threshold=0)
    with pytest.raises(ArgumentError, match=r"predictions must have scores; got none\."):
        detection_confusion(truth, replace(predictions, scores=None))
    with pytest.raises(
        ArgumentError, match=r"predictions\.images must be below 5, as the annotations have them; got 5"
    ):
        detection_confusion(truth, replace(predictions, images=predictions.images * 0 + 5))
    with pytest.raises(ArgumentError, match=r"class_names must name at least one class; got none\."):
        DetectionConfusion(())
    with pytest.raises(ArgumentError, match=r"predictions must be of 1 images, as targets; got 0\."):
        DetectionConfusion(NAMES).update([], [{}])
