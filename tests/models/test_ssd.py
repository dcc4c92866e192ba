"""SSD: the paper's counts of parameters and default boxes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.multibox import MultiBoxLoss
from delineate.models.ssd import ScaledUnitNorm, normalised, ssd300, ssd512
from tests.models.detector import DetectorTests


class SSDTests(DetectorTests):
    """Objects of every scale, so that each map has boxes that answer."""

    scales: tuple[float, ...]
    strides: tuple[int, ...]

    def batch(self, channels: int = 3) -> tuple[Tensor, list[dict[str, Tensor]]]:
        images, targets = super().batch(channels)
        sides, strides = torch.tensor(self.scales) * self.size[0], torch.tensor(self.strides)
        centres = (self.size[0] // 2 // strides + 0.5).clamp(max=self.size[0] / strides - 0.5) * strides
        boxes = torch.stack([centres - sides / 2] * 2 + [centres + sides / 2] * 2, dim=1)
        targets[0] = {"boxes": boxes, "labels": torch.arange(len(boxes)) % 3}
        return images, targets


class TestSSD300(SSDTests):
    factory = staticmethod(ssd300)
    loss = MultiBoxLoss()
    options = {"width": 0.03, "norm": "batch"}
    size = (300, 300)
    scales = (0.1, 0.2, 0.37, 0.54, 0.71, 0.88)
    strides = (8, 16, 32, 64, 100, 300)
    published = [
        ({"num_classes": 20}, 26_285_486),
        ({"num_classes": 80}, 34_305_206),
        ({"num_classes": 90, "boxes": "coco"}, 35_641_826),  # torchvision's
    ]

    @torch.no_grad()
    def test_maps_and_boxes_are_the_papers(self) -> None:
        outputs = self.build().eval()(torch.zeros(1, 3, 300, 300))
        places = [38, 19, 10, 5, 3, 1]
        assert outputs.levels == tuple(p * p * n for p, n in zip(places, (4, 6, 6, 6, 4, 4), strict=True))
        assert outputs.anchors.shape == (8732, 4)
        assert outputs.logits.shape == (1, 8732, 4)  # three classes and the background
        assert outputs.coding_weights == (10, 10, 5, 5)


class TestSSD512(SSDTests):
    factory = staticmethod(ssd512)
    loss = MultiBoxLoss()
    options = {"width": 0.02, "norm": "batch"}
    size = (512, 512)
    scales = (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    strides = (8, 16, 32, 64, 128, 256, 512)
    published = [({"num_classes": 20}, 27_188_676)]

    @torch.no_grad()
    def test_maps_and_boxes_are_the_papers(self) -> None:
        outputs = self.build().eval()(torch.zeros(1, 3, 512, 512))
        assert len(outputs.anchors) == 24_564
        assert len(outputs.levels) == 7


def test_the_first_map_is_brought_to_a_learned_length() -> None:
    feature = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert ScaledUnitNorm(2)(feature).flatten().tolist() == pytest.approx([12, 16])


def test_batch_norm_takes_the_place_of_a_bias() -> None:
    layers = normalised([torch.nn.Conv2d(1, 2, 1), torch.nn.ReLU()])
    assert [type(layer).__name__ for layer in layers] == ["Conv2d", "BatchNorm2d", "ReLU"]
    assert layers[0].bias is None


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"images must be of \(300, 300\) pixels; got \(64, 64\)"):
        ssd300(3, width=0.03)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UnknownNameError, match="coco"):
        ssd300(3, boxes="cocoo")
    with pytest.raises(ArgumentError, match="width must be above 0"):
        ssd512(3, width=0)
