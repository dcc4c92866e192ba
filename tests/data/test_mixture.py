"""Several data sets as one: joint classes, joint labels, and which classes each image's data set labels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from delineate.data.augmentation import resolved, train_transform
from delineate.data.batches import SemanticCollate
from delineate.data.mixture import MixedSamples, joint_taxonomy, open_mixture
from delineate.data.opening import open_dataset
from delineate.errors import ArgumentError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy


def folder(root: Path, name: str, classes: list[str], labels: list[int], *, splits=("train", "val")) -> Path:
    """One image a label for each split, filled with it; a column is ignored."""
    for split in splits:
        for kind in ("images", "masks"):
            (root / name / split / kind).mkdir(parents=True)
        for label in labels:
            mask = np.full((6, 8), label, np.uint8)
            mask[:, 0] = 255
            Image.fromarray(np.full((6, 8, 3), 40 * label, np.uint8)).save(root / name / split / f"images/{label}.png")
            Image.fromarray(mask).save(root / name / split / f"masks/{label}.png")
    (root / name / "classes.txt").write_text("\n".join(classes) + "\n")
    return root / name


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [folder(tmp_path, "a", ["road", "car"], [0, 1]), folder(tmp_path, "b", ["car", "tree", "road"], [0, 1, 2])]


def test_joint_classes():
    first, second = Taxonomy(("road", "car")), Taxonomy(("car", "tree"))
    joint = joint_taxonomy([first, second])
    assert joint.names == ("road", "car", "tree")
    assert joint.labelled is None
    assert len(set(joint.colours)) == 3
    assert joint_taxonomy([first, second], ["tree", "road"]).names == ("tree", "road")
    with pytest.raises(UnknownNameError, match=r"class must be a known name; got 'tre'. Did you mean 'tree'\?"):
        joint_taxonomy([first, second], ["tre"])


def test_colours_stay_where_they_differ():
    first = Taxonomy(("road", "car"), colours=((1, 1, 1), (2, 2, 2)))
    assert joint_taxonomy([first, Taxonomy(("tree",), colours=((3, 3, 3),))]).colours[2] == (3, 3, 3)
    clash = joint_taxonomy([first, Taxonomy(("tree",), colours=((2, 2, 2),))])
    assert len(set(clash.colours)) == 3


def test_the_background_is_the_one_all_name():
    first, second = Taxonomy(("nothing", "car"), background=0), Taxonomy(("tree", "nothing"), background=1)
    assert joint_taxonomy([first, second]).background == 0
    assert joint_taxonomy([first, second], ["car", "nothing"]).background == 1
    assert joint_taxonomy([first, Taxonomy(("void", "tree"), background=0)]).background is None
    assert joint_taxonomy([Taxonomy(("road",)), Taxonomy(("tree",))]).background is None


def test_a_class_that_no_part_labels():
    declared = Taxonomy(("road", "car", "tree"), labelled=(True, True, False))
    assert joint_taxonomy([declared, Taxonomy(("road",))]).labelled == (True, True, False)
    assert joint_taxonomy([declared, Taxonomy(("tree",))]).labelled is None


def test_labels_become_joint_ones_and_every_image_says_what_its_part_labels(two):
    mixed = open_mixture(two, split="train")
    assert mixed.taxonomy.names == ("road", "car", "tree")
    assert len(mixed) == 5
    assert mixed.name == "a+b"
    expected = [(0, [1, 1, 0]), (1, [1, 1, 0]), (1, [1, 1, 1]), (2, [1, 1, 1]), (0, [1, 1, 1])]
    for index, (label, valid) in enumerate(expected):
        image, target = mixed[index]
        assert (target["semantic_mask"][:, 1:] == label).all()
        assert (target["semantic_mask"][:, 0] == 255).all()
        assert target["semantic_mask"].dtype == torch.uint8
        assert target["valid_classes"].int().tolist() == valid
        assert torch.equal(mixed.valid_classes(index), target["valid_classes"])
        assert target["image_id"] == index
        pixels, labels = mixed.read(index)
        assert (torch.from_numpy(pixels).permute(2, 0, 1) == image).all()
        assert (labels == target["semantic_mask"].numpy()).all()
    assert [mixed.stem(index) for index in range(5)] == ["a-0", "a-1", "b-0", "b-1", "b-2"]
    assert mixed.files(2).endswith("b/train/images/0.png")
    for outside in (-1, 5):
        with pytest.raises(IndexError):
            mixed[outside]


def test_a_class_left_out_is_ignored(two):
    mixed = open_mixture(two, split="train", classes=["tree", "road"])
    assert mixed.taxonomy.names == ("tree", "road")
    assert [int(mixed[index][1]["semantic_mask"][0, 5]) for index in range(5)] == [1, 255, 255, 0, 1]
    assert mixed[0][1]["valid_classes"].tolist() == [False, True]
    alone = open_mixture(two[1], split="train", classes=["car"])
    assert [int(alone[index][1]["semantic_mask"][0, 5]) for index in range(3)] == [0, 255, 255]
    assert "valid_classes" not in alone[0][1]


def test_parts_with_the_same_classes_carry_nothing_more(two, tmp_path):
    other = folder(tmp_path, "c", ["tree", "road", "car"], [2])
    mixed = open_mixture([two[1], other], split="val")
    assert "valid_classes" not in mixed[0][1]
    assert (mixed[3][1]["semantic_mask"][:, 1:] == 0).all()  # "car" is the first class of the first part
    assert SemanticCollate()([mixed[0], mixed[3]]).valid_classes is None


def test_a_part_without_the_split_still_gives_its_classes(two, tmp_path):
    third = folder(tmp_path, "d", ["sky", "sun"], [0], splits=("val", "test"))
    test = open_mixture([*two, third], split="test")
    assert test.taxonomy.names == ("road", "car", "tree", "sky", "sun")
    assert len(test) == 1
    assert (test[0][1]["semantic_mask"][:, 1:] == 3).all()
    assert test[0][1]["valid_classes"].tolist() == [False, False, False, True, True]
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'tst'"):
        open_mixture([*two, third], split="tst")


def test_a_part_may_declare_that_it_does_not_label_a_class(two):
    part = open_dataset(two[1], split="train")
    part.taxonomy = Taxonomy(part.taxonomy.names, labelled=(True, False, True))
    mixed = MixedSamples([part])
    assert mixed.taxonomy.labelled == (True, False, True)
    assert mixed[0][1]["valid_classes"].tolist() == [True, False, True]
    assert [int(mixed[index][1]["semantic_mask"][0, 5]) for index in range(3)] == [0, 255, 2]


def test_batches_carry_it_through_transform_and_workers(two):
    mixed = open_mixture(two, split="train")
    transform = train_transform(resolved({"preset": "strong", "crop": [16, 16]}))
    batch = SemanticCollate()([transform(*mixed[index]) for index in (0, 4)])
    assert batch.valid_classes.tolist() == [[True, True, False], [True, True, True]]
    assert batch.to(torch.device("cpu")).valid_classes is not None
    again = pickle.loads(pickle.dumps(mixed))  # noqa: S301
    assert torch.equal(again[3][1]["semantic_mask"], mixed[3][1]["semantic_mask"])


def test_one_folder_is_itself(two):
    assert open_mixture(two[0], split="train").taxonomy == open_dataset(two[0], split="train").taxonomy
    assert type(open_mixture(str(two[0]), split="train")) is type(open_dataset(two[0], split="train"))
    for nothing in (lambda: MixedSamples([]), lambda: open_mixture([], split="train")):
        with pytest.raises(ArgumentError, match=r"must .* at least one data set; got none"):
            nothing()


def test_many_classes_and_odd_labels_to_ignore():
    class Part:
        name, skipped = "part", ()
        taxonomy = Taxonomy(tuple(f"c{i}" for i in range(300)), ignore_index=-1)

        def __len__(self) -> int:
            return 1

        def read(self, index):
            return np.zeros((1, 4, 3), np.uint8), np.array([[0, 299, -1, 700]], np.int32)

    labels = MixedSamples([Part()]).read(0)[1]
    assert labels.tolist() == [[0, 299, 65535, 65535]]
    assert labels.dtype == np.int32
