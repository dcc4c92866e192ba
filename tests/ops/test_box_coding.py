from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from delineate.errors import ArgumentError
from delineate.ops.anchors import YOLOV2_VOC_PRIORS
from delineate.ops.box_coding import (
    SSD_WEIGHTS,
    box_cells,
    clip_boxes,
    decode_boxes,
    decode_yolo_boxes,
    decode_yolov2_boxes,
    encode_boxes,
    encode_yolo_boxes,
    encode_yolov2_boxes,
    valid_boxes,
    yolov2_values,
)

SIZE, GRID = (448, 320), (7, 5)
seeds = st.integers(0, 2**32 - 1)


def boxes(seed, count, dtype=torch.float64):
    """At least a pixel wide and high, within 320 x 448."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.rand(count, 2, generator=generator, dtype=dtype) * 100 + 1
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * (torch.tensor([320, 448]) - sides)
    return torch.cat((corner, corner + sides), dim=1)


def test_by_hand():
    anchor, box = torch.tensor([[10.0, 20, 20, 60]]), torch.tensor([[15.0, 30, 35, 50]])
    # centres (15, 40) and (25, 40); 10 x 40 and 20 x 20
    expected = torch.tensor([[1, 0, math.log(2), math.log(0.5)]])
    torch.testing.assert_close(encode_boxes(box, anchor), expected)
    torch.testing.assert_close(encode_boxes(box, anchor, weights=SSD_WEIGHTS), expected * torch.tensor([10, 10, 5, 5]))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchvision(weights, dtype):
    truths, anchors, coder = boxes(0, 50, dtype), boxes(1, 50, dtype), BoxCoder(weights)
    torch.testing.assert_close(encode_boxes(truths, anchors, weights=weights), coder.encode_single(truths, anchors))
    deltas = torch.randn(50, 3, 4, dtype=dtype) * 4  # some grow beyond the limit
    theirs = coder.decode(deltas.flatten(1), [anchors])
    torch.testing.assert_close(decode_boxes(deltas, anchors, weights=weights), theirs)
    torch.testing.assert_close(decode_boxes(deltas[:, 1], anchors, weights=weights), theirs[:, 1])


@settings(deadline=None, max_examples=25)
@given(seed=seeds, ssd=st.booleans())
def test_decoding_undoes_encoding(seed, ssd):
    truths, anchors = boxes(seed, 7), boxes(seed + 1, 7)
    weights = SSD_WEIGHTS if ssd else (1.0, 1.0, 1.0, 1.0)
    deltas = encode_boxes(truths, anchors, weights=weights)
    found = decode_boxes(deltas, anchors, weights=weights, clip=10)
    torch.testing.assert_close(found, truths)
    torch.testing.assert_close(encode_boxes(found, anchors, weights=weights), deltas)


def test_a_batch_and_classes():
    anchors, deltas = boxes(0, 6), torch.randn(2, 6, 4, dtype=torch.float64)
    batch = decode_boxes(deltas, anchors[None])
    for image in range(2):
        assert torch.equal(batch[image], decode_boxes(deltas[image], anchors))
    each = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    per_image = torch.stack((anchors, anchors + 1))
    assert torch.equal(decode_boxes(each, per_image)[1, :, 2], decode_boxes(each[1, :, 2], anchors + 1))


def test_growth_is_limited_and_boxes_without_area_stay_finite():
    anchor = torch.tensor([[0.0, 0, 16, 16]])
    found = decode_boxes(torch.tensor([[0.0, 0, 100, 100]]), anchor)
    assert (found[:, 2:] - found[:, :2]).tolist() == [[pytest.approx(1000, rel=1e-5)] * 2]
    flat = torch.tensor([[4.0, 4, 4, 9]])
    assert encode_boxes(flat, anchor).isfinite().all()
    assert encode_boxes(anchor, flat).isfinite().all()
    assert encode_boxes(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert decode_boxes(torch.zeros(0, 3, 4), torch.zeros(0, 4)).shape == (0, 3, 4)


def test_half_precision_is_computed_in_float32():
    anchor, delta = torch.tensor([[1000.0, 1000, 1017, 1017]]), torch.zeros(1, 4, dtype=torch.bfloat16)
    assert torch.equal(decode_boxes(delta, anchor), anchor)


def test_decoding_has_a_gradient():
    anchors, deltas = boxes(0, 3), torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: decode_boxes(values, anchors), (deltas,))


def test_clip_and_valid_equal_torchvision():
    some = boxes(0, 60).float() * 2 - 150
    clipped = clip_boxes(some, (200, 300))
    assert torch.equal(clipped, clip_boxes_to_image(some, (200, 300)))
    assert torch.equal(valid_boxes(clipped, 16).nonzero()[:, 0], remove_small_boxes(clipped, 16))
    assert 0 < int(valid_boxes(clipped, 16).sum()) < 60
    strange = torch.tensor([[0, 0, torch.inf, 4], [0, torch.nan, 4, 4], [4, 4, 0, 0], [0, 0, 4, 4]])
    assert valid_boxes(strange, 0).tolist() == [False, False, False, True]


def test_cells():
    centres = torch.tensor([[0.0, 0], [63.9, 63.9], [64, 0], [319, 447], [320, 448], [-5, 500]])
    found = box_cells(torch.cat((centres - 3, centres + 3), dim=1), size=SIZE, grid=GRID)
    assert found.tolist() == [0, 0, 1, 34, 34, 30]


def test_yolo_by_hand():
    box = torch.tensor([[64.0, 128, 224, 352]])  # centre (144, 240), sides 160 and 224: half of each
    cell = box_cells(box, size=SIZE, grid=GRID)
    assert cell.tolist() == [3 * 5 + 2]
    values = encode_yolo_boxes(box, cell, size=SIZE, grid=GRID)
    torch.testing.assert_close(values, torch.tensor([[0.25, 0.75, math.sqrt(0.5), math.sqrt(0.5)]]))
    prior = torch.tensor([[2.5, 7.0]])
    values = encode_yolov2_boxes(box, cell, prior, size=SIZE, grid=GRID)
    torch.testing.assert_close(values, torch.tensor([[0.25, 0.75, 0, math.log(0.5)]]))


@settings(deadline=None, max_examples=25)
@given(seed=seeds)
def test_yolos_coders_are_undone(seed):
    truths = boxes(seed, 9)
    cells = box_cells(truths, size=SIZE, grid=GRID)
    values = encode_yolo_boxes(truths, cells, size=SIZE, grid=GRID)
    assert ((values[:, :2] >= 0) & (values[:, :2] <= 1)).all()
    torch.testing.assert_close(decode_yolo_boxes(values, cells, size=SIZE, grid=GRID), truths)
    priors = torch.tensor(YOLOV2_VOC_PRIORS, dtype=torch.float64)[torch.arange(9) % 5]
    values = encode_yolov2_boxes(truths, cells, priors, size=SIZE, grid=GRID)
    assert ((values[:, :2] >= 0) & (values[:, :2] <= 1)).all()
    found = decode_yolov2_boxes(values, cells, priors, size=SIZE, grid=GRID)
    torch.testing.assert_close(found, truths)
    torch.testing.assert_close(encode_yolov2_boxes(found, cells, priors, size=SIZE, grid=GRID), values)


def test_yolos_decoders_broadcast_over_a_whole_map():
    values = torch.rand(2, 35, 5, 4)
    cells, priors = torch.arange(35)[:, None], torch.tensor(YOLOV2_VOC_PRIORS)
    found = decode_yolov2_boxes(values, cells, priors, size=SIZE, grid=GRID)
    assert found.shape == (2, 35, 5, 4)
    alone = decode_yolov2_boxes(values[1, 17, 3], torch.tensor(17), priors[3], size=SIZE, grid=GRID)
    torch.testing.assert_close(found[1, 17, 3], alone)
    assert (box_cells(found, size=SIZE, grid=GRID) == cells).all()  # a centre stays in its cell
    first = decode_yolo_boxes(values[:, :, :2], cells, size=SIZE, grid=GRID)
    torch.testing.assert_close(
        first[0, 20, 1], decode_yolo_boxes(values[0, 20, 1], torch.tensor(20), size=SIZE, grid=GRID)
    )


def test_yolov2_predictions():
    raw = torch.tensor([[0.0, 100, 2, -3], [-100, 0, 500, 0]])
    values = yolov2_values(raw)
    assert values.tolist() == [[0.5, 1, 2, -3], [0, 0.5, 500, 0]]
    found = decode_yolov2_boxes(values, torch.tensor([0, 1]), torch.ones(2, 2), size=SIZE, grid=GRID)
    assert found.isfinite().all()


def test_errors():
    with pytest.raises(
        ArgumentError, match=r"weights must be four numbers above 0, for x, y, width and height; got \("
    ):
        encode_boxes(torch.zeros(1, 4), torch.zeros(1, 4), weights=(1, 1, 0, 1))
    message = r"anchors must have the deltas' shape.*got \(6, 4\) for deltas \(2, 6, 4\)\. Pass anchors\[None\]"
    with pytest.raises(ArgumentError, match=message):
        decode_boxes(torch.zeros(2, 6, 4), torch.zeros(6, 4))
