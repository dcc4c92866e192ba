"""Training and validation batches of a recipe, as Lightning asks for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from delineate.data.mixing import Mixing
from delineate.data.order import BatchOrder, SeededSamples
from delineate.data.samples import AnySamples, TransformedSamples

Collate = Callable[[Sequence[Any]], Any]


def _leave_signals_to_the_parent(worker: int) -> None:
    """A signal to the whole group must not kill a reader: the parent saves its state first, then ends its readers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def default_workers() -> int:
    """Reading processes for training when the recipe leaves the choice: fewer where the CPU also trains."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return min(8, cores) if torch.cuda.is_available() else min(4, cores // 2)


class TrainingData(pl.LightningDataModule):
    """The batches of a run; training continues from where ``place`` puts its order.

    Args:
        train: training samples, without randomness.
        val: validation samples, or None.
        transform: the training augmentation.
        val_transform: what validation samples pass through; None for nothing.
        collate: samples to a batch, which knows ``to`` and ``pin_memory``.
        mixings: what puts parts of other samples into a training sample, see :class:`SeededSamples`.
        order: the training order of one process, see :class:`BatchOrder`.
        place: puts the order where a resumed run left off.
        val_batch_size: of each process.
        workers: reading processes; 0 reads in this one.
    """

    def __init__(
        self,
        train: AnySamples,
        val: AnySamples | None,
        *,
        transform: Callable[..., Any],
        val_transform: Callable[..., Any] | None = None,
        collate: Collate,
        order: BatchOrder,
        place: Callable[[BatchOrder], BatchOrder],
        val_batch_size: int,
        workers: int,
        mixings: Sequence[Mixing] = (),
    ) -> None:
        super().__init__()
        self.train = SeededSamples(train, transform, seed=order.seed, mixings=mixings)
        self.val = val if val is None or val_transform is None else TransformedSamples(val, val_transform)
        self.order = order
        self.place = place
        self.collate = collate
        self.val_batch_size = val_batch_size
        self.workers = workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Asked for once, after a checkpoint is loaded, so that it continues where that left off."""
        return DataLoader(
            self.train,
            batch_sampler=self.place(self.order),
            collate_fn=self.collate,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Each process reads its stride of the split, every image exactly once."""
        if self.val is None:
            return []
        return validation_batches(
            self.val,
            batch_size=self.val_batch_size,
            collate=self.collate,
            rank=self.order.rank,
            world_size=self.order.world_size,
            workers=min(self.workers, 1),
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch; Lightning does not look into frozen dataclasses."""
        return batch.to(device, non_blocking=True)


def validation_batches(
    samples: AnySamples | TransformedSamples,
    *,
    batch_size: int,
    collate: Collate,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> DataLoader[Any]:
    """The samples of one process in order, none twice and none left out over all processes."""
    share = range(rank, len(samples), world_size)
    return DataLoader(
        Subset(cast(Dataset[Any], samples), share),
        batch_size=batch_size,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_leave_signals_to_the_parent,
        pin_memory=torch.cuda.is_available(),
    )
