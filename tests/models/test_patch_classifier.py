from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.patch_classifier import PatchClassifier, patch_classifier
from tests.models.segmenter import SegmenterTests

SMALL = {"base_channels": 4, "hidden_channels": 6}


class TestPatchClassifier(SegmenterTests):
    name = "patch_classifier"
    options = {**SMALL, "in_channels": 3}
    published = [({"num_classes": 2}, 219_290)]
    training_size = (32, 48)


class TestPatchClassifierWithReLU(SegmenterTests):
    name = "patch_classifier"
    options = {"base_channels": 8, "hidden_channels": 16, "in_channels": 3, "activation": "relu"}
    training_size = (32, 48)


def test_the_papers_chain_of_sizes() -> None:
    sizes = []
    with torch.device("meta"):
        model = patch_classifier(2)
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                layer.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape[-1]))
        model.classify(torch.zeros(1, 1, 95, 95))
        with FlopCounterMode(display=False) as counter:
            model.classify(torch.zeros(1, 1, 95, 95))
    assert sizes[:8] == [92, 46, 42, 21, 18, 9, 6, 3]
    convolutions = 16 * 92**2 + 25 * 48 * 42**2 + 16 * 48 * (18**2 + 6**2)
    assert counter.get_total_flops() // 2 == 48 * convolutions + 432 * 200 + 200 * 2


@pytest.mark.parametrize("activation", ["scaled_tanh", "relu"])
@torch.no_grad()
def test_every_pixel_equals_its_window(activation: str) -> None:
    """Against explicit sliding: PyTorch's own mirror, one window cut out around each pixel."""
    model = patch_classifier(3, in_channels=2, activation=activation, **SMALL).double()
    height, width = 51, 58  # larger than the margin, as PyTorch's mirror wants it
    images = torch.randn(2, 2, height, width, dtype=torch.float64)
    logits = model(images).logits
    mirrored = F.pad(images, (47, 47, 47, 47), mode="reflect")
    rows, columns = [0, 1, 2, 17, 50], [0, 3, 8, 31, 57]
    for row in rows:
        windows = torch.cat([mirrored[:, :, row : row + 95, column : column + 95] for column in columns])
        expected = model.classify(windows).view(len(columns), 2, 3).permute(1, 2, 0)
        torch.testing.assert_close(logits[:, :, row, columns], expected, rtol=1e-11, atol=1e-11)


@torch.no_grad()
def test_an_image_of_one_window_has_its_logits_in_the_middle() -> None:
    model = patch_classifier(2, **SMALL).double()
    windows = torch.randn(3, 1, 95, 95, dtype=torch.float64)
    torch.testing.assert_close(model(windows).logits[:, :, 47, 47], model.classify(windows))


def test_a_pixel_sees_exactly_its_window() -> None:
    model = patch_classifier(1, base_channels=2, hidden_channels=2).double()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.constant_(layer.weight, 0.05)
    seen = torch.zeros(120, 120, dtype=torch.bool)
    for _ in range(12):  # a pooling passes the gradient to one pixel of four
        images = torch.rand(1, 1, 120, 120, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(images).logits[0, 0, 60, 55], images)
        seen |= gradient[0, 0] != 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (60 - 47, 60 + 47, 55 - 47, 55 + 47)


@torch.no_grad()
def test_weights_start_so_that_activations_keep_their_size() -> None:
    model = patch_classifier(2, in_channels=3)
    spread = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _module, _inputs, output: spread.append(float(output.std())))
    model.classify(torch.randn(4, 3, 95, 95))
    assert all(0.4 < value < 2.5 for value in spread)


def test_windows_and_images_teach_the_same() -> None:
    """The gradient of the loss of all pixels is that of all their windows."""
    model = patch_classifier(2, **SMALL).double()
    images, target = torch.randn(1, 1, 98, 100, dtype=torch.float64), torch.randint(2, (1, 4, 6))
    F.cross_entropy(model.window_classifier.everywhere(images), target).backward()
    dense = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    windows = F.unfold(images, 95)[0].T.reshape(-1, 1, 95, 95)
    F.cross_entropy(model.classify(windows), target.flatten()).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, dense[name], rtol=1e-8, atol=1e-10)


def test_errors() -> None:
    with pytest.raises(UnknownNameError, match=r"activation must be a known name; got 'tanh'\. Did you mean"):
        patch_classifier(2, activation="tanh")
    with pytest.raises(ArgumentError, match="base_channels must be at least 1; got 0"):
        patch_classifier(2, base_channels=0)
    model = patch_classifier(2, **SMALL)
    assert isinstance(model, PatchClassifier)
    with pytest.raises(
        ArgumentError,
        match=r"windows must be 95 x 95 pixels; got \(96, 95\)\. Call the model itself for images of any size\.",
    ):
        model.classify(torch.zeros(1, 1, 96, 95))
