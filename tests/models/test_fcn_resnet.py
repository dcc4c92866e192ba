from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from delineate.errors import ArgumentError, UnknownNameError
from delineate.models.fcn_resnet import fcn_resnet
from tests.models.segmenter import SegmenterTests


class TestFCNResNet(SegmenterTests):
    name = "fcn_resnet"
    options = {"encoder": "torchvision/resnet18", "head_channels": 16}
    published = [
        ({"num_classes": 21}, 35_322_218),
        ({"num_classes": 21, "auxiliary": False}, 32_957_013),
        ({"num_classes": 21, "encoder": "torchvision/resnet101"}, 54_314_346),
        ({"num_classes": 21, "encoder": "torchvision/resnet101", "auxiliary": False}, 51_949_141),
    ]


def test_published_work() -> None:
    with torch.device("meta"):
        model = fcn_resnet(21, auxiliary=False).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 520, 520))
    assert counter.get_total_flops() / 2e9 == pytest.approx(142.726, abs=2e-3)


def test_errors_come_before_anything_is_built() -> None:
    with pytest.raises(UnknownNameError, match="weights must be a known name; got 'voc'"):
        fcn_resnet(21, weights="voc")
    with pytest.raises(
        ArgumentError, match=r"weights must be None with encoder 'resnet34'; got 'coco'.*for resnet50 and resnet101"
    ):
        fcn_resnet(21, encoder="resnet34", weights="coco")
