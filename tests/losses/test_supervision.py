from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError
from delineate.losses import supervision


@pytest.mark.parametrize(
    ("size", "new"), [((7, 5), (3, 2)), ((4, 6), (8, 9)), ((360, 480), (23, 30)), ((1, 1), (3, 3)), ((5, 5), (1, 1))]
)
def test_resized_target_is_nearest_exact(size: tuple[int, int], new: tuple[int, int]):
    target = torch.randint(0, 256, (2, *size))
    expected = torch.nn.functional.interpolate(target[:, None].double(), new, mode="nearest-exact")[:, 0].long()
    assert torch.equal(supervision.resized_target(target, new), expected)


def test_resized_target_keeps_type_and_the_same_size_untouched():
    target = torch.randint(0, 9, (1, 4, 4), dtype=torch.uint8)
    assert supervision.resized_target(target, (4, 4)) is target
    assert supervision.resized_target(target, (2, 2)).dtype == torch.uint8


def test_over_ranks_takes_the_mean_and_keeps_the_own_gradient():
    value = torch.tensor([2.0, 4.0], requires_grad=True)
    mean = supervision.over_ranks(value, lambda own: own + 1)
    assert mean.tolist() == [3.0, 5.0]
    mean.sum().backward()
    assert value.grad.tolist() == [1.0, 1.0]
    assert supervision.over_ranks(value, None) is value


def test_target_errors():
    logits = torch.zeros(1, 2, 3, 4)
    with pytest.raises(
        ArgumentError, match=r"target must be one label per pixel of the logits, \(1, 3, 4\); got \(1, 4, 3\)\. Resize"
    ):
        supervision.check_target(logits, torch.zeros(1, 4, 3, dtype=torch.long))
    with pytest.raises(ArgumentError, match=r"target must hold integer labels; got torch\.float32\. Convert"):
        supervision.check_target(logits, torch.zeros(1, 3, 4))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0, -1.0], "finite, not negative and not all zero; got [1.0, -1.0]"),
        ([0.0, 0.0], "not all zero"),
        ([1.0, float("nan")], "finite"),
    ],
)
def test_class_weight_errors(weights, said: str):
    with pytest.raises(ArgumentError) as caught:
        supervision.checked_class_weights("class_weights", weights)
    assert said in str(caught.value)


@pytest.mark.parametrize("value", ["two", None, True, float("inf"), -0.5])
def test_number_errors(value):
    with pytest.raises(ArgumentError) as caught:
        supervision.check_number("gamma", value, "be 0 or more", lambda v: v >= 0)
    assert str(caught.value) == f"gamma must be 0 or more; got {value!r}."


def test_a_loss_must_define_its_value():
    from delineate.structures.outputs import SemanticOutputs

    with pytest.raises(NotImplementedError, match="SemanticLoss must define on_logits"):
        supervision.SemanticLoss()(SemanticOutputs(torch.zeros(1, 2, 3, 3)), torch.zeros(1, 3, 3, dtype=torch.long))


def test_a_list_of_side_weights_must_fit_the_model():
    from delineate.losses.cross_entropy import CrossEntropy
    from delineate.structures.outputs import SemanticOutputs

    logits, target = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, dtype=torch.long)
    with pytest.raises(
        ArgumentError, match=r"auxiliary_weight must hold 1 weights, one a side head of the model; got \[1\.0, 0\.5\]"
    ):
        CrossEntropy(auxiliary_weight=[1, 0.5])(SemanticOutputs(logits, (logits,)), target)
    with pytest.raises(ArgumentError, match=r"auxiliary_weight must be 0 or more; got -2"):
        CrossEntropy(auxiliary_weight=[1, -2])


def test_a_stack_of_equal_heads_as_in_an_hourglass():
    """Weight 1 for every stack, the last one's logits being the model's own: the plain sum over the stacks."""
    from delineate.losses.cross_entropy import CrossEntropy
    from delineate.structures.outputs import SemanticOutputs

    stacks, target = torch.randn(4, 2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss = CrossEntropy(auxiliary_weight=1.0)
    value = loss(SemanticOutputs(stacks[3], tuple(stacks[:3])), target)["loss"]
    torch.testing.assert_close(value, torch.stack([loss(SemanticOutputs(s), target)["loss"] for s in stacks]).sum())


def test_a_target_of_another_size_is_refused_not_resized():
    from delineate.losses.cross_entropy import CrossEntropy
    from delineate.structures.outputs import SemanticOutputs

    with pytest.raises(ArgumentError, match=r"target must be one label per pixel of the logits, \(1, 4, 4\)"):
        CrossEntropy()(SemanticOutputs(torch.zeros(1, 2, 4, 4)), torch.zeros(1, 8, 8, dtype=torch.long))


def test_ratio_counts_nothing_as_the_numerator():
    above, below = torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0])
    assert supervision.ratio(above, below).tolist() == [1.5, 0.0]
