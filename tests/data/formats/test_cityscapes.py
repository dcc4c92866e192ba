import numpy as np
import pytest
from PIL import Image

from delineate.data.formats import cityscapes

# cityscapesScripts, helpers/labels.py: trainId of the ids 0 to 33
TRAIN_IDS = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, *range(6, 16), 255, 255, 16, 17, 18]


def frame(root, split, city, number, ids, kind="labelIds"):
    stem = f"{city}_000000_{number:06d}"
    image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
    mask = root / "gtFine" / split / city / f"{stem}_gtFine_{kind}.png"
    for path, array in ((image, np.zeros((1, len(ids), 3), np.uint8)), (mask, np.array([ids], np.uint8))):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    return image, mask


def test_label_ids_become_the_nineteen_classes(tmp_path):
    ids = [*range(34), 255]
    frame(tmp_path, "train", "aachen", 1, ids)
    _, mask = frame(tmp_path, "val", "ulm", 2, ids)
    Image.new("RGB", (35, 1)).save(mask.with_name(mask.name.replace("labelIds", "color")))
    layout = cityscapes.read(tmp_path)
    assert {split: [r.stem for r in records] for split, records in layout.splits.items()} == {
        "train": ["aachen_000000_000001"],
        "val": ["ulm_000000_000002"],
    }
    labels, unknown = layout.labels_of(layout.read_ids(layout.splits["val"][0]))
    assert labels.tolist() == [[*TRAIN_IDS, 255]]
    assert unknown == {}
    assert layout.problems == ()


def test_official_names_and_colours():
    names = [name for name, _, _ in cityscapes.CLASSES]
    assert len(names) == 19
    assert (names[0], names[6], names[18]) == ("road", "traffic light", "bicycle")
    assert cityscapes.CLASSES[13] == ("car", 26, (0, 0, 142))
    assert [id_ for _, id_, _ in cityscapes.CLASSES] == [id_ for id_, label in enumerate(TRAIN_IDS) if label != 255]


def test_train_ids_where_there_are_only_those(tmp_path):
    frame(tmp_path, "train", "aachen", 1, [0, 18, 255], "labelTrainIds")
    layout = cityscapes.read(tmp_path)
    labels, unknown = layout.labels_of(np.array([[0, 18, 255, 19]], np.uint8))
    assert labels.tolist() == [[0, 18, 255, 255]]
    assert unknown == {19: 1}
    frame(tmp_path, "train", "aachen", 1, [7, 33, 255])
    assert cityscapes.read(tmp_path).splits["train"][0].mask.name.endswith("_gtFine_labelIds.png")


def test_missing_partners(tmp_path):
    frame(tmp_path, "train", "aachen", 1, [7])
    _, mask = frame(tmp_path, "train", "aachen", 2, [7])
    image, _ = frame(tmp_path, "train", "aachen", 3, [7])
    mask.unlink()
    image.unlink()
    problems = cityscapes.read(tmp_path).problems
    assert [(p.severity, p.kind, p.split) for p in problems] == [
        ("error", "missing-image", "train"),
        ("error", "missing-mask", "train"),
    ]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["leftImg8bit/train/a/x_leftImg8bit.png"], "no such pair of folders"),
        (["leftImg8bit/train/a/x_leftImg8bit.png", "gtFine/train/a/x.png"], "gtFine/ without"),
        (["leftImg8bit/x.png", "gtFine/train/a/x_gtFine_labelIds.png"], "leftImg8bit/ without"),
    ],
)
def test_other_folders(tmp_path, paths, reason):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    assert cityscapes.read(tmp_path).startswith(reason)
