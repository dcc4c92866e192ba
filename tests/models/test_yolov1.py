"""YOLO: the paper's network and the released one."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.yolo import YOLOLoss
from delineate.models.yolov1 import LocallyConnected, yolov1
from tests.models.detector import DetectorTests


class Said(torch.nn.Module):
    """Says the same of every image."""

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.values


class TestYOLOv1(DetectorTests):
    factory = staticmethod(yolov1)
    loss = YOLOLoss()
    options = {"grid": 2, "width": 0.04, "hidden": 32, "boxes": 3, "norm": "batch"}
    size = (128, 128)
    published = [({"num_classes": 20}, 271_703_550)]

    @torch.no_grad()
    def test_the_papers_grid_has_98_boxes(self) -> None:
        outputs = yolov1(20, width=0.02, hidden=8).eval()(torch.zeros(1, 3, 448, 448))
        assert outputs.objectness.shape == (1, 49, 2)
        assert outputs.logits.shape == (1, 49, 1, 20)
        assert outputs.priors is None


class TestReleasedYOLOv1(DetectorTests):
    factory = staticmethod(yolov1)
    loss = YOLOLoss()
    options = {"grid": 2, "width": 0.04, "variant": "darknet"}
    size = (128, 128)
    published = [({"num_classes": 20, "variant": "darknet"}, 197_301_875)]

    @torch.no_grad()
    def test_its_numbers_lie_part_by_part(self) -> None:
        model = self.build().eval()
        values = torch.arange(4 * (3 + 3 + 12), dtype=torch.float32)[None]
        model.encoder, model.head = torch.nn.Identity(), Said(values)
        outputs = model(torch.zeros(1, 3, 128, 128))
        assert outputs.logits[0, 1, 0].tolist() == [3, 4, 5]
        assert outputs.objectness[0, 1].tolist() == [15, 16, 17]
        assert outputs.values[0, 0, 1].tolist() == [28, 29, 30, 31]


class TestConvolutionalYOLOv1(DetectorTests):
    factory = staticmethod(yolov1)
    loss = YOLOLoss()
    options = {"grid": 2, "width": 0.04, "variant": "convolutional"}
    size = (128, 128)
    published = [({"num_classes": 20, "variant": "convolutional"}, 60_205_027)]

    @torch.no_grad()
    def test_a_cell_says_what_its_own_features_say(self) -> None:
        torch.manual_seed(0)
        model = self.build(grid=3).eval()
        features = torch.rand(1, model.head[1].in_channels, 3, 3)
        features[..., 2, 1] = features[..., 0, 2]
        model.encoder = Said(features)
        outputs = model(torch.zeros(1, 3, 192, 192))
        for values in (outputs.logits, outputs.objectness, outputs.values):
            torch.testing.assert_close(values[0, 7], values[0, 2])
            assert not torch.allclose(values[0, 7], values[0, 4])

    def test_its_convolutions_are_those_of_the_released_network(self) -> None:
        ours, released = self.build().encoder.state_dict(), self.build(variant="darknet").encoder.state_dict()
        assert {name: value.shape for name, value in ours.items()} == {
            name: value.shape for name, value in released.items()
        }


def test_the_papers_numbers_lie_cell_by_cell() -> None:
    model = yolov1(3, grid=2, width=0.04, hidden=4)
    values = torch.arange(4 * 13, dtype=torch.float32)[None]
    model.encoder, model.head = torch.nn.Identity(), Said(values)
    outputs = model(torch.zeros(1, 3, 128, 128))
    assert outputs.values[0, 1, 1].tolist() == [18, 19, 20, 21]
    assert outputs.objectness[0, 1].tolist() == [17, 22]
    assert outputs.logits[0, 1, 0].tolist() == [23, 24, 25]


def test_a_local_layer_with_equal_weights_is_a_convolution() -> None:
    layer, convolution = LocallyConnected(2, 3, 4), torch.nn.Conv2d(2, 3, 3, padding=1)
    with torch.no_grad():
        layer.weight[:] = convolution.weight.flatten(1)
        layer.bias[:] = convolution.bias
    features = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(layer(features), convolution(features))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"images must be of \(128, 128\) pixels"):
        yolov1(3, grid=2, width=0.04, hidden=4)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UnknownNameError, match="darknet"):
        yolov1(3, variant="darknt")
    with pytest.raises(ArgumentError, match="boxes must be at least 1"):
        yolov1(3, boxes=0)
