import jaxtyping
import pytest
import torch

from delineate.errors import ArgumentError
from delineate.ops.confusion import confusion_matrix


def test_by_hand():
    prediction, target = torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0, 0], [255, 2]], dtype=torch.uint8)
    matrix = confusion_matrix(prediction, target, num_classes=3)
    assert matrix.dtype == torch.int64
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("ignore_index", [255, 0, -100])
def test_equals_a_sum_over_one_hot_labels(ignore_index):
    prediction, target = torch.randint(4, (2, 3, 50)), torch.randint(-1, 5, (2, 3, 50))
    counted = (target >= 0) & (target < 4) & (target != ignore_index)
    one_hot = torch.nn.functional.one_hot
    expected = one_hot(target[counted], 4).T @ one_hot(prediction[counted], 4)
    matrix = confusion_matrix(prediction, target, num_classes=4, ignore_index=ignore_index)
    assert torch.equal(matrix, expected)


def test_empty_and_all_ignored():
    empty = torch.zeros(0, 4, 4, dtype=torch.long)
    ignored = torch.full((2, 2), 255)
    assert confusion_matrix(empty, empty, num_classes=2).sum() == 0
    assert confusion_matrix(torch.zeros_like(ignored), ignored, num_classes=2).sum() == 0


@pytest.mark.gpu
def test_labels_on_a_gpu_count_the_same():
    prediction, target = torch.randint(-1, 6, (2, 3, 50)), torch.randint(-1, 6, (2, 3, 50))
    expected = confusion_matrix(prediction, target, num_classes=4)
    assert torch.equal(confusion_matrix(prediction.cuda(), target.cuda(), num_classes=4), expected)


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    with pytest.raises(ArgumentError, match=r"got \(1, 3, 4, 4\)\. Pass logits\.argmax\(dim=1\) rather than logits\."):
        confusion_matrix(torch.zeros(1, 3, 4, 4), labels, num_classes=3)
    with pytest.raises(ArgumentError, match=r"target must hold integer labels; got torch\.bool\."):
        confusion_matrix(labels, labels.bool(), num_classes=3)
