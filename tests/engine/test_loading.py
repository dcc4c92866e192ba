"""Each validation image is read once over all processes, and training goes on where it left off."""

from __future__ import annotations

import signal

import pytest
import torch

from delineate.data.batches import SemanticBatch, SemanticCollate
from delineate.data.opening import open_dataset
from delineate.data.order import BatchOrder
from delineate.engine.loading import (
    TrainingData,
    _leave_signals_to_the_parent,
    default_workers,
    validation_batches,
)


@pytest.fixture(scope="module")
def val(squares):
    return open_dataset(squares, split="val")


def indices(batches) -> list[tuple[int, ...]]:
    return [batch.indices for batch in batches]


def test_one_process_reads_in_order(val):
    batches = list(validation_batches(val, batch_size=2, collate=SemanticCollate()))
    assert indices(batches) == [(0, 1), (2, 3), (4,)]
    assert all(isinstance(batch, SemanticBatch) for batch in batches)
    image, target = val[3]
    assert torch.equal(batches[1].images[1], image)
    assert torch.equal(batches[1].target[1], target["semantic_mask"].long())


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 7])
def test_processes_share_the_split_and_nothing_comes_twice(val, world_size):
    shares = [
        [index for batch in indices(loader) for index in batch]
        for loader in (
            validation_batches(val, batch_size=2, collate=SemanticCollate(), rank=rank, world_size=world_size)
            for rank in range(world_size)
        )
    ]
    assert sorted(index for share in shares for index in share) == list(range(5))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_reading_process_changes_nothing(val):
    here = list(validation_batches(val, batch_size=3, collate=SemanticCollate()))
    there = list(validation_batches(val, batch_size=3, collate=SemanticCollate(), workers=1))
    assert indices(here) == indices(there)
    assert all(torch.equal(a.images, b.images) for a, b in zip(here, there, strict=True))


def data(squares, **changes) -> TrainingData:
    train, val = open_dataset(squares, split="train"), open_dataset(squares, split="val")
    options = {
        "transform": lambda image, target: (image, target),
        "order": BatchOrder(len(train), batch_size=4, seed=1),
        "place": lambda order: order,
        "collate": SemanticCollate(255),
        "val_batch_size": 2,
        "workers": 0,
    }
    return TrainingData(train, val, **(options | changes))


def test_training_batches_follow_the_order_that_place_gives(squares):
    whole = BatchOrder(12, batch_size=4, seed=1)
    expected = [tuple(key.sample for key in batch) for batch in whole]
    assert indices(data(squares).train_dataloader()) == expected
    resumed = data(squares, place=lambda order: BatchOrder(12, batch_size=4, seed=order.seed, start=2))
    assert indices(resumed.train_dataloader()) == expected[2:]


def test_validation_is_shared_as_the_order_says(squares):
    mine = data(squares, order=BatchOrder(12, batch_size=4, seed=1, rank=1, world_size=2))
    assert indices(mine.val_dataloader()) == [(1, 3)]


def test_without_a_validation_split_there_are_no_batches(squares):
    module = data(squares)
    module.val = None
    assert module.val_dataloader() == []


def test_a_batch_is_moved_whole(squares):
    module = data(squares)
    batch = next(iter(module.train_dataloader()))
    moved = module.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.images.is_meta
    assert moved.target.is_meta
    assert (moved.indices, moved.sizes) == (batch.indices, batch.sizes)


def test_readers_leave_signals_to_the_run():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _leave_signals_to_the_parent(0)
        assert all(signal.getsignal(number) is signal.SIG_IGN for number in before)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(("cuda", "cores", "workers"), [(False, 1, 0), (False, 2, 1), (False, 64, 4), (True, 64, 8)])
def test_fewer_readers_where_the_processor_trains(monkeypatch, cuda, cores, workers):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(cores), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    assert default_workers() == workers
