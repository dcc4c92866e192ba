"""Boxes where a model sees them: what the transforms themselves make of the same boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from delineate.data.fitted_boxes import FittedBoxes, fitted_boxes
from delineate.data.object_augmentation import eval_fit, resolved
from delineate.data.object_fits import LetterBox, Stretch
from delineate.errors import ArgumentError
from delineate.structures.annotations import Annotations
from delineate.structures.objects import Objects


def annotated(boxes: list[list[float]], images: list[int], sizes: list[tuple[int, int]], **columns) -> Annotations:
    names = tuple(map(str, range(len(sizes))))
    objects = Objects.of(images, [0] * len(images), boxes, **columns)
    return Annotations.of(names, ("cell",), objects, image_sizes=sizes)


def test_by_hand() -> None:
    truth = annotated([[5, 5, 50, 20], [0, 0, 100, 40]], [0, 1], [(100, 200), (40, 100)])
    assert fitted_boxes(truth, None).corners.tolist() == [[5, 5, 55, 25], [0, 0, 100, 40]]
    stretched = fitted_boxes(truth, Stretch((50, 50)))
    assert stretched.corners.tolist() == [[1.25, 2.5, 13.75, 12.5], [0, 0, 50, 50]]
    assert stretched.sizes.tolist() == [[50, 50], [50, 50]]
    assert stretched.sides.tolist() == [[12.5, 10], [50, 50]]
    assert fitted_boxes(truth, LetterBox((100, 100))).corners.tolist() == [[2.5, 27.5, 27.5, 37.5], [0, 30, 100, 70]]


def test_shares_are_of_padded_pictures() -> None:
    boxes = FittedBoxes(np.array([[0.0, 0, 33, 32], [8, 16, 64, 48]]), np.array([[32.0, 33], [48, 64]]))
    assert boxes.shares().tolist() == [[0, 0, 1, 1], [0.125, 1 / 3, 1, 1]]
    assert boxes.shares(32).tolist() == [[0, 0, 33 / 64, 1], [0.125, 0.25, 1, 0.75]]


@pytest.mark.parametrize(
    "values",
    [
        {"size": [64, 96]},
        {"size": [60, 44], "fit": "stretch"},
        {"fit": "shortest", "shortest": [30, 50], "longest": 70},
        {"size": None},
    ],
)
def test_the_transform_itself_agrees(values: dict) -> None:
    random = np.random.default_rng(0)
    sizes = [(37, 53), (120, 40), (64, 96), (37, 53)]
    images = sorted(random.integers(0, 4, 20).tolist())
    boxes = []
    for image in images:
        height, width = sizes[image]
        corner = random.uniform(0, 0.6, 2) * (width, height)
        boxes.append([*corner, *(random.uniform(0.2, 0.4, 2) * (width, height))])
    fit = eval_fit(resolved({"preset": "none", **values}))
    found = fitted_boxes(annotated(boxes, images, sizes), fit)
    for row, (image, (x, y, width, height)) in enumerate(zip(images, boxes, strict=True)):
        corners = tv_tensors.BoundingBoxes([[x, y, x + width, y + height]], format="XYXY", canvas_size=sizes[image])
        picture = tv_tensors.Image(torch.zeros(3, *sizes[image], dtype=torch.uint8))
        if fit is not None:
            picture, target = fit(picture, {"boxes": corners, "labels": torch.zeros(1, dtype=torch.int64)})
            corners = target["boxes"]
        np.testing.assert_allclose(found.corners[row], corners.as_subclass(torch.Tensor)[0].numpy(), atol=1e-4)
        assert found.sizes[row].tolist() == list(picture.shape[-2:])


def test_what_is_not_learnt_from_is_left_out() -> None:
    boxes = [[0, 0, 5, 5], [0, 0, 5, 5], [8, 8, 4, 4], [3, 3, 0, 4], [12, 1, 3, 3]]
    truth = annotated(boxes, [0] * 5, [(10, 10)], crowd=[True, False, False, False, False])
    found = fitted_boxes(truth, Stretch((20, 10)))
    assert found.corners.tolist() == [[0, 0, 5, 10], [8, 16, 10, 20]]  # cut to the picture
    empty = fitted_boxes(annotated([], [], [(10, 10)]), Stretch((20, 10)))
    assert (len(empty), empty.sides.shape, empty.shares(32).shape) == (0, (0, 2), (0, 4))


def test_an_unknown_size_is_named() -> None:
    with pytest.raises(ArgumentError, match=r"annotations must state the size of every image; got none for '1'\."):
        fitted_boxes(annotated([[0, 0, 5, 5]], [1], [(10, 10), (0, 0)]), None)
