from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.enet import ENet, enet
from tests.models.segmenter import SegmenterTests, copy_in_order


class TestENet(SegmenterTests):
    name = "enet"
    published = [({"num_classes": 11}, 363_791), ({"num_classes": 12}, 363_856), ({"num_classes": 19}, 364_311)]
    # batch norm takes every shift away again
    without_gradient = ("*.residual.3.bias", "*.residual.4.bias")


class LuaBottleneck(nn.Module):
    """``_bottleneck`` of encoder.lua, argument by argument."""

    def __init__(self, asymmetric: int | None, dilated: int | None, before: int, after: int, down: bool) -> None:
        super().__init__()
        internal, stride = after // 4, 2 if down else 1
        self.main = nn.Sequential(
            nn.Conv2d(before, internal, stride, stride, bias=False), nn.BatchNorm2d(internal, 1e-3), nn.PReLU(internal)
        )
        if not asymmetric and not dilated:
            self.main.append(nn.Conv2d(internal, internal, 3, 1, 1))
        elif asymmetric:
            pad = (asymmetric - 1) // 2
            # Torch7 names the width first
            self.main.append(nn.Conv2d(internal, internal, (1, asymmetric), 1, (0, pad), bias=False))
            self.main.append(nn.Conv2d(internal, internal, (asymmetric, 1), 1, (pad, 0)))
        else:
            self.main.append(nn.Conv2d(internal, internal, 3, 1, dilated, dilation=dilated))
        self.main.extend([nn.BatchNorm2d(internal, 1e-3), nn.PReLU(internal)])
        self.main.extend([nn.Conv2d(internal, after, 1, bias=False), nn.BatchNorm2d(after, 1e-3)])
        self.last = nn.PReLU(after)
        self.before, self.after, self.down = before, after, down

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        other, indices = F.max_pool2d(x, 2, 2, return_indices=True) if self.down else (x, None)
        zeros = other.new_zeros(len(other), self.after - self.before, *other.shape[2:])
        return self.last(self.main(x) + torch.cat([other, zeros], 1)), indices


class LuaDecoderBottleneck(nn.Module):
    """``bottleneck`` of decoder.lua."""

    def __init__(self, before: int, after: int, up: bool) -> None:
        super().__init__()
        internal = after // 4
        self.main = nn.Sequential(
            nn.Conv2d(before, internal, 1, bias=False),
            nn.BatchNorm2d(internal, 1e-3),
            nn.ReLU(),
            nn.ConvTranspose2d(internal, internal, 3, 2, 1, 1) if up else nn.Conv2d(internal, internal, 3, 1, 1),
            nn.BatchNorm2d(internal, 1e-3),
            nn.ReLU(),
            nn.Conv2d(internal, after, 1, bias=False),
            nn.BatchNorm2d(after, 1e-3),
        )
        self.other = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after, 1e-3)) if up else None

    def forward(self, x: Tensor, indices: Tensor | None) -> Tensor:
        other = x if self.other is None else F.max_unpool2d(self.other(x), indices, 2, 2)
        return F.relu(self.main(x) + other)


class Lua(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 13, 3, 2, 1)
        self.norm, self.prelu = nn.BatchNorm2d(16, 1e-3), nn.PReLU(16)
        rows = [(None, None, 16, 64, True), *[(None, None, 64, 64, False)] * 4, (None, None, 64, 128, True)]
        for _ in range(2):
            for asymmetric, dilated in [(0, 0), (0, 2), (5, 0), (0, 4), (0, 0), (0, 8), (5, 0), (0, 16)]:
                rows.append((asymmetric, dilated, 128, 128, False))
        self.encoder = nn.ModuleList(LuaBottleneck(*row) for row in rows)
        self.decoder = nn.ModuleList(
            LuaDecoderBottleneck(*row)
            for row in [(128, 64, True), (64, 64, False), (64, 64, False), (64, 16, True), (16, 16, False)]
        )
        self.last = nn.ConvTranspose2d(16, classes, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.norm(torch.cat([self.first(x), F.max_pool2d(x, 2, 2)], 1)))
        pools = []
        for block in self.encoder:
            x, indices = block(x)
            pools += [] if indices is None else [indices]
        for block in self.decoder:
            x = block(x, pools.pop() if block.other is not None else None)
        return self.last(x)


def test_equals_a_transcription_of_the_release():
    model, lua = enet(5), Lua(5)
    copy_in_order(model, lua)
    images = torch.randn(2, 3, 48, 64)
    model.train().apply(lambda layer: layer.eval() if isinstance(layer, nn.Dropout2d) else None)
    logits, expected = model(images).logits, lua.train()(images)
    torch.testing.assert_close(logits, expected)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images).logits, lua.eval()(images))


def parts(model: ENet) -> tuple[nn.Module, ...]:
    return (model.initial, model.down1, model.stage1, model.down2, model.stage2, model.stage3)


def test_published_encoder_count_dropout_and_epsilon():
    with torch.device("meta"):
        model = enet(19)
    assert sum(value.numel() for part in parts(model) for value in part.parameters()) == 338_156
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout2d)] == [0.01] * 5 + [0.1] * 17
    assert {layer.eps for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)} == {1e-3}
    encoder = [layer for part in parts(model) for layer in part.modules()]
    assert not any(isinstance(layer, nn.ReLU) for layer in encoder)
    assert sum(isinstance(layer, nn.PReLU) for layer in model.modules()) == sum(
        isinstance(layer, nn.PReLU) for layer in encoder
    )


@torch.no_grad()
def test_published_sizes_at_512():
    with torch.device("meta"):
        model = enet(19).eval()
        sizes = []
        for part in (*parts(model), model.up4, model.stage4, model.up5, model.stage5):
            part.register_forward_hook(
                lambda module, inputs, output: sizes.append(
                    tuple((output[0] if type(output) is tuple else output).shape[1:3])
                )
            )
        model(torch.empty(1, 3, 512, 512))
    assert sizes == [(16, 256), (64, 128), (64, 128), *[(128, 64)] * 3, (64, 128), (64, 128), (16, 256), (16, 256)]


@pytest.mark.parametrize("channels", [0, 16])
def test_channel_errors(channels: int):
    with pytest.raises(ArgumentError, match=rf"in_channels must be 1 to 15: .*; got {channels}\."):
        enet(2, in_channels=channels)
