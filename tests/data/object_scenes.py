"""A picture whose objects can be told from its pixels, and the check that everything moved with them."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors

from delineate.data.transforms import INSTANCE_KEYS, boxes_of_masks

CORNERS = ("left_top", "right_top", "right_bottom", "left_bottom")
PAIRS = ((0, 1), (3, 2))


def scene(
    *rectangles: tuple[int, int, int, int],
    size: tuple[int, int] = (60, 90),
    channels: int = 0,
    first: int = 0,
    crowds: tuple[int, ...] = (),
    masks: bool = True,
    dtype: torch.dtype = torch.uint8,
):
    """Rectangles (x0, y0, x1, y1); object number k shines in channel ``first + k``, which is its label, too."""
    count = len(rectangles)
    channels = channels or max(count, 1)
    image = torch.zeros(channels, *size, dtype=torch.uint8)
    drawn = torch.zeros(count, *size, dtype=torch.uint8)
    for number, (left, top, right, bottom) in enumerate(rectangles):
        image[first + number, top:bottom, left:right] = 250
        drawn[number, top:bottom, left:right] = 1
    boxes = torch.tensor(rectangles, dtype=torch.float32).reshape(-1, 4)
    points = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    labels = torch.arange(first, first + count)
    tags = torch.zeros(channels)
    tags[labels] = 1
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "labels": labels,
        "masks": tv_tensors.Mask(drawn),
        "keypoints": tv_tensors.KeyPoints(points, canvas_size=size),
        "visibility": torch.full((count, 4), 2),
        "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        "iscrowd": torch.tensor([number in crowds for number in range(count)], dtype=torch.bool),
        "semantic_mask": tv_tensors.Mask(drawn.amax(dim=0) if count else torch.zeros(size, dtype=torch.uint8)),
        "tags": tags,
        "image_id": 7,
        "stem": "scene",
    }
    if not masks:
        del target["masks"]
    pixels = image if dtype == torch.uint8 else image.to(dtype) / 255
    return tv_tensors.Image(pixels), target


def random_scene(count: int = 4, size: tuple[int, int] = (60, 90), **options):
    """A scene of rectangles of 8 to 30 pixels anywhere, from torch's global generator."""
    rectangles = []
    for _ in range(count):
        width, height = (int(side) for side in torch.randint(8, 31, (2,)))
        left, top = int(torch.randint(size[1] - width, ())), int(torch.randint(size[0] - height, ()))
        rectangles.append((left, top, left + width, top + height))
    return scene(*rectangles, size=size, **options)


def assert_together(image: Tensor, target: dict, tolerance: float = 0.0) -> None:
    """Boxes, masks, key points and areas are those of the pixels that shine; no box is outside or empty."""
    height, width = image.shape[-2:]
    count = len(target["labels"])
    boxes = target["boxes"]
    assert type(image) is tv_tensors.Image
    assert type(boxes) is tv_tensors.BoundingBoxes
    assert boxes.canvas_size == (height, width)
    assert target["image_id"] == 7
    for key in INSTANCE_KEYS:
        assert key not in target or len(target[key]) == count, key
    for key in ("masks", "semantic_mask"):
        assert key not in target or target[key].shape[-2:] == (height, width)
    assert sorted(set(target["labels"].tolist())) == target["tags"].nonzero().flatten().tolist()
    boxes = boxes.as_subclass(Tensor)
    if count == 0:
        return
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= width).all()
    assert (boxes[:, 1::2] <= height).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    shining = image.as_subclass(Tensor)[target["labels"]] > (0.5 if image.is_floating_point() else 125)
    assert (boxes - boxes_of_masks(shining)).abs().max() <= tolerance
    if "masks" in target:
        assert (boxes_of_masks(target["masks"]) - boxes).abs().max() <= tolerance
        assert target["area"].tolist() == target["masks"].flatten(1).count_nonzero(dim=1).tolist()
    else:
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        torch.testing.assert_close(target["area"], area, rtol=1e-4, atol=1e-3)
    assert target["keypoints"].canvas_size == (height, width)
    for points, seen, box in zip(target["keypoints"], target["visibility"], boxes, strict=True):
        at_corners = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        plain = points.as_subclass(Tensor)
        assert (plain[seen == 0] == 0).all()
        for point in plain[seen > 0]:  # in a mirror it may be another corner's
            assert (at_corners - point).abs().amax(dim=1).min() <= tolerance + 1e-3
