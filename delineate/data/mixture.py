"""Several data sets as one, each with its own classes: every image says which of the joint classes its data set labels.

A data set that does not know a class says nothing about where it is. So each target carries ``valid_classes``, and
losses and scores leave the other classes out of that image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from delineate.checks import require
from delineate.data.joined_samples import JoinedSamples
from delineate.data.opening import open_dataset, read_layout
from delineate.data.samples import Samples
from delineate.errors import UnknownNameError
from delineate.registry import unknown_name
from delineate.structures.taxonomy import Colour, Taxonomy


def joint_taxonomy(parts: Sequence[Taxonomy], classes: Sequence[str] | None = None) -> Taxonomy:
    """The classes of several data sets together: the union by name, in order of first appearance.

    Colours are those of the first that knows the class, or new ones where two classes would look the same. The
    background is the one that the parts name, where they all name the same one.

    Args:
        parts: the taxonomies.
        classes: the names and their order instead; a class that is not among them is ignored.

    Raises:
        UnknownNameError: when no part knows one of ``classes``.

    Example:
        >>> joint_taxonomy([Taxonomy(("road", "car")), Taxonomy(("car", "tree"))]).names
        ('road', 'car', 'tree')
    """
    known: dict[str, Colour] = {}
    for part in parts:
        for name, colour in zip(part.names, part.colours, strict=True):
            known.setdefault(name, colour)
    names = tuple(known) if classes is None else tuple(classes)
    for name in names:
        if name not in known:
            raise unknown_name("class", name, known)
    colours = tuple(known[name] for name in names)
    backgrounds = {part.names[part.background] for part in parts if part.background is not None}
    background = backgrounds.pop() if len(backgrounds) == 1 else None
    labelled = {name for part in parts for name, has in zip(part.names, _labelled(part), strict=True) if has}
    return Taxonomy(
        names,
        colours=colours if len(set(colours)) == len(colours) else (),
        ignore_index=255 if len(names) <= 255 else 65535,
        background=names.index(background) if background in names else None,
        labelled=None if labelled.issuperset(names) else tuple(name in labelled for name in names),
    )


def _labelled(taxonomy: Taxonomy) -> tuple[bool, ...]:
    return taxonomy.labelled or (True,) * taxonomy.num_classes


class MixedSamples(JoinedSamples[Samples]):
    """Several data sets as one, with joint classes; one after another, in their own order.

    A target holds ``semantic_mask`` in joint labels, ``image_id``, ``stem`` and, unless every part labels every class,
    ``valid_classes``: a (K,) bool tensor of the joint classes that the image's part labels. What describes objects is
    left out.

    Args:
        parts: data sets of images with as many channels.
        taxonomy: the joint classes; :func:`joint_taxonomy` of the parts when left out. A class of a part that is not
            among them, or that the part says it does not label, is ignored.

    Raises:
        ArgumentError: without any part.
    """

    def __init__(self, parts: Sequence[Samples], *, taxonomy: Taxonomy | None = None) -> None:
        super().__init__(parts)
        self.taxonomy = taxonomy or joint_taxonomy([part.taxonomy for part in parts])
        names = self.taxonomy.names
        ignored = self.taxonomy.ignore_index
        self._labels, self._valid = [], []
        for part in parts:
            own = part.taxonomy
            known = {name for name, has in zip(own.names, _labelled(own), strict=True) if has}.intersection(names)
            self._labels.append(np.array([names.index(name) if name in known else ignored for name in own.names]))
            self._valid.append(torch.tensor([name in known for name in names]))
        self._partly = not all(bool(valid.all()) for valid in self._valid)

    def __getitem__(self, index: int) -> tuple[Any, dict[str, Any]]:
        part, place = self.place(index)
        image, target = self.parts[part][place]
        labels = self._joint(part, target["semantic_mask"].as_subclass(Tensor).numpy())
        mixed: dict[str, Any] = {
            "semantic_mask": tv_tensors.Mask(torch.from_numpy(labels)),
            "image_id": int(index),
            "stem": self.stem(index),
        }
        if self._partly:
            mixed["valid_classes"] = self._valid[part]
        return image, mixed

    def stem(self, index: int) -> str:
        """The part's name and the sample's, as two parts may have samples of one name."""
        part, place = self.place(index)
        return f"{self.parts[part].name}-{self.parts[part].stem(place)}"

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``(H, W, C)`` uint8 and joint labels ``(H, W)`` of one sample."""
        part, place = self.place(index)
        image, labels = self.parts[part].read(place)
        return image, self._joint(part, labels)

    def valid_classes(self, index: int) -> Tensor:
        """The (K,) bool joint classes that the sample's part labels."""
        return self._valid[self.place(index)[0]]

    def _joint(self, part: int, labels: np.ndarray) -> np.ndarray:
        own, joint = self._labels[part], self.taxonomy
        inside = (labels >= 0) & (labels < len(own)) & (labels != self.parts[part].taxonomy.ignore_index)
        mapped = np.where(inside, own[np.where(inside, labels, 0)], joint.ignore_index)
        return mapped.astype(np.uint8 if joint.num_classes <= 255 else np.int32)


def open_mixture(
    paths: str | Path | Sequence[str | Path], *, split: str | None, classes: Sequence[str] | None = None, **options: Any
) -> Samples:
    """One data set, or several as one, each opened by :func:`~delineate.data.opening.open_dataset`.

    Args:
        paths: a folder, or a list of them. Those without the split give no images, but their classes.
        split: "train", "val" or another.
        classes: the joint classes of several, see :func:`joint_taxonomy`.
        options: of :func:`~delineate.data.opening.open_dataset`.

    Raises:
        DataError: when a folder cannot be recognised, or a record is bad.
        UnknownNameError: on a split that none of them has, or a class that none of them knows.
    """
    if isinstance(paths, str | Path):
        if classes is None:
            return open_dataset(paths, split=split, **options)
        paths = [paths]
    require(len(paths) > 0, "path", "name at least one data set", "none")
    parts: list[Samples] = []
    taxonomies: list[Taxonomy] = []
    missing: list[UnknownNameError] = []
    for path in paths:
        try:
            parts.append(open_dataset(path, split=split, **options))
            taxonomies.append(parts[-1].taxonomy)
        except UnknownNameError as error:
            taxonomies.append(read_layout(path, options.get("format", "auto")).taxonomy)
            missing.append(error)
    if not parts:
        raise missing[0]
    return MixedSamples(parts, taxonomy=joint_taxonomy(taxonomies, classes))
