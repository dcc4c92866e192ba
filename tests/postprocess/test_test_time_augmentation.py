from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from delineate.errors import ArgumentError, UnknownNameError
from delineate.postprocess.test_time_augmentation import Views, augmented, average_views, parse_views, strongest_views
from delineate.postprocess.tiling import predict_tiled


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 17, 22), dtype=torch.uint8)


@pytest.fixture
def infer():
    layer = nn.Conv2d(3, 4, 5, padding=2).requires_grad_(False)  # no symmetry at all
    return lambda images: layer(images.float() / 64)


def test_by_hand():
    # one row of two pixels; class 0 is bright, and the model only ever sees the left pixel well
    def left_only(images: Tensor) -> Tensor:
        logits = torch.zeros(1, 2, 1, 2)
        logits[0, 0, 0, 0] = images[0, 0, 0, 0].float().log()
        return logits

    images = torch.tensor([[[[3, 1]]]], dtype=torch.uint8)
    probs = average_views(images, left_only, Views(flip=True)).exp()
    # plain view: [3/4, 1/2]; mirrored view, turned back: [1/2, 1/2]
    assert probs[0, 0, 0].tolist() == pytest.approx([5 / 8, 1 / 2])


def test_one_plain_view_is_log_softmax(images: Tensor, infer):
    assert torch.equal(average_views(images, infer, Views()), infer(images).softmax(1).log())


@pytest.mark.parametrize(("views", "dims"), [(Views(flip=True), [-1]), (Views(flip=True, vflip=True), [-2])])
def test_flips_commute_with_flipping(images: Tensor, infer, views: Views, dims: list[int]):
    straight = average_views(images, infer, views)
    mirrored = average_views(images.flip(dims), infer, views)
    assert torch.allclose(mirrored.flip(dims), straight, atol=1e-6)
    plain = infer(images).softmax(1).log()
    assert not torch.allclose(infer(images.flip(dims)).softmax(1).log().flip(dims), plain, atol=1e-3)


def test_mean_over_views_against_a_naive_twin(images: Tensor, infer):
    expected = []
    for scale in (0.75, 1.0, 1.25):
        size = (round(17 * scale), round(22 * scale))
        for flip in (False, True):
            view = torch.nn.functional.interpolate(images.float(), size, mode="bilinear", antialias=True).round()
            view = view[..., torch.arange(size[1] - 1, -1, -1)] if flip else view
            logits = infer(view.to(torch.uint8))
            logits = logits[..., torch.arange(size[1] - 1, -1, -1)] if flip else logits
            expected.append(torch.nn.functional.interpolate(logits, (17, 22), mode="bilinear").softmax(1))
    mean = torch.stack(expected).mean(0)
    assert torch.allclose(average_views(images, infer, parse_views("flip,scale")).exp(), mean, atol=1e-5)


def test_maximum_over_views_against_a_naive_twin(images: Tensor, infer):
    expected = []
    for scale in (0.5, 1.0):
        size = (round(17 * scale), round(22 * scale))
        view = torch.nn.functional.interpolate(images.float(), size, mode="bilinear", antialias=True).round()
        logits = infer(view.to(torch.uint8))
        mirrored = infer(view.flip(-1).to(torch.uint8)).flip(-1)
        expected += [torch.nn.functional.interpolate(v, (17, 22), mode="bilinear") for v in (logits, mirrored)]
    strongest = torch.stack(expected).amax(0).log_softmax(1)
    views = parse_views("flip,scales=0.5+1,fuse=max")
    assert torch.allclose(strongest_views(images, infer, views), strongest, atol=1e-5)
    assert torch.equal(augmented(infer, views)(images), strongest_views(images, infer, views))
    mean = parse_views("flip,scales=0.5+1")
    assert torch.equal(augmented(infer, mean)(images), average_views(images, infer, mean))


def test_the_maximum_finds_what_one_view_is_sure_of():
    def left_only(images: Tensor) -> Tensor:  # sure of class 1 at the left edge of what it sees
        logits = torch.zeros(1, 2, *images.shape[2:])
        logits[:, 1, :, 0] = 9
        logits[:, 0, :, 1:] = 1
        return logits

    images = torch.zeros(1, 1, 1, 3, dtype=torch.uint8)
    strongest = strongest_views(images, left_only, Views(flip=True))
    assert strongest.argmax(1)[0, 0].tolist() == [1, 0, 1]
    assert torch.equal(strongest_views(images, left_only, Views()), left_only(images).log_softmax(1))
    assert torch.allclose(strongest.exp().sum(1), torch.ones(1, 1, 3))


def test_probabilities_sum_to_one_at_the_image_size_even_for_one_pixel(infer):
    for size in [(1, 1), (1, 7), (16, 3)]:
        logits = average_views(torch.zeros(1, 3, *size, dtype=torch.uint8), infer, parse_views("flip,vflip,scale"))
        assert logits.shape == (1, 4, *size)
        assert torch.allclose(logits.exp().sum(1), torch.ones(1, *size), atol=1e-5)


def test_impossible_class_stays_finite(images: Tensor):
    def certain(images: Tensor) -> Tensor:
        return torch.tensor([0.0, -1e4]).view(1, 2, 1, 1).expand(len(images), 2, *images.shape[2:])

    logits = average_views(images, certain, Views(flip=True))
    assert torch.isfinite(logits).all()
    assert logits[:, 0].abs().max() < 1e-6


def test_augmented_fits_into_tiles():
    def pointwise(images: Tensor) -> Tensor:
        values = images.float().mean(dim=1)
        return torch.stack([values / 50, 2 - values / 90], dim=1)

    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    plain = predict_tiled(image, pointwise, num_classes=2, tile=24, overlap=8)
    flipped = predict_tiled(image, augmented(pointwise, Views(flip=True)), num_classes=2, tile=24, overlap=8)
    assert (plain.labels == flipped.labels).all()
    assert flipped.scores == pytest.approx(plain.scores, abs=1e-5)


def test_views_of_the_command_line():
    assert parse_views(" Flip ") == Views(flip=True)
    assert parse_views("scale,flip") == Views(flip=True, scales=(0.75, 1.0, 1.25))
    assert [len(parse_views(text)) for text in ("flip", "vflip", "flip,vflip", "flip,scale")] == [2, 2, 4, 6]
    assert parse_views("vflip, scales = 0.5 + 2 ,fuse=MAX") == Views(vflip=True, scales=(0.5, 2.0), fuse="max")
    assert parse_views("fuse=mean") == Views()
    assert Views(flip=True, vflip=True).mirrors == ((), (-1,), (-2,), (-2, -1))


def test_errors_say_what_to_do(images: Tensor):
    with pytest.raises(UnknownNameError) as unknown:
        parse_views("flip,scal")
    assert str(unknown.value) == "test-time augmentation must be a known name; got 'scal'. Did you mean 'scale'?"
    for text, says in [
        ("scales", "scales must have a value, as in 'scales=0.75+1'; got 'scales'."),
        ("fuse", "fuse must have a value, as in 'fuse=max'; got 'fuse'."),
        ("flip=2", "flip must have no value; got 'flip=2'."),
        ("scales=0.5/1", "scales must be numbers joined by '+'; got '0.5/1'. Pass scales=0.5+0.75+1."),
        ("scale,scales=1", "scales must be given once; got 'scale,scales=1'."),
        ("scales=1+nan", "scales must be positive factors; got (1.0, nan)."),
    ]:
        with pytest.raises(ArgumentError) as error:
            parse_views(text)
        assert str(error.value) == says
    with pytest.raises(UnknownNameError, match=r"fuse must be a known name; got 'maxi'. Did you mean 'max'\?"):
        parse_views("fuse=maxi")
    with pytest.raises(ArgumentError, match=r"must name at least one augmentation; got ','\. Pass 'flip,scale'\."):
        parse_views(",")
    with pytest.raises(ArgumentError, match="scales must be positive factors"):
        Views(scales=(1.0, 0.0))
    with pytest.raises(ArgumentError, match="infer must return logits of its input's size"):
        average_views(images, lambda images: torch.zeros(2, 3, 4, 4), Views())
