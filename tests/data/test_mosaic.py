"""Four in one, two blended, objects pasted: pixels and objects stay together."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from delineate.data.mosaic import MixUp, Mosaic, ObjectCopyPaste, joined
from delineate.data.placement import Following
from delineate.errors import ArgumentError
from tests.data.object_scenes import assert_together, random_scene, scene

BLACK = Following(fill=(0,))


def four(size=(60, 80), **options):
    """Four scenes of two objects each, which share eight channels."""
    return [random_scene(2, size, channels=8, first=2 * number, **options) for number in range(4)]


def unchanged(sample, before):
    assert torch.equal(sample[0], before[0])
    for key, value in before[1].items():
        assert torch.equal(sample[1][key], value) if isinstance(value, Tensor) else sample[1][key] == value


@pytest.mark.parametrize("options", [{}, {"masks": False}, {"dtype": torch.float32}])
def test_everything_of_a_mosaic_stays_together(options):
    seen = set()
    for scale, tolerance in (((1.0, 1.0), 0.0), ((0.6, 1.6), 2.0)):
        for _ in range(3):
            samples = four(**options)
            before = copy.deepcopy(samples)
            image, target = Mosaic(1.0, scale=scale, following=BLACK)(*samples)
            assert image.shape == (8, 60, 80)
            assert_together(image, target, tolerance)
            assert torch.equal(target["semantic_mask"] == 1, (image > image.max() / 2).any(dim=0)) or tolerance
            seen |= set(target["labels"].tolist())
            for sample, old in zip(samples, before, strict=True):
                unchanged(sample, old)
    assert len(seen) == 8


def test_four_colours_meet_in_the_middle():
    colours = (10, 20, 30, 40)
    meets = []
    for _ in range(25):
        samples = [
            (tv_tensors.Image(torch.full((3, 50, 70), value, dtype=torch.uint8)), scene()[1]) for value in colours
        ]
        for _, target in samples:
            target["semantic_mask"] = tv_tensors.Mask(torch.zeros(50, 70, dtype=torch.uint8))
            target["masks"] = tv_tensors.Mask(torch.zeros(0, 50, 70, dtype=torch.uint8))
        image, target = Mosaic(1.0, scale=(1.0, 1.0))(*samples)
        assert [int(image[0, row, column]) for row in (0, -1) for column in (0, -1)] == list(colours)
        row = int((image[0, :, 0] == 10).sum())
        column = int((image[0, 0] == 10).sum())
        assert (image[0, :row, :column] == 10).all()
        assert (image[0, row:, column:] == 40).all()
        assert len(target["boxes"]) == 0
        meets.append((row / 50, column / 70))
    meets = torch.tensor(meets)
    assert 0.18 <= meets.min() < 0.3
    assert 0.7 < meets.max() <= 0.82


def test_small_ones_touch_the_meeting_point_and_the_rest_is_filled():
    samples = [scene((0, 0, 80, 60), size=(60, 80), channels=4, first=number) for number in range(4)]
    image, target = Mosaic(1.0, scale=(0.25, 0.25), following=Following(fill=(7,)))(*samples)
    corners = target["boxes"].as_subclass(Tensor)
    meets = corners[0, 2:]
    assert corners[3, :2].tolist() == meets.tolist()
    assert corners[1, 0] == meets[0]
    assert corners[1, 3] == meets[1]
    assert corners[2, 2] == meets[0]
    assert image[:, 0, 0].tolist() == [7] * 4
    assert target["semantic_mask"][0, 0] == 255
    assert (target["semantic_mask"] != 255).sum() == 4 * 15 * 20


def test_slivers_leave_a_mosaic():
    most = Mosaic(1.0, scale=(1.0, 1.0), following=Following(min_visible=0.9, fill=(0,)))
    for _ in range(4):
        samples = four()
        _, target = most(*samples)
        areas = torch.cat([sample[1]["area"] for sample in samples])
        assert (target["area"] >= 0.9 * areas[target["labels"]]).all()
    assert Mosaic(1.0).following.min_visible == 0.1


def test_pictures_of_other_sizes_make_a_mosaic_of_the_first_ones():
    samples = four()
    samples[2] = random_scene(2, (40, 200), channels=8, first=4)
    image, target = Mosaic(1.0, scale=(1.0, 1.0), following=BLACK)(*samples)
    assert image.shape == (8, 60, 80)
    assert_together(image, target)


def test_blends_by_hand():
    first = scene((0, 0, 10, 10), size=(40, 30), channels=2)
    second = scene((5, 5, 25, 15), size=(20, 50), channels=2, first=1)
    before = copy.deepcopy((first, second))
    torch.manual_seed(2)
    image, target = MixUp(1.0, following=BLACK)(first, second)
    assert image.shape == (2, 40, 50)
    assert image.dtype == torch.uint8
    share = float(target["weights"][0])
    assert 0 < share < 1
    assert target["weights"].tolist() == pytest.approx([share, 1 - share])
    assert int(image[0, 5, 5]) == round(250 * share)
    assert int(image[1, 10, 20]) == round(250 * (1 - share))
    assert int(image[1, 30, 40]) == 0
    assert target["boxes"].tolist() == [[0, 0, 10, 10], [5, 5, 25, 15]]
    assert target["boxes"].canvas_size == target["keypoints"].canvas_size == (40, 50)
    assert target["labels"].tolist() == [0, 1]
    assert target["tags"].tolist() == [1, 1]
    assert target["masks"].flatten(1).sum(dim=1).tolist() == [100, 200]
    assert "semantic_mask" not in target
    assert target["image_id"] == 7
    for sample, old in zip((first, second), before, strict=True):
        unchanged(sample, old)
    again = MixUp(1.0, following=BLACK)((image, target), second)[1]
    assert float(again["weights"][:2].sum()) + float(again["weights"][2]) == pytest.approx(1)


def test_shares_of_a_blend_are_drawn_around_a_half():
    sample, partner = scene((0, 0, 9, 9)), scene((0, 0, 9, 9))
    shares = torch.tensor([float(MixUp(1.0)(sample, partner)[1]["weights"][0]) for _ in range(40)])
    assert 0.4 < shares.mean() < 0.6
    assert 0.18 < shares.std() < 0.32  # 0.25 for Beta(1.5, 1.5)
    alike = [float(MixUp(1.0, alpha=1e4)(sample, partner)[1]["weights"][0]) for _ in range(5)]
    assert alike == pytest.approx([0.5] * 5, abs=0.05)
    image, _ = MixUp(1.0)(scene((0, 0, 9, 9), dtype=torch.float32), scene(dtype=torch.float32))
    assert image.dtype == torch.float32


def test_pasted_objects_hide_what_they_cover():
    below = scene((0, 0, 20, 20), (30, 0, 50, 10), (60, 10, 70, 20), channels=4)
    above = scene((10, 0, 80, 15), channels=4, first=3)
    before = copy.deepcopy((below, above))
    image, target = ObjectCopyPaste(1.0, Following(min_visible=0.0))(below, above)
    # the first is an L, 20 x 20 still; the second is gone; of the third the lower half is left
    assert target["labels"].tolist() == [0, 2, 3]
    assert target["boxes"].tolist() == [[0, 0, 20, 20], [60, 15, 70, 20], [10, 0, 80, 15]]
    assert target["area"].tolist() == [250, 50, 1050]
    assert target["tags"].tolist() == [1, 0, 1, 1]
    assert not target["masks"].sum(dim=0).max() > 1
    assert torch.equal(image[:, :15, 10:80], above[0][:, :15, 10:80])
    assert torch.equal(image[:, 15:], below[0][:, 15:])
    assert target["visibility"].tolist() == [[2, 1, 2, 2], [1, 1, 2, 2], [2, 2, 2, 2]]
    assert torch.equal(target["semantic_mask"] == 1, target["masks"].sum(dim=0) > 0)
    for sample, old in zip((below, above), before, strict=True):
        unchanged(sample, old)
    _, fewer = ObjectCopyPaste(1.0, Following(min_visible=0.55))(below, above)
    assert fewer["labels"].tolist() == [0, 3]


def test_any_number_of_objects_is_pasted_but_no_crowd():
    below = scene(channels=4)
    above = scene((0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9), (60, 0, 90, 50), channels=4, crowds=(3,))
    sets = set()
    for _ in range(50):
        image, target = ObjectCopyPaste(1.0)(below, above)
        assert_together(image, target)
        sets.add(tuple(target["labels"].tolist()))
    assert sets == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    only_crowds = scene((60, 0, 90, 50), channels=4, crowds=(0,))
    assert ObjectCopyPaste(1.0)(above, only_crowds) is above
    assert ObjectCopyPaste(1.0)(above, below) is above


def test_a_crowd_that_is_partly_hidden_stays_a_crowd():
    below, above = scene((0, 0, 90, 60), channels=2, crowds=(0,)), scene((0, 0, 88, 60), channels=2, first=1)
    image, target = ObjectCopyPaste(1.0)(below, above)
    assert target["iscrowd"].tolist() == [True, False]
    assert target["boxes"][0].tolist() == [88, 0, 90, 60]
    assert target["area"][0] == 120
    assert (image[0] == 250).sum() == 120


def test_pasting_from_pictures_of_another_size():
    for size in ((30, 120), (100, 20), (100, 100)):
        below, above = random_scene(3, channels=4), scene((0, 0, 15, 25), size=size, channels=4, first=3)
        image, target = ObjectCopyPaste(1.0)(below, above)
        assert image.shape == (4, 60, 90)
        assert target["boxes"][-1].tolist() == [0, 0, 15, 25]
        assert target["masks"].shape[-2:] == (60, 90)


@pytest.mark.parametrize("mixing", [Mosaic(1.0), MixUp(1.0), ObjectCopyPaste(1.0)])
def test_what_all_share(mixing):
    samples = four()[: mixing.partners + 1]
    again = pickle.loads(pickle.dumps(mixing))  # noqa: S301
    results = []
    for one in (mixing, again):
        torch.manual_seed(4)
        results.append(one(*samples))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1]["boxes"], results[1][1]["boxes"])
    empty = [scene(channels=8) for _ in samples]
    image, target = mixing(*empty)
    assert target["boxes"].shape == (0, 4)
    assert image.shape == (8, 60, 90)
    elsewhere = [(picture, {**target, "valid_classes": torch.tensor([True])}) for picture, target in samples[1:]]
    assert mixing(samples[0], *elsewhere) is samples[0]
    grey = [(tv_tensors.Image(picture[:1]), target) for picture, target in samples[1:]]
    with pytest.raises(ArgumentError, match="partner must have 8 channels like the sample; got 1"):
        mixing(samples[0], *grey)


def test_objects_of_different_keys_do_not_join():
    first, second = scene((0, 0, 9, 9))[1], scene((0, 0, 9, 9), masks=False)[1]
    with pytest.raises(ArgumentError, match="partner must have 'masks' as the sample has, or neither"):
        joined([first, second])
    weighted = joined([{**first, "weights": torch.tensor([0.25])}, first])
    assert weighted["weights"].tolist() == [0.25, 1.0]


def test_errors_say_what_to_do():
    with pytest.raises(ArgumentError, match=r"probability must lie between 0 and 1; got 1.5\."):
        Mosaic(1.5)
    with pytest.raises(ArgumentError, match=r"scale must be \(smallest, largest\), both positive; got \(2.0, 1.0\)"):
        Mosaic(1.0, scale=(2.0, 1.0))
    with pytest.raises(ArgumentError, match=r"margin must lie above 0, at most 0\.5; got 0"):
        Mosaic(1.0, margin=0.0)
    with pytest.raises(ArgumentError, match="partners must be three samples; got 1"):
        Mosaic(1.0)(*four()[:2])
    with pytest.raises(ArgumentError, match="probability must lie between 0 and 1"):
        MixUp(-1)
    with pytest.raises(ArgumentError, match="alpha must be positive; got 0"):
        MixUp(1.0, alpha=0)
    with pytest.raises(ArgumentError, match="probability must lie between 0 and 1"):
        ObjectCopyPaste(2)
    with pytest.raises(ArgumentError, match=r"target must have masks to copy; .* Set copy_paste to 0 without masks\."):
        ObjectCopyPaste(1.0)(scene((0, 0, 9, 9)), scene((0, 0, 9, 9), masks=False))
