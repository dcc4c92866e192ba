"""Boxes, keypoints and masks turned with pictures that their EXIF orientation turns.

A camera held sideways stores its picture sideways, and says so. Pictures are read upright
(:func:`~delineate.data.image_io.read_image`); what was drawn on the stored picture must turn with them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64

from delineate.data.image_io import turned
from delineate.structures.objects import Objects
from delineate.structures.rle import RLE
from delineate.structures.rle_masks import RLEMasks


def turned_objects(objects: Objects, orientations: Int64[np.ndarray, " N"], sizes: Int64[np.ndarray, "N 2"]) -> Objects:
    """Objects as they lie on upright pictures.

    Args:
        objects: as they lie on stored pictures.
        orientations: EXIF orientation, 1 to 8, of the picture of each object; 1 for no turn.
        sizes: (height, width) of the stored picture of each object.

    Example:
        >>> one = Objects.of([0], [0], [[0, 1, 1, 2]])
        >>> turned_objects(one, np.array([6]), np.array([[4, 8]])).boxes
        array([[1., 0., 2., 1.]])
    """
    if not (orientations > 1).any():
        return objects
    left, top, width, height = objects.boxes.T
    corners = np.stack([np.stack([left, top], 1), np.stack([left + width, top + height], 1)], 1)  # N 2 2
    corners = turned_points(corners, orientations, sizes)
    low, high = corners.min(axis=1), corners.max(axis=1)
    keypoints = objects.keypoints
    if keypoints is not None:
        # keypoints name pixels, whose last is one less than the width
        moved = turned_points(keypoints[:, :, :2], orientations, sizes - 1)
        points = np.where(keypoints[:, :, 2:] > 0, moved, keypoints[:, :, :2])
        keypoints = np.concatenate([points, keypoints[:, :, 2:]], axis=2)
    masks = objects.masks
    if masks is not None:
        masks = RLEMasks.from_rles(
            [
                mask if turn == 1 else RLE.encode(np.ascontiguousarray(turned(mask.decode(), int(turn))))
                for mask, turn in zip(masks, orientations, strict=True)
            ]
        )
    # a size that does not change keeps its last bit: only the places of unturned boxes could round
    boxes = np.where(orientations[:, None] > 1, np.concatenate([low, high - low], axis=1), objects.boxes)
    return replace(objects, boxes=boxes, keypoints=keypoints, masks=masks)


def turned_points(
    points: Float64[np.ndarray, "N P 2"], orientations: Int64[np.ndarray, " N"], sizes: Int64[np.ndarray, "N 2"]
) -> Float64[np.ndarray, "N P 2"]:
    """Points (x, y) of stored pictures of these (height, width), turned upright.

    Example:
        >>> turned_points(np.array([[[1.0, 0.0]]]), np.array([8]), np.array([[4, 8]])).tolist()
        [[[0.0, 7.0]]]
    """
    x, y = points[:, :, 0], points[:, :, 1]
    height, width = sizes[:, 0, None].astype(np.float64), sizes[:, 1, None].astype(np.float64)
    ways = {2: (width - x, y), 3: (width - x, height - y), 4: (x, height - y), 5: (y, x)}
    ways |= {6: (height - y, x), 7: (height - y, width - x), 8: (y, width - x)}
    result = points.copy()
    for orientation, way in ways.items():
        rows = orientations == orientation
        result[rows] = np.stack(way, axis=2)[rows]
    return result
