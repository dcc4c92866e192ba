"""Images with objects as items of a data set."""

from __future__ import annotations

import json
import pickle
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors

from delineate.data.object_batches import object_collate
from delineate.data.object_dataset import ObjectDataset, object_target
from delineate.data.objects.folder import read_objects
from delineate.data.opening import open_dataset
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks


def write(home, records, images=2, categories=("cat", "dog"), **more):
    pixels = np.random.default_rng(0).integers(0, 255, (images, 20, 30, 3), np.uint8)
    for image in range(images):
        Image.fromarray(pixels[image]).save(home / f"{image}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in range(images)],
        "annotations": [{"id": i, **record} for i, record in enumerate(records)],
        "categories": [{"id": i, "name": name, **more} for i, name in enumerate(categories)],
    }
    (home / "annotations.json").write_text(json.dumps(content))
    return pixels


def record(image, bbox, category=0, **more):
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


@pytest.fixture
def full(tmp_path):
    """Boxes, masks and keypoints in the second of two images."""
    square = [[2, 3, 12, 3, 12, 11, 2, 11]]
    points = {"keypoints": [4, 5, 2, 50, 7, 1]}
    records = [
        record(1, [-2, 3, 14, 8], 1, segmentation=square, **points),
        record(1, [0, 0, 5, 5], iscrowd=1, area=9, segmentation={"size": [20, 30], "counts": [0, 3, 597]}),
    ]
    return write(tmp_path, records, keypoints=["nose", "tail"]), tmp_path


def test_an_item_by_hand(full):
    pixels, home = full
    data = open_dataset(home, task="objects")
    assert isinstance(data, ObjectDataset)
    assert (len(data), data.name, data.stem(1), data.files(1)) == (2, home.name, "1", str(home / "1.png"))
    assert (data.taxonomy.names, data.taxonomy.background) == (("cat", "dog"), None)
    assert (data.columns, data.keypoint_names) == (("boxes", "masks", "keypoints"), ("nose", "tail"))
    assert data.counts().tolist() == [0, 2]
    image, target = data[1]
    assert isinstance(image, tv_tensors.Image)
    assert torch.equal(image, torch.from_numpy(pixels[1]).permute(2, 0, 1))
    objects = ["boxes", "labels", "masks", "keypoints", "visibility", "area", "iscrowd"]
    assert list(target) == [*objects, "image_id", "stem"]
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == target["keypoints"].canvas_size == (20, 30)
    assert target["boxes"].tolist() == [[0, 3, 12, 11], [0, 0, 5, 5]]  # cut to the image
    assert target["boxes"].dtype == target["area"].dtype == target["keypoints"].dtype == torch.float32
    assert (target["labels"].tolist(), target["labels"].dtype) == ([1, 0], torch.int64)
    assert isinstance(target["masks"], tv_tensors.Mask)
    assert (target["masks"].shape, target["masks"].dtype) == ((2, 20, 30), torch.uint8)
    assert target["masks"][0, 3:11, 2:12].all()
    assert target["masks"].sum(dim=(1, 2)).tolist() == [80, 3]
    assert isinstance(target["keypoints"], tv_tensors.KeyPoints)
    assert target["keypoints"][0].tolist() == [[4, 5], [50, 7]]
    assert target["visibility"].tolist() == [[2, 0], [0, 0]]  # outside counts as not labelled
    assert target["area"].tolist() == [80, 9]
    assert target["iscrowd"].tolist() == [False, True]
    assert (target["image_id"], target["stem"]) == (1, "1")


def test_an_image_without_objects_is_an_ordinary_item(full):
    data = open_dataset(full[1], task="objects")
    _, target = data[0]
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 20, 30)
    assert target["keypoints"].shape == (0, 2, 2)
    assert target["visibility"].shape == (0, 2)
    assert [len(target[key]) for key in ("labels", "area", "iscrowd")] == [0, 0, 0]


def test_columns_that_are_not_wanted_are_not_there(full):
    folder = read_objects(full[1])
    target = ObjectDataset(folder, columns=["keypoints"])[1][1]
    assert "masks" not in target
    assert "visibility" in target
    assert list(ObjectDataset(folder, columns=[])[1][1]) == ["boxes", "labels", "area", "iscrowd", "image_id", "stem"]
    with pytest.raises(UnknownNameError, match="column must be a known name; got 'mask'"):
        ObjectDataset(folder, columns=["mask"])
    with pytest.raises(DataError, match="columns must be some of boxes; got masks for"):
        ObjectDataset(read_objects(full[1], columns=["boxes"]), columns=["masks"])


def test_read_and_truth_are_what_the_file_says(full):
    pixels, home = full
    data = open_dataset(home, task="objects")
    image, objects = data.read(1)
    assert np.array_equal(image, pixels[1])
    assert objects.boxes.tolist() == [[-2, 3, 14, 8], [0, 0, 5, 5]]
    truth = data.truth()
    assert truth.image_ids == (0, 1)
    assert truth.objects.images.tolist() == [1, 1]


def test_truth_is_in_the_order_of_the_items(tmp_path):
    write(tmp_path, [record(i, [1, 1, 3 + i, 3]) for i in (0, 1, 1, 2, 3)], images=4)
    folder = read_objects(tmp_path)
    folder.splits["some"] = np.array([3, 1])
    data = ObjectDataset(folder, "some")
    truth = data.truth()
    assert truth.image_files == ("3.png", "1.png")
    for index in range(2):
        rows = truth.objects.images == index
        assert truth.objects.boxes[rows].tolist() == data.read(index)[1].boxes.tolist()


def test_bad_records_stop_it_or_are_dropped(tmp_path):
    write(tmp_path, [record(0, [1, 1, 4, 4]), record(0, [1, 1, 0, 4]), record(1, [1, 1, 4, 4], 7)])
    with pytest.raises(
        DataError, match=r"data set must be whole; got: category_id must .* and 1 more\. Mend the record"
    ):
        open_dataset(tmp_path, task="objects")
    data = open_dataset(tmp_path, task="objects", on_error="skip")
    assert data.counts().tolist() == [1, 0]  # the object is gone, the image stays
    assert data.skipped == []
    assert [problem.kind for problem in data.dropped] == ["unknown-category", "zero-area"]


def test_images_that_cannot_be_read_are_left_out(tmp_path):
    write(tmp_path, [record(0, [1, 1, 4, 4])], images=4)
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.png").unlink()
    data = open_dataset(tmp_path, task="objects", on_error="skip")
    assert [data.stem(index) for index in range(len(data))] == ["0", "3"]
    assert data.skipped[0] == str(tmp_path / "1.png")
    assert len(data.skipped) == 2
    assert data.dropped == ()
    with pytest.raises(DataError, match=r"data set must be whole; got: image 2 is 2\.png, which is not below"):
        open_dataset(tmp_path, task="objects")


def test_what_cannot_be_asked_for(full):
    folder = read_objects(full[1])
    with pytest.raises(ArgumentError, match='on_error must be "raise" or "skip"; got "stop"'):
        ObjectDataset(folder, on_error="stop")
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'val'"):
        ObjectDataset(folder, "val")
    folder.splits["none"] = np.zeros(0, np.int64)
    with pytest.raises(DataError, match="data set must hold at least one image; got none in split 'none' of"):
        ObjectDataset(folder, "none")
    with pytest.raises(ArgumentError, match='task must be "semantic" or "objects"; got "boxes"'):
        open_dataset(full[1], task="boxes")
    with pytest.raises(ArgumentError, match='columns must be left out but for task="objects"'):
        open_dataset(full[1], columns=["masks"])


def test_an_image_that_changes_while_it_is_open_is_refused(full):
    data = open_dataset(full[1], task="objects")
    Image.new("RGB", (31, 20)).save(full[1] / "0.png")
    with pytest.raises(
        DataError, match="image must keep its size while the data set is open; got 20 x 31 after 20 x 30"
    ):
        data[0]


def test_a_sideways_picture_comes_upright_with_its_objects(tmp_path):
    write(tmp_path, [record(0, [2, 3, 10, 8])], images=1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "0.png").copy().save(tmp_path / "0.png", exif=exif)
    image, target = open_dataset(tmp_path, task="objects")[0]
    assert image.shape == (3, 30, 20)
    assert target["boxes"].canvas_size == (30, 20)
    assert target["boxes"].tolist() == [[9, 2, 17, 12]]


def test_it_travels_to_workers(full):
    data = ObjectDataset(read_objects(full[1]), transform=first_box)
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301
    assert torch.equal(copy[1][1]["boxes"], data[1][1]["boxes"])
    batch = next(iter(DataLoader(copy, batch_size=2, collate_fn=object_collate)))
    assert [len(target["boxes"]) for target in batch.targets] == [0, 1]


def first_box(image, target):
    return image, {"boxes": target["boxes"][:1], "image_id": target["image_id"]}


def test_the_built_in_split_is_that_of_label_maps(tmp_path):
    write(tmp_path, [record(i, [1, 1, 4, 4], segmentation=[[1, 1, 5, 1, 5, 5, 1, 5]]) for i in range(10)], images=10)
    for split in ("train", "val"):
        ours, theirs = (open_dataset(tmp_path, split=split, task=task) for task in ("objects", "semantic"))
        assert [ours.stem(i) for i in range(len(ours))] == [theirs.stem(i) for i in range(len(theirs))]


def test_five_hundred_objects_stay_quick():
    masks = np.zeros((500, 64, 64), bool)
    masks[np.arange(500), np.arange(500) % 60] = True
    table = RLEMasks.from_rles([RLE.encode(mask) for mask in masks])
    objects = Objects.of([0] * 500, [0] * 500, table.boxes(), masks=table)
    object_target(objects, (64, 64))
    begin = time.process_time()
    target = object_target(objects, (64, 64))
    assert time.process_time() - begin < 1  # some milliseconds
    assert np.array_equal(target["masks"].numpy(), masks)


def test_real_cells(real_data):
    data = open_dataset(real_data / "bccd", split="val", task="objects", on_error="skip")
    assert (len(data), data.taxonomy.names, len(data.dropped)) == (87, ("Platelets", "RBC", "WBC"), 1)
    image, target = data[0]
    assert image.shape == (3, 480, 640)
    assert len(target["boxes"]) == data.counts()[0]
    with pytest.raises(DataError, match="has a box without area, x 504, y 337"):
        open_dataset(real_data / "bccd", split="val", task="objects")
