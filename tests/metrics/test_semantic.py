import math
import subprocess
import sys
import warnings

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from delineate.errors import ArgumentError
from delineate.metrics.semantic import semantic_scores
from delineate.metrics.semantic_metric import SemanticScores

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

MEANS = ("pixel_accuracy", "mean_accuracy", "miou", "fwiou", "mean_dice")


def names(classes):
    return tuple(f"class {k}" for k in range(classes))


def maps(seed, classes=5, shape=(3, 12, 17), ignored=0.1):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes, shape, generator=generator)
    wrong = torch.rand(shape, generator=generator) < 0.4
    prediction = torch.where(wrong, torch.randint(classes, shape, generator=generator), target)
    target[torch.rand(shape, generator=generator) < ignored] = 255
    return prediction, target


def counted(prediction, target, classes=5, **options):
    scores = SemanticScores(names(classes), **options)
    scores.update(prediction, target)
    return scores.compute()


def same(a, b):
    return all(math.isclose(a[key], b[key], rel_tol=1e-12) or (a[key] != a[key] and b[key] != b[key]) for key in MEANS)


def test_two_classes_by_hand():
    scores = semantic_scores(np.array([[3, 1], [2, 4]]), class_names=("ground", "thing"))
    assert scores["pixel_accuracy"] == pytest.approx(0.7)
    assert scores["mean_accuracy"] == pytest.approx(0.708333, abs=1e-6)
    assert scores["miou"] == pytest.approx(0.535714, abs=1e-6)
    assert scores["fwiou"] == pytest.approx(0.542857, abs=1e-6)
    assert scores["mean_dice"] == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert scores["confusion"] == [[3, 1], [2, 4]]
    thing = scores["per_class"]["thing"]
    assert thing["iou"] == pytest.approx(4 / 7)
    assert thing["dice"] == pytest.approx(8 / 11)
    assert thing["precision"] == pytest.approx(4 / 5)
    assert thing["recall"] == pytest.approx(4 / 6)
    assert (thing["pixels"], thing["predicted"]) == (6, 5)


def test_absent_classes():
    """Class 0 is right, 1 is only predicted, 2 only true, 3 in neither."""
    matrix = np.zeros((4, 4), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[2, 0] = 6, 1, 3
    scores = semantic_scores(matrix)
    predicted_only, true_only, neither = (scores["per_class"][f"class {k}"] for k in (1, 2, 3))
    assert [predicted_only[key] for key in ("iou", "dice", "precision")] == [0, 0, 0]
    assert math.isnan(predicted_only["recall"])
    assert [true_only[key] for key in ("iou", "dice", "recall")] == [0, 0, 0]
    assert math.isnan(true_only["precision"])
    assert all(math.isnan(neither[key]) for key in ("iou", "dice", "precision", "recall"))
    assert scores["miou"] == pytest.approx((6 / 10 + 0 + 0) / 3)
    assert scores["mean_accuracy"] == pytest.approx((6 / 7 + 0) / 2)
    assert scores["fwiou"] == pytest.approx(0.7 * 6 / 10)


def test_nothing_counted_is_undefined():
    empty = counted(torch.zeros(2, 3, 3, dtype=torch.long), torch.full((2, 3, 3), 255), classes=2, boundary=True)
    assert all(math.isnan(empty[key]) for key in (*MEANS, "boundary_f1"))
    assert empty["per_class"]["class 0"]["pixels"] == 0


def test_agrees_with_scikit_learn():
    prediction, target = maps(0)
    scores = counted(prediction, target)
    inside = target != 255
    truth, found = target[inside].numpy(), prediction[inside].numpy()
    assert scores["confusion"] == reference.confusion_matrix(truth, found, labels=range(5)).tolist()
    assert scores["miou"] == pytest.approx(reference.jaccard_score(truth, found, average="macro"))
    assert scores["mean_dice"] == pytest.approx(reference.f1_score(truth, found, average="macro"))
    assert scores["pixel_accuracy"] == pytest.approx(reference.accuracy_score(truth, found))
    assert scores["mean_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, found))
    for key, score in (("precision", reference.precision_score), ("recall", reference.recall_score)):
        expected = score(truth, found, average=None)
        assert [values[key] for values in scores["per_class"].values()] == pytest.approx(expected)


def test_agrees_with_torchmetrics():
    prediction, target = maps(1)
    scores = counted(prediction, target)
    matrix = MulticlassConfusionMatrix(5, ignore_index=255)(prediction, target)
    assert scores["confusion"] == matrix.tolist()
    jaccard = MulticlassJaccardIndex(5, ignore_index=255)(prediction, target)
    assert scores["miou"] == pytest.approx(float(jaccard), rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 3))
def test_batches_and_classes_may_be_reordered(seed, cut):
    prediction, target = maps(seed)
    whole = counted(prediction, target, boundary=True)
    parts = SemanticScores(names(5), boundary=True)
    for part in (slice(cut, None), slice(0, cut)):
        parts.update(prediction[part], target[part])
    split = parts.compute()
    assert split["confusion"] == whole["confusion"]
    assert split["boundary_f1"] == pytest.approx(whole["boundary_f1"], rel=1e-12, nan_ok=True)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    renamed = torch.cat([order, torch.arange(5, 256)])
    permuted = counted(renamed[prediction], renamed[target], boundary=True)
    assert same(permuted, whole)
    assert permuted["boundary_f1"] == pytest.approx(whole["boundary_f1"], rel=1e-12, nan_ok=True)
    for old, new in enumerate(order.tolist()):
        moved, stayed = permuted["per_class"][f"class {new}"], whole["per_class"][f"class {old}"]
        assert moved == pytest.approx(stayed, nan_ok=True)


def test_a_perfect_prediction_scores_one():
    _, target = maps(2)
    scores = counted(torch.where(target == 255, 3, target), target, boundary=True, boundary_tolerance=1)
    assert all(scores[key] == 1 for key in (*MEANS, "boundary_f1"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_any_integer_type(dtype):
    prediction, target = maps(3)
    assert counted(prediction.to(dtype), target.to(torch.uint8)) == counted(prediction, target)


def test_a_prediction_of_no_class_is_a_miss():
    """Looking away (255, 7) must not pay: class 1 has two pixels and none is found."""
    scores = counted(torch.tensor([[[0, 255, 7, 255]]]), torch.tensor([[[0, 1, 1, 255]]]), classes=2)
    assert scores["invalid_predictions"] == 2
    assert scores["per_class"]["class 1"]["pixels"] == 2
    assert scores["per_class"]["class 1"]["iou"] == 0
    assert scores["pixel_accuracy"] == pytest.approx(1 / 3)
    assert scores["miou"] == 0.5


def test_states_of_two_processes_add_up():
    prediction, target = maps(4, shape=(4, 9, 9))
    whole = counted(prediction, target, boundary=True)
    first, second = SemanticScores(names(5), boundary=True), SemanticScores(names(5), boundary=True)
    first.update(prediction[:1], target[:1])
    second.update(prediction[1:], target[1:])
    first.merge_state(second)
    merged = first.compute()
    assert merged["confusion"] == whole["confusion"]
    assert merged["boundary_f1"] == pytest.approx(whole["boundary_f1"], rel=1e-12)
    first.reset()
    assert int(first.confusion.sum()) == 0


def count_in_a_process(rank, folder):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    prediction, target = maps(6, shape=(5, 9, 9))
    scores = SemanticScores(names(5), boundary=True)
    share = slice(0, 2) if rank == 0 else slice(2, 5)
    scores.update(prediction[share], target[share])
    torch.save(scores.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_compute_what_one_does(tmp_path):
    code = "import sys, runpy; file, rank, folder = sys.argv[1:]; "
    code += "runpy.run_path(file)['count_in_a_process'](int(rank), folder)"
    start = [sys.executable, "-W", "ignore", "-c", code, __file__]
    processes = [subprocess.Popen([*start, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    whole = counted(*maps(6, shape=(5, 9, 9)), boundary=True)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["confusion"] == whole["confusion"]
        assert found["miou"] == whole["miou"]
        assert found["boundary_f1"] == pytest.approx(whole["boundary_f1"], rel=1e-12)


@pytest.mark.gpu
def test_labels_on_a_gpu_count_the_same():
    prediction, target = maps(5)
    prediction[0, 0, 0], target[0, 0, 0] = -1, 0
    expected = counted(prediction, target)
    metric = SemanticScores(names(5)).cuda()
    metric.update(prediction.cuda(), target.cuda())
    assert metric.compute() == expected


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    with pytest.raises(ArgumentError, match=r"class_names must name the 2 classes of confusion; got 1\."):
        semantic_scores(np.eye(2, dtype=int), class_names=("one",))
    with pytest.raises(ArgumentError, match=r"confusion must hold counts of at least 0; got -1\."):
        semantic_scores(np.array([[-1]]))
    with pytest.raises(ArgumentError, match=r"class_names must name at least one class; got none\."):
        SemanticScores(())
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ArgumentError, match=r"got \(1, 3, 4, 4\)\. Pass logits\.argmax\(dim=1\) rather than logits\."):
        SemanticScores(names(3)).update(torch.zeros(1, 3, 4, 4), labels)
    with pytest.raises(ArgumentError, match=r"prediction must hold integer labels; got torch\.float32\."):
        SemanticScores(names(3)).update(labels.float(), labels)
