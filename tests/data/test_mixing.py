"""CutMix, and what two samples made into one keep."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors

from delineate.data.mixing import CutMix, are_labelled_alike, pasted
from delineate.errors import ArgumentError


def sample(value: int, size: tuple[int, int] = (20, 30), **more):
    image = tv_tensors.Image(torch.full((3, *size), value, dtype=torch.uint8))
    mask = tv_tensors.Mask(torch.full(size, value // 10, dtype=torch.uint8))
    return image, {"semantic_mask": mask, "image_id": value, **more}


def test_pasting_by_hand():
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 1:] = True
    boxes = {"boxes": torch.zeros(1, 4), "labels": torch.ones(1), "tags": torch.ones(2), "stem": "a"}
    first, second = sample(10, (2, 3), **boxes), sample(20, (2, 3))
    image, target = pasted(first, second, mask)
    assert image[0].tolist() == [[10, 20, 20], [10, 10, 10]]
    assert target["semantic_mask"].tolist() == [[1, 2, 2], [1, 1, 1]]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(target["semantic_mask"], tv_tensors.Mask)
    assert sorted(target) == ["image_id", "semantic_mask", "stem"]
    assert target["image_id"] == 10
    assert (first[0] == 10).all()  # the samples themselves stay: they may be kept in memory
    assert (first[1]["semantic_mask"] == 1).all()
    assert (second[0] == 20).all()


def test_the_rectangle_is_of_the_pictures_shape_and_image_and_labels_agree():
    areas, lefts = [], []
    for seed in range(300):
        torch.manual_seed(seed)
        image, target = CutMix(1.0)(sample(10), sample(20))
        inside = image[0] == 20
        assert torch.equal(target["semantic_mask"] == 2, inside)
        rows, columns = inside.any(1), inside.any(0)
        assert int(rows.sum()) * int(columns.sum()) == int(inside.sum())  # a rectangle
        areas.append(float(inside.float().mean()))
        lefts.append(bool(columns[0]))
    # its own share is uniform, mean 1/2; where the centre is near a border a part of it is lost
    assert 0.2 < sum(areas) / len(areas) < 0.4
    assert max(areas) > 0.7
    assert 0.2 < sum(lefts) / len(lefts) < 0.8


def test_alpha_makes_rectangles_alike():
    areas = []
    for seed in range(100):
        torch.manual_seed(seed)
        image, _ = CutMix(1.0, alpha=1e4)(sample(10, (100, 100)), sample(20, (100, 100)))
        areas.append(float((image[0] == 20).float().mean()))
    assert max(areas) == pytest.approx(0.5, abs=0.02)


def test_pictures_of_two_sizes_share_their_corner():
    torch.manual_seed(1)
    image, target = CutMix(1.0)(sample(10, (20, 30)), sample(20, (8, 40)))
    assert image.shape == (3, 20, 30)
    assert (image[0] == 20).any()
    assert not (image[0, 8:] == 20).any()
    assert torch.equal(target["semantic_mask"] == 2, image[0] == 20)


def test_pictures_whose_data_labels_other_classes_are_not_mixed():
    some, other = {"valid_classes": torch.tensor([True, False])}, {"valid_classes": torch.tensor([False, True])}
    assert are_labelled_alike(some, dict(some))
    assert not are_labelled_alike(some, other)
    assert not are_labelled_alike(some, {})
    assert are_labelled_alike({}, {})
    image, target = CutMix(1.0)(sample(10, **some), sample(20, **other))
    assert (image == 10).all()
    assert target["valid_classes"] is some["valid_classes"]
    mixed = [CutMix(1.0)(sample(10, **some), sample(20, **some))[0] for _ in range(5)]
    assert any((image == 20).any() for image in mixed)


def test_errors_say_what_to_do():
    with pytest.raises(ArgumentError, match=r"probability must lie between 0 and 1; got 1.5\."):
        CutMix(1.5)
    with pytest.raises(ArgumentError, match=r"alpha must be positive; got 0\."):
        CutMix(1, alpha=0)
    grey = (tv_tensors.Image(torch.zeros(1, 20, 30, dtype=torch.uint8)), sample(0)[1])
    with pytest.raises(ArgumentError, match="partner must have 3 channels like the sample; got 1"):
        CutMix(1.0)(sample(10), grey)
