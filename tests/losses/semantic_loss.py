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
    """Subclasses set ``loss`` and may vary ``variants``.

    ``split_variants`` are the options with which a loss does not depend on how a batch is split over processes; all of
    ``variants`` when None.
    """

    loss: type[SemanticLoss]
    variants: tuple[dict, ...] = ({},)
    split_variants: tuple[dict, ...] | None = None

    def value(self, logits: Tensor, target: Tensor, *, valid_classes: Tensor | None = None, **options) -> Tensor:
        return self.loss(**options)(SemanticOutputs(logits), target, valid_classes=valid_classes)["loss"]

    def test_gradient_is_that_of_finite_differences(self):
        for options in self.variants:
            logits, target = random_batch(1)
            logits.requires_grad_()
            # along random directions: one at a time, 240 logits would be 480 calls
            value = lambda x, o=options, t=target: self.value(x, t, **o)  # noqa: E731
            assert torch.autograd.gradcheck(value, (logits,), fast_mode=True)

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

    def test_descent_finds_the_truth(self):
        logits, target = random_batch(16, batch=1)
        logits.requires_grad_()
        optimizer, loss = torch.optim.Adam([logits], lr=0.5), self.loss()
        for _ in range(40):
            optimizer.zero_grad()
            loss(SemanticOutputs(logits), target)["loss"].backward()
            optimizer.step()
        counted = target != 255
        assert torch.equal(logits.argmax(1)[counted], target[counted])

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
        for options in self.variants if self.split_variants is None else self.split_variants:
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

    def test_each_side_head_has_its_own_weight(self):
        logits, target = random_batch(12)
        heads = tuple(torch.randn(3, 2, 4, 3, 2, dtype=torch.float64))
        result = self.loss(auxiliary_weight=[1, 0, 0.25])(SemanticOutputs(logits, heads), target)
        first, _, third = (self.value(head, resized_target(target, (3, 2))) for head in heads)
        torch.testing.assert_close(result["loss"], result["main"] + first + 0.25 * third)
        torch.testing.assert_close(result["auxiliary"], first + third)
        assert set(self.loss(auxiliary_weight=[1, 0, 0.25])(SemanticOutputs(logits), target)) == {"loss"}

    def test_all_classes_valid_changes_nothing(self):
        logits, target = random_batch(13)
        for options in self.variants:
            for rest_class in (None, 2):
                everything = torch.ones(2, 4, dtype=torch.bool)
                torch.testing.assert_close(
                    self.value(logits, target, valid_classes=everything, rest_class=rest_class, **options),
                    self.value(logits, target, **options),
                )

    def test_a_class_that_an_image_does_not_label_is_not_asked_there(self):
        logits, target = random_batch(14)
        valid = torch.tensor([[True, True, True, False], [True, True, True, True]])
        target[0][target[0] == 3] = 255
        for options in self.variants:
            before = self.value(logits, target, valid_classes=valid, **options)
            changed = logits.clone()
            changed[0, 3] += 9 * torch.rand(5, 6, dtype=torch.float64)
            changed.requires_grad_()
            after = self.value(changed, target, valid_classes=valid, **options)
            torch.testing.assert_close(after, before)
            assert not torch.isclose(self.value(changed, target, **options), before)
            after.backward()
            assert changed.grad[0, 3].abs().max() == 0
            assert changed.grad.isfinite().all()

    def test_the_rest_class_answers_for_classes_that_an_image_does_not_label(self):
        logits, target = random_batch(15)
        valid = torch.tensor([[True, True, True, False], [True, True, True, True]])
        target[0][target[0] == 3] = 1
        for options in self.variants:
            merged = logits.clone()
            merged[0, 1] = torch.logaddexp(logits[0, 1], logits[0, 3])
            torch.testing.assert_close(
                self.value(logits, target, valid_classes=valid, rest_class=1, **options),
                self.value(merged, target, valid_classes=valid, **options),
            )
            moved = logits.clone().requires_grad_()
            self.value(moved, target, valid_classes=valid, rest_class=1, **options).backward()
            assert moved.grad[0, 3].abs().max() > 0  # it learns what it may be

    def test_errors_name_the_argument(self):
        logits, target = random_batch(11)
        target[0, 0, 0] = 9
        with pytest.raises(ArgumentError, match=r"target must hold labels 0\.\.3 or ignore_index 255; got \[9\]"):
            self.value(logits, target)
        with pytest.raises(ArgumentError, match=r"auxiliary_weight must be 0 or more; got -1"):
            self.loss(auxiliary_weight=-1)
        with pytest.raises(ArgumentError, match=r"rest_class must be a class, 0 or more; got -1"):
            self.loss(rest_class=-1)
