"""Samples become batches."""

from __future__ import annotations

import torch
from torchvision import tv_tensors

from delineate.data.batches import SemanticCollate


def sample(height: int, width: int, index: int):
    image = tv_tensors.Image(torch.full((3, height, width), index, dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.full((height, width), index, dtype=torch.uint8))
    return image, {"semantic_mask": mask, "image_id": index}


def test_samples_of_one_size_are_stacked():
    batch = SemanticCollate()([sample(4, 6, 1), sample(4, 6, 2)])
    assert batch.images.shape == (2, 3, 4, 6)
    assert batch.images.dtype == torch.uint8
    assert batch.target.dtype == torch.int64
    assert batch.indices == (1, 2)
    assert type(batch.images) is torch.Tensor


def test_smaller_samples_are_padded_with_their_edge_and_the_ignored_label():
    batch = SemanticCollate(ignore_index=250)([sample(2, 3, 7), sample(4, 5, 1)])
    assert batch.images.shape == (2, 3, 4, 5)
    assert batch.sizes == ((2, 3), (4, 5))
    assert (batch.images[0] == 7).all()
    assert (batch.target[0, :2, :3] == 7).all()
    assert (batch.target[0, 2:] == 250).all()
    assert (batch.target[0, :, 3:] == 250).all()
    assert (batch.target[1] == 1).all()


def test_which_classes_are_labelled_goes_along():
    assert SemanticCollate()([sample(2, 3, 7), sample(4, 5, 1)]).valid_classes is None
    valid = [torch.tensor([True, False]), torch.tensor([True, True])]
    samples = [sample(2, 3, 7), sample(4, 5, 1)]
    for (_, target), row in zip(samples, valid, strict=True):
        target["valid_classes"] = row
    batch = SemanticCollate()(samples)
    assert batch.valid_classes.tolist() == [[True, False], [True, True]]
    assert torch.equal(batch.to(torch.device("cpu")).valid_classes, batch.valid_classes)
    assert [part.valid_classes.tolist() for part in batch.unpadded()] == [[[True, False]], [[True, True]]]


def test_moving_keeps_what_belongs_together():
    batch = SemanticCollate()([sample(2, 2, 5)])
    moved = batch.to(torch.device("cpu"))
    assert torch.equal(moved.images, batch.images)
    assert moved.indices == batch.indices
    assert moved.sizes == batch.sizes


def test_unpadded_is_the_batch_itself_or_each_image_in_its_own_size():
    batch = SemanticCollate()([sample(4, 6, 1), sample(4, 6, 2)])
    assert list(batch.unpadded()) == [batch]
    mixed = list(SemanticCollate()([sample(2, 3, 7), sample(4, 5, 1)]).unpadded())
    assert [part.images.shape for part in mixed] == [(1, 3, 2, 3), (1, 3, 4, 5)]
    assert [part.target.shape for part in mixed] == [(1, 2, 3), (1, 4, 5)]
    assert [(part.sizes, part.indices) for part in mixed] == [(((2, 3),), (7,)), (((4, 5),), (1,))]
    assert all((part.target == label).all() for part, label in zip(mixed, (7, 1), strict=True))
