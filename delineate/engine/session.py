"""One training session: the data, model and losses of a recipe, trained into a run folder."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger

from delineate.data.caching import cached
from delineate.data.order import BatchOrder
from delineate.data.samples import AnySamples, SelectedTargets
from delineate.engine.averaging import MovingAverage
from delineate.engine.checkpointing import RunCheckpoints, WholeCheckpointIO, read_checkpoint
from delineate.engine.loading import TrainingData, default_workers
from delineate.engine.precision import PRECISIONS, resolve_precision
from delineate.engine.preparation import (
    check_parts,
    check_resumed,
    decided_recipe,
    factory_options,
    load_start,
    new_model,
    open_validation,
)
from delineate.engine.progress import RunProgress
from delineate.engine.proposing import load_proposer
from delineate.engine.recipe import Recipe
from delineate.engine.run import Run, environment_facts
from delineate.engine.start_preprocessing import started_preprocessing
from delineate.engine.synchronisation import synchronise_batch_norm
from delineate.engine.tasks import LEARNT
from delineate.engine.weights import ModelCard, save_weights, without_downloads
from delineate.files import write_json
from delineate.machine import keep_memory
from delineate.progress import progress_bar


class Session:
    """One process's share of a run: data, model and losses of a recipe, checked before any folder is made.

    Args:
        recipe: of one stage.
        devices: processes that train together.
        resume: the run that goes on from its last checkpoint, which replaces published weights and those the recipe
            starts from.
        written: what the run's folder keeps as its recipe, where that is more than this stage's.
    """

    def __init__(
        self, recipe: Recipe, *, devices: int, resume: Run | None = None, written: Recipe | None = None
    ) -> None:
        self.recipe = recipe
        self.resume = resume is not None
        self.written = written
        self.devices = devices
        self.rank = int(os.environ.get("LOCAL_RANK", "0")) if devices > 1 else 0
        if recipe.trainer.threads is not None:
            torch.set_num_threads(recipe.trainer.threads)
        self.cuda = torch.cuda.is_available()
        self.precision = resolve_precision(recipe.trainer.precision, cuda=self.cuda)

        read = recipe.data
        self.task = task = LEARNT[recipe.task]
        self.train_set = task.open_split(recipe, read.train_split)
        task.check_data(self.train_set, recipe)
        self.taxonomy = self.train_set.taxonomy
        self.val_set = open_validation(task, recipe)
        recipe = decided_recipe(task, recipe, self.train_set)
        options = factory_options(task, recipe, self.train_set)
        self.model = new_model(recipe, without_downloads(options) if resume else options)
        check_parts(self.model, recipe)
        recipe = self.recipe = task.fitted(recipe, self.train_set, self.model)
        self.order = BatchOrder(
            len(self.train_set),
            batch_size=read.batch_size,
            seed=recipe.trainer.seed,
            rank=self.rank,
            world_size=devices,
            weights=task.sample_weights(recipe, self.train_set),
        )
        self.started = None if resume else load_start(self.model, recipe)
        self.preprocessing, self.note = started_preprocessing(self.model, recipe, self.started, resume)
        self.card = ModelCard(
            name=recipe.model["name"],
            options=without_downloads(options),
            preprocessing=self.preprocessing,
            taxonomy=self.taxonomy,
            task=task.name,
            precision=self.precision,
            **task.card_facts(recipe, self.train_set),
        )
        self.proposer = load_proposer(recipe, self.model, preprocessing=self.preprocessing, fit=self.card.fit)
        self.losses = task.losses(recipe, self.train_set)

    def _kept(self, samples: AnySamples, *, progress: bool) -> AnySamples:
        selected = SelectedTargets(samples, self.task.target_keys)
        if not progress or int(os.environ.get("LOCAL_RANK", "0")) > 0:
            return cached(selected, self.recipe.data.cache)
        with progress_bar("reading") as move:
            return cached(selected, self.recipe.data.cache, progress=move)

    def fit(self, run: Run, *, progress: bool) -> Run:
        """Train until the recipe's end, or go on from the last checkpoint; then write the weights."""
        keep_memory()
        recipe, trainer_recipe, task = self.recipe, self.recipe.trainer, self.task
        monitor, monitored = task.watched(recipe)
        checkpoints = RunCheckpoints(
            run.path / "checkpoints",
            monitor=monitor,
            minutes=trainer_recipe.checkpoint_minutes,
            steps=trainer_recipe.checkpoint_steps,
            batch_size=self.order.batch_size,
        )
        callbacks: list[Callback] = []
        if trainer_recipe.ema_decay is not None:
            callbacks.append(MovingAverage(trainer_recipe.ema_decay))
        if progress:
            epochs = trainer_recipe.max_epochs
            callbacks.append(RunProgress(epochs, folder=run.path, monitor=monitor, monitored=monitored))
        if trainer_recipe.early_stopping is not None and self.val_set is not None:
            # a score that is not defined, of a split without objects, is no better than the last
            patience = trainer_recipe.early_stopping
            callbacks.append(EarlyStopping(monitor, mode="max", patience=patience, check_finite=False))
        callbacks.append(checkpoints)

        data = TrainingData(
            self._kept(self.train_set, progress=progress),
            None if self.val_set is None else self._kept(self.val_set, progress=progress),
            transform=task.train_transform(recipe, self.train_set),
            val_transform=task.eval_transform(recipe, self.train_set),
            collate=task.collate(self.train_set),
            mixings=task.mixings(recipe, self.train_set),
            order=self.order,
            place=checkpoints.place,
            val_batch_size=recipe.data.val_batch_size,
            workers=default_workers() if recipe.data.workers is None else recipe.data.workers,
        )
        steps = math.ceil(len(self.order) / trainer_recipe.accumulate)
        module = task.learner(
            self.model,
            self.losses,
            recipe=recipe,
            preprocessing=self.preprocessing,
            samples=self.train_set,
            total_steps=steps * trainer_recipe.max_epochs,
            proposer=self.proposer,
        )
        if trainer_recipe.channels_last:
            module.to(memory_format=torch.channels_last)
        if self.devices > 1:
            synchronise_batch_norm(module)
        if self.resume:
            check_resumed(self.model, run)
        if self.rank == 0:
            (self.written or recipe).write(run.recipe)
            self._note_start(run, resume=self.resume)
            if progress and self.started is not None:
                lines = [f"start: {recipe.start.weights}", str(self.started), *([self.note] if self.note else [])]
                print("\n".join(lines), file=sys.stderr)
        started = time.monotonic()
        with _quiet_lightning(), torch.random.fork_rng():
            trainer = self._trainer(run, callbacks, progress=progress)
            trainer.fit(module, data, ckpt_path=run.last_checkpoint if self.resume else None, weights_only=True)
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()  # what follows, evaluation too, is one process's work
        if self.rank == 0:
            checkpoints.write_curves()
            self._write_weights(run)
            self._note_end(run, seconds=time.monotonic() - started, epochs=trainer.current_epoch)
        return run

    def _trainer(self, run: Run, callbacks: list[Callback], *, progress: bool) -> pl.Trainer:
        recipe = self.recipe.trainer
        return pl.Trainer(
            accelerator="gpu" if self.cuda else "cpu",
            devices=self.devices,
            strategy="ddp" if self.devices > 1 else "auto",
            precision=PRECISIONS[self.precision],  # type: ignore[arg-type]
            max_epochs=recipe.max_epochs,
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.gradient_clip,
            check_val_every_n_epoch=recipe.validate_every,
            limit_val_batches=1.0 if self.val_set is not None else 0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=progress,
            enable_model_summary=False,
            logger=TensorBoardLogger(run.path, name="", version="tensorboard"),
            log_every_n_steps=min(10, len(self.order)),
            callbacks=callbacks,
            plugins=[WholeCheckpointIO()],
        )

    def _write_weights(self, run: Run) -> None:
        """The best checkpoint's averaged weights (the last one's where nothing was validated) as safetensors."""
        source = run.best_checkpoint if run.best_checkpoint.is_file() else run.last_checkpoint
        state = read_checkpoint(source)["state_dict"]
        prefix = "model."
        weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        save_weights(run.weights, weights, self.card)

    def _note_start(self, run: Run, *, resume: bool) -> None:
        facts = environment_facts(
            seed=self.recipe.trainer.seed,
            precision=self.precision,
            threads=torch.get_num_threads(),
            processes=self.devices,
            train_images=len(self.train_set),
            val_images=0 if self.val_set is None else len(self.val_set),
            preprocessing=self.preprocessing.to_dict(),
            parameters=sum(p.numel() for p in self.model.parameters()),
            skipped=list(self.train_set.skipped) + ([] if self.val_set is None else list(self.val_set.skipped)),
        )
        sessions = run.read_environment().get("sessions", []) if resume else []
        for fact in ("precision", "threads", "processes") if sessions else ():
            if sessions[-1].get(fact, facts[fact]) != facts[fact]:
                logging.getLogger("delineate").warning(
                    f"the run began with {fact} {sessions[-1][fact]} and goes on with {facts[fact]}, so its weights "
                    "will differ in their last digits from those of a run that did not change"
                )
        write_json(run.environment, {"sessions": [*sessions, facts]})

    def _note_end(self, run: Run, *, seconds: float, epochs: int) -> None:
        sessions = run.read_environment()["sessions"]
        sessions[-1] |= {"seconds": round(seconds, 1), "finished": True, "epochs": epochs}
        write_json(run.environment, {"sessions": sessions})


# what Lightning says about choices that are made here on purpose
_EXPECTED = (
    r".*does not have many workers.*",
    r".*ended before the epoch ended.*",
    r".*Checkpoint directory .* exists.*",
    r".*module\(s\) in eval mode.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Detected call of `lr_scheduler.step\(\)` before.*",
)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's notes on choices made here on purpose out of the way; other warnings and errors pass."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    loggers += [logging.getLogger("lightning.pytorch.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for text in _EXPECTED:
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
