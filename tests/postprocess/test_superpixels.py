"""Superpixels of pictures, and one answer for each of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from delineate.errors import ArgumentError, UnknownNameError
from delineate.kernels.colour import lab_of_rgb
from delineate.kernels.graph_segmentation import gaussian_smoothed, graph_segments
from delineate.kernels.superpixels import slic_segments
from delineate.postprocess.superpixels import (
    SuperpixelVoting,
    graph_superpixels,
    slic_superpixels,
    superpixel_means,
    superpixel_vote,
)


def picture(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A red disc on green, with a little noise, and where it is."""
    rows, columns = np.mgrid[:48, :64]
    disc = (rows - 22) ** 2 + (columns - 30) ** 2 < 15**2
    noise = np.random.default_rng(seed).integers(0, 30, (48, 64, 3))
    return (np.where(disc[..., None], (200, 40, 40), (40, 180, 60)) + noise).astype(np.uint8), disc


def test_means_by_hand():
    probs = torch.tensor([[[0.9, 0.4], [0.2, 0.5]], [[0.1, 0.6], [0.8, 0.5]]])
    segments = torch.tensor([[0, 0], [2, 0]])  # a number without pixels is nobody's
    found = superpixel_means(probs, segments)
    assert torch.allclose(found[0], torch.tensor([[0.6, 0.6], [0.2, 0.6]]))
    assert torch.allclose(found.sum(0), torch.ones(2, 2))


def test_means_are_per_segment_means():
    probs = torch.rand(4, 13, 9, dtype=torch.float64)
    segments = torch.randint(0, 7, (13, 9), dtype=torch.int32)
    found = superpixel_means(probs, segments)
    assert found.dtype == torch.float64
    for number in segments.unique():
        inside = segments == number
        assert torch.allclose(found[:, inside], probs[:, inside].mean(1, keepdim=True).expand(-1, int(inside.sum())))
    assert torch.allclose(superpixel_means(found, segments), found)
    assert superpixel_means(probs[:, :0], segments[:0]).shape == (4, 0, 9)


def test_votes_by_hand():
    labels = torch.tensor([[3, 3, 1, 0], [255, 2, 1, 255]])
    segments = torch.tensor([[0, 0, 0, 1], [0, 1, 0, 2]])
    # segment 0: two 3 and two 1, the smaller wins; segment 1: 0 and 2; segment 2: only ignored
    assert superpixel_vote(labels, segments).tolist() == [[1, 1, 1, 0], [255, 0, 1, 255]]
    assert superpixel_vote(labels, segments, ignore_index=1).tolist() == [[3, 3, 1, 0], [3, 0, 1, 255]]
    assert superpixel_vote(labels, segments).dtype == labels.dtype


def test_votes_equal_a_loop():
    labels = torch.randint(0, 5, (20, 15), dtype=torch.uint8)
    segments = torch.randint(0, 9, (20, 15))
    found = superpixel_vote(labels, segments)
    for number in range(9):
        inside = segments == number
        assert (found[inside] == torch.bincount(labels[inside]).argmax()).all()
    nothing = torch.full((2, 2), 255)
    assert torch.equal(superpixel_vote(nothing, torch.zeros(2, 2).long()), nothing)


def test_the_kernels_are_called_as_the_papers_say():
    image, _ = picture()
    assert (slic_superpixels(image, segments=40) == slic_segments(lab_of_rgb(image), segments=40)).all()
    smooth = gaussian_smoothed(image, sigma=0.8)
    assert (graph_superpixels(image) == graph_segments(smooth, scale=300.0, min_size=20)).all()


@pytest.mark.parametrize("method", ["slic", "graph"])
def test_voting_straightens_a_ragged_answer(method):
    image, disc = picture()
    generator = torch.Generator().manual_seed(0)
    logits = torch.stack([torch.from_numpy(~disc), torch.from_numpy(disc)]).float()
    logits += torch.randn(logits.shape, generator=generator) * 1.5
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    probs = SuperpixelVoting(method, segments=60)(images, logits[None])
    truth = torch.from_numpy(disc).long()
    before, after = ((answer != truth).float().mean().item() for answer in (logits.argmax(0), probs[0].argmax(0)))
    assert before > 0.2
    assert after < 0.01
    assert torch.allclose(probs.sum(1), torch.ones(1, 48, 64), atol=1e-5)


def test_images_are_taken_one_by_one_and_any_channels():
    images = torch.from_numpy(np.stack([picture(seed)[0] for seed in range(3)])).permute(0, 3, 1, 2)
    logits = torch.randn(3, 4, 48, 64)
    for channels in (images, images[:, :1]):
        voting = SuperpixelVoting(segments=30)
        together = voting(channels, logits)
        for image, one, found in zip(channels, logits, together, strict=True):
            assert torch.equal(voting(image[None], one[None])[0], found)
    assert SuperpixelVoting()(images[:0], logits[:0]).shape == (0, 4, 48, 64)


@pytest.mark.parametrize("method", ["slic", "graph"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2)])
def test_small_images(method, size):
    probs = SuperpixelVoting(method)(torch.zeros(1, 3, *size, dtype=torch.uint8), torch.zeros(1, 2, *size))
    assert torch.equal(probs, torch.full((1, 2, *size), 0.5))


def test_errors_say_what_to_do():
    with pytest.raises(
        UnknownNameError, match=r"superpixel method must be a known name; got 'slick'. Did you mean 'slic'"
    ):
        SuperpixelVoting("slick")
    for name, value, text in [
        ("segments", 0, "segments must be at least 1; got 0."),
        ("compactness", 0, "compactness must be positive; got 0."),
        ("iterations", 0, "iterations must be at least 1; got 0."),
        ("sigma", -1, "sigma must be 0 pixels or more; got -1."),
        ("scale", -1.0, "scale must be 0 or more; got -1.0."),
        ("min_size", 0, "min_size must be at least 1 pixel; got 0."),
    ]:
        with pytest.raises(ArgumentError) as error:
            dataclasses.replace(SuperpixelVoting(), **{name: value})
        assert str(error.value) == text
    with pytest.raises(
        ArgumentError, match=r"logits must fit the 1 images of \(4, 5\) pixels; got shape \(1, 2, 4, 4\)"
    ):
        SuperpixelVoting()(torch.zeros(1, 3, 4, 5, dtype=torch.uint8), torch.zeros(1, 2, 4, 4))


def test_arrays_are_answered_with_arrays() -> None:
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    segments = slic_superpixels(image, segments=6)
    labels, probs = random.integers(0, 3, (12, 16), dtype=np.uint8), random.random((3, 12, 16), dtype=np.float32)
    for function, given in ((superpixel_vote, labels), (superpixel_means, probs)):
        expected = function(torch.from_numpy(given), torch.from_numpy(segments))
        answer = function(given, segments)
        assert isinstance(answer, np.ndarray)
        assert answer.dtype == given.dtype
        assert np.array_equal(answer, expected.numpy())


def test_pictures_of_0_to_1_are_refused() -> None:
    for find in (slic_superpixels, graph_superpixels):
        with pytest.raises(ArgumentError, match=r"image must be uint8 pixels of 0 to 255"):
            find(np.random.default_rng(0).random((8, 8, 3)))
    with pytest.raises(ArgumentError, match=r"images must be uint8 pixels of 0 to 255"):
        SuperpixelVoting()(torch.rand(1, 3, 8, 8), torch.zeros(1, 2, 8, 8))
