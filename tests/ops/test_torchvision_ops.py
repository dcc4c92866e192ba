"""What is said where torchvision's compiled operators are missing, and what works without them."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision

from delineate.errors import MissingDependencyError
from delineate.ops.roi_align import roi_align
from delineate.ops.roi_pool import roi_pool
from delineate.ops.torchvision_ops import torchvision_operator


def test_an_operator_is_torchvisions_own():
    assert torchvision_operator("roi_align") is torchvision.ops.roi_align


def test_a_build_without_its_operators_is_named(monkeypatch):
    monkeypatch.setattr("torchvision.extension._has_ops", lambda: False)
    with pytest.raises(MissingDependencyError) as caught:
        torchvision_operator("nms")
    assert str(caught.value) == (
        f"torchvision must be built for PyTorch {torch.__version__}, so that its operator 'nms' can be used on this "
        "device, or in a compiled or exported model; got torchvision "
        f"{torchvision.__version__} without its operators. Install torchvision and torch together, from one index, or "
        "compute on the CPU."
    )


def test_an_import_that_fails_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MissingDependencyError, match=r"got a torchvision whose import fails \(.*torchvision.*\)"):
        torchvision_operator("nms")


@pytest.mark.parametrize("pooling", [roi_align, roi_pool])
def test_only_the_cpu_works_without_operators(pooling, monkeypatch):
    features, boxes, images = torch.randn(1, 2, 4, 4), torch.tensor([[0.0, 0, 3, 3]]), torch.tensor([0])
    expected = pooling(features, boxes, images, output_size=2, spatial_scale=1)
    monkeypatch.setattr("torchvision.extension._has_ops", lambda: False)
    assert torch.equal(pooling(features, boxes, images, output_size=2, spatial_scale=1), expected)
    elsewhere = [part.to("meta") for part in (features, boxes, images)]
    with pytest.raises(MissingDependencyError, match="torchvision must be built for"):
        pooling(*elsewhere, output_size=2, spatial_scale=1)
