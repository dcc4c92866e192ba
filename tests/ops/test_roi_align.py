"""RoIAlign by hand, against torchvision in many shapes, its gradients, and the choice of pyramid levels."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from torchvision import ops, tv_tensors

from delineate.errors import ArgumentError
from delineate.ops.roi_align import pyramid_levels, pyramid_roi_align, roi_align

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def some_boxes(count: int, dtype: torch.dtype, *, largest: float = 150.0) -> torch.Tensor:
    """Inside, across and outside an image of 96 x 72, some of them without an area."""
    corner = torch.rand(count, 2, dtype=dtype) * 160 - 40
    size = torch.rand(count, 2, dtype=dtype) ** 2 * largest
    size[::7, 0] = 0
    return torch.cat([corner, corner + size], dim=1)


def joined(boxes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([images[:, None].to(boxes.dtype), boxes], dim=1)


def test_by_hand():
    corners = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    box, first = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([0])
    # a bin per pixel, with its only sample in the middle of the pixel
    assert torch.equal(roi_align(corners, box, first, output_size=2, spatial_scale=1), corners)
    # not aligned, the samples stand half a pixel farther: between four pixels, or at the edge
    shifted = roi_align(corners, box, first, output_size=2, spatial_scale=1, aligned=False)
    assert shifted.flatten().tolist() == [2.75, 3.5, 4.0, 5.0]
    # two samples a side at 0.25 and 0.75 of the map, which is 0 (the edge continued) and 0.25 between middles
    half = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    sampled = roi_align(corners, half, first, output_size=1, spatial_scale=1, sampling_ratio=2)
    x_mean, y_mean = 0.125, 0.125
    assert sampled.item() == 1 + x_mean + 2 * y_mean + x_mean * y_mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_equals_torchvision_and_its_gradient(ratio, aligned, dtype):
    shapes = [(1, (9, 12), (7, 7), 1 / 8), (5, (18, 24), (3, 2), 1 / 4), (17, (1, 5), (1, 4), 0.05)]
    for channels, size, output_size, scale in shapes:
        features = torch.randn(2, channels, *size, dtype=dtype)
        boxes, images = some_boxes(30, dtype), torch.randint(0, 2, (30,))
        results = []
        for memory in (torch.contiguous_format, torch.channels_last):
            ours = features.clone(memory_format=memory).requires_grad_()
            options = {"spatial_scale": scale, "sampling_ratio": ratio, "aligned": aligned}
            pooled = roi_align(ours, boxes, images, output_size=output_size, **options)
            results.append((pooled, ours))
        theirs = features.clone().requires_grad_()
        expected = ops.roi_align(theirs, joined(boxes, images), output_size, **options)
        direction = torch.randn_like(expected)
        (wanted,) = torch.autograd.grad((expected * direction).sum(), theirs)
        for pooled, ours in results:
            assert pooled.shape == expected.shape
            torch.testing.assert_close(pooled, expected, atol=TOLERANCE[dtype], rtol=0)
            (gradient,) = torch.autograd.grad((pooled * direction).sum(), ours)
            torch.testing.assert_close(gradient, wanted, atol=20 * TOLERANCE[dtype], rtol=0)


def test_gradients_of_any_order():
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    boxes, images = some_boxes(4, torch.float64) / 20, torch.tensor([0, 1, 1, 0])

    def pooled(features: torch.Tensor) -> torch.Tensor:
        return roi_align(features, boxes, images, output_size=(2, 1), spatial_scale=0.9)

    assert torch.autograd.gradcheck(pooled, (features,))
    assert torch.autograd.gradgradcheck(pooled, (features,))
    assert not roi_align(
        features.detach(), boxes.requires_grad_(), images, output_size=1, spatial_scale=1.0
    ).requires_grad


def test_without_boxes():
    features = torch.randn(2, 3, 4, 4, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), output_size=7, spatial_scale=0.5)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(kind):
    features = torch.randn(1, 8, 20, 20).to(kind)
    boxes, images = some_boxes(20, torch.float32), torch.zeros(20, dtype=torch.int64)
    pooled = roi_align(features, boxes, images, output_size=3, spatial_scale=0.25)
    exact = roi_align(features.float(), boxes, images, output_size=3, spatial_scale=0.25)
    assert torch.equal(pooled, exact.to(kind))


def test_boxes_of_a_data_set_and_the_memory_of_the_result():
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 0, 8, 8]]), format="XYXY", canvas_size=(8, 8))
    pooled = roi_align(torch.randn(1, 4, 8, 8), boxes, torch.tensor([0]), output_size=2, spatial_scale=1)
    assert type(pooled) is torch.Tensor
    assert pooled.is_contiguous(memory_format=torch.channels_last)


def test_other_devices_use_torchvision():
    features, boxes = torch.empty(2, 3, 9, 9, device="meta"), torch.empty(5, 4, device="meta")
    images = torch.empty(5, dtype=torch.int64, device="meta")
    assert roi_align(features, boxes, images, output_size=(7, 6), spatial_scale=1.0).shape == (5, 3, 7, 6)


class Head(torch.nn.Module):
    def forward(self, fine, coarse, boxes, images):
        one = roi_align(fine, boxes, images, output_size=2, spatial_scale=0.25)
        other = pyramid_roi_align((fine, coarse), boxes, images, strides=(4, 8), output_size=2, canonical_size=96)
        return one + other


def test_an_exported_model_has_torchvisions_operator():
    head = Head()
    maps = (torch.randn(2, 3, 18, 24), torch.randn(2, 3, 9, 12))
    boxes, images = some_boxes(12, torch.float32), torch.randint(0, 2, (12,))
    count = torch.export.Dim("R", min=2, max=1000)
    shapes = (None, None, {0: count}, {0: count})
    program = torch.export.export(head, (*maps, boxes, images), dynamic_shapes=shapes)
    assert "torchvision.roi_align" in str(program.graph)
    torch.testing.assert_close(program.module()(*maps, boxes[:5], images[:5]), head(*maps, boxes[:5], images[:5]))


def test_levels_equal_torchvisions():
    boxes = torch.cat([some_boxes(200, torch.float32, largest=1500.0), torch.tensor([[0.0, 0, 224, 224]])])
    sides = torch.tensor([111.9999, 112.0, 112.0001, 448.0, 896.0])
    boxes = torch.cat([boxes, torch.stack([0 * sides, 0 * sides, sides, sides], dim=1)])
    expected = ops.poolers.LevelMapper(2, 5)([boxes]) + 2
    found = pyramid_levels(boxes, lowest=2, highest=5)
    assert torch.equal(found, expected)
    assert set(found.tolist()) == {2, 3, 4, 5}
    swapped = torch.tensor([[9.0, 9.0, 0.0, 12.0], [9.0, 9.0, 0.0, 0.0]])
    assert pyramid_levels(swapped, lowest=3, highest=6).tolist() == [3, 3]


@pytest.mark.parametrize("ratio", [0, 2])
def test_a_pyramid_equals_torchvisions(ratio):
    strides = (4, 8, 16)
    maps = [torch.randn(2, 6, 256 // stride, 320 // stride, requires_grad=True) for stride in strides]
    per_image = [some_boxes(count, torch.float32, largest=500.0) for count in (9, 14)]
    boxes, images = torch.cat(per_image), torch.tensor([0] * 9 + [1] * 14)
    assert len(pyramid_levels(boxes, lowest=2, highest=4, canonical_size=112).unique()) == 3
    options = {"output_size": 3, "sampling_ratio": ratio, "canonical_level": 4}
    ours = pyramid_roi_align(maps, boxes, images, strides=strides, aligned=False, canonical_size=112, **options)
    pooler = ops.MultiScaleRoIAlign(["0", "1", "2"], canonical_scale=112, **options)
    expected = pooler({str(place): level for place, level in enumerate(maps)}, per_image, [(256, 320)] * 2)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    direction = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad((pooled * direction).sum(), maps) for pooled in (ours, expected))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": torch.zeros(3, 5)}, r"boxes must be \(R, 4\) xyxy pixels; got shape \(3, 5\). If column 0 is the"),
        ({"images": torch.zeros(2).long()}, r"images must have one number for each box; got \(2,\) for \(3, 4\)"),
        ({"images": torch.tensor([0, 1, 2])}, "images must be from 0 to 1; got 0 to 2"),
        ({"output_size": (0, 7)}, r"output_size must be at least 1 x 1 bins; got \(0, 7\)"),
        ({"spatial_scale": -1}, "spatial_scale must be positive: 1 / stride of the map; got -1"),
        ({"sampling_ratio": -1}, "sampling_ratio must be at least 0; got -1. For as many samples as a bin has pixels"),
        ({"features": torch.zeros(2, 1, 0, 4)}, "features must have a pixel"),
        (
            {"boxes": torch.zeros(3, 4, device="meta")},
            "boxes and images must be where the features are, on cpu; got meta and cpu",
        ),
    ],
)
def test_what_is_wrong_is_named(changes, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    arguments = {"boxes": torch.zeros(3, 4), "images": torch.zeros(3).long(), "output_size": 7, "spatial_scale": 0.5}
    arguments |= {"features": torch.zeros(2, 1, 4, 4)} | changes
    named = {name: arguments.pop(name) for name in ("features", "boxes", "images")}
    with pytest.raises(ArgumentError, match=message):
        roi_align(*named.values(), **arguments)


def test_what_is_wrong_with_a_pyramid_is_named():
    maps, boxes, images = [torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 4, 4)], torch.zeros(1, 4), torch.tensor([0])
    for strides, message in [
        ((4,), r"strides must have one number for each of the 2 maps; got \(4,\)"),
        ((4, 16), r"strides must be powers of 2, each twice the one before; got \(4, 16\)"),
        ((3, 6), r"strides must be powers of 2"),
    ]:
        with pytest.raises(ArgumentError, match=message):
            pyramid_roi_align(maps, boxes, images, strides=strides, output_size=2)
    with pytest.raises(ArgumentError, match="features must have the same number of images and channels, type"):
        pyramid_roi_align([maps[0], maps[1].double()], boxes, images, strides=(4, 8), output_size=2)
    with pytest.raises(ArgumentError, match="highest must be at least the lowest level, 4; got 3"):
        pyramid_levels(boxes, lowest=4, highest=3)
    with pytest.raises(ArgumentError, match="canonical_size must be positive; got 0"):
        pyramid_levels(boxes, lowest=2, highest=3, canonical_size=0)
