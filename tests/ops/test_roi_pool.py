"""RoI pooling by hand, against torchvision in many shapes, and its gradient."""

from __future__ import annotations

import pytest
import torch
from torchvision import ops, tv_tensors

from delineate.errors import ArgumentError
from delineate.ops.roi_pool import roi_pool


def some_boxes(count: int, dtype: torch.dtype) -> torch.Tensor:
    """Inside, across and outside an image of 96 x 72, some of them without an area or with crossed sides."""
    corner = torch.rand(count, 2, dtype=dtype) * 160 - 40
    size = torch.rand(count, 2, dtype=dtype) ** 2 * 150
    size[::7, 0], size[::5, 1] = 0, -3
    return torch.cat([corner, corner + size], dim=1)


def test_by_hand():
    features = torch.tensor([[[[1.0, 5.0, 2.0], [4.0, 3.0, 9.0], [7.0, 0.0, 8.0]]]], requires_grad=True)
    # corners at 0.4 and 2.5 are rounded to 0 and 3 of a map of 3: bins of 4 pixels in 2, the second cut short
    pooled = roi_pool(
        features, torch.tensor([[0.8, 0.8, 5.0, 5.0]]), torch.tensor([0]), output_size=2, spatial_scale=0.5
    )
    assert pooled.flatten().tolist() == [5.0, 9.0, 7.0, 8.0]
    pooled.sum().backward()
    assert features.grad.flatten().tolist() == [0, 1, 0, 0, 0, 1, 1, 0, 1]
    # a box beyond the map has empty bins
    away = roi_pool(features, torch.tensor([[50.0, 0, 60, 4]]), torch.tensor([0]), output_size=2, spatial_scale=1)
    assert torch.equal(away, torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchvision_and_its_gradient(dtype):
    shapes = [(1, (9, 12), (7, 7), 1 / 8), (5, (18, 24), (3, 2), 1 / 4), (17, (1, 5), (1, 4), 0.05)]
    for channels, size, output_size, scale in shapes:
        boxes, images = some_boxes(40, dtype), torch.randint(0, 2, (40,))
        rois = torch.cat([images[:, None].to(dtype), boxes], dim=1)
        theirs = torch.randn(2, channels, *size, dtype=dtype, requires_grad=True)
        expected = ops.roi_pool(theirs, rois, output_size, scale)
        direction = torch.randn_like(expected)
        (wanted,) = torch.autograd.grad((expected * direction).sum(), theirs)
        for memory in (torch.contiguous_format, torch.channels_last):
            ours = theirs.detach().clone(memory_format=memory).requires_grad_()
            pooled = roi_pool(ours, boxes, images, output_size=output_size, spatial_scale=scale)
            assert torch.equal(pooled, expected)
            (gradient,) = torch.autograd.grad((pooled * direction).sum(), ours)
            torch.testing.assert_close(gradient, wanted)


def test_gradcheck():
    features = torch.randperm(120).double().view(2, 2, 5, 6).requires_grad_()  # no two alike
    boxes, images = some_boxes(5, torch.float64) / 20, torch.tensor([0, 1, 1, 0, 1])
    assert torch.autograd.gradcheck(
        lambda features: roi_pool(features, boxes, images, output_size=(2, 3), spatial_scale=1), (features,)
    )


def test_without_boxes_and_in_half_precision():
    features = torch.randn(2, 3, 4, 4).bfloat16()
    none = roi_pool(features, torch.zeros(0, 4), torch.zeros(0).long(), output_size=7, spatial_scale=0.5)
    assert none.shape == (0, 3, 7, 7)
    assert none.dtype == torch.bfloat16
    box = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 0, 3, 3]]), format="XYXY", canvas_size=(4, 4))
    whole = roi_pool(features, box, torch.tensor([1]), output_size=1, spatial_scale=1)
    assert type(whole) is torch.Tensor
    assert torch.equal(whole[0, :, 0, 0], features[1].amax(dim=(1, 2)))


def test_other_devices_use_torchvision():
    features, boxes = torch.empty(2, 3, 9, 9, device="meta"), torch.empty(5, 4, device="meta")
    images = torch.empty(5, dtype=torch.int64, device="meta")
    assert roi_pool(features, boxes, images, output_size=(7, 6), spatial_scale=1.0).shape == (5, 3, 7, 6)


def test_what_is_wrong_is_named():
    features, boxes, images = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4), torch.tensor([0])
    with pytest.raises(ArgumentError, match="output_size must be at least 1 x 1 bins; got 0"):
        roi_pool(features, boxes, images, output_size=0, spatial_scale=1)
    with pytest.raises(ArgumentError, match="images must be from 0 to 0; got 1 to 1"):
        roi_pool(features, boxes, images + 1, output_size=1, spatial_scale=1)
