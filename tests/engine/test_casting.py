"""Weights cast once: the same numbers out, for the layers that autocast would cast."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from delineate.engine.casting import cast_once


class Mixed(nn.Module):
    """A layer under autocast, one outside of it, one in both, one that is not called, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.under, self.outside, self.both = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.last, self.unused, self.norm = nn.Linear(4, 2), nn.Linear(4, 2), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.both(self.norm(self.under(images)))
        with torch.autocast("cpu", enabled=False):
            features = self.both(self.outside(features.float()))
        return self.last(features.mean((2, 3)))


def test_only_what_autocast_casts_in_every_call_is_cast() -> None:
    torch.manual_seed(0)
    model = Mixed().eval()
    plain = copy.deepcopy(model)
    images = torch.randn(2, 4, 9, 9)
    assert cast_once(model, torch.randn(1, 4, 9, 9), torch.bfloat16) is model
    half = {name for name, weight in model.named_parameters() if weight.dtype == torch.bfloat16}
    assert half == {"under.weight", "under.bias", "last.weight", "last.bias"}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(images), plain(images))
