"""Fixed sizes, letterboxes, shorter sides, scale jitter, and the sides of batches."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from delineate.data.object_fits import (
    YOLO_SIZES,
    LetterBox,
    ScaleJitter,
    ShortestSide,
    Stretch,
    multi_scale_size,
)
from delineate.data.placement import Following
from delineate.errors import ArgumentError
from tests.data.object_scenes import random_scene, scene


def test_stretching_by_hand():
    image, target = Stretch((120, 45))(*scene((10, 20, 30, 40)))
    assert image.shape[-2:] == (120, 45)
    assert target["boxes"].tolist() == [[5, 40, 15, 80]]
    assert target["area"].tolist() == [400]


@pytest.mark.parametrize(
    ("source", "size", "place"),
    [
        ((60, 90), (60, 90), (0, 0, 60, 90)),
        ((60, 90), (180, 180), (30, 0, 150, 180)),
        ((90, 60), (45, 100), (0, 35, 45, 65)),
        ((1, 500), (64, 64), (31, 0, 32, 64)),
    ],
)
def test_a_letterbox_keeps_the_proportions_and_knows_the_way_back(source, size, place):
    fit = LetterBox(size, following=Following(fill=(0,)))
    placement = fit.placement(source)
    assert placement.place == place
    assert placement.source == (0, 0, *source)
    if min(source) > 50:
        sample = random_scene(size=source)
        _, target = fit(*sample)
        back = placement.restored(target["boxes"].as_subclass(Tensor))
        torch.testing.assert_close(back, sample[1]["boxes"].as_subclass(Tensor), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("source", "expected"),
    [((480, 640), (800, 1067)), ((640, 480), (1067, 800)), ((500, 1000), (666, 1333)), ((800, 800), (800, 800))],
)
def test_shorter_sides_of_the_papers(source, expected):
    assert ShortestSide((800,), longest=1333).placement(source).size == expected


def test_the_shorter_side_is_exact_whatever_the_size():
    fit = ShortestSide((800,), longest=10**6)
    assert {min(fit.placement((side, side + 7)).size) for side in range(100, 1200)} == {800}


def test_shorter_sides_are_drawn_alike():
    fit = ShortestSide((40, 50, 60))
    counts = Counter(min(fit.placement((30, 45)).size) for _ in range(600))
    assert set(counts) == {40, 50, 60}
    assert min(counts.values()) > 160


def test_jitter_crops_what_is_larger_and_fills_what_is_smaller():
    jitter = ScaleJitter((100, 50), scale=(0.1, 2.0))
    zooms, lows = [], []
    for _ in range(500):
        placement = jitter.placement((200, 200))  # at 1 it is 50 x 50
        assert placement.size == (100, 50)
        top, left, bottom, right = placement.source
        assert 0 <= top < bottom <= 200
        assert 0 <= left < right <= 200
        zooms.append(placement.scale[0] * 4)
        assert placement.scale[1] == pytest.approx(placement.scale[0], rel=0.1)
        if placement.scale[0] < 0.25:
            assert placement.source == (0, 0, 200, 200)
            lows.append(placement.place[0] / (100 - (placement.place[2] - placement.place[0])))
        elif placement.scale[0] > 0.26:
            assert placement.place[1::2] == (0, 50)
            assert right - left < 200
    zooms = torch.tensor(zooms)
    assert 0.1 <= zooms.min() < 0.15
    assert 1.95 < zooms.max() <= 2.01
    assert 1.0 < zooms.mean() < 1.1  # uniform
    assert min(lows) == 0
    assert max(lows) == 1


def test_jitter_without_a_size_keeps_the_pictures():
    assert {ScaleJitter(scale=(0.5, 2.0)).placement((30, 70)).size for _ in range(20)} == {(30, 70)}
    still = ScaleJitter(scale=(1.0, 1.0)).placement((30, 70))
    assert still.source == still.place == (0, 0, 30, 70)


def test_sides_of_batches_are_a_function_of_the_place_in_the_run():
    blocks = [[multi_scale_size(5, epoch, batch) for batch in range(200)] for epoch in range(5)]
    for sides in blocks:
        for begin in range(0, 200, 10):
            assert len(set(sides[begin : begin + 10])) == 1
    drawn = [side for sides in blocks for side in sides[::10]]
    assert set(drawn) <= set(YOLO_SIZES)
    assert YOLO_SIZES[0] == 320
    assert YOLO_SIZES[-1] == 608
    assert len(YOLO_SIZES) == 10
    assert len(set(drawn)) == 10
    assert blocks[0] != blocks[1]
    assert [multi_scale_size(6, 0, batch) for batch in range(200)] != blocks[0]
    many = Counter(multi_scale_size(0, 0, batch, (32, 64), 1) for batch in range(1000))
    assert 440 < many[32] < 560
    assert multi_scale_size(0, 3, 17, (96,)) == 96


def test_wrong_options_are_refused():
    for make, text in (
        (lambda: Stretch((0, 4)), r"size must be a positive \(height, width\); got \(0, 4\)"),
        (lambda: LetterBox((4,)), r"size must be a positive \(height, width\)"),
        (lambda: ShortestSide(()), "sides must be positive, at least one"),
        (lambda: ShortestSide((8,), longest=0), "longest must be positive; got 0"),
        (
            lambda: ScaleJitter(scale=(2.0, 1.0)),
            r"scale must be \(smallest, largest\), both positive; got \(2.0, 1.0\)",
        ),
        (lambda: multi_scale_size(0, 0, 0, ()), "sizes must hold at least one side"),
        (lambda: multi_scale_size(0, 0, 0, every=0), "every must be at least 1; got 0"),
    ):
        with pytest.raises(ArgumentError, match=text):
            make()
