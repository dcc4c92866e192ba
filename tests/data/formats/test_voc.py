import numpy as np
import pytest
from PIL import Image

from delineate.data.formats import voc
from delineate.structures.taxonomy import voc_colours


def palette_mask(ids):
    picture = Image.fromarray(ids, "P")
    picture.putpalette([value for colour in voc_colours(256) for value in colour])
    return picture


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "ImageSets/Main", "Annotations"):
        (home / name).mkdir(parents=True)
    for stem in ("2007_1", "2007_2", "2007_3", "2007_4"):
        Image.new("RGB", (3, 1)).save(home / f"JPEGImages/{stem}.jpg")
    for stem in ("2007_1", "2007_2", "2007_3"):
        palette_mask(np.array([[0, 15, 255]], np.uint8)).save(home / f"SegmentationClass/{stem}.png")
    for split, stems in (("train", "2007_1\n2007_2\n"), ("val", "2007_3\n"), ("test", "2007_4\n")):
        (home / f"ImageSets/Segmentation/{split}.txt").write_text(stems)
    (home / "ImageSets/Segmentation/trainval.txt").write_text("2007_1\n2007_2\n2007_3\n")
    (home / "ImageSets/Main/train.txt").write_text("2007_4 -1\n")
    return home


@pytest.mark.parametrize("start", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_lists_palette_and_void(tmp_path, home, start):
    layout = voc.read(tmp_path / start)
    assert layout.root == home
    assert {split: [r.stem for r in records] for split, records in layout.splits.items()} == {
        "test": ["2007_4"],
        "train": ["2007_1", "2007_2"],
        "val": ["2007_3"],
    }
    labels, unknown = layout.labels_of(layout.read_ids(layout.splits["val"][0]))
    assert labels.tolist() == [[0, 15, 255]]
    assert unknown == {}
    assert layout.taxonomy.names[15] == "person"
    assert layout.taxonomy.colours == voc_colours(21)
    assert layout.taxonomy.background == 0
    assert [(p.severity, p.kind, p.split) for p in layout.problems] == [("warning", "unlabelled-split", "test")]


def test_masks_saved_in_colour(tmp_path, home):
    colours = np.array([[voc_colours(16)[15], voc.VOID_COLOUR, (1, 1, 1)]], np.uint8)
    Image.fromarray(colours).save(home / "SegmentationClass/2007_3.png")
    layout = voc.read(home)
    labels, unknown = layout.labels_of(layout.read_ids(layout.splits["val"][0]))
    assert labels.tolist() == [[15, 255, 255]]
    assert unknown == {-2 - 0x010101: 1}


def test_a_listed_image_without_mask_is_an_error(home):
    (home / "SegmentationClass/2007_2.png").unlink()
    errors = [p for p in voc.read(home).problems if p.severity == "error"]
    assert [(p.kind, p.split) for p in errors] == [("missing-mask", "train")]


def test_several_years_must_be_told_apart(tmp_path, home):
    for name in ("JPEGImages", "SegmentationClass"):
        (tmp_path / "VOCdevkit/VOC2007" / name).mkdir(parents=True)
    assert voc.read(tmp_path) == "several of them, VOC2007, VOC2012; name one"


def test_other_folders(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    assert voc.read(tmp_path) == "no such pair of folders"


def test_real_images_with_a_class_list_of_their_own(real_data):
    layout = voc.read(real_data / "voc3_labelme/semantic_segmentation/data_dataset_voc")
    assert [record.stem for record in layout.splits["all"]] == ["2011_000003", "2011_000006", "2011_000025"]
    assert layout.taxonomy.num_classes == 21
    assert (layout.taxonomy.names[0], layout.taxonomy.names[16]) == ("background", "potted plant")
    assert layout.taxonomy.colours == voc_colours(21)
    present = set()
    for record in layout.splits["all"]:
        labels, unknown = layout.labels_of(layout.read_ids(record))
        assert unknown == {}
        present |= set(np.unique(labels).tolist())
    assert present == {0, 5, 6, 7, 9, 15, 18, 255}
