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
    assert sorted(batches.samples(5)) == list(range(10))


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


def weighted(weights, length: int = 10, **options) -> BatchOrder:
    return BatchOrder(length, batch_size=length, seed=3, weights=weights, **options)


def test_weights_say_how_often_a_sample_comes():
    weights = [0, 1, 2, 3, 0.5, 0.5, 0, 1, 1, 1]  # 10 in sum
    for epoch in range(20):
        counts = torch.bincount(torch.tensor(weighted(weights).samples(epoch)), minlength=10).tolist()
        assert counts[:4] == [0, 1, 2, 3]
        assert counts[4] + counts[5] == 1
        assert counts[6:] == [0, 1, 1, 1]
    drawn = [weighted([1, 1, 1, 7], 4).samples(epoch) for epoch in range(2000)]
    share = torch.bincount(torch.tensor(drawn).flatten()) / 8000
    assert torch.allclose(share, torch.tensor([0.1, 0.1, 0.1, 0.7]), atol=0.01)


def test_weighted_epochs_are_shuffled_and_repeatable_and_equal_weights_are_a_permutation():
    weights = [1.0] * 9 + [3.0]
    assert weighted(weights).samples(1) == weighted([w * 7 for w in weights]).samples(1)
    assert weighted(weights).samples(1) != weighted(weights).samples(2)
    order = weighted(weights, 10).samples(0)
    assert order != sorted(order)
    assert sorted(weighted([0.3] * 10).samples(4)) == list(range(10))


def test_a_sample_that_comes_again_is_augmented_anew():
    (batch,) = weighted([0, 0, 1, 0], 4)
    assert batch == [SampleKey(0, 2, repeat) for repeat in range(4)]
    samples = SeededSamples(Numbers(), add_noise, seed=3)
    assert len({float(samples[key][0]) for key in batch}) == 4
    assert sample_seed(0, 1, 2, 0) == sample_seed(0, 1, 2)


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_weighted_run_resumes_where_it_was(world_size):
    options = {"batch_size": 4, "seed": 5, "weights": [1, 5, 1, 1, 4, 1, 1, 1, 1, 1, 1, 1], "world_size": world_size}
    whole = BatchOrder(12, **options)
    whole.set_epoch(2)
    resumed = BatchOrder(12, **options, epoch=2, start=1)
    assert list(resumed) == list(whole)[1:]
    assert any(key.repeat for batch in list(whole) for key in batch)


def test_weights_that_cannot_be_are_refused():
    with pytest.raises(ArgumentError, match="weights must be 4 numbers, one a sample; got 3"):
        weighted([1, 2, 3], 4)
    for wrong in ([0, 0], [1, -1], [1, float("nan")], [1, float("inf")]):
        with pytest.raises(ArgumentError, match="weights must be finite, not negative and not all zero"):
            weighted(wrong, 2)


class Replace:
    """The partner takes the sample's place."""

    def __init__(self, probability: float) -> None:
        self.probability, self.partners = probability, 1

    def __call__(self, sample, partner):
        return 100 + partner[0], sample[1]


def test_mixing_is_a_function_of_the_key_alone():
    samples = SeededSamples(Numbers(), add_noise, seed=3, mixings=[Replace(0.5)])
    keys = [SampleKey(epoch, sample) for epoch in range(20) for sample in range(10)]
    values = [float(samples[key][0]) for key in keys]
    torch.rand(7)
    assert [float(samples[key][0]) for key in reversed(keys)] == values[::-1]
    partners = [int(value - 100) for value in values if value >= 100]
    assert 70 < len(partners) < 130
    assert set(partners) == set(range(10))
    plain = SeededSamples(Numbers(), add_noise, seed=3)
    unmixed = SeededSamples(Numbers(), add_noise, seed=3, mixings=[Replace(0.0)])
    assert all(torch.equal(plain[key][0], unmixed[key][0]) for key in keys[:20])


def test_partners_are_transformed_by_themselves():
    samples = SeededSamples(Numbers(), add_noise, seed=3, mixings=[Replace(1.0)])
    value = float(samples[SampleKey(0, 4)][0])
    torch.manual_seed(sample_seed(3, 0, 4))
    torch.rand(2)  # the sample's own noise, and whether it is mixed
    assert value == pytest.approx(100 + int(torch.randint(10, ())) + float(torch.rand(())), abs=1e-4)


def test_seeds_are_spread_and_stable():
    seeds = {sample_seed(0, epoch, index) for epoch in range(30) for index in range(30)}
    assert len(seeds) == 900
    assert (sample_seed(0, 0, 0), sample_seed(7, 3, 11)) == (4808561972376111626, 4619904958392975044)
