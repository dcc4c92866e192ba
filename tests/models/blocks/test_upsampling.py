from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.blocks.upsampling import UPSAMPLINGS, create_upsampling
from delineate.ops.unpooling import max_pool

TWO = torch.tensor([[[[1.0, 2.0]]]])


def test_each_by_hand() -> None:
    by_hand = {
        "nearest": [[1, 1, 2, 2], [1, 1, 2, 2]],
        "bilinear": [[1, 1.25, 1.75, 2], [1, 1.25, 1.75, 2]],
        "bed_of_nails": [[1, 0, 2, 0], [0, 0, 0, 0]],
    }
    for name, expected in by_hand.items():
        assert create_upsampling(name, 1)(TWO, (2, 4)).tolist() == [[expected]], name
    _, indices = max_pool(torch.tensor([[[[0.0, 5, 0, 0], [0, 0, 7, 0]]]]))
    assert create_upsampling("max_unpool", 1)(TWO, (2, 4), indices).tolist() == [[[[0, 1, 0, 0], [0, 0, 2, 0]]]]
    # 0.25 0.75 0.75 0.25 down and across, its first and last row and column cropped
    assert create_upsampling("transposed", 1)(TWO, (2, 4)).tolist() == [
        [[[0.5625, 0.9375, 1.3125, 1.125], [0.5625, 0.9375, 1.3125, 1.125]]]
    ]
    resize_conv = create_upsampling("resize_conv", 1)
    nn.init.ones_(resize_conv.convolution.weight)
    assert resize_conv(TWO, (2, 4)).tolist() == [[[[4, 8, 10, 8], [4, 8, 10, 8]]]]


@pytest.mark.parametrize("name", UPSAMPLINGS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@torch.no_grad()
def test_an_odd_size_is_a_crop_of_the_whole(name: str, scale: int) -> None:
    upsample = create_upsampling(name, 3, scale=scale)
    if name == "resize_conv":
        nn.init.zeros_(upsample.convolution.weight[:, :, :, 2])
        nn.init.zeros_(upsample.convolution.weight[:, :, 2])  # zeros beyond the crop may not be looked at
    features = torch.randn(2, 3, 4, 5)
    whole = (4 * scale, 5 * scale)
    odd = (whole[0] - 1, whole[1] - 1)

    def fine(size: tuple[int, int]) -> Tensor:
        windows = scale * torch.arange(4)[:, None] * size[1] + scale * torch.arange(5)
        return upsample(features, size, windows.expand_as(features).contiguous())

    assert fine(whole).shape == (2, 3, *whole)
    assert torch.equal(fine(odd), fine(whole)[:, :, :-1, :-1])


@torch.no_grad()
def test_transposed_is_bilinear_inside_and_by_any_scale() -> None:
    for scale in (2, 3, 4, 8):
        features = torch.randn(1, 2, 5, 6)
        size = (5 * scale, 6 * scale)
        transposed = create_upsampling("transposed", 2, scale=scale)(features, size)
        bilinear = create_upsampling("bilinear", 2, scale=scale)(features, size)
        inside = (slice(None), slice(None), slice(scale, -scale), slice(scale, -scale))
        torch.testing.assert_close(transposed[inside], bilinear[inside], atol=1e-5, rtol=1e-5)
    assert torch.equal(bilinear, F.interpolate(features, size=size, mode="bilinear"))


@torch.no_grad()
def test_unpooling_what_was_pooled_gives_the_maxima_their_places() -> None:
    image = torch.randn(1, 3, 7, 9)
    pooled, indices = max_pool(image)
    fine = create_upsampling("max_unpool", 3)(pooled, image.shape[2:], indices)
    assert torch.equal(fine[fine != 0], image[fine != 0])
    assert torch.equal(max_pool(fine.where(fine != 0, -torch.inf))[0], pooled)
    nails = create_upsampling("bed_of_nails", 3)(pooled, image.shape[2:])
    assert torch.equal(nails[:, :, ::2, ::2], pooled)
    assert nails.count_nonzero() == pooled.numel()


def test_parameters_and_gradients() -> None:
    counts = {name: sum(p.numel() for p in create_upsampling(name, 8).parameters()) for name in UPSAMPLINGS}
    learned = {"transposed": 16 * 64, "resize_conv": 9 * 64 + 8}
    assert counts == {name: learned.get(name, 0) for name in UPSAMPLINGS}
    for name in UPSAMPLINGS:
        features = torch.randn(1, 8, 3, 3, requires_grad=True)
        indices = max_pool(torch.randn(1, 8, 6, 6))[1]
        upsample = create_upsampling(name, 8)
        upsample(features, (6, 6), indices).square().sum().backward()
        assert features.grad.ne(0).all(), name
        assert all(parameter.grad.any() for parameter in upsample.parameters()), name


def test_a_value_that_is_not_finite_stays_where_it_is() -> None:
    fine = create_upsampling("bed_of_nails", 1)(torch.tensor([[[[torch.inf, 1.0]]]]), (2, 4))
    assert fine[0, 0, 0].tolist() == [torch.inf, 0, 1, 0]


def test_errors_say_what_is_needed() -> None:
    with pytest.raises(UnknownNameError, match=r"must be a known name; got 'nearst'. Did you mean 'nearest'"):
        create_upsampling("nearst", 1)
    with pytest.raises(ArgumentError, match="indices must be those of the pooling that is undone; got None"):
        create_upsampling("max_unpool", 1)(TWO, (2, 4))
    with pytest.raises(ArgumentError, match="scale must be a whole number of at least 1; got 0"):
        create_upsampling("nearest", 1, scale=0)


class UpAndDown(nn.Module):
    """One upsampling behind the pooling whose indices it may use."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.upsample = create_upsampling(name, 2)

    def forward(self, images: Tensor) -> Tensor:
        pooled, indices = max_pool(images)
        return self.upsample(pooled, images.shape[2:], indices)


@pytest.mark.slow
@pytest.mark.parametrize("name", UPSAMPLINGS)
@torch.no_grad()
def test_exports_to_onnx_with_dynamic_size(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = UpAndDown(name).eval()
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns of its own deprecations
        torch.onnx.export(
            model,
            (torch.randn(2, 2, 7, 10),),
            tmp_path / "model.onnx",
            dynamo=True,
            dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for shape in [(1, 2, 1, 1), (3, 2, 6, 9)]:
        images = torch.randn(*shape)
        (fine,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(fine), model(images), atol=1e-5, rtol=1e-5)
