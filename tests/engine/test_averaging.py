"""The moving average, against the recursion written out in double precision."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from delineate.engine.averaging import MovingAverage


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("precise", torch.zeros(2, dtype=torch.float64))


class Steps:
    """As much of a trainer as the callback looks at."""

    global_step = 0
    current_epoch = 0


def start(decay: float) -> tuple[MovingAverage, Module, Steps]:
    average, module = MovingAverage(decay), Module()
    average.setup(Steps(), module, "fit")
    return average, module, Steps()


def change(module: Module) -> None:
    with torch.no_grad():
        for tensor in (*module.parameters(), module.norm.running_mean, module.norm.running_var, module.precise):
            tensor.add_(torch.randn_like(tensor))
        module.norm.num_batches_tracked.add_(7)
        module.flags.logical_not_()


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.9999])
def test_every_step_follows_the_recursion(decay):
    average, module, trainer = start(decay)
    twin: dict[str, torch.Tensor] = {}
    for number in range(30):
        change(module)
        trainer.global_step += 1
        average.on_train_batch_end(trainer, module, None, None, 0)
        share = min(decay, (1 + number) / (10 + number))
        for name, value in module.state_dict().items():
            if not value.is_floating_point() or number == 0:
                twin[name] = value.double().clone()
            else:
                twin[name] = share * twin[name] + (1 - share) * value.double()
        found = average._average_model.module.state_dict()
        for name, value in twin.items():
            assert torch.allclose(found[name].double(), value, atol=1e-5), (name, number)
    assert found["norm.num_batches_tracked"] == 210
    assert found["flags"].tolist() == [True, False]
    assert found["precise"].dtype == torch.float64


def test_by_hand():
    average, module, trainer = start(0.5)
    weight, seen = module.conv.bias, []
    for value in (8.0, 0.0, 4.0):
        with torch.no_grad():
            weight.fill_(value)
        trainer.global_step += 1
        average.on_train_batch_end(trainer, module, None, None, 0)
        seen.append(float(average._average_model.module.conv.bias.detach()[0]))
    # decays 2/11 and 3/12 stay below 0.5
    assert seen == pytest.approx([8, 16 / 11, 4 / 11 + 3])


def test_batches_between_optimizer_steps_do_not_count():
    average, module, trainer = start(0.5)
    for _ in range(3):
        trainer.global_step = 1
        average.on_train_batch_end(trainer, module, None, None, 0)
    average.on_train_epoch_end(trainer, module)
    assert int(average._average_model.n_averaged) == 1


def test_validation_sees_the_average_and_training_goes_on_from_its_own():
    average, module, trainer = start(0.9)
    for value in (1.0, 3.0):
        with torch.no_grad():
            module.conv.bias.fill_(value)
        trainer.global_step += 1
        average.on_train_batch_end(trainer, module, None, None, 0)
    mean = 2 / 11 * 1 + 9 / 11 * 3
    average.on_validation_epoch_start(trainer, module)
    assert module.conv.bias.tolist() == pytest.approx([mean] * 3)
    average.on_validation_epoch_end(trainer, module)
    assert module.conv.bias.tolist() == [3.0] * 3
    average.on_train_end(trainer, module)
    assert module.conv.bias.tolist() == pytest.approx([mean] * 3)
