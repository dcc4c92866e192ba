import pytest

from delineate.data.formats.pairing import paired
from delineate.data.formats.split_lists import find_lists, splits_by_lists, without_union
from delineate.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("train/1", "train/2", "val/1", "val/3"):
        for kind in ("images", "masks"):
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


def resolved(root, **lists):
    for split, lines in lists.items():
        (root / f"{split}.txt").write_text("\n".join(lines))
    pools = [paired(split, root / "images" / split, root / "masks" / split) for split in ("train", "val")]
    splits, problems = splits_by_lists(root, pools, find_lists(root))
    names = {
        split: [record.image.relative_to(root / "images").as_posix() for record in records]
        for split, records in splits.items()
    }
    return names, problems


@pytest.mark.parametrize(
    "line",
    [
        "2",
        "2.png",
        "2.jpg",
        "images/train/2.png",
        "./train/2",
        "images\\train\\2.png",
        "/somewhere/else/images/train/2.png /somewhere/else/masks/train/2.png",
        "images/train/2.png,masks/train/2.png",
        "  2  ",
    ],
)
def test_ways_to_name_a_picture(folder, line):
    names, problems = resolved(folder, train=[line])
    assert names == {"train": ["train/2.png"], "val": ["val/1.png", "val/3.png"]}
    assert [p.kind for p in problems] == ["unlisted"]


def test_a_stem_in_two_folders_means_the_one_of_the_lists_split(folder):
    names, _ = resolved(folder, train=["1"], val=["1"])
    assert names == {"train": ["train/1.png"], "val": ["val/1.png"]}


def test_the_order_is_the_lists_and_repeats_count_once(folder):
    names, problems = resolved(folder, train=["2", "1", "2", ""], val=["1", "3"])
    assert names["train"] == ["train/2.png", "train/1.png"]
    assert [(p.severity, p.kind, p.message) for p in problems] == [
        ("warning", "duplicate-line", "line 3 names 2.png again")
    ]


def test_lines_that_name_nothing_are_errors_with_their_number(folder):
    names, problems = resolved(folder, train=["1", "../../../etc/passwd", "9"], val=["1", "3"])
    assert names["train"] == ["train/1.png"]
    errors = [p for p in problems if p.severity == "error"]
    assert [p.message for p in errors] == [
        "line 2 names '../../../etc/passwd', and there is no such image",
        "line 3 names '9', and there is no such image",
    ]
    assert {p.file for p in errors} == {str(folder / "train.txt")}


def test_many_wrong_lines_are_summed_up(folder):
    _, problems = resolved(folder, train=["1", "2", *[f"x{i}" for i in range(80)]], val=["1", "3"])
    assert len(problems) == 51
    assert problems[-1].message == "30 more lines name images that do not exist"


def test_a_list_of_other_things_makes_no_split(folder):
    names, problems = resolved(folder, test=["some", "words"])
    assert names == {"train": ["train/1.png", "train/2.png"], "val": ["val/1.png", "val/3.png"]}
    assert [(p.severity, p.message) for p in problems] == [
        ("error", "none of the 2 lines names an image, such as 'some'")
    ]


@pytest.mark.parametrize(
    "name", ["train.txt", "splits/train_list.txt", "ImageSets/Segmentation/train.txt", "Training.txt"]
)
def test_where_lists_are_found(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("a")
    (tmp_path / "classes.txt").write_text("a")
    (tmp_path / "notes.txt").write_text("a")
    assert find_lists(tmp_path) == {"train": tmp_path / name}


def test_bytes_that_are_no_text(folder):
    (folder / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"split list must be UTF-8 text; got .*train\.txt"):
        resolved(folder)


def test_trainval_gives_way_to_its_parts():
    assert without_union({"train": (), "val": (), "trainval": ()}) == {"train": (), "val": ()}
    assert without_union({"trainval": (), "test": ()}) == {"train": (), "test": ()}
