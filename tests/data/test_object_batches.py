"""Images of several sizes and any number of objects in one batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torchvision import tv_tensors

from delineate.data.object_batches import object_collate


def sample(number, height, width, count):
    image = tv_tensors.Image(torch.full((3, height, width), number + 1, dtype=torch.uint8))
    boxes = torch.arange(4 * count).reshape(count, 4).float()
    masks = torch.ones(count, height, width, dtype=torch.uint8)
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        "labels": torch.arange(count),
        "masks": tv_tensors.Mask(masks),
        "image_id": number,
        "stem": "name",
    }
    return image, target


def test_by_hand():
    batch = object_collate([sample(0, 4, 6, 2), sample(1, 5, 3, 0)])
    assert batch.images.shape == (2, 3, 5, 6)
    assert batch.images.dtype == torch.uint8
    assert batch.images[0, 0].sum(dim=1).tolist() == [6, 6, 6, 6, 0]
    assert batch.images[1, 0].sum(dim=0).tolist() == [10, 10, 10, 0, 0, 0]
    assert (batch.sizes, batch.indices) == (((4, 6), (5, 3)), (0, 1))
    assert list(batch.targets[0]) == ["boxes", "labels", "masks"]
    for target in batch.targets:
        assert {type(value) for value in target.values()} == {torch.Tensor}
    assert batch.targets[0]["boxes"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batch.targets[1]["boxes"].shape == (0, 4)
    assert batch.targets[1]["masks"].shape == (0, 5, 3)


def test_unpadded_gives_every_image_back():
    samples = [sample(0, 4, 6, 2), sample(7, 5, 3, 1)]
    parts = list(object_collate(samples).unpadded())
    assert [part.indices for part in parts] == [(0,), (7,)]
    for part, (image, target) in zip(parts, samples, strict=True):
        assert torch.equal(part.images[0], image)
        assert torch.equal(part.targets[0]["masks"], target["masks"])
        assert part.sizes == (tuple(image.shape[1:]),)
    same = object_collate([samples[0], samples[0]])
    assert list(same.unpadded()) == [same]


def test_to_moves_every_tensor():
    batch = object_collate([sample(0, 4, 6, 2)]).to(torch.device("meta"))
    assert batch.images.is_meta
    assert all(value.is_meta for value in batch.targets[0].values())
    assert batch.sizes == ((4, 6),)


@pytest.mark.gpu
def test_pinned_memory():
    batch = object_collate([sample(0, 4, 6, 2)]).pin_memory()
    assert batch.images.is_pinned()
    assert all(value.is_pinned() for value in batch.targets[0].values())


def test_a_batch_crosses_processes_as_a_tensor_a_key():
    """Each tensor is an open file there: four columns of a thousand images must not be four thousand."""
    image = torch.ones(3, 2, 5, dtype=torch.uint8)
    targets = [
        {"boxes": torch.rand(count, 4), "labels": torch.arange(count), "masks": torch.rand(count, 2, 5) > 0.5}
        for count in (2, 0, 3)
    ]
    del targets[1]["masks"]
    batch = object_collate([(image, {**target, "image_id": i}) for i, target in enumerate(targets)])
    state = batch.__getstate__()
    assert sorted(state["packed"]) == ["boxes", "labels", "masks"]
    assert all(isinstance(flat, torch.Tensor) for flat, _ in state["packed"].values())
    again = copy.copy(batch)  # by way of its state, as pickling
    assert (again.sizes, again.indices) == (batch.sizes, batch.indices)
    assert torch.equal(again.images, batch.images)
    for one, other in zip(again.targets, batch.targets, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            assert one[key].dtype == value.dtype
            assert one[key].shape == value.shape
            assert torch.equal(one[key], value)
