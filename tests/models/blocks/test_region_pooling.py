"""Features of regions: from the level that suits, and from whole pixels of one map."""

from __future__ import annotations

import torch
from torchvision.ops import roi_align, roi_pool

from delineate.models.blocks.region_pooling import FeaturePool, PyramidPool

BOXES = torch.tensor([[3.0, 5, 40, 52], [0, 0, 10, 12]])
OWNERS = torch.tensor([1, 0])


def test_small_regions_are_read_from_the_finest_level() -> None:
    levels = [torch.randn(2, 3, 16, 16), torch.randn(2, 3, 8, 8)]
    found = PyramidPool((4, 8), 7)(levels, BOXES, OWNERS)
    rows = torch.cat([OWNERS[:, None].float(), BOXES], dim=1)
    expected = roi_align(levels[0], rows, 7, spatial_scale=1 / 4, sampling_ratio=2, aligned=False)
    torch.testing.assert_close(found, expected)
    assert PyramidPool((4, 8), 7)(levels, BOXES[:0], OWNERS[:0]).shape == (0, 3, 7, 7)


def test_one_map_is_read_on_whole_pixels() -> None:
    feature = torch.randn(2, 3, 8, 8)
    rows = torch.cat([OWNERS[:, None].float(), BOXES], dim=1)
    found = FeaturePool(8, 3)([feature], BOXES, OWNERS)
    assert torch.equal(found, roi_pool(feature, rows, 3, spatial_scale=1 / 8))
