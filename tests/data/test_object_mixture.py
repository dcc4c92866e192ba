"""Boxes and names of whole pictures as one data set, whose classes are words of a tree."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from torchvision import tv_tensors

from delineate.data.object_mixture import MixedObjects, open_object_mixture
from delineate.data.order import BatchOrder
from delineate.data.word_tree_file import read_word_tree
from delineate.errors import ArgumentError, DataError, UnknownNameError
from delineate.structures.word_tree import WordTree
from tests.data.object_folder import write_objects
from tests.data.word_folders import write_words


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return write_words(tmp_path_factory.mktemp("words"), train=4, val=2, named=2)


def opened(folders: tuple[Path, Path, Path], split: str = "train", **options: bool) -> MixedObjects:
    boxes, named, words = folders
    return open_object_mixture([boxes, named], tree=read_word_tree(words), split=split, **options)


def test_labels_are_words_whatever_the_part_calls_them(folders: tuple[Path, Path, Path]) -> None:
    samples = opened(folders)
    words = samples.tree
    assert samples.taxonomy.names == ("round", "square", "red round", "blue round", "red square", "blue square")
    assert len(samples) == 4 + 8
    for index in range(4):
        image, target = samples[index]
        own = samples.parts[0][index][1]
        shapes = samples.parts[0].taxonomy.names
        assert isinstance(image, tv_tensors.Image)
        assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
        assert [words.names[label] for label in target["labels"]] == [shapes[label] for label in own["labels"]]
        assert "image_label" not in target
        assert target["image_id"] == index
    named = [words.names[int(samples[index][1]["image_label"])] for index in range(4, 12)]
    assert named == [name for name in ("blue round", "blue square", "red round", "red square") for _ in range(2)]
    assert samples[4][1]["stem"] == "named-train-blue round-0"
    assert samples.files(4).endswith("blue round/0.png")
    assert samples.counts().tolist() == [1, 2, 1, 2] + [0] * 8
    assert len(pickle.loads(pickle.dumps(samples))) == 12  # noqa: S301 - our own


def test_the_truth_is_that_of_the_items(folders: tuple[Path, Path, Path]) -> None:
    samples = opened(folders)
    truth = samples.truth()
    assert truth.classes == samples.taxonomy.names
    assert truth.num_images == len(samples)
    assert truth.image_sizes[:4].tolist() == [[64, 96]] * 4
    assert not truth.image_sizes[4:].any()  # nobody has looked
    for index in range(len(samples)):
        own = truth.objects.select(truth.objects.images == index)
        _, target = samples[index]
        assert own.labels.tolist() == target["labels"].tolist()
        assert np.allclose(own.boxes[:, :2], target["boxes"][:, :2].numpy())
        assert samples.read(index)[1].labels.tolist() == target["labels"].tolist()


def test_what_can_be_scored_are_boxes_of_words_that_have_some(folders: tuple[Path, Path, Path]) -> None:
    samples = opened(folders)
    assert samples.with_labels
    assert samples.boxed_words == (0, 1)
    boxed = samples.boxed()
    assert len(boxed) == 4
    assert not boxed.with_labels
    assert boxed.taxonomy.names == ("round", "square")
    assert boxed.words.tolist() == [0, 1]
    assert boxed.boxed().truth().classes == ("round", "square")
    # a tree whose words for shapes come later
    tree = WordTree.from_paths(["colour", "shape/square", "shape/round"])
    moved = MixedObjects(samples.parts[:1], tree)
    assert moved.boxed_words == (tree.index("square"), tree.index("round"))
    assert moved.boxed().taxonomy.names == ("square", "round")
    first = [samples.tree.names[label] for label in samples[1][1]["labels"]]
    assert [moved.boxed().taxonomy.names[label] for label in moved.boxed()[1][1]["labels"]] == first


def test_named_pictures_are_left_out_where_they_cannot_help(folders: tuple[Path, Path, Path]) -> None:
    assert len(opened(folders, labelled=False)) == 4
    assert len(opened(folders, "val", labelled=False)) == 2
    assert len(opened(folders, "val").parts) == 1  # the folder of classes has no such split


def test_shares_decide_how_often_a_part_comes(folders: tuple[Path, Path, Path]) -> None:
    samples = opened(folders)
    weights = samples.weights((4, 1))
    assert weights == [1.0] * 4 + [1 / 8] * 8
    order = BatchOrder(len(samples), batch_size=1, seed=0, weights=weights)
    drawn = np.array([order.samples(epoch) for epoch in range(50)])
    assert (drawn < 4).mean() == pytest.approx(0.8, abs=0.02)
    with pytest.raises(ArgumentError, match="shares must be 2 numbers above 0, one a data set"):
        samples.weights((1,))


def test_what_does_not_fit_is_said(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    boxes, named, words = folders
    tree = read_word_tree(words)
    other = write_objects(tmp_path / "other", train=1, val=1)
    with pytest.raises(DataError, match="It is a class of 'other'; add it to the tree of words"):
        open_object_mixture([boxes, other], tree=tree, split="train")
    with pytest.raises(DataError, match="data must have boxes somewhere; got folders of classes alone"):
        open_object_mixture([named], tree=tree, split="train")
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'test'"):
        open_object_mixture([boxes, named], tree=tree, split="test")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"For named pictures: a folder for each class .* \[there is no folder in it\]"):
        open_object_mixture([boxes, tmp_path / "nothing"], tree=tree, split="train")
    with pytest.raises(DataError, match="data must have boxes to be scored"):
        MixedObjects(opened(folders).parts[1:], tree).boxed()
