"""Checkpoints that resume to the very same weights, written whole or not at all."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from delineate.data.order import BatchOrder
from delineate.errors import DelineateError, NonFiniteLossError, RecipeError, RunError
from delineate.files import linked_file, replaced_file

# epochs may take a second, and a checkpoint half of one: closer together than this only the best and the last are saved
EPOCH_END_SECONDS = 30.0


class TrainingInterrupted(DelineateError):
    """SIGTERM or Ctrl-C arrived; the state is saved and the run can be resumed."""


class WholeCheckpointIO(TorchCheckpointIO):
    """Checkpoints as files that are renamed into place, and read without executing anything they carry."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary name, flush, rename."""
        with replaced_file(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        """The checkpoint's plain values and tensors.

        Raises:
            RunError: when the file is missing, damaged, or would need code to be executed.
        """
        return read_checkpoint(Path(path), map_location=map_location)


def read_checkpoint(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """The plain values and tensors of a checkpoint; never executes what it carries.

    Raises:
        RunError: when the file is missing, damaged, or would need code to be executed.
    """
    if not path.is_file():
        raise RunError(f"checkpoint must exist; got '{path}', which is not there. Train from the start instead.")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file; each becomes one clear line
        what = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise RunError(f"checkpoint must be a whole file of plain tensors; got '{path}' ({what}).") from error
    return checkpoint


class RunCheckpoints(Checkpoint):
    """Keep ``last.ckpt`` (at epochs' ends, half a minute apart or more, and inside epochs) and ``best.ckpt``.

    A checkpoint inside an epoch is taken only right after an optimizer step, so that no half-summed gradient is lost,
    and never after the last batch, whose state the epoch's end saves together with its validation. With each goes the
    position in the data (epoch, batch), from which :class:`~delineate.data.order.BatchOrder` continues.

    SIGTERM and Ctrl-C are taken note of; after the current step (or at the end of a running validation) the state is
    saved and :class:`TrainingInterrupted` raised. A second Ctrl-C stops at once.

    Args:
        folder: where the two files go.
        monitor: the logged value of which the largest is "best".
        minutes: wall-clock minutes between checkpoints inside an epoch.
        steps: optimizer steps between checkpoints inside an epoch, or None.
        batch_size: images in a batch over all processes, which a position counts in.
    """

    def __init__(self, folder: Path, *, monitor: str, minutes: float, steps: int | None, batch_size: int) -> None:
        self.folder = folder
        self.monitor = monitor
        self.seconds = minutes * 60
        self.steps = steps
        self.batch_size = batch_size
        self.position: dict[str, int] = {"epoch": 0, "batch": 0}
        self.best: float | None = None
        self.history: list[dict[str, float]] = []
        self._saved_at = time.monotonic()
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}

    # what travels in the checkpoint

    def state_dict(self) -> dict[str, Any]:
        """The position in the data, the best score so far and the learning curves."""
        return {"position": dict(self.position), "best": self.best, "history": [dict(row) for row in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.position = dict(state_dict["position"])
        self.best = state_dict["best"]
        self.history = [dict(row) for row in state_dict["history"]]

    # signals

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and take note of signals rather than die of them (Lightning has set its own by now)."""
        self._saved_at = time.monotonic()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._handlers[number] = signal.signal(number, self._take_note)
            except ValueError:  # not the main thread: whoever owns it decides
                break

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signal handlers back."""
        self._give_signals_back()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signal handlers back."""
        self._give_signals_back()

    def _give_signals_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number

    @staticmethod
    def _agreed(trainer: pl.Trainer, here: bool) -> bool:
        """Whether it holds in any process, so that all of them do the same."""
        return bool(trainer.strategy.reduce_boolean_decision(here, all=False)) if trainer.world_size > 1 else here

    # when to save

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save inside an epoch when it is time, or when a signal came."""
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches or done >= trainer.num_training_batches:
            return
        interrupted = self._agreed(trainer, self._signal is not None)
        if interrupted or self._due(trainer, self.seconds):
            self._save(trainer, {"epoch": trainer.current_epoch, "batch": done})
        if interrupted:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's row of the learning curves and save; keep the best apart."""
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row |= pl_module.train_means()  # type: ignore[operator]
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0:
            values = {name: float(value) for name, value in trainer.callback_metrics.items()}
            row |= {name: value for name, value in values.items() if name.startswith("val/")}
        self.history.append(row)
        score = row.get(self.monitor)
        better = score is not None and score == score and (self.best is None or score > self.best)
        if better:
            self.best = score
        interrupted = self._agreed(trainer, self._signal is not None)
        last = trainer.should_stop or trainer.current_epoch + 1 >= (trainer.max_epochs or 0)
        if better or last or interrupted or self._due(trainer, min(self.seconds, EPOCH_END_SECONDS)):
            self._save(trainer, {"epoch": trainer.current_epoch + 1, "batch": 0}, best=better)
        if trainer.is_global_zero:
            self.write_curves()
        if interrupted:
            self._stop(trainer)

    def _due(self, trainer: pl.Trainer, seconds: float) -> bool:
        """Whether a checkpoint is wanted, by optimizer steps or by the time since the one before."""
        by_steps = self.steps is not None and trainer.global_step % self.steps == 0
        return by_steps or self._agreed(trainer, time.monotonic() - self._saved_at >= seconds)

    def _save(self, trainer: pl.Trainer, position: dict[str, int], *, best: bool = False) -> None:
        module = trainer.lightning_module
        broken = next((name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()), None)
        if broken is not None:
            raise NonFiniteLossError(
                f"weights must stay finite; got NaN or infinity in '{broken}' at epoch {trainer.current_epoch + 1}, "
                f"step {trainer.global_step}. The last good checkpoint is kept; a lower optimizer.lr may help."
            )
        self.position = position | {"batch_size": self.batch_size}
        # the best comes first: killed between the two, the run goes back to the last and finds the same best again
        trainer.save_checkpoint(self.folder / ("best.ckpt" if best else "last.ckpt"))
        if best and trainer.is_global_zero:
            linked_file(self.folder / "best.ckpt", self.folder / "last.ckpt")
        self._saved_at = time.monotonic()

    def write_curves(self) -> None:
        """Write the learning curves so far to ``metrics.csv`` beside the folder, whole or not at all."""
        names = sorted({name for row in self.history for name in row} - {"epoch", "step"})
        with replaced_file(self.folder.parent / "metrics.csv") as temporary:
            lines = [",".join(["epoch", "step", *names])]
            for row in self.history:
                cells = (f"{row[name]:.7g}" if name in row else "" for name in ("epoch", "step", *names))
                lines.append(",".join(cells))
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _stop(self, trainer: pl.Trainer) -> None:
        name = signal.Signals(self._signal).name if self._signal is not None else "a signal to another process"
        raise TrainingInterrupted(
            f"training stopped by {name} at epoch {trainer.current_epoch + 1}, step {trainer.global_step}; its state "
            f"is saved. Continue with --resume {self.folder.parent}"
        )

    def place(self, order: BatchOrder) -> BatchOrder:
        """``order`` continuing from the loaded position.

        Raises:
            RecipeError: when the batch size was changed inside an epoch, where it would change what comes next.
        """
        begun = self.position.get("batch_size", order.batch_size)
        if self.position["batch"] and begun != order.batch_size:
            raise RecipeError(
                f"data.batch_size must stay {begun} until the interrupted epoch is over; got {order.batch_size}."
            )
        return BatchOrder(
            order.length,
            batch_size=order.batch_size,
            seed=order.seed,
            rank=order.rank,
            world_size=order.world_size,
            epoch=self.position["epoch"],
            start=self.position["batch"],
            weights=order.weights,
        )
