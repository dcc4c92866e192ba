import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from delineate.data.dataset import SemanticDataset
from delineate.data.opening import read_layout
from delineate.errors import ArgumentError, DataError, UnknownNameError

IDS = np.array([[0, 1, 2], [2, 255, 0]], np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ("images/train", "images/val", "masks/train", "masks/val"):
        (tmp_path / name).mkdir(parents=True)
    for place, name in enumerate(["train/a", "train/b", "train/c", "val/d"]):
        Image.new("RGB", (3, 2), (place, 0, 200)).save(tmp_path / f"images/{name}.png")
        Image.fromarray(IDS).save(tmp_path / f"masks/{name}.png")
    (tmp_path / "classes.txt").write_text("sky\nroad\ncar\n")
    return tmp_path


def opened(folder, split="train", **options):
    return SemanticDataset(read_layout(folder), split, **options)


def test_items_are_tv_tensors_with_a_dictionary(folder):
    data = opened(folder)
    image, target = data[1]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(target["semantic_mask"], tv_tensors.Mask)
    assert (image.dtype, tuple(image.shape)) == (torch.uint8, (3, 2, 3))
    assert image[:, 0, 0].tolist() == [1, 0, 200]
    assert target["semantic_mask"].dtype == torch.uint8
    assert target["semantic_mask"].tolist() == IDS.tolist()
    assert (target["image_id"], target["stem"]) == (1, "b")
    assert (len(data), data.name, data.split) == (3, folder.name, "train")
    assert data.taxonomy.names == ("sky", "road", "car")
    assert (data.stem(2), data.files(2)) == ("c", str(folder / "images/train/c.png"))


def test_read_gives_arrays(folder):
    image, labels = opened(folder).read(2)
    assert image.tolist() == [[[2, 0, 200]] * 3] * 2
    assert np.array_equal(labels, IDS)
    assert opened(folder, channels=1).read(0)[0].shape == (2, 3, 1)


def test_no_split_is_all_and_iteration_ends(folder):
    assert [target["stem"] for _, target in opened(folder, None)] == ["a", "b", "c", "d"]
    with pytest.raises(UnknownNameError, match="Did you mean 'train'"):
        opened(folder, "trian")


def test_the_transform_moves_image_and_mask_together(folder):
    _, target = opened(folder, transform=v2.RandomHorizontalFlip(1.0))[0]
    assert target["semantic_mask"].tolist() == IDS[:, ::-1].tolist()
    assert target["stem"] == "a"


def test_threads_pickles_and_worker_processes_read_alike(folder):
    data = opened(folder)
    expected = [data.read(i)[0].tolist() for i in range(3)]
    assert [pickle.loads(pickle.dumps(data)).read(i)[0].tolist() for i in range(3)] == expected  # noqa: S301
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: data.read(i % 3)[0].tolist(), range(60))) == expected * 20
    loader = DataLoader(data, batch_size=None, num_workers=2)
    assert [image.permute(1, 2, 0).tolist() for image, _ in loader] == expected


def test_a_missing_mask_is_refused_at_once_or_left_out_and_named(folder):
    (folder / "masks/train/b.png").unlink()
    with pytest.raises(DataError, match=r"image b\.png has no mask \(.*b\.png\)\. Run `delineate data check`"):
        opened(folder)
    data = opened(folder, on_error="skip")
    assert [data.stem(i) for i in range(len(data))] == ["a", "c"]
    assert data.skipped == [str(folder / "images/train/b.png")]
    assert len(opened(folder, "val")) == 1


def test_a_mask_without_image_is_refused(folder):
    (folder / "images/train/b.png").unlink()
    with pytest.raises(DataError, match=r"mask b\.png has no image"):
        opened(folder)
    data = opened(folder, on_error="skip")
    assert len(data) == 2
    assert data.skipped_because == {str(folder / "masks/train/b.png"): "mask b.png has no image"}


def test_bad_records_are_named_when_read_or_left_out_when_opened(folder):
    whole = (folder / "images/train/a.png").read_bytes()
    (folder / "images/train/a.png").write_bytes(whole[:50])
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks/train/b.png")
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(folder / "masks/train/c.png")
    data = opened(folder)
    with pytest.raises(DataError, match=r"image must be a whole, readable picture; got .*a\.png"):
        data[0]
    with pytest.raises(DataError, match=r"size of its image; got 3 x 3 in .*masks.train.b\.png for 2 x 3 in .*b\.png"):
        data[1]
    with pytest.raises(DataError, match=r"known ids; got id 7 \(6 pixels\) in .*masks.train.c\.png"):
        data[2]
    with pytest.raises(DataError, match=r"at least one labelled image; got none .*\(3 were left out"):
        opened(folder, on_error="skip")
    (folder / "images/train/a.png").write_bytes(whole)
    kept = opened(folder, on_error="skip")
    assert [kept.stem(0), len(kept)] == ["a", 1]
    assert [name[-5:] for name in kept.skipped] == ["b.png", "c.png"]
    assert "id 7" in kept.skipped_because[kept.skipped[1]]


def test_an_unlabelled_split_cannot_be_opened(folder):
    shutil.rmtree(folder / "masks/val")
    (folder / "masks/val").mkdir()
    with pytest.raises(DataError, match=r"got none for .*d\.png, split 'val'"):
        opened(folder, "val")
    assert [target["stem"] for _, target in opened(folder, None)] == ["a", "b", "c"]


def test_the_limit_of_pixels_is_passed_on(folder):
    with pytest.raises(DataError, match="at most 5 pixels"):
        opened(folder, max_pixels=5)[0]


def test_options_are_checked(folder):
    with pytest.raises(ArgumentError, match='on_error must be "raise" or "skip"; got "ignore"'):
        opened(folder, on_error="ignore")
    with pytest.raises(ArgumentError, match="channels must be at least 1; got 0"):
        opened(folder, channels=0)


def test_an_image_turned_by_exif_keeps_its_mask_in_step(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, 8:] = 255
    Image.fromarray(picture).save(tmp_path / "images/a.png", exif=exif)
    Image.fromarray((picture[..., 0] > 0).astype(np.uint8)).save(tmp_path / "masks/a.png")
    image, labels = SemanticDataset(read_layout(tmp_path)).read(0)
    assert image.shape == (16, 8, 3)
    assert np.array_equal(image[..., 0] > 0, labels == 1)
