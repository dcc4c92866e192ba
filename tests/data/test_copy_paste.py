"""Connected regions of chosen classes, pasted into another sample."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors

from delineate.data.copy_paste import CopyPaste, copied_classes
from delineate.errors import ArgumentError, UnknownNameError
from delineate.structures.taxonomy import Taxonomy

# two cars (1) that touch nothing, a tree (2) of two pixels that touch at a corner, and a pixel that is ignored
PARTNER = torch.tensor(
    [[1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 1], [0, 0, 0, 2, 0, 0], [0, 0, 2, 0, 0, 255]], dtype=torch.uint8
)


def pair(**more):
    image = tv_tensors.Image(torch.full((3, 4, 6), 10, dtype=torch.uint8))
    target = {"semantic_mask": tv_tensors.Mask(torch.zeros(4, 6, dtype=torch.uint8)), **more}
    pixels = tv_tensors.Image(torch.arange(24, dtype=torch.uint8).view(1, 4, 6).repeat(3, 1, 1) + 100)
    return (image, target), (pixels, {"semantic_mask": tv_tensors.Mask(PARTNER), **more})


def results(classes, seeds=60):
    for seed in range(seeds):
        torch.manual_seed(seed)
        sample, partner = pair()
        image, target = CopyPaste(1.0, classes)(sample, partner)
        labels = target["semantic_mask"]
        moved = image[0] != 10
        assert torch.equal(image[0][moved], partner[0][0][moved])
        assert torch.equal(labels[moved], PARTNER[moved])
        assert (labels[~moved] == 0).all()
        yield labels


def test_whole_regions_of_the_chosen_classes_come_from_one_to_all():
    cars = {tuple((labels == 1).flatten().nonzero().flatten().tolist()) for labels in results((1,))}
    left, right = (0, 1, 6), (5, 11)
    assert cars == {left, right, tuple(sorted(left + right))}
    both = list(results((1, 2)))
    trees = {int((labels == 2).sum()) for labels in both}
    assert trees == {0, 2}
    assert {len(labels.unique()) for labels in both} == {2, 3}
    assert all(not (labels == 255).any() for labels in both)


def test_nothing_to_copy_leaves_the_sample():
    sample, partner = pair()
    assert CopyPaste(1.0, (7,))(sample, partner) is sample
    some, _ = pair(valid_classes=torch.tensor([True, False, True]))
    assert CopyPaste(1.0, (1,))(some, partner) is some


def test_which_classes():
    taxonomy = Taxonomy(("background", "car", "tree"), background=0)
    assert copied_classes(taxonomy) == (1, 2)
    assert copied_classes(Taxonomy(("road", "car"))) == (0, 1)
    assert copied_classes(taxonomy, ("tree",)) == (2,)
    with pytest.raises(UnknownNameError, match="Did you mean 'tree'"):
        copied_classes(taxonomy, ("trees",))
    with pytest.raises(ArgumentError, match=r"classes must hold at least one label; got none\."):
        CopyPaste(0.5, ())
    with pytest.raises(ArgumentError, match=r"probability must lie between 0 and 1; got -1\."):
        CopyPaste(-1, (1,))
