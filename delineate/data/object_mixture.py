"""Data sets of objects, and of pictures that are only named, as one whose classes are the words of a tree.

Source: Redmon, Farhadi, "YOLO9000: Better, Faster, Stronger", CVPR 2017, section 4 (joint classification and detection;
dataset combination with WordTree).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from delineate.checks import require
from delineate.data.formats import class_folders
from delineate.data.formats.class_folders import ClassFolders
from delineate.data.joined_samples import JoinedSamples
from delineate.data.labelled_images import LabelledImages
from delineate.data.object_dataset import object_taxonomy
from delineate.data.opening import BUILT_IN, open_dataset
from delineate.data.samples import ObjectSamples
from delineate.errors import DataError, UnknownNameError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects
from delineate.structures.word_tree import WordTree


class MixedObjects(JoinedSamples[ObjectSamples]):
    """Several data sets of objects or of named pictures as one; one after another, in their own order.

    Items are those of :class:`~delineate.data.object_dataset.ObjectDataset`, or of
    :class:`~delineate.data.labelled_images.LabelledImages`; labels are of :attr:`taxonomy`. Boxes alone are taken.

    Args:
        parts: data sets of images with as many channels, each of whose classes is a word.
        tree: the words.
        words: the words that are classes here, in order; all when left out.

    Raises:
        ArgumentError: without any part, or when two classes of a part are one word.
        DataError: when a class of a part is none of the words; the message says the nearest.
    """

    columns = ("boxes",)
    keypoint_names: tuple[str, ...] = ()

    def __init__(
        self, parts: Sequence[ObjectSamples], tree: WordTree, *, words: Int64[np.ndarray, " C"] | None = None
    ) -> None:
        super().__init__(parts)
        self.tree = tree
        self.words = np.arange(tree.num_classes, dtype=np.int64) if words is None else words
        names = tree.names if words is None else tuple(tree.names[word] for word in words)
        self.taxonomy = object_taxonomy(names)
        label_of_word = np.full(tree.num_classes, -1, np.int64)
        label_of_word[self.words] = np.arange(len(self.words))
        self._words = [_words_of(part, tree) for part in parts]
        self._labels = [label_of_word[own] for own in self._words]

    @property
    def with_labels(self) -> bool:
        """Whether some images are only named."""
        return any(isinstance(part, LabelledImages) for part in self.parts)

    @property
    def boxed_words(self) -> tuple[int, ...]:
        """The words that objects may have: what scores can judge."""
        known: set[int] = set()
        for part, own in zip(self.parts, self._words, strict=True):
            known.update(() if isinstance(part, LabelledImages) else own.tolist())
        return tuple(sorted(known))

    def boxed(self) -> MixedObjects:
        """The images whose objects are known, with the words that these may have for classes: what can be scored.

        Raises:
            DataError: when there are none.
        """
        parts = [part for part in self.parts if not isinstance(part, LabelledImages)]
        if not parts:
            raise DataError(f"data must have boxes to be scored; got named pictures alone in '{self.name}'.")
        return MixedObjects(parts, self.tree, words=np.array(self.boxed_words, np.int64))

    def weights(self, shares: Sequence[float | int]) -> list[float]:
        """How often each image should come so that the parts come in these proportions.

        Args:
            shares: a number above 0 a part.

        Raises:
            ArgumentError: when there is not one number above 0 for each part.
        """
        ok = len(shares) == len(self.parts) and all(share > 0 for share in shares)
        require(ok, "shares", f"be {len(self.parts)} numbers above 0, one a data set", list(shares))
        return [share / len(part) for share, part in zip(shares, self.parts, strict=True) for _ in range(len(part))]

    def read(self, index: int) -> tuple[np.ndarray, Objects]:
        """Pixels ``(H, W, C)`` uint8 and the objects of one sample."""
        part, place = self.place(index)
        pixels, objects = self.parts[part].read(place)
        return pixels, _boxes_alone(objects, self._labels[part], objects.images)

    def counts(self) -> np.ndarray:
        """How many objects each sample has, ``(I,)`` int64."""
        return np.concatenate([part.counts() for part in self.parts])

    def truth(self) -> Annotations:
        """All samples and their objects; of named pictures no size is known."""
        parts = [part.truth() for part in self.parts]
        starts = np.cumsum([0, *(part.num_images for part in parts[:-1])])
        objects = [
            _boxes_alone(part.objects, labels, part.objects.images + start)
            for part, labels, start in zip(parts, self._labels, starts.tolist(), strict=True)
        ]
        return Annotations.of(
            range(len(self)),
            self.taxonomy.names,
            Objects.concatenate(objects),
            image_sizes=np.concatenate([part.image_sizes for part in parts]),
            image_files=[file for part in parts for file in part.image_files],
        )

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        part, place = self.place(index)
        image, target = self.parts[part][place]
        own = self._labels[part]
        joined = {key: target[key] for key in ("boxes", "area", "iscrowd")}
        joined["labels"] = torch.from_numpy(own[target["labels"].numpy()])
        if "image_label" in target:
            joined["image_label"] = torch.tensor(int(own[int(target["image_label"])]))
        return image, {**joined, "image_id": int(index), "stem": self.stem(index)}


def open_object_mixture(
    paths: Sequence[str | Path], *, tree: WordTree, split: str | None, labelled: bool = True, **options: Any
) -> MixedObjects:
    """Data sets of objects and folders of named pictures as one.

    Args:
        paths: a folder each, in any layout of :func:`~delineate.data.opening.open_dataset` for objects, or of
            :mod:`~delineate.data.formats.class_folders`. Those without the split give no images.
        tree: whose words the classes of all are.
        split: "train", "val" or another.
        labelled: also take pictures that are only named; where False, those with boxes alone.
        options: ``format``, ``on_error`` and ``channels`` of :func:`~delineate.data.opening.open_dataset`.

    Raises:
        DataError: when a folder cannot be recognised, a record is bad, a class is no word, or none has boxes.
        UnknownNameError: on a split that none of those with boxes has.
    """
    parts: list[ObjectSamples] = []
    missing: list[UnknownNameError] = []
    of_images = {key: value for key, value in options.items() if key != "format"}
    for path in paths:
        try:
            found = _opened(path, split, options)
            if not isinstance(found, ClassFolders):
                parts.append(found)
            elif labelled:
                parts.append(LabelledImages(found, split, **of_images))
        except UnknownNameError as error:
            missing.append(error)
    if all(isinstance(part, LabelledImages) for part in parts):
        if missing:
            raise missing[0]
        named = ", ".join(str(path) for path in paths)
        raise DataError(f"data must have boxes somewhere; got folders of classes alone: {named}. Add a detection set.")
    return MixedObjects(parts, tree)


def _opened(path: str | Path, split: str | None, options: dict[str, Any]) -> ObjectSamples | ClassFolders:
    """A data set with boxes, or what else lies there."""
    try:
        return open_dataset(path, split=split, task="objects", columns=("boxes",), **options)
    except DataError as error:
        root = Path(path).expanduser()
        found = "it is built in" if str(path) == BUILT_IN else class_folders.read(root)
        if isinstance(found, str):
            known = f"For named pictures: {class_folders.LOOKED_FOR} [{found}]."
            raise DataError(f"{error} {known}") from None
        return found


def _words_of(part: ObjectSamples, tree: WordTree) -> Int64[np.ndarray, " C"]:
    """The word of each class of a data set."""
    try:
        return tree.combined([part.taxonomy])[0]
    except UnknownNameError as error:
        raise DataError(f"{error} It is a class of '{part.name}'; add it to the tree of words.") from None


def _boxes_alone(objects: Objects, labels: Int64[np.ndarray, " C"], images: Int64[np.ndarray, " N"]) -> Objects:
    """The objects without masks and joints, of other images and labels."""
    return replace(objects, labels=labels[objects.labels], images=images, masks=None, keypoints=None)
