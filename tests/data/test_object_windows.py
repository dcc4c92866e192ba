"""SSD's canvas and crops: what they may show, how often, and who stays."""

from __future__ import annotations

import pytest
import torch

from delineate.data.object_windows import IOU_OVERLAPS, Expand, IoUCrop
from delineate.data.placement import Following
from delineate.errors import ArgumentError
from delineate.ops.boxes import box_iou
from tests.data.object_scenes import scene

NONE = torch.zeros(0, 4)
WHOLE = (0, 0, 100, 200)


def windows(transform, boxes=NONE, count=300):
    return [transform.window(WHOLE, boxes) for _ in range(count)]


def test_a_canvas_is_of_the_pictures_shape_and_holds_it_anywhere():
    got = windows(Expand(1.0, ratio=4.0), count=600)
    heights = torch.tensor([bottom - top for top, _, bottom, _ in got]).float()
    widths = torch.tensor([right - left for _, left, _, right in got]).float()
    assert ((widths / heights - 2).abs() < 0.02).all()
    assert heights.min() >= 100
    assert heights.max() <= 400
    assert 240 < heights.mean() < 260  # uniform from 1 to 4
    assert all(top <= 0 and left <= 0 and bottom >= 100 and right >= 200 for top, left, bottom, right in got)
    places = torch.tensor([-top / (bottom - top - 100) for top, _, bottom, _ in got if bottom - top > 150])
    assert 0.45 < places.mean() < 0.55
    assert places.min() < 0.02
    assert places.max() > 0.98


def test_a_share_of_the_pictures_is_expanded():
    assert 120 < sum(window != WHOLE for window in windows(Expand(0.5))) < 180
    assert set(windows(Expand(0.0))) == {WHOLE}
    assert set(windows(Expand(1.0, ratio=1.0))) == {WHOLE}


def test_the_canvas_is_filled():
    image, target = Expand(1.0, ratio=2.0)(*scene((0, 0, 60, 40), size=(40, 60), channels=3))
    assert image.shape[1] > 40
    outside = target["masks"][0] == 0
    assert image[:, outside].unique(dim=1).flatten().tolist() == [124, 116, 104]


@pytest.mark.parametrize("overlap", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_part_overlaps_an_object_that_stays_as_asked(overlap):
    first = [20.0, 10, 140, 80] if overlap < 0.7 else [2.0, 2, 190, 96]
    boxes = torch.tensor([first, [150, 60, 190, 95]])
    crop = IoUCrop(overlaps=(overlap,))
    cropped = [window for window in windows(crop, boxes, 25) if window != WHOLE]
    assert len(cropped) > (15 if overlap < 0.7 else 0)
    for top, left, bottom, right in cropped:
        part = torch.tensor([[left, top, right, bottom]], dtype=torch.float32)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres > part[:, :2]) & (centres < part[:, 2:])).all(dim=1)
        assert float(box_iou(boxes, part)[inside].max()) >= overlap


def test_sides_and_proportions_of_free_parts():
    parts = [window for window in windows(IoUCrop(overlaps=(0.0,)), count=400) if window != WHOLE]
    assert len(parts) > 390
    height = torch.tensor([bottom - top for top, _, bottom, _ in parts]) / 100
    width = torch.tensor([right - left for _, left, _, right in parts]) / 200
    scale, aspect = (height * width).sqrt(), width / height
    assert 0.29 < scale.min() < 0.32
    assert 0.98 < scale.max() <= 1
    assert 0.63 < scale.mean() < 0.67  # uniform from 0.3 to 1
    assert 0.48 < aspect.min() < 0.55
    assert 1.9 < aspect.max() < 2.06
    for top, left, bottom, right in parts:
        assert 0 <= top < bottom <= 100
        assert 0 <= left < right <= 200


def test_options_are_equally_likely_among_those_that_can_be_met():
    large = torch.tensor([[5.0, 5, 195, 95]])
    whole = sum(window == WHOLE for window in windows(IoUCrop(overlaps=(0.0, 0.1, 0.3, 1.0)), large, 200))
    assert 32 < whole < 68  # a quarter
    tiny = torch.tensor([[50.0, 50, 52, 52]])
    assert set(windows(IoUCrop(overlaps=(0.1, 0.5, 0.9, 1.0)), tiny, 10)) == {WHOLE}
    assert set(windows(IoUCrop(overlaps=(0.9,)), tiny, 5)) == {WHOLE}  # nothing can be met
    half = sum(window == WHOLE for window in windows(IoUCrop(overlaps=(0.0, 0.9, 1.0)), tiny, 100))
    assert 32 < half < 68
    # without objects a threshold cannot be met: any part, or the whole
    empty = sum(window == WHOLE for window in windows(IoUCrop(overlaps=IOU_OVERLAPS), NONE, 100))
    assert 32 < empty < 68
    assert 100 < sum(window != WHOLE for window in windows(IoUCrop(0.4, overlaps=(0.0,)), NONE)) < 140
    assert set(windows(IoUCrop(0.0))) == {WHOLE}


def test_no_part_of_a_picture_with_objects_is_without_one():
    sample = scene((5, 5, 14, 14))
    crop = IoUCrop(overlaps=(0.0,), following=Following(fill=(0,)))
    assert all(crop(*sample)[1]["labels"].tolist() == [0] for _ in range(20))


def test_an_object_stays_with_its_centre_and_a_crowd_anyhow():
    # the crowd fills the right half; parts that hold the centre of the left object often cut it without its centre
    sample = scene((5, 10, 25, 30), (50, 0, 90, 60), crowds=(1,))
    crop = IoUCrop(overlaps=(0.0,))
    seen = set()
    for _ in range(25):
        _, target = crop(*sample)
        labels = target["labels"].tolist()
        assert 0 in labels
        if 1 in labels:
            box = target["boxes"][labels.index(1)]
            assert target["iscrowd"][labels.index(1)]
            seen.add(float(box[2] - box[0]) < 20)
    assert seen == {True, False}
    others = scene((5, 10, 25, 30), (50, 0, 90, 60))
    widths = [float(b[2] - b[0]) for _ in range(15) for b in crop(*others)[1]["boxes"]]
    assert min(widths) >= 10  # half an object, at the least


def test_masks_of_cut_objects_give_their_boxes():
    image, target = scene((10, 10, 50, 50))
    target["masks"][0, 10:50, 10:50] = torch.eye(40, dtype=torch.uint8)
    for _ in range(15):
        _, moved = IoUCrop(overlaps=(0.0,))(image, target)
        rows, columns = moved["masks"][0].nonzero().unbind(1)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert moved["boxes"][0].tolist() == [int(edge) for edge in expected]


def test_wrong_options_are_refused():
    for make, text in (
        (lambda: Expand(-1), "p must lie between 0 and 1; got -1"),
        (lambda: Expand(ratio=0.5), "ratio must be 1 or more; got 0.5"),
        (lambda: IoUCrop(2), "p must lie between 0 and 1; got 2"),
        (lambda: IoUCrop(overlaps=()), r"overlaps must be numbers between 0 and 1, at least one; got \(\)"),
        (lambda: IoUCrop(overlaps=(0.5, 3)), "overlaps must be numbers between 0 and 1"),
        (lambda: IoUCrop(smallest=0), "smallest must lie above 0, at most 1; got 0"),
        (lambda: IoUCrop(aspect=0.5), "aspect must be 1 or more"),
        (lambda: IoUCrop(trials=0), "trials must be at least 1; got 0"),
    ):
        with pytest.raises(ArgumentError, match=text):
            make()
