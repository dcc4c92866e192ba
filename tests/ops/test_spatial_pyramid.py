"""Spatial pyramid pooling by hand, its length in the paper, whole maps and windows."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from delineate.errors import ArgumentError
from delineate.ops.spatial_pyramid import response_windows, spatial_pyramid_pooling


def test_lengths_of_the_paper():
    features = torch.randn(2, 256, 13, 13)
    assert spatial_pyramid_pooling(features).shape == (2, 12_800)
    assert spatial_pyramid_pooling(features, levels=(4, 2, 1)).shape == (2, 21 * 256)


def test_by_hand():
    features = torch.tensor([[[[1.0, 5.0, 2.0], [4.0, 3.0, 9.0], [7.0, 0.0, 8.0]]]])
    # bins of 3 in 2 overlap in the middle row and column
    assert spatial_pyramid_pooling(features, levels=(2, 1)).tolist() == [[5.0, 9.0, 7.0, 9.0, 9.0]]
    # stride 4: a window from 2 to 11 sees the pixels that look at 4 and 8
    window = torch.tensor([[2.0, 2.0, 11.0, 11.0]])
    pooled = spatial_pyramid_pooling(features, window, torch.tensor([0]), levels=(1, 2), spatial_scale=0.25)
    assert pooled.tolist() == [[9.0, 3.0, 9.0, 0.0, 8.0]]


def test_windows_of_the_paper():
    boxes = torch.tensor([[0.0, 15.9, 224.0, 32.1], [16.0, 16.0, 48.0, 48.0], [3.0, 3.0, 5.0, 5.0], [-90.0, 0, 900, 9]])
    expected = [[1, 1, 13, 2], [2, 2, 2, 2], [0, 0, 0, 0], [0, 0, 13, 0]]
    assert response_windows(boxes, size=(14, 14), spatial_scale=1 / 16).tolist() == expected


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_a_window_is_pooled_like_a_map_of_its_own(kind):
    features = torch.randn(2, 5, 11, 9).to(kind).requires_grad_()
    boxes, images = torch.tensor([[5.0, 9.0, 50.0, 80.0], [-9.0, 20.0, 41.0, 28.0]], dtype=torch.float32), [1, 0]
    windows = response_windows(boxes, size=(11, 9), spatial_scale=1 / 8).long().tolist()
    assert windows == [[1, 2, 6, 9], [0, 3, 5, 3]]
    cut = [
        features[image : image + 1, :, top : bottom + 1, left : right + 1]
        for image, (left, top, right, bottom) in zip(images, windows, strict=True)
    ]
    expected = torch.cat([spatial_pyramid_pooling(window, levels=(1, 2, 3)) for window in cut])
    pooled = spatial_pyramid_pooling(features, boxes, torch.tensor(images), levels=(1, 2, 3), spatial_scale=1 / 8)
    assert torch.equal(pooled, expected)
    if kind == torch.bfloat16:  # in which the sums of gradients are rounded one by one
        return
    direction = torch.randn(pooled.shape).to(kind)
    found, wanted = (torch.autograd.grad((vectors * direction).sum(), features)[0] for vectors in (pooled, expected))
    torch.testing.assert_close(found, wanted)


def test_every_length_is_cut_into_the_bins_of_adaptive_pooling():
    line = torch.randn(1, 2, 1, 200)
    for length in [*range(1, 50), 99, 150, 200]:
        box = torch.tensor([[-0.5, -0.5, length - 0.5, 0.5]])
        pooled = spatial_pyramid_pooling(line, box, torch.tensor([0]), levels=(3, 4, 6), spatial_scale=1)
        own = line[..., :length]
        expected = [functional.adaptive_max_pool2d(own, level).flatten(1) for level in (3, 4, 6)]
        assert torch.equal(pooled, torch.cat(expected, dim=1))


def test_without_boxes():
    none = spatial_pyramid_pooling(torch.randn(1, 3, 4, 4), torch.zeros(0, 4), torch.zeros(0).long(), levels=(1, 2))
    assert none.shape == (0, 15)


def test_what_is_wrong_is_named():
    features, boxes = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4)
    with pytest.raises(ArgumentError, match=r"levels must be numbers of bins along a side, from 1; got \(0, 2\)"):
        spatial_pyramid_pooling(features, levels=(0, 2))
    with pytest.raises(ArgumentError, match="images must be given with boxes, and only then; got boxes alone"):
        spatial_pyramid_pooling(features, boxes)
    with pytest.raises(ArgumentError, match="images must be given with boxes, and only then; got images alone"):
        spatial_pyramid_pooling(features, images=torch.tensor([0]))
