"""Folders of pictures, one a class: splits, classes, and what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from delineate.data.formats.class_folders import ClassFolders, read
from delineate.errors import UnknownNameError


def filled(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"")  # names alone are read
    return root


def found(root: Path) -> ClassFolders:
    folders = read(root)
    assert isinstance(folders, ClassFolders)
    return folders


def test_splits_share_their_classes(tmp_path: Path) -> None:
    files = ["train/dog/2.jpg", "train/dog/1.PNG", "train/big cat/a/1.jpg", "val/ant/1.jpg", "val/dog/1.jpg"]
    folders = found(filled(tmp_path, *files, "train/dog/notes.txt", "train/dog/._1.jpg", "val/empty/readme.md"))
    assert folders.classes == ("ant", "big cat", "dog")
    assert folders.files == (
        "train/big cat/a/1.jpg",
        "train/dog/1.PNG",
        "train/dog/2.jpg",
        "val/ant/1.jpg",
        "val/dog/1.jpg",
    )
    assert folders.labels.tolist() == [1, 2, 2, 0, 2]
    assert folders.images("train").tolist() == [0, 1, 2]
    assert folders.images("val").tolist() == [3, 4]
    assert folders.images().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(UnknownNameError, match="split must be a known name; got 'tests'"):
        folders.images("tests")


def test_without_splits_every_picture_is_there_whatever_is_asked_for(tmp_path: Path) -> None:
    folders = found(filled(tmp_path, "dog/1.jpg", "cat/1.jpg"))
    assert folders.classes == ("cat", "dog")
    assert folders.images("train").tolist() == folders.images(None).tolist() == [0, 1]


def test_a_class_called_like_a_split_is_a_class(tmp_path: Path) -> None:
    folders = found(filled(tmp_path, "test/1.jpg", "dog/1.jpg"))
    assert folders.classes == ("dog", "test")


def test_what_is_none_says_why(tmp_path: Path) -> None:
    assert read(tmp_path / "nowhere") == "it is no folder"
    assert read(filled(tmp_path / "flat", "1.jpg")) == "there is no folder in it"
    assert read(filled(tmp_path / "texts", "labels/1.txt")) == "no folder in it has pictures"
