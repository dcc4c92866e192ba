from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.errors import ArgumentError
from delineate.models.blocks.convolutional_classifier import convolutional_classifier
from delineate.models.convolutionize import SlidingClassifier, convolutionize
from delineate.models.patch_classifier import patch_classifier


def assert_own_size_is_exact(model: nn.Module, side: int) -> SlidingClassifier:
    """Logits at the window's size against the classifier's, to a hundred-thousandth of the largest of them."""
    images = torch.randn(2, 3, side, side)
    sliding = convolutionize(model.eval(), (side, side))
    with torch.no_grad():
        expected, found = model(images), sliding(images)
    assert found.shape == (*expected.shape, 1, 1)
    assert not torch.equal(expected[0], expected[1])
    torch.testing.assert_close(found[..., 0, 0], expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    return sliding


@torch.no_grad()
def assert_every_window_is_exact(model: nn.Module, sliding: SlidingClassifier, images: Tensor) -> None:
    """The map against the classifier on each window, cut out by hand."""
    (height, width), (down, right) = sliding.input_size, sliding.stride
    found = sliding(images)
    rows, columns = (images.shape[2] - height) // down + 1, (images.shape[3] - width) // right + 1
    assert found.shape[2:] == (rows, columns)
    for i in range(rows):
        for j in range(columns):
            window = images[:, :, i * down : i * down + height, j * right : j * right + width]
            torch.testing.assert_close(found[:, :, i, j], model(window), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", ["scaled_tanh", "relu"])
@torch.no_grad()
def test_the_patch_classifier_slides_exactly(activation: str) -> None:
    patches = patch_classifier(3, in_channels=2, base_channels=4, hidden_channels=6, activation=activation)
    model = patches.window_classifier.double().eval()
    sliding = convolutionize(model, (95, 95))
    assert sliding.stride == (16, 16)
    images = torch.randn(2, 2, 95 + 35, 95 + 20, dtype=torch.float64)
    assert_every_window_is_exact(model, sliding, images)
    # the coarse map is every sixteenth of the dense one
    torch.testing.assert_close(sliding(images), model.everywhere(images)[:, :, ::16, ::16])


HEADS = {
    "bins": nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(24, 4)),
    "bins of the maximum": nn.Sequential(nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(54, 4)),
    "own size": nn.Sequential(nn.AdaptiveAvgPool2d(6), nn.Flatten(1), nn.Linear(216, 5), nn.Tanh(), nn.Linear(5, 4)),
    "global": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Flatten(), nn.Linear(6, 4, bias=False)),
    "norm": nn.Sequential(
        *(nn.Flatten(), nn.Linear(216, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.LogSoftmax(-1))
    ),
    "no linear layer": nn.Sequential(nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_slide_exactly_where_nothing_is_padded(head: str) -> None:
    features = nn.Sequential(nn.Conv2d(2, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, stride=2))
    model = nn.Sequential(features, copy.deepcopy(HEADS[head])).double()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.weight)
    sliding = convolutionize(model.eval(), (30, 30))
    assert sliding.stride == (4, 4)
    assert_every_window_is_exact(model, sliding, torch.randn(2, 2, 47, 39, dtype=torch.float64))


class Functional(nn.Module):
    """The same in functions, as many published networks are written."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 3, 4, stride=2)
        self.first, self.last = nn.Linear(12 if ending == "bins" else 3, 5), nn.Linear(5, 2)
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.features(x))
        if self.ending == "mean":
            x = x.mean((2, 3))
        elif self.ending == "amax":
            x = x.amax(dim=[-1, -2], keepdim=True).flatten(1)
        elif self.ending == "view":
            x = F.adaptive_avg_pool2d(x, (1, 1))
            x = x.view(x.size(0), -1)
        else:
            x = torch.flatten(F.adaptive_max_pool2d(x, 2), 1)
        x = F.dropout(F.relu(self.first(x)), 0.9, training=self.training)
        return 2 * self.last(x) - 1


@pytest.mark.parametrize("ending", ["mean", "amax", "view", "bins"])
def test_functions_are_understood(ending: str) -> None:
    model = Functional(ending).double().eval()
    sliding = convolutionize(model, (18, 18))
    images = torch.randn(1, 1, 25, 22, dtype=torch.float64)
    assert_every_window_is_exact(model, sliding, images)
    sliding.train()
    assert not torch.equal(sliding(images), sliding(images))  # dropout still drops


def test_windows_need_not_be_square() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 7, 3)).double()
    sliding = convolutionize(model, (6, 9))
    assert_every_window_is_exact(model, sliding, torch.randn(1, 1, 8, 10, dtype=torch.float64))


@pytest.mark.parametrize("name", ["alexnet", "googlenet"])
def test_torchvisions_classifiers(name: str) -> None:
    options = {"init_weights": False, "transform_input": True} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, num_classes=7, **options)
    assert assert_own_size_is_exact(model, 224).stride == (32, 32)


@pytest.mark.slow
def test_vgg16() -> None:
    model = torchvision.models.vgg16()
    sliding = assert_own_size_is_exact(model, 224)
    assert sliding.stride == (32, 32)
    with torch.no_grad():
        assert sliding(torch.randn(1, 3, 500, 300)).shape == (1, 1000, 9, 3)


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_timms_classifiers(name: str) -> None:
    model = timm.create_model(name, num_classes=5)
    assert assert_own_size_is_exact(model, 64).stride == (32, 32)


def test_equals_the_classifier_that_fcn_writes_by_hand() -> None:
    """A VGG in small, padded as it is: fc6 becomes the 7x7 convolution of FCN on images of any size."""
    features = torchvision.models.vgg.make_layers([4, "M", 4, "M", 6, "M"])
    fc = [nn.Linear(6 * 49, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 5)]
    model = nn.Sequential()
    model.features, model.avgpool = features, nn.AdaptiveAvgPool2d(7)
    model.flatten, model.classifier = nn.Flatten(), nn.Sequential(*fc)
    model.double().eval()
    sliding = convolutionize(model, (56, 56))
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    by_hand = convolutional_classifier(6, 7, 16, weights).double().eval()
    images = torch.randn(1, 3, 100, 77, dtype=torch.float64)
    expected = F.conv2d(by_hand(features(images)), fc[-1].weight[..., None, None], fc[-1].bias)
    torch.testing.assert_close(sliding(images), expected)
    # and is not the classifier on each window, which sees zeros around it
    assert not torch.allclose(sliding(images)[..., 1, 1], model(images[..., 8:64, 8:64]))


def test_the_model_keeps_its_weights_and_the_copy_its_names() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sliding = convolutionize(model, (8, 8))
    assert sliding.training
    assert model.training
    assert {name.removeprefix("network."): tuple(value.shape) for name, value in sliding.state_dict().items()} == {
        "0.weight": (4, 1, 3, 3),
        "0.bias": (4,),
        "2.weight": (2, 4, 6, 6),
        "2.bias": (2,),
    }
    sliding(torch.randn(2, 1, 12, 12)).sum().backward()
    assert all(parameter.grad is not None for parameter in sliding.parameters())
    with torch.no_grad():
        for parameter in sliding.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_windows_size_is_the_models_own() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    assert convolutionize(model).input_size == (224, 224)
    model.input_size = (3, 40, 50)
    assert convolutionize(model).input_size == (40, 50)
    assert convolutionize(timm.create_model("test_resnet", num_classes=2)).input_size == (160, 160)


@pytest.mark.slow
@torch.no_grad()
def test_exports_to_onnx(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = patch_classifier(2, base_channels=4, hidden_channels=6).window_classifier
    sliding = convolutionize(model.eval(), (95, 95))
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns of its own deprecations
        torch.onnx.export(
            sliding,
            (torch.randn(1, 1, 120, 140),),
            tmp_path / "model.onnx",
            dynamo=True,
            dynamic_shapes=({2: dynamic, 3: dynamic},),
            verbose=False,
        )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = torch.randn(1, 1, 200, 130)
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), sliding(images), atol=1e-5, rtol=1e-5)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return x if x.sum() > 0 else -x


class Iterating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return sum(row.mean() for row in self.features(x))


class Tokens(nn.Module):
    """What a transformer does: a linear layer on every pixel of a feature, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.mix = nn.Conv2d(1, 4, 2, stride=2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.patches(x).flatten(2).transpose(1, 2)).mean(1)


class Cropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :4, :4]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(1, 2, 3), nn.Linear(6, 2)], r"got '1' \(Linear\): a linear layer must read a flattened feature"),
        ([Tokens()], r"got '0.mix' \(Linear\): a linear layer must read a flattened feature or a global pooling\."),
        ([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LayerNorm(72), nn.Linear(72, 2)], r"got '2' \(LayerNorm\): behind a fl"),
        ([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.BatchNorm1d(72), nn.Linear(72, 2)], r"got '2' \(BatchNorm1d\)"),
        ([nn.Conv2d(1, 2, 3)], "model must return one tensor of logits behind linear layers or a global pooling"),
        ([nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(32, 2)], r"divides into the 4 x 4 bins"),
        ([nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Linear(12, 2)], "make square bins"),
        ([nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(2), nn.Conv2d(2, 2, 2), nn.Flatten()], "flatten what it pools into"),
        ([nn.Conv2d(1, 2, 3), Cropping(), nn.Flatten(), nn.Linear(32, 2)], r"slide over larger.*map of 1 x 1"),
        ([nn.Conv2d(3, 2, 3, groups=1), nn.Linear(5, 2)], "model must take images of input_size"),
        ([nn.Flatten(), nn.Linear(64, 2)], "model must have a convolution; got Sequential"),
    ],
)
def test_what_has_no_convolutional_form_is_named(layers: list[nn.Module], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        convolutionize(nn.Sequential(*layers), (8, 8))


def test_what_cannot_be_traced() -> None:
    with pytest.raises(ArgumentError, match=r"model must take images of .* and do the same whatever their values"):
        convolutionize(Branching(), (8, 8))
    with pytest.raises(ArgumentError, match=r"model must be one that torch\.fx can trace; got Iterating"):
        convolutionize(Iterating(), (8, 8))


def test_images_hold_one_window() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(ArgumentError, match="images must be at least 8 x 8 pixels, one window; got 8 x 7"):
        convolutionize(model, (8, 8))(torch.zeros(1, 1, 8, 7))
