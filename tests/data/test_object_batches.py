"""Images of several sizes and any number of objects in one batch."""

from __future__ import annotations

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
