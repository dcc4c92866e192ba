from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.hourglass import Hourglass, hourglass
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestHourglass(SegmenterTests):
    name = "hourglass"
    options = {"channels": 16}
    published = [
        ({"num_classes": 16, "stacks": 1}, 3_426_448),
        ({"num_classes": 16}, 6_570_400),
        ({"num_classes": 16, "stacks": 4}, 12_858_304),
        ({"num_classes": 16, "stacks": 8}, 25_434_112),
    ]
    training_size = (128, 192)
    # batch norm takes every shift away again
    without_gradient = ("stem.0.0.bias", "*.residual.2.bias", "*.residual.5.bias", "stages.*.features.1.0.bias")


class TestHourglassOfTwoBlocks(SegmenterTests):
    name = "hourglass"
    options = {"channels": 16, "stacks": 1, "blocks": 2, "levels": 2}
    without_gradient = TestHourglass.without_gradient


class LuaResidual(nn.Module):
    """``Residual.lua``, line by line; its layers in the order in which ours are made."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.norm1, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, half, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(half), nn.Conv2d(half, half, 3, 1, 1)
        self.norm3, self.conv3 = nn.BatchNorm2d(half), nn.Conv2d(half, after, 1)
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return self.conv3(F.relu(self.norm3(y))) + self.skip(x)


class Lua(nn.Module):
    """``hg.lua`` with one module a place, its recursion unrolled into a walk down and a walk up."""

    def __init__(self, classes: int, width: int, stacks: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width // 4, 7, 2, 3), nn.BatchNorm2d(width // 4)
        self.r1 = LuaResidual(width // 4, width // 2)
        self.r4, self.r5 = LuaResidual(width // 2, width // 2), LuaResidual(width // 2, width)
        self.stages = nn.ModuleList()
        for stack in range(stacks):
            stage = nn.ModuleDict()
            for level in range(4):
                stage[f"up1_{level}"], stage[f"low1_{level}"] = LuaResidual(width, width), LuaResidual(width, width)
            stage["low2"] = LuaResidual(width, width)
            for level in reversed(range(4)):
                stage[f"low3_{level}"] = LuaResidual(width, width)
            stage["res"] = LuaResidual(width, width)
            stage["lin"], stage["lin_norm"] = nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
            stage["out"] = nn.Conv2d(width, classes, 1)
            if stack < stacks - 1:
                stage["ll_"], stage["out_"] = nn.Conv2d(width, width, 1), nn.Conv2d(classes, width, 1)
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.r1(F.relu(self.norm(self.conv(x))))
        x = self.r5(self.r4(F.max_pool2d(x, 2)))
        outputs = []
        for stage in self.stages:
            kept, low = [], x
            for level in range(4):
                kept.append(stage[f"up1_{level}"](low))
                low = stage[f"low1_{level}"](F.max_pool2d(low, 2))
            low = stage["low2"](low)
            for level in reversed(range(4)):
                low = stage[f"low3_{level}"](low)
                low = kept[level] + low.repeat_interleave(2, 2).repeat_interleave(2, 3)
            ll = F.relu(stage["lin_norm"](stage["lin"](stage["res"](low))))
            outputs.append(stage["out"](ll))
            if "ll_" in stage:
                x = x + stage["ll_"](ll) + stage["out_"](outputs[-1])
        return outputs


def test_equals_the_release_stack_by_stack() -> None:
    reference = Lua(3, 16, 3).double().train()
    model = hourglass(3, stacks=3, channels=16).double().train()
    copy_in_order(reference, model)
    images = torch.randn(2, 3, 64, 128, dtype=torch.float64)
    outputs, expected = model(images), reference(images)
    for logits, coarse in zip((*outputs.auxiliary, outputs.logits), expected, strict=True):
        finer = F.interpolate(coarse, scale_factor=4, mode="bilinear")
        torch.testing.assert_close(logits, finer, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_the_paper_goes_down_to_four_pixels() -> None:
    model = hourglass(16, stacks=1, channels=8).eval()
    sizes = []
    for layer in model.modules():
        if isinstance(layer, Hourglass):
            layer.down.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[2:])))
    model(torch.zeros(1, 3, 256, 256))
    assert sizes == [(32, 32), (16, 16), (8, 8), (4, 4)]


@torch.no_grad()
def test_every_stack_but_the_last_is_a_side_head_in_training() -> None:
    model = hourglass(2, stacks=3, channels=8, levels=2)
    images = torch.randn(2, 3, 37, 50)
    outputs = model.train()(images)
    assert [side.shape for side in outputs.auxiliary] == [(2, 2, 37, 50)] * 2
    assert model.eval()(images).auxiliary == ()


@torch.no_grad()
def test_predictions_reach_the_next_stack() -> None:
    model = hourglass(2, stacks=2, channels=8, levels=1).eval()
    images = torch.randn(1, 3, 16, 16)
    before = model(images).logits
    model.stages[0].classify.bias += 1
    assert not torch.allclose(model(images).logits, before)


@pytest.mark.parametrize("name", ["stacks", "blocks", "levels"])
def test_counts_are_positive(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name} must be at least 1; got 0"):
        hourglass(2, **{name: 0})


def test_channels_are_quartered() -> None:
    with pytest.raises(ArgumentError, match="channels must be a multiple of 4; got 30"):
        hourglass(2, channels=30)
