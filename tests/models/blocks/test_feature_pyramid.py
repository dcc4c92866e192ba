from __future__ import annotations

import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from delineate.models.blocks.feature_pyramid import FeaturePyramid


@torch.no_grad()
def test_equals_torchvision() -> None:
    expected = FeaturePyramidNetwork([3, 5, 7], 4)
    pyramid = FeaturePyramid(
        [nn.Conv2d(width, 4, 1) for width in (3, 5, 7)], [nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)]
    )
    for ours, theirs in (*zip(pyramid.laterals, expected.inner_blocks, strict=True),
                         *zip(pyramid.outputs, expected.layer_blocks, strict=True)):  # fmt: skip
        ours.load_state_dict(theirs[0].state_dict())
    features = [torch.randn(2, 3, 12, 20), torch.randn(2, 5, 6, 10), torch.randn(2, 7, 3, 5)]
    wanted = expected({str(level): feature for level, feature in enumerate(features)})
    for ours, theirs in zip(pyramid(features), wanted.values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_by_hand() -> None:
    fine, coarse = torch.tensor([[[[1.0, 2, 3, 4]]]]), torch.tensor([[[[10.0, 20]]]])
    for mode, expected in (("nearest", [11.0, 12, 23, 24]), ("bilinear", [11.0, 14.5, 20.5, 24])):
        pyramid = FeaturePyramid([nn.Identity()] * 2, [nn.Identity()] * 2, mode=mode)
        levels = pyramid([fine, coarse])
        assert levels[0].flatten().tolist() == expected
        assert levels[1].flatten().tolist() == [10, 20]
    assert fine.flatten().tolist() == [1, 2, 3, 4]  # what was passed stays as it was
