"""What a person reads while a run goes on."""

from __future__ import annotations

import re
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from delineate.data.batches import SemanticBatch
from delineate.engine.checkpointing import RunCheckpoints
from delineate.engine.progress import RunProgress

EPOCHS = 12


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("delineate.engine.progress.time", clock)
    return clock


def trainer_with(*checkpoints, done: int = 0) -> SimpleNamespace:
    return SimpleNamespace(
        num_training_batches=3,
        current_epoch=0,
        world_size=1,
        callback_metrics={},
        checkpoint_callbacks=list(checkpoints),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=done - 1)),
    )


def batch(images: int = 4) -> SemanticBatch:
    return SemanticBatch(torch.empty(0), torch.empty(0), ((1, 1),) * images, tuple(range(images)))


def epoch(bar: RunProgress, trainer, clock: Clock, *, miou: float | None, loss: float = 0.5) -> None:
    """Three batches of four images, two seconds each, and ten seconds of validation."""
    module = SimpleNamespace(train_loss=SimpleNamespace(compute=lambda: torch.tensor(loss)))
    bar.on_train_epoch_start(trainer, module)
    for number in range(3):
        bar.on_train_batch_start(trainer, module, batch(), number)
        clock.now += 2
        outputs = {"loss": torch.tensor(loss)} if number else torch.tensor(loss)
        bar.on_train_batch_end(trainer, module, outputs, batch(), number)
    clock.now += 10
    if miou is not None:
        trainer.callback_metrics["val/miou"] = torch.tensor(miou)
        bar.on_validation_end(trainer, module)
    bar.on_train_epoch_end(trainer, module)
    trainer.current_epoch += 1


def run(console: Console, clock: Clock, scores, *, enabled: bool = True, trainer=None) -> str:
    bar, trainer = RunProgress(EPOCHS, console), trainer or trainer_with()
    if not enabled:
        bar.disable()
    bar.on_train_start(trainer, None)
    for score in scores:
        epoch(bar, trainer, clock, miou=score)
    bar.teardown(trainer, None, "fit")
    return console.file.getvalue()


def test_one_line_an_epoch_says_loss_score_best_and_speed(clock):
    lines = run(Console(file=StringIO(), width=40), clock, (0.5, 0.25)).splitlines()
    assert lines == [
        "epoch  1/12  loss 0.5000  mIoU 0.5000  best 0.5000  2.0 images/s  16 s",
        "epoch  2/12  loss 0.5000  mIoU 0.2500  best 0.5000  2.0 images/s  16 s",
    ]


def test_without_validation_there_is_no_score(clock):
    assert run(Console(file=StringIO()), clock, (None,)) == ("epoch  1/12  loss 0.5000  mIoU n/a  2.0 images/s  16 s\n")


def test_a_resumed_run_remembers_its_best(clock, tmp_path):
    checkpoints = RunCheckpoints(tmp_path, monitor="val/miou", minutes=10, steps=None, batch_size=4)
    checkpoints.best = 0.75
    text = run(Console(file=StringIO()), clock, (0.5,), trainer=trainer_with(checkpoints))
    assert "mIoU 0.5000  best 0.7500" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_other_processes_say_nothing(clock, terminal):
    console = Console(file=StringIO(), force_terminal=terminal)
    assert run(console, clock, (0.5,), enabled=False) == ""


def test_disabled_can_be_enabled_again(clock):
    bar = RunProgress(EPOCHS, Console(file=StringIO()))
    bar.disable()
    bar.enable()
    epoch(bar, trainer_with(), clock, miou=0.5)
    assert "mIoU 0.5000" in bar.console.file.getvalue()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_shows_a_bar_besides_the_lines(clock):
    console = Console(file=StringIO(), force_terminal=True, width=120)
    text = plain(run(console, clock, (0.5, 0.25), trainer=trainer_with(done=3)))
    assert "epoch  2/12  loss 0.5000  mIoU 0.2500  best 0.5000" in text
    assert "epoch 2/12" in text
    assert "9/36" in text  # three batches were behind it, six came


def test_an_error_leaves_the_terminal_as_it_was(clock):
    console = Console(file=StringIO(), force_terminal=True, width=120)
    bar, trainer = RunProgress(EPOCHS, console), trainer_with()
    bar.on_train_start(trainer, None)
    assert "\x1b[?25l" in console.file.getvalue()  # the cursor is hidden
    bar.on_exception(trainer, None, KeyboardInterrupt())
    assert console.file.getvalue().rstrip().endswith("\x1b[?25h")
    assert bar._progress is None
    bar.teardown(trainer, None, "fit")


def test_standard_error_is_where_it_writes_by_default():
    assert RunProgress(1).console.stderr
