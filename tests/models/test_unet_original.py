from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop

from delineate.errors import ArgumentError
from delineate.models.unet_original import UNetCore, overlap_tile, unet_original, valid_input_size
from tests.models.segmenter import SegmenterTests

TINY = (2, 3, 4, 5, 6)


class TestUNetOriginal(SegmenterTests):
    name = "unet_original"
    options = {"base_channels": 4, "in_channels": 3}
    published = [
        ({"num_classes": 2}, 31_030_658),
        ({"num_classes": 2, "in_channels": 3}, 31_031_810),
        ({"num_classes": 1, "in_channels": 3}, 31_031_745),
        ({"num_classes": 2, "batch_norm": True}, 31_042_434),
    ]
    training_size = (36, 52)


class TestUNetOriginalWithBatchNorm(SegmenterTests):
    name = "unet_original"
    options = {"base_channels": 4, "in_channels": 3, "batch_norm": True}
    training_size = (36, 52)


def test_the_paper_sizes():
    core = UNetCore(2, channels=(1,) * 5).eval()
    sizes = []
    for block in core.contracting:
        block.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    with torch.no_grad():
        assert core(torch.zeros(1, 1, 572, 572)).shape == (1, 2, 388, 388)
    assert sizes == [568, 280, 136, 64, 28]
    assert sum(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in core.modules()) == 23


def test_valid_input_size_is_the_smallest_that_covers():
    for size in range(1, 500):
        found = valid_input_size(size)
        candidates = [n for n in range(188, 1000) if n % 16 == 12 and n - 184 >= size]
        assert found == candidates[0]


def test_each_bottleneck_value_sees_140_pixels():
    core = UNetCore(2, channels=(1,) * 5).double().eval()
    for layer in core.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.1)
    core.pool = nn.AvgPool2d(2)  # so that every pixel in view counts
    seen = []
    core.contracting[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.rand(1, 1, 188, 188, dtype=torch.float64, requires_grad=True)
    core(images)
    (gradient,) = torch.autograd.grad(seen[0][0, 0, 0, 0], images)
    assert torch.equal(gradient[0, 0] != 0, (torch.arange(188)[:, None] < 140) & (torch.arange(188) < 140))


def test_starts_with_the_papers_variance():
    core = UNetCore(2, in_channels=3, channels=(16, 32, 64, 128, 256))
    for layer in core.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 20_000:
            incoming = layer.in_channels * (9 if isinstance(layer, nn.Conv2d) else 1)
            assert layer.weight.std().item() == pytest.approx((2 / incoming) ** 0.5, rel=0.03)
            assert layer.bias.abs().max() == 0


@torch.no_grad()
def test_equals_a_plain_transcription_of_figure_1():
    core = UNetCore(2, channels=TINY).eval()
    convolutions = iter([layer for layer in core.contracting.modules() if isinstance(layer, nn.Conv2d)])
    images = torch.randn(2, 1, 204, 188)

    def twice(x):
        for _ in range(2):
            x = F.relu(F.conv2d(x, *(p for p in next(convolutions).parameters())))
        return x

    levels = [twice(images)]
    for _ in range(4):
        levels.append(twice(F.max_pool2d(levels[-1], 2)))
    convolutions = iter([layer for layer in core.expanding.modules() if isinstance(layer, nn.Conv2d)])
    x = levels.pop()
    for up in core.up_convolutions:
        x = F.conv_transpose2d(x, up.weight, up.bias, stride=2)
        x = twice(torch.cat([center_crop(levels.pop(), list(x.shape[2:])), x], 1))
    torch.testing.assert_close(core(images), F.conv2d(x, core.classify.weight, core.classify.bias))


@torch.no_grad()
def test_borders_are_mirrored():
    model = unet_original(2, base_channels=2).eval()
    images = torch.randn(1, 1, 100, 116)  # both 16 k + 4: no further pixels are needed behind
    expected = model.core(F.pad(images, (92, 92, 92, 92), mode="reflect"))
    assert torch.equal(model(images).logits, expected)


@pytest.mark.parametrize(("size", "tile"), [((70, 90), 36), ((33, 20), 20), ((40, 100), 68)])
@torch.no_grad()
def test_tiles_stitch_to_the_whole(size: tuple[int, int], tile: int):
    model = unet_original(2, base_channels=2).double().eval()
    images = torch.randn(1, 1, *size, dtype=torch.float64)
    stitched = overlap_tile(model.core, images, tile=tile)
    torch.testing.assert_close(stitched, model(images).logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", [384, 389, 4, 0])
def test_tile_errors(tile: int):
    with pytest.raises(
        ArgumentError, match=rf"tile must be 16 k \+ 4 pixels and at least 20; got {tile}\. The paper has 388\."
    ):
        overlap_tile(nn.Identity(), torch.zeros(1, 1, 9, 9), tile=tile)


def test_base_channels_error():
    with pytest.raises(ArgumentError, match="base_channels must be at least 1; got 0"):
        unet_original(base_channels=0)
