from __future__ import annotations

import itertools
import warnings

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses.lovasz_softmax import LovaszSoftmax, lovasz_extension, lovasz_softmax
from delineate.structures.outputs import SemanticOutputs
from tests.losses.semantic_loss import Ranks, SemanticLossTester, random_batch


class TestLovaszSoftmax(SemanticLossTester):
    loss = LovaszSoftmax
    variants = ({}, {"classes": "all"}, {"over": "image", "class_weights": [0.0, 1.0, 2.0, 3.0]})
    split_variants = ({"over": "image"}, {"over": "image", "classes": "all"})


def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
    """One minus the IoU of the region that results when exactly the pixels ``wrong`` are mistaken."""
    union = truth | wrong
    return len(wrong) / len(union) if union else 0.0


def naive_extension(errors: list[float], truth: set[int]) -> float:
    """From the definition: pixels join the set of mistakes by falling error, each pays for what it adds."""
    order = sorted(range(len(errors)), key=lambda pixel: -errors[pixel])
    return sum(
        errors[pixel] * (jaccard_loss(set(order[: rank + 1]), truth) - jaccard_loss(set(order[:rank]), truth))
        for rank, pixel in enumerate(order)
    )


def naive(logits, target, *, classes="present"):
    probs = logits.softmax(1).movedim(1, 0)
    counted = target != 255
    values = []
    for label, prob in enumerate(probs):
        truth = (target == label)[counted]
        errors = (truth.double() - prob[counted]).abs().tolist()
        if truth.any() or classes == "all":
            values.append(naive_extension(errors, set(truth.nonzero().flatten().tolist())))
    return sum(values) / len(values) if values else 0.0


def test_extension_equals_the_jaccard_loss_at_every_set_of_mistakes():
    counted = torch.ones(4, dtype=torch.bool)
    for size in range(1, 5):
        for truth in itertools.combinations(range(4), size):
            for wrong in itertools.product([0.0, 1.0], repeat=4):
                inside = torch.tensor([pixel in truth for pixel in range(4)])
                value = lovasz_extension(torch.tensor(wrong), inside, counted).item()
                mistakes = {pixel for pixel, error in enumerate(wrong) if error}
                assert value == pytest.approx(jaccard_loss(mistakes, set(truth)))


def test_extension_is_convex():
    truth, counted = torch.tensor([True, False, True, False, False]), torch.ones(5, dtype=torch.bool)
    for _ in range(50):
        a, b = torch.rand(2, 5)
        middle = lovasz_extension((a + b) / 2, truth, counted)
        ends = (lovasz_extension(a, truth, counted) + lovasz_extension(b, truth, counted)) / 2
        assert middle <= ends + 1e-6


@pytest.mark.parametrize("classes", ["present", "all"])
def test_equals_the_naive_twin(classes: str):
    logits, target = random_batch()
    target[target == 3] = 1
    whole = lovasz_softmax(logits, target, classes=classes)
    assert whole.item() == pytest.approx(naive(logits, target, classes=classes), rel=1e-9)
    images = lovasz_softmax(logits, target, classes=classes, over="image")
    each = [naive(logits[i : i + 1], target[i : i + 1], classes=classes) for i in range(2)]
    assert images.item() == pytest.approx(sum(each) / 2, rel=1e-9)


@pytest.mark.parametrize("per_image", [False, True])
def test_equals_segmentation_models_pytorch(per_image: bool):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, target = random_batch(dtype=torch.float32)  # its sum knows no other
    target[target == 2] = 0
    reference = losses.LovaszLoss("multiclass", per_image=per_image, ignore_index=255)(logits, target)
    value = lovasz_softmax(logits, target, over="image" if per_image else "batch")
    torch.testing.assert_close(value, reference)


def test_sure_predictions_cost_one_minus_their_mean_iou():
    _, target = random_batch()
    guess = torch.randint(0, 4, target.shape, generator=torch.Generator().manual_seed(1))
    logits = torch.nn.functional.one_hot(guess, 4).permute(0, 3, 1, 2).double() * 1000
    counted = target != 255
    ious = []
    for label in range(4):
        p, g = (guess == label)[counted], (target == label)[counted]
        ious.append((p & g).sum().double() / (p | g).sum())
    assert lovasz_softmax(logits, target).item() == pytest.approx(1 - torch.stack(ious).mean().item(), rel=1e-9)


def test_images_without_a_counted_pixel_are_left_out_of_the_mean():
    logits, target = random_batch()
    target[1] = 255
    alone = lovasz_softmax(logits[:1], target[:1], over="image")
    torch.testing.assert_close(lovasz_softmax(logits, target, over="image"), alone)
    torch.testing.assert_close(lovasz_softmax(logits, target, over="batch"), alone)


def test_over_the_batch_processes_are_averaged_that_have_a_pixel():
    logits, target = random_batch(batch=6)
    target[2:4] = 255  # the second of three processes has nothing to say
    loss, ranks = LovaszSoftmax(), Ranks(3)
    parts = [(SemanticOutputs(logits[i : i + 2]), target[i : i + 2]) for i in (0, 2, 4)]
    for rank, (outputs, labels) in enumerate(parts):
        loss(outputs, labels, normaliser=ranks.recording(rank))
    mean = torch.stack([loss(*part, normaliser=ranks.answering())["loss"] for part in parts]).mean()
    own = [lovasz_softmax(logits[i : i + 2], target[i : i + 2]) for i in (0, 4)]
    torch.testing.assert_close(mean, (own[0] + own[1]) / 2)


def test_errors():
    with pytest.raises(ArgumentError, match=r"over must be one of batch, image; got 'pixel'"):
        LovaszSoftmax(over="pixel")
    with pytest.raises(ArgumentError, match=r"classes must be one of present, all; got 'some'"):
        LovaszSoftmax(classes="some")
    logits, target = random_batch()
    with pytest.raises(ArgumentError, match=r"class_weights must hold 4 values, one a class; got \(2,\)"):
        lovasz_softmax(logits, target, class_weights=torch.ones(2))
