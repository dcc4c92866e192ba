"""Samples kept in memory are the samples, read once."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from delineate.data import caching
from delineate.data.batches import SemanticCollate
from delineate.data.caching import CachedSamples, cached
from delineate.data.digits import DigitScenes
from delineate.errors import DataError
from delineate.structures.taxonomy import Taxonomy


class Counted:
    """Five images of 3 x 4 x 6 bytes with masks of 4 x 6, which know how often they were read."""

    taxonomy = Taxonomy(("a", "b"))
    name, skipped = "counted", ("bad.png",)

    def __init__(self, length: int = 5) -> None:
        self.length = length
        self.reads: Counter[int] = Counter()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        self.reads[index] += 1
        image = tv_tensors.Image(torch.full((3, 4, 6), index, dtype=torch.uint8))
        mask = tv_tensors.Mask(torch.full((4, 6), index, dtype=torch.uint8))
        return image, {"semantic_mask": mask, "image_id": index, "stem": self.stem(index)}

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, dict[str, Any]]]:
        return [self[index] for index in indices]

    def stem(self, index: int) -> str:
        return f"image{index}"


def test_kept_samples_are_the_samples():
    scenes = DigitScenes("val")
    scenes = torch.utils.data.Subset(scenes, range(3))
    kept = CachedSamples(scenes)
    assert len(kept) == 3
    for index in range(3):
        (image, target), (expected, truth) = kept[index], scenes[index]
        assert type(image) is tv_tensors.Image
        assert torch.equal(image, expected)
        assert target.keys() == truth.keys()
        assert type(target["semantic_mask"]) is tv_tensors.Mask
        for key, value in truth.items():
            assert torch.equal(target[key], value) if isinstance(value, torch.Tensor) else target[key] == value


def test_each_sample_is_read_once():
    samples = Counted()
    kept = cached(samples, "memory")
    for _ in range(3):
        assert [kept[index][1]["image_id"] for index in range(5)] == [0, 1, 2, 3, 4]
    list(DataLoader(kept, batch_size=2, collate_fn=SemanticCollate()))  # asks for __getitems__ where there is one
    assert samples.reads == dict.fromkeys(range(5), 1)


def test_what_the_data_set_knows_is_known():
    kept = cached(Counted(), "memory")
    assert kept.taxonomy.names == ("a", "b")
    assert (kept.name, kept.skipped, kept.stem(3)) == ("counted", ("bad.png",), "image3")
    with pytest.raises(AttributeError, match="colour"):
        _ = kept.colour
    with pytest.raises(IndexError):
        kept[5]


def test_a_transform_that_changes_the_target_does_not_change_the_kept_one():
    kept = cached(Counted(), "memory")
    target = kept[0][1]
    target["stem"] = "other"
    del target["semantic_mask"]
    assert kept[0][1]["stem"] == "image0"
    assert "semantic_mask" in kept[0][1]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])  # noqa: S301
def test_copies_need_no_reading(copied):
    samples = Counted()
    again = copied(cached(samples, "memory"))
    assert [again[index][1]["stem"] for index in range(5)] == [f"image{index}" for index in range(5)]
    assert again.name == "counted"
    assert sum(samples.reads.values()) + sum(again.samples.reads.values()) in (5, 10)  # five, or five copied with it


def test_reading_reports_its_progress():
    seen = []
    cached(DigitScenes("val", length=3), "memory", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    cached(DigitScenes("val", length=3), "none", progress=lambda done, total: seen.append("read"))
    assert len(seen) == 3


def test_worker_processes_share_what_is_kept():
    samples = Counted()
    batches = list(DataLoader(cached(samples, "memory"), batch_size=5, num_workers=1, collate_fn=SemanticCollate()))
    assert batches[0].indices == (0, 1, 2, 3, 4)
    assert samples.reads == dict.fromkeys(range(5), 1)


def test_nothing_is_kept_when_nothing_is_wanted():
    samples, empty = Counted(), Counted(0)
    assert cached(samples, "none") is samples
    assert not samples.reads
    assert cached(empty, "auto") is empty
    assert cached(empty, "memory") is empty


@pytest.mark.parametrize(("spare", "kept"), [(0, True), (1, False)])
def test_auto_keeps_what_takes_a_quarter_of_the_free_memory(monkeypatch, spare, kept):
    size = 5 * (3 + 1) * 4 * 6
    monkeypatch.setattr(caching, "_free_memory", lambda: 4 * size - spare)
    samples = Counted()
    assert isinstance(cached(samples, "auto"), CachedSamples) is kept
    assert set(samples.reads) == (set(range(5)) if kept else {0, 2, 4})


def test_auto_finds_some_free_memory():
    assert caching._free_memory() > 2**20


def test_a_file_that_cannot_be_read_is_named_at_once():
    class Broken(Counted):
        def __getitem__(self, index):
            if index == 3:
                raise DataError("image must be readable; got 3.png.")
            return super().__getitem__(index)

    with pytest.raises(DataError, match=r"3\.png"):
        cached(Broken(), "memory")
