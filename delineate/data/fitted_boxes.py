"""The boxes of a data set where a model sees them: in pixels of the resized pictures, without reading any."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from delineate.checks import require
from delineate.data.object_transforms import FitTransform
from delineate.structures.annotations import Annotations


@dataclass(frozen=True, eq=False)
class FittedBoxes:
    """Boxes and the sizes of the pictures they lie in.

    Args:
        corners: xyxy pixels of what the model sees.
        sizes: (height, width) of that, of each box's picture.
    """

    corners: Float64[np.ndarray, "N 4"]
    sizes: Float64[np.ndarray, "N 2"]

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def sides(self) -> Float64[np.ndarray, "N 2"]:
        """Width and height of each."""
        return self.corners[:, 2:] - self.corners[:, :2]

    def shares(self, multiple: int = 1) -> Float64[np.ndarray, "N 4"]:
        """The corners as shares of the pictures' width and height, padded at the right and the bottom.

        Args:
            multiple: of which the padded sides are multiples.
        """
        padded = np.ceil(self.sizes / multiple) * multiple
        return self.corners / padded[:, [1, 0, 1, 0]]


def fitted_boxes(annotations: Annotations, fit: FitTransform | None) -> FittedBoxes:
    """Where the objects of a data set lie once every picture is of the size that a model sees.

    Crowds, ignored (difficult) objects and boxes without an area in their picture are left out.

    Args:
        annotations: with the sizes of the images.
        fit: how a picture is resized, nothing random; None for not at all.

    Raises:
        ArgumentError: on an image with boxes whose size is not known.

    Example:
        >>> from delineate.data.object_fits import LetterBox
        >>> from delineate.structures.objects import Objects
        >>> objects = Objects.of(images=[0], labels=[0], boxes=[[5, 5, 50, 20]])
        >>> annotations = Annotations.of(("a",), ("cell",), objects, image_sizes=[(100, 200)])
        >>> fitted_boxes(annotations, LetterBox((400, 400))).corners.tolist()
        [[10.0, 110.0, 110.0, 150.0]]
    """
    objects = annotations.objects
    counted = ~(objects.crowd | objects.ignored)
    images = objects.images[counted]
    corners = objects.boxes[counted].astype(np.float64)
    corners[:, 2:] += corners[:, :2]
    sizes = annotations.image_sizes[images]
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    got = f"none for '{annotations.image_ids[int(images[unknown[0]])]}'" if len(unknown) else ""
    require(not len(unknown), "annotations", "state the size of every image", got, "Read it from the image.")
    corners = corners.clip(0, sizes[:, [1, 0, 1, 0]])
    shown = (corners[:, 2:] > corners[:, :2]).all(axis=1)
    corners, sizes = corners[shown], sizes[shown]

    kinds, kind = np.unique(sizes, axis=0, return_inverse=True)
    near, far = np.zeros((len(kinds), 2)), kinds[:, ::-1].astype(np.float64)
    results = kinds.astype(np.float64)
    for number, (height, width) in enumerate(kinds.tolist() if fit is not None else ()):
        assert fit is not None  # else there is no kind to go through
        placement = fit.placement((height, width))
        picture = placement.moved(torch.tensor([[0, 0], [width, height]], dtype=torch.float64)).numpy()
        near[number], far[number], results[number] = picture[0], picture[1], placement.size
    kind = kind.reshape(-1)
    zoom = ((far - near) / kinds[:, ::-1])[kind]
    moved = corners * np.tile(zoom, 2) + np.tile(near[kind], 2)
    return FittedBoxes(moved, results[kind])
