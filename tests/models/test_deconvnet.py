from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VGG16_BN_Weights

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.deconvnet import deconvnet, pad_to_window
from tests.models.segmenter import SegmenterTests, copy_in_order

# batch norm takes every shift away again
SHIFTS = ("encoder.*.0.bias", "bottleneck.*.0.bias", "decoder.*.0.bias", "shortcuts.*.0.bias")


class TestDeconvNet(SegmenterTests):
    name = "deconvnet"
    options = {"base_channels": 8, "fc_channels": 32}
    training_size = (320, 320)  # four by four positions after fc6, over which batch norm is smooth
    published = [({"num_classes": 21}, 251_805_653)]
    without_gradient = SHIFTS


class TestDeconvNetWithShortcuts(SegmenterTests):
    name = "deconvnet"
    options = {"base_channels": 4, "fc_channels": 16, "shortcuts": "concatenate", "upsampling": "bilinear"}
    training_size = (256, 288)
    without_gradient = SHIFTS


class Plain(nn.Module):
    """The release's prototxt, layer by layer, with PyTorch's own unpooling."""

    def __init__(self, classes: int, widths: list[int], fc: int) -> None:
        super().__init__()
        a, b, c, d, e = widths
        down = [[3, a, a], [a, b, b], [b, c, c, c], [c, d, d, d], [d, e, e, e]]
        up = [[e, e, e, d], [d, d, d, c], [c, c, c, b], [b, b, a], [a, a, a]]

        def stage(kind: type, widths: list[int]) -> nn.ModuleList:
            pairs = [nn.Sequential(kind(i, o, 3, padding=1), nn.BatchNorm2d(o)) for i, o in pairwise(widths)]
            return nn.ModuleList(pairs)

        self.down = nn.ModuleList(stage(nn.Conv2d, widths) for widths in down)
        self.middle = nn.ModuleList(
            nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))
            for layer in (nn.Conv2d(e, fc, 7), nn.Conv2d(fc, fc, 1), nn.ConvTranspose2d(fc, e, 7))
        )
        self.up = nn.ModuleList(stage(nn.ConvTranspose2d, widths) for widths in up)
        self.score = nn.Conv2d(a, classes, 1)

    def forward(self, x: Tensor, *, add: bool = False) -> Tensor:
        switches, poolings = [], []
        for stage in self.down:
            for layer in stage:
                x = F.relu(layer(x))
            x, indices = F.max_pool2d(x, 2, 2, return_indices=True)
            switches.append(indices)
            poolings.append(x)
        for layer in self.middle:
            x = F.relu(layer(x))
        poolings.pop()
        for stage in self.up:
            x = F.max_unpool2d(x, switches.pop(), 2, 2)
            for layer in stage:
                x = F.relu(layer(x))
            if add and poolings:
                x = x + poolings.pop()
        return self.score(x)


@torch.no_grad()
def test_equals_a_plain_transcription() -> None:
    model, plain = deconvnet(5, base_channels=4, fc_channels=16), Plain(5, [4, 8, 16, 32, 32], 16)
    copy_in_order(model, plain)
    for images in (torch.randn(2, 3, 224, 224), torch.randn(1, 3, 256, 288)):
        torch.testing.assert_close(model.train()(images).logits, plain.train()(images), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model.eval()(images).logits, plain.eval()(images), atol=1e-4, rtol=1e-4)
    short = deconvnet(5, base_channels=4, fc_channels=16, shortcuts="add").eval()
    copy_in_order(plain, short)  # additions have no weights
    torch.testing.assert_close(short(images).logits, plain(images, add=True), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_published_sizes_and_work_at_224() -> None:
    with torch.device("meta"):
        model = deconvnet(21).eval()
        sizes = []
        for stage in (*model.encoder, *model.bottleneck, *model.decoder):
            stage.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))
        with FlopCounterMode(display=False) as counter:
            assert model(torch.empty(1, 3, 224, 224)).logits.shape == (1, 21, 224, 224)
    down = [(64, 224, 224), (128, 112, 112), (256, 56, 56), (512, 28, 28), (512, 14, 14)]
    middle = [(4096, 1, 1), (4096, 1, 1), (512, 7, 7)]
    up = [(512, 14, 14), (256, 28, 28), (128, 56, 56), (64, 112, 112), (64, 224, 224)]
    assert sizes == [*down, *middle, *up]
    assert round(counter.get_total_flops() / 2e9, 2) == 32.75
    small = sum(parameter.numel() for parameter in deconvnet(21, fc_channels=1024).to("meta").parameters())
    assert round(small / 1e6) == 82


def test_small_and_odd_images_are_continued_at_the_bottom_and_the_right() -> None:
    for size, padded in (((1, 1), (224, 224)), ((224, 225), (224, 256)), ((300, 40), (320, 224))):
        images = torch.randn(1, 2, *size)
        larger = pad_to_window(images)
        assert larger.shape == (1, 2, *padded)
        assert torch.equal(larger[:, :, : size[0], : size[1]], images)
        assert torch.equal(larger[:, :, -1, -1], images[:, :, -1, -1])


@pytest.mark.parametrize("shortcuts", ["none", "add", "concatenate"])
@torch.no_grad()
def test_shortcuts_bring_detail_past_the_bottleneck(shortcuts: str) -> None:
    """With a bottleneck that forgets everything, only the indices or the shortcuts know the image."""
    model = deconvnet(2, base_channels=4, fc_channels=8, shortcuts=shortcuts, upsampling="nearest").eval()
    nn.init.zeros_(model.bottleneck[2][1].weight)
    first, second = (model(torch.rand(1, 3, 224, 224)).logits for _ in range(2))
    assert torch.equal(first, second) is (shortcuts == "none")
    assert len(model.shortcuts) == (0 if shortcuts == "none" else 4)


def test_one_image_in_training_is_refused_where_batch_norm_cannot_work() -> None:
    model = deconvnet(2, base_channels=2, fc_channels=4).train()
    with pytest.raises(ArgumentError, match="batch size must be at least 2 in training on images of up to 224 x 224"):
        model(torch.randn(1, 3, 200, 100))
    assert model(torch.randn(1, 3, 200, 225)).logits.shape == (1, 2, 200, 225)


@pytest.mark.slow
def test_pretrained_weights_reach_encoder_fc6_and_fc7(monkeypatch: pytest.MonkeyPatch) -> None:
    state, before, place = {}, 3, 0
    for entry in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
        if entry == "M":
            place += 1
            continue
        state[f"features.{place}.weight"] = torch.empty(entry, before, 3, 3).fill_(place)
        state[f"features.{place}.bias"] = torch.zeros(entry)
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"features.{place + 1}.{name}"] = torch.ones(entry)
        before, place = entry, place + 3
    state["classifier.0.weight"] = torch.arange(25088.0).expand(4096, -1)
    state["classifier.3.weight"] = torch.empty(4096, 4096).fill_(7)
    state["classifier.0.bias"] = state["classifier.3.bias"] = torch.empty(4096)
    monkeypatch.setattr(VGG16_BN_Weights, "get_state_dict", lambda self, progress: state)
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda weight, **options: weight)
    model = deconvnet(2, pretrained=True, in_channels=1)
    assert model.in_channels == model.encoder[0][0][0].in_channels == 1
    assert model.encoder[4][2][0].weight[0, 0, 0, 0].item() == 40
    # linear weights run over channels, then rows, then columns of pool5's 7 x 7
    assert model.bottleneck[0][0].weight[4095, 2, 1, 3].item() == 2 * 49 + 7 + 3
    assert model.bottleneck[1][0].weight[0, 0].item() == 7


def test_errors_say_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"shortcuts must be a known name; got 'added'. Did you mean 'add'"):
        deconvnet(2, base_channels=2, fc_channels=4, shortcuts="added")
    with pytest.raises(UnknownNameError, match="Did you mean 'transposed'"):
        deconvnet(2, base_channels=2, fc_channels=4, upsampling="transpose")
    with pytest.raises(ArgumentError, match="pretrained must be False unless base_channels is 64 and fc_channels 4096"):
        deconvnet(2, pretrained=True, fc_channels=1024)
