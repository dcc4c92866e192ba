from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.explain.receptive_field import receptive_field
from delineate.models.catalogue import create_model


def conv(kernel: int, **options) -> nn.Conv2d:
    return nn.Conv2d(1, 1, kernel, **{"padding": kernel // 2, **options})


class Branches(nn.Module):
    """A skip around a dilated convolution, joined by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.join = conv(3, dilation=4, padding=4), nn.Conv2d(2, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        joined: Tensor = self.join(torch.cat([images, self.wide(images)], 1))
        return joined


class Bilinear(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return F.interpolate(images, scale_factor=2, mode="bilinear")


NETS = {
    "one layer": nn.Sequential(conv(5)),
    "pool between": nn.Sequential(conv(3), nn.AvgPool2d(2), conv(3)),
    "strides and holes": nn.Sequential(conv(3, stride=2), conv(3, dilation=3, padding=3), nn.AvgPool2d(3, 2, 1)),
    "one direction": nn.Sequential(nn.Conv2d(1, 1, (1, 5), padding=(0, 2)), nn.Conv2d(1, 1, (3, 1), padding=(1, 0))),
    "branches": Branches(),
    "up again": nn.Sequential(nn.AvgPool2d(4), conv(3), nn.Upsample(scale_factor=4), conv(3)),
    "up twice": nn.Sequential(
        nn.AvgPool2d(8), conv(3), nn.Upsample(scale_factor=2), conv(3), nn.Upsample(scale_factor=2), conv(3)
    ),
    "long transposed": nn.Sequential(nn.AvgPool2d(4), nn.ConvTranspose2d(1, 1, 7, 3, 2), conv(5)),
    "transposed": nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 4, 2, 1)),
    "bilinear": nn.Sequential(nn.AvgPool2d(2), Bilinear()),
}


def measured(net: nn.Module, side: int = 64) -> tuple[int, int]:
    """The largest extent of the pixels with a gradient, over output positions near the centre."""
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    images = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    output = net.double()(images)
    extents = []
    middle = output.shape[-1] // 2
    for row in range(middle, middle + 8):
        (gradient,) = torch.autograd.grad(output[0, 0, row, row], images, retain_graph=True)
        rows, columns = gradient[0, 0].nonzero().T
        extents.append((int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1))
    return max(height for height, _ in extents), max(width for _, width in extents)


@pytest.mark.parametrize("name", NETS)
def test_equals_the_pixels_that_gradients_reach(name: str) -> None:
    assert receptive_field(NETS[name], in_channels=1, size=(64, 64)).logit_size == measured(NETS[name])


def test_by_hand() -> None:
    # 3; pooled 4, stride 2; 4 + 2 * 2 = 8; pooled 10, stride 4; 10 + 2 * 4 = 18
    net = nn.Sequential(conv(3), nn.MaxPool2d(2), conv(3), nn.MaxPool2d(2), conv(3))
    field = receptive_field(net, in_channels=1)
    assert (field.stride, field.size, field.logit_size) == ((4, 4), (18, 18), (18, 18))


@pytest.mark.parametrize(
    ("name", "stride", "size"),
    [("fcn32s", 32, 404), ("fcn8s", 32, 404), ("unet_original", 16, 140), ("segnet", 32, 212)],
)
def test_equals_what_papers_say(name: str, stride: int, size: int) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=21)
    field = receptive_field(model)
    assert (field.stride, field.size) == ((stride, stride), (size, size))


def test_alexnet_as_in_the_fcn_paper() -> None:
    with torch.device("meta"):
        model = create_model("fcn32s", num_classes=21, encoder="alexnet")
    assert receptive_field(model).size == (355, 355)


def test_global_pooling_and_attention_see_everything() -> None:
    class Gate(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images * images.mean((2, 3), keepdim=True).sigmoid()

    class Attention(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).transpose(1, 2)
            mixed = torch.bmm(torch.bmm(tokens, tokens.transpose(1, 2)).softmax(-1), tokens)
            return mixed.transpose(1, 2).reshape(images.shape)

    for layer in (Gate(), Attention()):
        field = receptive_field(nn.Sequential(conv(3, stride=2), layer), in_channels=1, size=(32, 48))
        assert field.logit_size == (math.inf, math.inf)
        assert field.stride == (2, 2)


def test_recurrent_layers_see_everything() -> None:
    class Sweep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 2, batch_first=True)

        def forward(self, images: Tensor) -> Tensor:
            rows = images.permute(0, 2, 3, 1).flatten(0, 1)
            swept: Tensor = self.gru(rows)[0].view(1, *images.shape[2:], 2).permute(0, 3, 1, 2)
            return swept

    field = receptive_field(nn.Sequential(conv(3, stride=4), Sweep()), in_channels=1, size=(32, 48))
    assert (field.stride, field.size) == ((4, 4), (math.inf, math.inf))


def test_layers_on_channels_last_change_nothing() -> None:
    class Pointwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 6)

        def forward(self, images: Tensor) -> Tensor:
            mixed: Tensor = self.linear(self.norm(images.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
            return mixed

    net = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), Pointwise(), nn.Conv2d(6, 2, 3, padding=1))
    assert receptive_field(net, in_channels=1, size=(24, 40)).logit_size == (7, 7)


def test_refuses_what_gives_no_logits() -> None:
    class Pair(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    with pytest.raises(ArgumentError, match="model must return a tensor or outputs with logits; got tuple"):
        receptive_field(Pair(), in_channels=1)
