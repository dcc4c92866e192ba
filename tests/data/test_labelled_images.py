"""Pictures that are only named: a target without objects, with a label of the whole image."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from delineate.data.formats.class_folders import ClassFolders, read
from delineate.data.labelled_images import LabelledImages
from delineate.data.object_augmentation import resolved, train_transform
from delineate.data.object_batches import ObjectBatch, object_collate
from delineate.errors import DataError


@pytest.fixture
def folders(tmp_path: Path) -> ClassFolders:
    for name, grey in (("dog", 50), ("cat", 90)):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(np.full((6, 8, 3), grey, np.uint8)).save(tmp_path / "train" / name / "1.png")
    found = read(tmp_path)
    assert isinstance(found, ClassFolders)
    return found


def test_an_item_has_no_object_and_a_name(folders: ClassFolders) -> None:
    samples = LabelledImages(folders, "train")
    image, target = samples[1]
    assert len(samples) == 2
    assert samples.taxonomy.names == ("cat", "dog")
    assert image.shape == (3, 6, 8)
    assert int(image[0, 0, 0]) == 50
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].dtype == torch.int64
    assert (target["image_label"].dtype, int(target["image_label"])) == (torch.int64, 1)
    assert (target["image_id"], target["stem"]) == (1, "train-dog-1")
    assert samples.counts().tolist() == [0, 0]
    assert samples.truth().num_images == 2
    assert len(samples.truth().objects) == 0
    assert samples.files(0).endswith("train/cat/1.png")


def test_the_name_passes_augmentation_batches_and_processes(folders: ClassFolders) -> None:
    values = {"preset": "ssd", "size": [32, 32], "rotate90": True}
    samples = LabelledImages(folders, transform=train_transform(resolved(values)))
    torch.manual_seed(0)
    batch = object_collate([samples[index] for index in (0, 1)])
    again = pickle.loads(pickle.dumps(batch))  # noqa: S301 - our own
    for one in (batch, again):
        assert isinstance(one, ObjectBatch)
        assert one.images.shape == (2, 3, 32, 32)
        assert [int(target["image_label"]) for target in one.targets] == [0, 1]
        assert all(target["image_label"].ndim == 0 for target in one.targets)
        assert all(target["boxes"].shape == (0, 4) for target in one.targets)


def test_pictures_that_cannot_be_read_are_named(folders: ClassFolders) -> None:
    broken = folders.root / folders.files[0]
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cat/1\.png"):
        LabelledImages(folders)[0]
    rest = LabelledImages(folders, on_error="skip")
    assert rest.skipped == [str(broken)]
    assert [rest.label(index) for index in range(len(rest))] == [1]
    (folders.root / folders.files[1]).write_bytes(b"")
    with pytest.raises(DataError, match="data set must hold at least one image; got none that can be read"):
        LabelledImages(folders, on_error="skip")
