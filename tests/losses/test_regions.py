from __future__ import annotations

import torch

from delineate.losses.regions import mean_over_present, region_sums
from tests.losses.semantic_loss import random_batch


def test_sums_equal_those_over_the_counted_pixels():
    logits, target = random_batch()
    counted = target != 255
    probs = logits.softmax(1).movedim(1, 0)
    for power in (1, 2):
        sums = region_sums(logits, target, power=power)
        for label in range(4):
            p, g = probs[label][counted], (target == label)[counted]
            torch.testing.assert_close(sums.overlap[label], p[g].sum())
            torch.testing.assert_close(sums.predicted[label], (p**power).sum())
            assert sums.true[label] == g.sum()


def test_the_mean_leaves_absent_classes_out():
    values, present = torch.tensor([1.0, 9.0, 3.0]), torch.tensor([5.0, 0.0, 1.0])
    assert mean_over_present(values, present, None) == 2.0
    assert mean_over_present(values, present, torch.tensor([1.0, 1.0, 3.0])) == 2.5
    assert mean_over_present(values, torch.zeros(3), None) == 0.0
