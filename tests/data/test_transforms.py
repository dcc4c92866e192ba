"""Quarter turns, colours, noise, blur and the tidying of instances."""

from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from delineate.data.digits import DigitScenes
from delineate.data.transforms import (
    Photometric,
    RandomBlur,
    RandomNoise,
    RandomQuarterTurn,
    VisibleInstances,
    boxes_of_masks,
    colour_matrix,
    recoloured,
)
from delineate.data.view import RandomView
from delineate.errors import ArgumentError


def picture(channels=3, height=20, width=24):
    return tv_tensors.Image(torch.randint(0, 256, (channels, height, width), dtype=torch.uint8))


def changed(image, **factors):
    return recoloured(image, **{"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, **factors})


def near(got, expected, tolerance=1):
    return (got.int() - expected.int()).abs().max() <= tolerance


def test_brightness_contrast_and_saturation_agree_with_torchvision():
    image = picture()
    assert near(changed(image, brightness=1.4), functional.adjust_brightness(image, 1.4))
    assert near(changed(image, contrast=0.6), functional.adjust_contrast(image, 0.6), 2)  # its mean is of whole greys
    assert near(changed(image, saturation=0.3), functional.adjust_saturation(image, 0.3), 2)
    assert torch.equal(changed(image), image)


def test_hue_keeps_luminance_and_greys_and_comes_full_circle():
    matrix = torch.tensor(colour_matrix(1.0, 0.7))
    luma = torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(luma @ matrix, luma, atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix @ torch.ones(3), torch.ones(3), atol=1e-6, rtol=0)
    third = torch.tensor(colour_matrix(1.0, 2 * torch.pi / 3))
    torch.testing.assert_close(third @ third @ third, torch.eye(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_colours_change_for_any_number_of_channels(channels):
    torch.manual_seed(1)
    image = picture(channels)
    got = Photometric(1.0)(image)
    assert isinstance(got, tv_tensors.Image)
    assert got.dtype == torch.uint8
    assert got.shape == image.shape
    assert not torch.equal(got, image)
    assert torch.equal(Photometric(0.0)(image), image)


def test_floats_and_strided_images_change_alike():
    image = picture()
    strided = tv_tensors.Image(image.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    factors = {"brightness": 0.9, "contrast": 1.2, "saturation": 0.7, "hue": 0.3}
    got = recoloured(image, **factors)
    assert torch.equal(recoloured(strided, **factors), got)
    as_float = recoloured(tv_tensors.Image(image.float() / 255), **factors)
    assert near((as_float * 255).round(), got)


def test_colours_leave_the_target_alone():
    image, target = DigitScenes("val")[0]
    _, moved = v2.Compose([Photometric(1.0), RandomNoise(20.0, p=1.0), RandomBlur(2.0, p=1.0)])(image, target)
    for key, value in target.items():
        assert torch.equal(moved[key], value) if isinstance(value, torch.Tensor) else moved[key] == value


def test_noise_and_blur_do_what_they_say():
    image = tv_tensors.Image(torch.full((3, 64, 64), 128, dtype=torch.uint8))
    noisy = RandomNoise(20.0, p=1.0).transform(image, {"sigma": 10.0})
    assert abs(float(noisy.float().std()) - 10) < 0.5
    assert abs(float(noisy.float().mean()) - 128) < 0.5
    assert torch.equal(RandomNoise(20.0, p=0.0)(image), image)
    noise = picture(5, 32, 32)
    blurred = RandomBlur(3.0, p=1.0).transform(noise, {"sigma": 2.0})
    assert float(blurred.float().std()) < 0.3 * float(noise.float().std())
    assert blurred.dtype == torch.uint8
    assert torch.equal(RandomBlur(3.0, p=0.0)(noise), noise)
    assert not torch.equal(RandomBlur(3.0, p=1.0)(noise), noise)
    assert isinstance(RandomNoise(5.0, p=1.0)(tv_tensors.Image(torch.rand(1, 4, 4))), tv_tensors.Image)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_move_every_part_alike(turns):
    image, target = DigitScenes("train")[2]
    transform = RandomQuarterTurn()
    moved = {
        key: transform.transform(value, {"degrees": 90 * turns})
        for key, value in {"image": image, **target}.items()
        if isinstance(value, tv_tensors.TVTensor)
    }
    for key in ("image", "semantic_mask", "masks"):
        original = image if key == "image" else target[key]
        assert torch.equal(moved[key], torch.rot90(original, turns, (-2, -1)))
    torch.testing.assert_close(
        moved["boxes"].as_subclass(torch.Tensor), boxes_of_masks(moved["masks"]), atol=1e-3, rtol=0
    )


def test_quarter_turns_of_oblong_images_keep_the_shape():
    image = picture(1, 6, 9)
    seen = {tuple(RandomQuarterTurn()(image).shape) for _ in range(20)}
    assert seen == {(1, 6, 9)}
    square = picture(1, 8, 8)
    results = {tuple(RandomQuarterTurn()(square).flatten().tolist()) for _ in range(60)}
    assert results == {tuple(torch.rot90(square, turns, (1, 2)).flatten().tolist()) for turns in range(4)}


def test_two_flips_are_none():
    image, target = DigitScenes("train")[1]
    for flip in (v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0)):
        got, moved = flip(*flip(image, target))
        assert torch.equal(got, image)
        for key in ("semantic_mask", "masks", "boxes"):
            assert torch.equal(moved[key], target[key])


def test_boxes_by_hand():
    masks = torch.zeros(3, 4, 5, dtype=torch.uint8)
    masks[0, 1, 2] = 1
    masks[1] = 1
    assert boxes_of_masks(masks).tolist() == [[2, 1, 3, 2], [0, 0, 5, 4], [0, 0, 0, 0]]
    assert boxes_of_masks(masks[:0]).shape == (0, 4)


def test_gone_instances_leave_every_entry_and_their_tags():
    masks = torch.zeros(3, 8, 8, dtype=torch.uint8)
    masks[0, 2:5, 1:3] = 1
    masks[2, 6, 6] = 1
    tags = torch.zeros(10)
    tags[[4, 7]] = 1
    target = {
        "masks": tv_tensors.Mask(masks),
        "boxes": tv_tensors.BoundingBoxes(torch.rand(3, 4), format="XYWH", canvas_size=(8, 8)),
        "labels": torch.tensor([4, 7, 4]),
        "area": torch.tensor([9.0, 9.0, 9.0]),
        "iscrowd": torch.tensor([0, 1, 0]),
        "tags": tags,
        "stem": "a",
    }
    _, got = VisibleInstances()(picture(), target)
    assert got["boxes"].tolist() == [[1, 2, 2, 3], [6, 6, 1, 1]]
    assert got["labels"].tolist() == [4, 4]
    assert got["area"].tolist() == [6, 1]
    assert got["iscrowd"].tolist() == [0, 0]
    assert got["tags"].nonzero().flatten().tolist() == [4]
    assert got["masks"].shape == (2, 8, 8)
    assert isinstance(got["masks"], tv_tensors.Mask)
    assert len(target["labels"]) == 3  # the given target is not changed
    assert VisibleInstances(min_pixels=2)(picture(), target)[1]["labels"].tolist() == [4]


def test_boxes_without_masks_lose_the_degenerate():
    boxes = tv_tensors.BoundingBoxes([[0.0, 0, 4, 4], [3, 3, 3, 9]], format="XYXY", canvas_size=(9, 9))
    _, got = VisibleInstances()(picture(), {"boxes": boxes, "labels": torch.tensor([1, 2])})
    assert got["labels"].tolist() == [1]
    assert VisibleInstances()({"stem": "a"}) == {"stem": "a"}


def test_boxes_are_tight_after_a_whole_pipeline():
    transform = v2.Compose([RandomView((80, 80), rotation=45, elastic=3), RandomQuarterTurn(), VisibleInstances()])
    scenes = DigitScenes("train", transform=transform)
    for index in range(8):
        _, target = scenes[index]
        torch.testing.assert_close(target["boxes"].as_subclass(torch.Tensor), boxes_of_masks(target["masks"]))
        assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
        assert sorted(set(target["labels"].tolist())) == target["tags"].nonzero().flatten().tolist()


def test_wrong_options_are_refused():
    with pytest.raises(ArgumentError, match="strength must lie between 0 and 1; got 2"):
        Photometric(2)
    with pytest.raises(ArgumentError, match="sigma must be 0 grey levels or more"):
        RandomNoise(-1)
    with pytest.raises(ArgumentError, match="sigma must be 0 pixels or more"):
        RandomBlur(-1)
    with pytest.raises(ArgumentError, match="min_pixels must be at least 1"):
        VisibleInstances(0)
