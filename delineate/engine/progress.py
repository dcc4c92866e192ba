"""What a person sees while a run goes on: loss, score, images a second and the time left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from delineate.engine.checkpointing import RunCheckpoints


class RunProgress(ProgressBar):
    """One bar over the whole run and one line an epoch; only the lines where nobody watches (a pipe, a log file).

    Args:
        epochs: of the whole run.
        console: where to write; standard error when left out.
        folder: of the run, to be named first.
        monitor: the logged validation score that is shown.
        monitored: what to call it.
    """

    def __init__(
        self,
        epochs: int,
        console: Console | None = None,
        *,
        folder: Path | None = None,
        monitor: str = "val/miou",
        monitored: str = "mIoU",
    ) -> None:
        super().__init__()
        self.monitor, self.monitored = monitor, monitored
        self.folder = folder
        self.epochs = epochs
        self.console = console or Console(stderr=True)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._enabled = True
        self._images = 0
        self._seconds = 0.0
        self._epoch_started = self._tick = 0.0
        self._loss: float | None = None
        self._best: float | None = None
        self._last: float | None = None

    def disable(self) -> None:
        """Say nothing (the other processes of a run)."""
        self._enabled = False

    def enable(self) -> None:
        """Speak again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say where the run is kept, and show the bar, already filled as far as a resumed run has come."""
        self._epoch_started = time.monotonic()
        self._best = next((c.best for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoints)), None)
        if not self._enabled:
            return
        if self.folder is not None:
            self.console.print(f"run: {self.folder}", highlight=False, markup=False, soft_wrap=True)
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(),
                console=self.console,
                speed_estimate_period=120,
            )
            total = self.epochs * int(trainer.num_training_batches)
            batches = trainer.fit_loop.epoch_loop.total_batch_idx + 1
            self._task = self._progress.add_task("", total=total, completed=batches, epoch="", facts="")
            self._progress.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start counting images."""
        self._epoch_started = self._tick = time.monotonic()
        self._images, self._seconds = 0, 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the batch's clock where the one before ended, so that waiting for data counts."""
        self._tick = self._tick or time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        now = time.monotonic()
        self._seconds += now - self._tick
        self._tick = now
        self._images += len(batch.indices) * trainer.world_size
        loss = float(outputs["loss"]) if isinstance(outputs, dict) else float(outputs)
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        if self._progress is not None:
            epoch = f"{trainer.current_epoch + 1}/{self.epochs}"
            self._progress.update(self._task, advance=1, epoch=epoch, facts=self._facts())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember the score; validation does not count as training time."""
        score = trainer.callback_metrics.get(self.monitor)
        if score is not None:
            self._last = float(score)
            self._best = self._last if self._best is None else max(self._best, self._last)
        self._tick = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """One line for the epoch that is over."""
        if not self._enabled:
            return
        best = f"  best {self._best:.4f}" if self._best is not None else ""
        loss = float(pl_module.train_loss.compute())  # type: ignore[operator, union-attr]
        epoch = f"epoch {trainer.current_epoch + 1:>{len(str(self.epochs))}}/{self.epochs}"
        seconds = time.monotonic() - self._epoch_started
        console = self._progress.console if self._progress is not None else self.console
        console.print(
            f"{epoch}  loss {loss:.4f}  {self._score()}{best}  {self._speed()}  {seconds:.0f} s",
            highlight=False,
            soft_wrap=True,  # a line of a log file has no width
        )

    def _score(self) -> str:
        return f"{self.monitored} {self._last:.4f}" if self._last is not None else f"{self.monitored} n/a"

    def _speed(self) -> str:
        return f"{self._images / self._seconds:.1f} images/s" if self._seconds else "n/a images/s"

    def _facts(self) -> str:
        return f"loss {self._loss:.4f}  {self._score()}  {self._speed()}"

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was; nothing is torn down after an error."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
