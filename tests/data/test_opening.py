import numpy as np
import pytest
from PIL import Image

from delineate.data.dataset import SemanticDataset
from delineate.data.opening import FORMATS, open_dataset, read_layout
from delineate.errors import DataError, UnknownNameError


@pytest.fixture
def plain(tmp_path):
    root = tmp_path / "plain"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(np.full((2, 3), i % 2, np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize(
    ("folder", "format", "count"),
    [
        ("camvid", "mask-folders", 468),
        ("isbi2012_em", "mask-folders", 24),
        ("dsb2018", "mask-folders", 250),
        ("coco_tiny", "coco", 38),
        ("coco_pose_mini", "coco", 30),
        ("refvec/ade_sample/sampleData", "mask-folders", 3),
        ("voc3_labelme/semantic_segmentation/data_dataset_voc", "voc", 3),
        ("voc3_labelme/instance_segmentation/data_dataset_coco", "coco", 3),
    ],
)
def test_real_folders_are_recognised(real_data, folder, format, count):
    layout = read_layout(real_data / folder)
    assert layout.format == format
    data = SemanticDataset(layout)
    assert len(data) == count
    image, labels = data.read(count - 1)
    assert image.shape[:2] == labels.shape
    assert set(np.unique(labels)) <= {*range(data.taxonomy.num_classes), 255}


def test_camvid_by_split(real_data):
    assert len(open_dataset(real_data / "camvid", split="train")) == 367
    assert len(open_dataset(str(real_data / "camvid"), split="val")) == 101


def test_a_folder_without_splits_has_train_and_val(plain):
    train, val = open_dataset(plain, split="train"), open_dataset(plain, split="val")
    assert (len(train), len(val)) == (8, 2)
    stems = {data.stem(i) for data in (train, val) for i in range(len(data))}
    assert stems == {str(i) for i in range(10)}
    assert len(open_dataset(plain)) == len(open_dataset(plain, split="all")) == 10
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'test'"):
        open_dataset(plain, split="test")


def test_boxes_alone_are_not_recognised_and_the_error_says_what_was_looked_for(real_data):
    with pytest.raises(DataError) as raised:
        read_layout(real_data / "bccd")
    message = str(raised.value)
    assert "with Annotations/, ImageSets/, JPEGImages/, LICENSE in it" in message
    for name, known in FORMATS.items():
        assert f"{name}: {known.looked_for}" in message
    assert "\n" not in message


def test_a_named_format_that_does_not_fit(plain):
    with pytest.raises(DataError, match=r"a data set in the layout 'voc'; got .* with images/, masks/ in it") as raised:
        read_layout(plain, "voc")
    assert "cityscapes" not in str(raised.value)
    with pytest.raises(UnknownNameError, match=r"format must be a known name; got 'mask_folders'. Did you mean"):
        read_layout(plain, "mask_folders")


def test_paths_that_are_no_folder(plain, tmp_path):
    with pytest.raises(DataError, match=r"folder that exists; got .*plane\. Did you mean '.*plain'\?"):
        read_layout(tmp_path / "plane")
    with pytest.raises(DataError, match=r"""Check the path, or pass "digits" for built-in scenes"""):
        read_layout(tmp_path / "no" / "where")
    with pytest.raises(DataError, match=r"data set's folder; got a file, .*0\.png"):
        read_layout(plain / "images/0.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="with nothing in it"):
        read_layout(tmp_path / "empty")


def test_digits_are_built_in_and_a_folder_of_that_name_is_reached_by_its_path(plain, monkeypatch):
    assert open_dataset("digits").name == "digits"
    assert open_dataset("digits", split="val", channels=1)[0][0].shape[0] == 1
    plain.rename(plain.parent / "digits")
    monkeypatch.chdir(plain.parent)
    assert len(open_dataset("./digits")) == 10


def test_options_reach_the_data_set(plain):
    (plain / "images/3.png").write_bytes(b"")
    data = open_dataset(plain, channels=1, on_error="skip", transform=lambda image, target: (image, target["stem"]))
    assert len(data) == 9
    assert data.skipped == [str(plain / "images/3.png")]
    image, stem = data[0]
    assert (image.shape[0], stem) == (1, "0")
