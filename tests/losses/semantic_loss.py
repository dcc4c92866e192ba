"""What every semantic loss must do; a loss's test class inherits this in a few lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError
from delineate.losses.supervision import SemanticLoss, resized_target
from delineate.structures.outputs import SemanticOutputs


def random_batch(
    seed: int = 0, *, batch: int = 2, classes: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Logits and labels of 5 x 6 pixels, about a quarter of them ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, 5, 6, generator=generator, dtype=dtype)
    target = torch.randint(0, classes, (batch, 5, 6), generator=generator)
    target[torch.rand(batch, 5, 6, generator=generator) < 0.25] = 255
    return logits, target


class Ranks:
    """An all-reduce-mean for processes that run one after the other: a first round records, a second answers."""

    def __init__(self, ranks: int) -> None:
        self.records: list[list[Tensor]] = [[] for _ in range(ranks)]

    def recording(self, rank: int) -> Callable[[Tensor], Tensor]:
        def record(value: Tensor) -> Tensor:
            assert not value.requires_grad
            self.records[rank].append(value.clone())
            return value

        return record

    def answering(self) -> Callable[[Tensor], Tensor]:
        means = iter([torch.stack(values).mean(0) for values in zip(*self.records, strict=True)])
        return lambda value: next(means)


class SemanticLossTester:
    """Subclasses set ``loss`` and may vary ``variants``."""

    loss: type[SemanticLoss]
    variants: tuple[dict, ...] = ({},)

    def value(self, logits: Tensor, target: Tensor, **options) -> Tensor:
        return self.loss(**options)(SemanticOutputs(logits), target)["loss"]

    def test_gradient_is_that_of_finite_differences(self):
        for options in self.variants:
            logits, target = random_batch(1)
            logits.requires_grad_()
            assert torch.autograd.gradcheck(lambda x, o=options, t=target: self.value(x, t, **o), (logits,))

    def test_ignored_pixels_change_nothing(self):
        for options in self.variants:
            logits, target = random_batch(2)
            before = self.value(logits, target, **options)
            changed = torch.where((target == 255)[:, None], 50 * torch.randn_like(logits), logits).requires_grad_()
            after = self.value(changed, target, **options)
            torch.testing.assert_close(after, before)
            after.backward()
            assert changed.grad.permute(0, 2, 3, 1)[target == 255].abs().max() == 0

    def test_another_ignore_index(self):
        logits, target = random_batch(3)
        other = torch.where(target == 255, -1, target)
        for options in self.variants:
            torch.testing.assert_close(
                self.value(logits, other, ignore_index=-1, **options), self.value(logits, target, **options)
            )

    @pytest.mark.parametrize("batch", [0, 2])
    def test_nothing_counted_gives_zero_and_no_gradient(self, batch: int):
        for options in self.variants:
            logits = torch.randn(batch, 4, 3, 3, requires_grad=True)
            value = self.value(logits, torch.full((batch, 3, 3), 255), **options)
            assert value.item() == 0
            value.backward()
            assert torch.equal(logits.grad, torch.zeros_like(logits))

    def test_sure_and_right_is_zero_sure_and_wrong_is_worse(self):
        _, target = random_batch(4)
        right = torch.nn.functional.one_hot(torch.where(target == 255, 0, target), 4).permute(0, 3, 1, 2).float() * 40
        assert self.value(right, target).item() == pytest.approx(0, abs=1e-6)
        assert self.value(right.roll(1, 1), target) > self.value(torch.zeros_like(right), target) > 1e-3

    def test_order_of_images_does_not_matter(self):
        logits, target = random_batch(5, batch=3)
        for options in self.variants:
            torch.testing.assert_close(
                self.value(logits.flip(0), target.flip(0), **options), self.value(logits, target, **options)
            )

    def test_small_integer_labels(self):
        logits, target = random_batch(6)
        for options in self.variants:
            torch.testing.assert_close(
                self.value(logits, target.to(torch.uint8), **options), self.value(logits, target, **options)
            )

    def test_half_precision_logits_are_computed_in_single(self):
        logits, target = random_batch(7, dtype=torch.bfloat16)
        logits = logits.contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = self.value(logits, target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, self.value(logits.float(), target), rtol=1e-6, atol=0)
        value.backward()
        assert logits.grad.dtype == torch.bfloat16
        assert logits.grad.isfinite().all()

    def test_huge_logits_stay_finite(self):
        logits, target = random_batch(8, dtype=torch.float32)
        logits = (logits * 1e4).requires_grad_()
        for options in self.variants:
            value = self.value(logits, target, **options)
            (gradient,) = torch.autograd.grad(value, logits)
            assert value.isfinite()
            assert gradient.isfinite().all()

    def test_splitting_the_batch_over_processes_changes_nothing(self):
        logits, target = random_batch(9, batch=4)
        target[:2][target[:2] == 1] = 255  # a class that only the second process sees
        target[0] = 255
        outputs = lambda x: SemanticOutputs(x, (x[:, :, ::2, ::2],))  # noqa: E731
        for options in self.variants:
            loss = self.loss(**options)
            whole = logits.clone().requires_grad_()
            value = loss(outputs(whole), target)["loss"]
            value.backward()
            ranks = Ranks(2)
            parts = [(logits[i : i + 2].clone().requires_grad_(), target[i : i + 2]) for i in (0, 2)]
            for rank, (part, labels) in enumerate(parts):
                loss(outputs(part), labels, normaliser=ranks.recording(rank))
            values = [loss(outputs(part), labels, normaliser=ranks.answering())["loss"] for part, labels in parts]
            torch.testing.assert_close(torch.stack(values).mean(), value)
            torch.stack(values).mean().backward()  # DDP averages gradients over processes
            torch.testing.assert_close(torch.cat([part.grad for part, _ in parts]), whole.grad)

    def test_side_heads_are_supervised_at_their_own_size(self):
        logits, target = random_batch(10)
        side, other = torch.randn(2, 2, 4, 3, 2, dtype=torch.float64)
        result = self.loss()(SemanticOutputs(logits, (side, other)), target)
        expected = [self.value(head, resized_target(target, head.shape[2:])) for head in (side, other)]
        torch.testing.assert_close(result["auxiliary"], sum(expected))
        torch.testing.assert_close(result["loss"], result["main"] + 0.4 * result["auxiliary"])
        without = self.loss(auxiliary_weight=0)(SemanticOutputs(logits, (side,)), target)
        assert set(without) == {"loss"}
        torch.testing.assert_close(without["loss"], result["main"])

    def test_errors_name_the_argument(self):
        logits, target = random_batch(11)
        target[0, 0, 0] = 9
        with pytest.raises(ArgumentError, match=r"target must hold labels 0\.\.3 or ignore_index 255; got \[9\]"):
            self.value(logits, target)
        with pytest.raises(ArgumentError, match=r"auxiliary_weight must be 0 or more; got -1"):
            self.loss(auxiliary_weight=-1)
