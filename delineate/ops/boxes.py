"""Overlaps of two sets of boxes: IoU, generalised, distance and complete IoU.

For evaluation (host memory, no gradient) a kernel makes the matrix in one pass in float64; for training the same
formulas run in torch. torchvision has the four as well, but answers NaN, or a NaN gradient, for boxes without area,
which the first steps of a training do predict. Between xyxy, xywh and cxcywh converts
:func:`torchvision.ops.box_convert`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from delineate.checks import require
from delineate.kernels import boxes as kernels


def box_iou(boxes1: Float[Tensor, "N 4"], boxes2: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """The intersection over union of every pair.

    Source: Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2.
    Differs: edges are continuous, without VOC's added pixel; 0 where neither box has an area.

    Args:
        boxes1: xyxy pixels; a box whose corners are swapped is empty.
        boxes2: xyxy pixels.

    Returns:
        0 to 1, float32 for half precision; (0, M) or (N, 0) for empty input.

    Raises:
        ArgumentError: when either is not (N, 4).

    Example:
        >>> box_iou(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[1., 0., 3., 2.], [5., 5., 6., 6.]]))
        tensor([[0.3333, 0.0000]])
    """
    return _overlaps(boxes1, boxes2, kernels.box_ious, lambda pairs: pairs.iou)


def generalised_box_iou(boxes1: Float[Tensor, "N 4"], boxes2: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """IoU less the share of the smallest enclosing box that neither box covers.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, algorithm 1.
    Differs: the share is 0 where the enclosing box has no area.

    Args:
        boxes1: xyxy pixels; a box whose corners are swapped is empty.
        boxes2: xyxy pixels.

    Returns:
        -1 to 1, float32 for half precision; (0, M) or (N, 0) for empty input.

    Raises:
        ArgumentError: when either is not (N, 4).

    Example:
        >>> generalised_box_iou(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([[3., 0., 4., 1.]]))
        tensor([[-0.5000]])
    """
    return _overlaps(boxes1, boxes2, kernels.generalised_box_ious, BoxPairs.generalised)


def distance_box_iou(boxes1: Float[Tensor, "N 4"], boxes2: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """IoU less the squared distance of the centres over the squared diagonal of the smallest enclosing box.

    Source: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020, eq. 7.
    Differs: the distance is 0 where the enclosing box is a point.

    Args:
        boxes1: xyxy pixels; a box whose corners are swapped is empty.
        boxes2: xyxy pixels.

    Returns:
        -1 to 1, float32 for half precision; (0, M) or (N, 0) for empty input.

    Raises:
        ArgumentError: when either is not (N, 4).

    Example:
        >>> distance_box_iou(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[2., 0., 4., 2.]]))
        tensor([[-0.2000]])
    """
    return _overlaps(boxes1, boxes2, kernels.distance_box_ious, BoxPairs.distance)


def complete_box_iou(boxes1: Float[Tensor, "N 4"], boxes2: Float[Tensor, "M 4"]) -> Float[Tensor, "N M"]:
    """The distance IoU less a penalty for aspect ratios that differ.

    Source: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020, eqs.
    8 to 11; the weight of the penalty carries no gradient, as in the authors' code.
    Differs: the angle of a box without height is a right angle, of a point 0.

    Args:
        boxes1: xyxy pixels; a box whose corners are swapped is empty.
        boxes2: xyxy pixels.

    Returns:
        -2 to 1, float32 for half precision; (0, M) or (N, 0) for empty input.

    Raises:
        ArgumentError: when either is not (N, 4).

    Example:
        >>> complete_box_iou(torch.tensor([[0., 0., 4., 2.]]), torch.tensor([[0., 0., 2., 4.]]))
        tensor([[0.2371]])
    """
    return _overlaps(boxes1, boxes2, kernels.complete_box_ious, BoxPairs.complete)


class BoxPairs:
    """The four overlaps of pairs of boxes: of (N, 1, 4) and (1, M, 4) every pair, of (N, 4) twice row by row.

    Args:
        boxes1: xyxy pixels; a box whose corners are swapped is empty.
        boxes2: xyxy pixels, of a shape that broadcasts.

    Attributes:
        iou: the intersection over union, 0 where neither box has an area.

    Example:
        >>> BoxPairs(torch.tensor([[0., 0., 2., 2.]]), torch.tensor([[2., 0., 4., 2.]])).distance()
        tensor([-0.2000])
    """

    def __init__(self, boxes1: Float[Tensor, "*N 4"], boxes2: Float[Tensor, "*M 4"]) -> None:
        self._boxes1, self._boxes2 = boxes1, boxes2
        self._size1 = (boxes1[..., 2:] - boxes1[..., :2]).clamp(min=0)
        self._size2 = (boxes2[..., 2:] - boxes2[..., :2]).clamp(min=0)
        corner = torch.maximum(boxes1[..., :2], boxes2[..., :2])
        shared = _area((torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - corner).clamp(min=0))
        self._union = _area(self._size1) + _area(self._size2) - shared
        self.iou = _ratio(shared, self._union)

    def generalised(self) -> Float[Tensor, "*L"]:
        """As :func:`generalised_box_iou`."""
        enclosing = _area(self._enclosing())
        return self.iou - _ratio(enclosing - self._union, enclosing)

    def distance(self) -> Float[Tensor, "*L"]:
        """As :func:`distance_box_iou`."""
        ends1, ends2 = (boxes[..., :2] + boxes[..., 2:] for boxes in (self._boxes1, self._boxes2))
        diagonal = (self._enclosing() ** 2).sum(dim=-1)
        return self.iou - _ratio(((ends1 - ends2) ** 2).sum(dim=-1) / 4, diagonal)

    def complete(self) -> Float[Tensor, "*L"]:
        """As :func:`complete_box_iou`."""
        shape = (2 / math.pi * (_angle(self._size1) - _angle(self._size2))) ** 2
        with torch.no_grad():
            weight = _ratio(shape, 1 - self.iou + shape)
        return self.distance() - weight * shape

    def _enclosing(self) -> Tensor:
        """Width and height of the smallest box that holds both."""
        corner = torch.minimum(self._boxes1[..., :2], self._boxes2[..., :2])
        return (torch.maximum(self._boxes1[..., 2:], self._boxes2[..., 2:]) - corner).clamp(min=0)


def check_boxes(name: str, boxes: Tensor) -> None:
    """Raise :class:`~delineate.errors.ArgumentError` unless ``boxes`` are rows of four."""
    shape = tuple(boxes.shape)
    advice = f"If column 4 is a score, pass {name}[:, :4]." if len(shape) == 2 and shape[1] == 5 else ""
    require(len(shape) == 2 and shape[1] == 4, name, "be (N, 4) xyxy pixels", f"shape {shape}", advice)


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, 0 with a gradient of 0 where the whole is not positive."""
    positive = whole > 0
    return torch.where(positive, part / torch.where(positive, whole, 1), 0)


def _angle(size: Tensor) -> Tensor:
    """The angle of a box's diagonal from the vertical; of a point 0, with a gradient of 0."""
    width, height = size.unbind(dim=-1)
    point = (width == 0) & (height == 0)
    return torch.atan2(width, torch.where(point, 1, height))


def _overlaps(
    boxes1: Tensor,
    boxes2: Tensor,
    kernel: Callable[[np.ndarray, np.ndarray], np.ndarray],
    formula: Callable[[BoxPairs], Tensor],
) -> Tensor:
    check_boxes("boxes1", boxes1)
    check_boxes("boxes2", boxes2)
    dtype = torch.promote_types(boxes1.dtype, boxes2.dtype)
    dtype = dtype if dtype == torch.float64 else torch.float32
    differentiable = torch.is_grad_enabled() and (boxes1.requires_grad or boxes2.requires_grad)
    host = boxes1.device.type == boxes2.device.type == "cpu"
    if differentiable or not host or torch.compiler.is_compiling():
        return formula(BoxPairs(boxes1.to(dtype)[:, None], boxes2.to(dtype)[None]))
    arrays = [boxes.detach().to(torch.float64).numpy() for boxes in (boxes1, boxes2)]
    return torch.from_numpy(kernel(*arrays)).to(dtype)
