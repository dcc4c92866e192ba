"""Random views: exact where nothing moves, like a slow twin elsewhere, one geometry for the whole target."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from delineate.data.digits import DigitScenes
from delineate.data.transforms import boxes_of_masks
from delineate.data.view import RandomView, View, channel_fill
from delineate.errors import ArgumentError


def smooth_image(channels, height, width):
    """An image that an interpolation may not change by much: low frequencies only."""
    coarse = torch.randint(0, 256, (channels, 5, 6), dtype=torch.uint8)
    fine = functional.resize_image(coarse, [height, width], interpolation=functional.InterpolationMode.BICUBIC)
    return tv_tensors.Image(fine)


def sample(height=40, width=60, channels=3):
    labels = torch.randint(0, 11, (height, width), dtype=torch.uint8)
    return smooth_image(channels, height, width), {"semantic_mask": tv_tensors.Mask(labels), "stem": "a"}


def shown(image, view, **options):
    """``image`` and its target under one given view."""
    transform = RandomView(**options)
    params = {"view": view, "places": view.places() if view.is_warped else None}
    picture, target = image
    tensors = {key: value for key, value in target.items() if isinstance(value, torch.Tensor)}
    moved = {key: transform.transform(value, params) for key, value in tensors.items()}
    return transform.transform(picture, params), moved


def test_nothing_to_do_is_the_identity():
    image, target = sample()
    got, moved = RandomView()(image, target)
    assert torch.equal(got, image)
    assert torch.equal(moved["semantic_mask"], target["semantic_mask"])
    assert moved["stem"] == "a"
    still, _ = RandomView(elastic=1e-9)(image, target)  # the sampling path, without a movement
    assert torch.equal(still, image)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25, 2.0, 4.0])
def test_the_crop_equals_resizing_everything_first(scale):
    image, _ = sample(120, 160)
    size = (40, 60)
    window = (int(size[0] / scale), int(size[1] / scale))
    top = left = 20  # a whole number of pixels at every scale here
    got, _ = shown((image, {}), View(size, top, left, *window))
    whole = functional.resize_image(image, [int(120 * scale), int(160 * scale)], antialias=True)
    y, x = round(top * scale), round(left * scale)
    expected = whole[:, y : y + size[0], x : x + size[1]]
    border = 3  # the crop cannot see its neighbours
    difference = (got.int() - expected.int())[:, border:-border, border:-border].abs()
    assert difference.max() <= 2


def test_labels_are_those_under_the_pixel_centres():
    labels = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
    view = View((2, 9), top=0, left=1, height=4, width=3)
    _, moved = shown((tv_tensors.Image(labels[None]), {"m": tv_tensors.Mask(labels)}), view)
    assert moved["m"].tolist() == [[7, 7, 7, 8, 8, 8, 9, 9, 9], [19, 19, 19, 20, 20, 20, 21, 21, 21]]


def test_a_small_image_is_padded_with_fill_ignore_and_nothing():
    image, target = sample(10, 12)
    image = tv_tensors.Image(torch.full_like(image, 50))
    target["masks"] = tv_tensors.Mask(torch.ones(2, 10, 12, dtype=torch.uint8))
    got, moved = RandomView((16, 20), ignore_index=99)(image, target)
    inside = (got == 50).all(dim=0)
    assert int(inside.sum()) == 120
    assert got[:, ~inside].unique(dim=1).flatten().tolist() == [124, 116, 104]
    assert (moved["semantic_mask"][~inside] == 99).all()
    assert torch.equal(moved["semantic_mask"][inside].reshape(10, 12), target["semantic_mask"])
    assert torch.equal(moved["masks"][0].bool(), inside)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("options", [{}, {"rotation": 40.0}])
def test_any_number_of_channels_is_filled(channels, options):
    image = tv_tensors.Image(torch.full((channels, 10, 10), 50, dtype=torch.uint8))
    got = RandomView((30, 30), **options)(image)
    assert isinstance(got, tv_tensors.Image)
    assert got.shape == (channels, 30, 30)
    assert set(got.unique().tolist()) == {50, 114}
    assert channel_fill((1, 2, 6), channels) == (3.0,) * channels


@pytest.mark.parametrize("angle", [-130.0, 7.0, 90.0])
def test_a_turn_equals_torchvisions(angle):
    image, target = sample(50, 50)
    view = View((50, 50), 0, 0, 50, 50, angle=angle)
    got, moved = shown((image, target), view, fill=(0, 0, 0))
    bilinear = functional.InterpolationMode.BILINEAR
    expected = functional.rotate(image, angle, interpolation=bilinear)
    inside = functional.rotate(tv_tensors.Image(torch.full_like(image, 255)), angle, interpolation=bilinear) == 255
    assert ((got.int() - expected.int()).abs()[inside] <= 1).all()
    labels = functional.rotate(target["semantic_mask"], angle, fill=255)
    assert (labels == moved["semantic_mask"]).float().mean() > 0.99  # ties at half pixels may fall either way


def test_a_turned_window_reads_the_source_around_it():
    image, target = sample(200, 200)
    torch.manual_seed(3)
    _, moved = RandomView((60, 60), rotation=180)(image, target)
    view = View((60, 60), 70, 70, 60, 60, angle=45.0)
    _, central = shown((image, target), view)
    assert not (central["semantic_mask"] == 255).any()
    assert set(moved["semantic_mask"].unique().tolist()) <= {*range(11), 255}


def test_a_smaller_turned_picture_is_not_aliased():
    stripes = torch.zeros(1, 400, 400, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    got, _ = shown((tv_tensors.Image(stripes), {}), View((100, 100), 0, 0, 400, 400, angle=1e-4))
    assert (got[:, 3:-3, 3:-3].int() - 100).abs().max() <= 2
    reference = Image.fromarray(stripes[0].numpy()).resize((100, 100), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(reference)[3:-3, 3:-3].astype(int) - got[0, 3:-3, 3:-3].int().numpy()).max() <= 2


VIEWS = {
    "scaled up": {"scale": (1.7, 1.7)},
    "scaled down": {"scale": (0.6, 0.6)},
    "cropped": {"size": (64, 80)},
    "turned": {"rotation": 30.0},
    "bent": {"elastic": 4.0},
    "all": {"size": (80, 112), "scale": (0.7, 1.5), "rotation": 20.0, "elastic": 4.0},
}


@pytest.mark.parametrize("options", VIEWS.values(), ids=list(VIEWS))
def test_masks_boxes_and_labels_stay_together(options):
    scenes = DigitScenes("train", size=(96, 128))
    transform = RandomView(**options)
    for index in range(6):
        image, target = scenes[index]
        got, moved = transform(image, target)
        size = options.get("size", (96, 128))
        assert got.shape[-2:] == moved["semantic_mask"].shape == moved["masks"].shape[-2:] == size
        union = torch.zeros(size, dtype=torch.uint8)
        for mask, label in zip(moved["masks"], moved["labels"], strict=True):
            union[mask.bool()] = label.to(torch.uint8) + 1
        drawn = torch.where(moved["semantic_mask"] == 255, 0, moved["semantic_mask"])
        assert torch.equal(union, drawn)
        tight = boxes_of_masks(moved["masks"])
        visible = tight[:, 2] > tight[:, 0]
        assert moved["boxes"].canvas_size == size
        slack = torch.cat([tight[:, :2] - moved["boxes"][:, :2], moved["boxes"][:, 2:] - tight[:, 2:]], 1)[visible]
        assert (slack >= -2).all()  # the moved box holds the moved mask
        if "rotation" not in options and "elastic" not in options:
            whole = (tight > 0).all(1) & (tight[:, 2] < size[1]) & (tight[:, 3] < size[0])
            assert (slack[whole[visible]] <= 2).all()  # a box that the border cuts may be larger than what is left


def test_boxes_and_key_points_follow_a_bent_view():
    torch.manual_seed(1)
    view = View((90, 90), 0, 0, 90, 90, angle=15.0, coarse=torch.randn(2, 3, 3) * 3)
    mask = torch.zeros(1, 90, 90, dtype=torch.uint8)
    mask[0, 30:50, 40:70] = 1
    boxes = tv_tensors.BoundingBoxes([[40.0, 30, 30, 20]], format="XYWH", canvas_size=(90, 90))
    points = tv_tensors.KeyPoints([[[40.0, 30.0], [70.0, 50.0]]], canvas_size=(90, 90))
    image = tv_tensors.Image(mask)
    _, moved = shown((image, {"masks": tv_tensors.Mask(mask), "boxes": boxes, "points": points}), view)
    x, y, width, height = moved["boxes"][0].tolist()
    tight = boxes_of_masks(moved["masks"])[0]
    torch.testing.assert_close(torch.tensor([x, y, x + width, y + height]), tight, atol=1.5, rtol=0)
    assert moved["points"].shape == (1, 2, 2)
    corner = moved["points"][0, 0]
    distances = (torch.nonzero(moved["masks"][0]).flip(1) + 0.5 - corner).norm(dim=1)
    assert distances.min() < 1.5


def test_an_empty_target_stays_empty():
    image, _ = sample()
    target = {
        "boxes": tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(40, 60)),
        "masks": tv_tensors.Mask(torch.zeros(0, 40, 60, dtype=torch.uint8)),
    }
    for options in ({"size": (20, 20)}, {"rotation": 10.0}, {"elastic": 5.0, "size": (64, 64)}):
        _, moved = RandomView(**options)(image, target)
        assert moved["boxes"].shape == (0, 4)
        assert moved["masks"].shape == (0, *options.get("size", (40, 60)))


def test_the_same_seed_gives_the_same_view():
    image, target = sample()
    transform = pickle.loads(pickle.dumps(RandomView((32, 32), scale=(0.5, 2), rotation=30, elastic=3)))  # noqa: S301
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(transform(image, target))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1]["semantic_mask"], results[1][1]["semantic_mask"])
    assert not torch.equal(results[0][0], results[2][0])


def test_scales_are_log_uniform_over_their_range():
    transform = RandomView((100, 100), scale=(0.5, 2.0))
    image = torch.zeros(1, 400, 400, dtype=torch.uint8)
    heights = np.array([transform.make_params([image])["view"].height for _ in range(400)])
    assert 50 <= heights.min() < 54
    assert 186 < heights.max() <= 200
    assert 90 < np.median(heights) < 111  # the geometric mean of 50 and 200 is 100


def test_floats_and_odd_sizes_pass():
    image = tv_tensors.Image(torch.rand(3, 7, 300))
    got, moved = RandomView((33, 21), scale=(0.1, 8.0), rotation=180)(
        image, {"m": tv_tensors.Mask(torch.zeros(7, 300, dtype=torch.int32))}
    )
    assert got.shape == (3, 33, 21)
    assert got.dtype == torch.float32
    assert 0 <= float(got.min()) <= float(got.max()) <= 1
    assert moved["m"].dtype == torch.int32


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": (0, 3)}, "size must be a positive"),
        ({"scale": (0, 1)}, "scale must be"),
        ({"scale": (2, 1)}, "scale must be"),
        ({"rotation": -1}, "rotation must be"),
        ({"elastic": -1}, "elastic must be"),
        ({"elastic_grid": 1}, "elastic_grid must be at least 2; got 1"),
    ],
)
def test_wrong_options_are_refused(options, text):
    with pytest.raises(ArgumentError, match=text):
        RandomView(**options)


def test_wrong_inputs_are_refused():
    with pytest.raises(ArgumentError, match=r"image must be a tv_tensors.Image; got Image. Put v2.ToImage"):
        RandomView()(Image.new("RGB", (4, 4)))
    with pytest.raises(ArgumentError, match="share one"):
        RandomView()(sample()[0], {"m": tv_tensors.Mask(torch.zeros(3, 3))})
    boxes = tv_tensors.BoundingBoxes(torch.zeros(1, 5), format="CXCYWHR", canvas_size=(40, 60))
    with pytest.raises(ArgumentError, match="upright"):
        RandomView()(sample()[0], {"boxes": boxes})
