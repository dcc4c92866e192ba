"""Order and randomness are pure functions of (seed, epoch, sample index)."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from delineate.data.order import BatchOrder, SampleKey, SeededSamples, sample_seed
from delineate.errors import ArgumentError


def order(length: int = 10, batch_size: int = 4, **options) -> BatchOrder:
    return BatchOrder(length, batch_size=batch_size, seed=3, **options)


def test_every_epoch_is_another_permutation_and_drops_the_incomplete_batch():
    batches = order()
    assert len(batches) == 2
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert [len(batch) for batch in first] == [4, 4]
    assert len({key.sample for batch in first for key in batch}) == 8
    assert {key.epoch for batch in second for key in batch} == {1}
    assert [[k.sample for k in b] for b in first] != [[k.sample for k in b] for b in second]
    assert sorted(batches.permutation(5)) == list(range(10))


def test_the_same_seed_gives_the_same_order_and_another_seed_another():
    assert list(order()) == list(order())
    assert list(BatchOrder(10, batch_size=4, seed=4)) != list(order())


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_processes_share_out_the_same_batches(world_size):
    whole = list(order())
    shares = [list(order(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for number, batch in enumerate(whole):
        together = [key for share in shares for key in share[number]]
        assert sorted(together) == sorted(batch)


def test_a_start_skips_batches_of_its_own_epoch_only():
    resumed = order(epoch=2, start=1)
    reference = order()
    reference.set_epoch(2)
    assert list(resumed) == list(reference)[1:]
    resumed.set_epoch(3)
    reference.set_epoch(3)
    assert list(resumed) == list(reference)
    assert len(resumed) == 2


def test_a_batch_larger_than_the_data_is_the_data():
    small = BatchOrder(3, batch_size=8, seed=0)
    assert [len(batch) for batch in small] == [3]


def test_errors_name_the_argument():
    with pytest.raises(ArgumentError, match="batch_size must be a multiple of the 2 processes; got 3"):
        order(batch_size=3, world_size=2)
    with pytest.raises(ArgumentError, match="length must be positive; got 0"):
        order(length=0)


class Numbers(Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        return torch.tensor(float(index)), {}


def add_noise(image, target):
    return image + torch.rand(()), target


def first_of(samples):
    return [float(image) for image, _ in samples]


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_does_not_depend_on_workers(workers):
    samples = SeededSamples(Numbers(), add_noise, seed=3)
    loader = DataLoader(samples, batch_sampler=order(), num_workers=workers, collate_fn=first_of)
    alone = [[float(samples[key][0]) for key in batch] for batch in order()]
    assert list(loader) == alone


def test_seeding_a_sample_leaves_the_global_generator_alone():
    samples = SeededSamples(Numbers(), add_noise, seed=3)
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    got = [torch.rand(())]
    samples[SampleKey(0, 1)]
    got.append(torch.rand(()))
    assert torch.equal(torch.stack(got), expected)
    assert samples[SampleKey(0, 1)][0] != samples[SampleKey(1, 1)][0]


def test_seeds_are_spread_and_stable():
    seeds = {sample_seed(0, epoch, index) for epoch in range(30) for index in range(30)}
    assert len(seeds) == 900
    assert (sample_seed(0, 0, 0), sample_seed(7, 3, 11)) == (4808561972376111626, 4619904958392975044)
