"""Which sample comes when, and with which randomness: a pure function of (seed, epoch, sample index).

Nothing here depends on the number of workers or processes, or on where a run was interrupted: the order of an epoch is
one list drawn from (seed, epoch), a batch is a slice of it, and every process takes its stride of every batch.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, Sampler

from delineate.checks import require
from delineate.data.mixing import Mixing
from delineate.data.samples import AnySamples


class SampleKey(NamedTuple):
    """One sample of one epoch; ``repeat`` counts from 0 where an epoch has it more than once."""

    epoch: int
    sample: int
    repeat: int = 0


def sample_seed(seed: int, epoch: int, index: int, repeat: int = 0) -> int:
    """A 63-bit seed for one sample of one epoch, well mixed and the same on every machine.

    Example:
        >>> sample_seed(0, 0, 0) == sample_seed(0, 0, 0), sample_seed(0, 0, 1) == sample_seed(0, 1, 0)
        (True, False)
    """
    place = f"{seed}/{epoch}/{index}" + (f"/{repeat}" if repeat else "")
    digest = hashlib.blake2b(place.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class BatchOrder(Sampler[list[SampleKey]]):
    """The batches of training, epoch after epoch; give it to ``DataLoader(batch_sampler=...)``.

    Args:
        length: the number of samples.
        batch_size: samples in a batch over all processes together; no larger than ``length``.
        seed: of the run.
        rank: this process.
        world_size: the number of processes; divides ``batch_size``.
        epoch: the epoch to begin with.
        start: how many batches of that first epoch are behind us (a resumed run).
        weights: how often each sample should come, in proportion; None for every sample once. An epoch stays as long
            as it is, and each sample comes as often as its share of it says, rounded up or down.

    The last, incomplete batch of an epoch is dropped: which samples it would have held changes with the permutation.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start: int = 0,
        weights: Sequence[float] | None = None,
    ) -> None:
        require(length > 0, "length", "be positive", length, "The split holds no image to train on.")
        require(batch_size > 0, "batch_size", "be positive", batch_size)
        require(
            batch_size % world_size == 0,
            "batch_size",
            f"be a multiple of the {world_size} processes",
            batch_size,
            "It counts the images of all processes together.",
        )
        self.length = length
        self.batch_size = min(batch_size, max(length // world_size * world_size, 1))
        require(
            self.batch_size % world_size == 0,
            "length",
            f"be at least the number of processes ({world_size})",
            length,
        )
        self.seed, self.rank, self.world_size = seed, rank, world_size
        if weights is not None:
            weights = [float(weight) for weight in weights]
            require(len(weights) == length, "weights", f"be {length} numbers, one a sample", len(weights))
            known = all(math.isfinite(weight) and weight >= 0 for weight in weights) and sum(weights) > 0
            require(known, "weights", "be finite, not negative and not all zero", weights[:8])
        self.weights = weights
        self.epoch = epoch
        self._first = (epoch, start)
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iterator walks through."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length // self.batch_size

    def samples(self, epoch: int) -> list[int]:
        """The sample indices of an epoch, in order, over all processes: a permutation where there are no weights."""
        generator = torch.Generator().manual_seed(sample_seed(self.seed, epoch, -1))
        order = torch.randperm(self.length, generator=generator)
        if self.weights is None:
            return order.tolist()
        # draws at equal steps along the sum of the weights: no sample comes by chance more often than it should
        edges = torch.tensor(self.weights, dtype=torch.float64).cumsum(0)
        begin = torch.rand((), dtype=torch.float64, generator=generator)
        places = (torch.arange(self.length, dtype=torch.float64) + begin) * (edges[-1] / self.length)
        last = int(torch.tensor(self.weights).nonzero()[-1])  # rounding must not reach behind it
        drawn = torch.searchsorted(edges, places, right=True).clamp_(max=last)
        return drawn[order].tolist()

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, seen = self.epoch, Counter[int]()
        order = []
        for sample in self.samples(epoch):
            order.append(SampleKey(epoch, sample, seen[sample]))
            seen[sample] += 1
        first = self._first[1] if epoch == self._first[0] else 0
        for batch in range(first, len(self)):
            whole = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield whole[self.rank :: self.world_size]


class SeededSamples(Dataset[tuple[Any, dict[str, Any]]]):
    """A data set whose transform draws from a generator seeded by the sample's key; indexed by :class:`SampleKey`.

    Args:
        samples: a data set of ``(image, target)``, itself without randomness.
        transform: applied to ``(image, target)``; its randomness comes from torch's global generator, which is seeded
            for the call and put back after it.
        seed: of the run.
        mixings: applied in turn to the transformed sample, each as often as its probability says, with as many others
            as it takes, drawn at random and transformed likewise. All of it draws from the same generator.
    """

    def __init__(
        self, samples: AnySamples, transform: Callable[..., Any], *, seed: int, mixings: Sequence[Mixing] = ()
    ) -> None:
        self.samples, self.transform, self.seed, self.mixings = samples, transform, seed, tuple(mixings)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: SampleKey) -> tuple[Any, dict[str, Any]]:
        image, target = self.samples[key.sample]
        with torch.random.fork_rng(devices=[]):
            # the CPU's generator alone: torch.manual_seed also queues seeds for devices, which takes a millisecond
            torch.default_generator.manual_seed(sample_seed(self.seed, key.epoch, key.sample, key.repeat))
            mixed: tuple[Any, dict[str, Any]] = self.transform(image, target)
            for mixing in self.mixings:
                if float(torch.rand(())) < mixing.probability:
                    mixed = mixing(mixed, *(self._another() for _ in range(mixing.partners)))
            return mixed

    def _another(self) -> tuple[Any, dict[str, Any]]:
        """A sample drawn at random, transformed."""
        other: tuple[Any, dict[str, Any]] = self.transform(*self.samples[int(torch.randint(len(self.samples), ()))])
        return other
