from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from delineate.errors import ArgumentError, UnknownNameError
from delineate.kernels.mean_field import PairwiseKernel, mean_field, pixel_features
from delineate.kernels.permutohedral import build_lattice
from delineate.postprocess.dense_crf import LEAST_PROBABILITY, DenseCRF, FeatureKernel, refine, unary_from_labels


def street(height=20, width=26, channels=3, images=2, labels=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 40, (images, channels, height, width), generator=generator)
    images[:, :, :, width // 2 :] += 150
    logits = torch.randn(len(images), labels, height, width, generator=generator)
    logits[:, 0, :, : width // 2] += 1
    logits[:, 1, :, width // 2 :] += 1
    return images.to(torch.uint8), logits


def colour_codes(path):
    return np.array(Image.open(path).convert("RGB")).astype(int) @ [1, 256, 65536]


@pytest.mark.data
@pytest.mark.parametrize(
    ("photo", "scribbles", "expected", "least"),
    [
        ("im1", "anno1", "out1", 0.9990),
        ("im1", "anno1-b", "out1-b", 0.9990),
        ("im2", "anno2", "out2", 0.9985),
        ("im3", "anno3", "out3", 0.9990),
    ],
)
def test_published_outputs_of_the_reference_code(real_data, photo, scribbles, expected, least):
    """Scribbles on a photograph, completed by the authors' code: 27 to 84 of 77,000 pixels differ, all on borders."""
    folder = real_data / "refvec" / "densecrf"
    image = np.array(Image.open(folder / f"{photo}.png").convert("RGB"))
    codes, published = colour_codes(folder / f"{scribbles}.png"), colour_codes(folder / f"{expected}.png")
    colours = np.unique(codes[codes > 0])  # black is unknown
    labels = np.where(codes > 0, np.searchsorted(colours, codes), 255)
    unary = unary_from_labels(labels, len(colours), gt_prob=0.7)
    found = colours[DenseCRF().marginals(image, unary).argmax(axis=0)]
    assert (found == published).mean() >= least
    assert (colours[unary.argmin(axis=0)] == published).mean() < 0.97


def test_a_call_is_the_kernel_on_each_image():
    images, logits = street()
    found = DenseCRF(bilateral_sigma_xy=20, iterations=3)(images, logits)
    assert found.dtype == torch.float32
    for image, scores, probs in zip(images, logits, found, strict=True):
        pixels = image.permute(1, 2, 0).numpy()
        gaussian = build_lattice(pixel_features(pixels[..., :0], sigma=3.0))
        bilateral = build_lattice(pixel_features(pixels, sigma=20.0, sigma_colour=13.0))
        kernels = [
            PairwiseKernel(gaussian, np.full(4, 3, np.float32)),
            PairwiseKernel(bilateral, np.full(4, 10, np.float32)),
        ]
        flat = scores.reshape(4, -1).numpy()
        expected = mean_field(flat, kernels, iterations=3, normalisation="symmetric")
        assert np.array_equal(probs.reshape(4, -1).numpy(), expected)
    assert (found.argmax(dim=1) != logits.argmax(dim=1)).float().mean() > 0.1


def test_labels_follow_the_edge_of_the_image():
    images, logits = street(seed=3)
    labels = DenseCRF(bilateral_sigma_xy=20)(images, logits).argmax(dim=1)
    assert (labels[:, :, :13] == 0).all()
    assert (labels[:, :, 13:] == 1).all()


def test_logits_probabilities_and_energies_agree():
    images, logits = street()
    crf = DenseCRF(gaussian_weight=1, bilateral_weight=1)
    probs = logits.softmax(dim=1)
    assert probs.min() > LEAST_PROBABILITY
    found = crf(images, logits)
    for index in range(2):
        pixels = images[index].permute(1, 2, 0).numpy()
        refined = refine(pixels, probs[index].numpy(), crf=crf)
        assert np.allclose(refined, found[index], atol=1e-4)
        assert np.allclose(crf.marginals(pixels, -logits[index].numpy()), found[index], atol=1e-5)


def test_potts_as_numbers_and_as_a_table():
    images, logits = street()
    potts = DenseCRF()(images, logits)
    for compatibility in ([1, 1, 1, 1], np.ones((4, 4)) - np.eye(4), 7 - np.eye(4), (-torch.eye(4)).tolist()):
        found = DenseCRF(compatibility=compatibility)(images, logits)
        assert torch.allclose(found, potts, atol=2e-3)
    weaker = DenseCRF(compatibility=[0, 1, 1, 1])(images, logits)
    assert weaker[:, 0, :, :13].mean() < potts[:, 0, :, :13].mean() - 0.01


def test_a_table_keeps_labels_apart():
    """Label 2 costs nothing beside label 0 and much beside label 1: it gives way where there is label 1."""
    images, logits = street(labels=3)
    costs = np.array([[0, 1, 0], [1, 0, 5], [0, 5, 0]])
    found = DenseCRF(compatibility=costs, gaussian_weight=1, bilateral_weight=1, iterations=2)(images, logits)
    left, right = found[:, 2, :, :13].mean(), found[:, 2, :, 13:].mean()
    assert right < 0.5 * left


def test_kernels_of_other_features():
    images, logits = street()
    plain = DenseCRF(gaussian_weight=0, bilateral_weight=0)
    assert torch.allclose(plain(images, logits), logits.softmax(dim=1), atol=1e-6)
    rows, columns = np.mgrid[:20, :26].astype(np.float32)
    place = np.stack([columns / 3, rows / 3], axis=-1)
    expected = DenseCRF(bilateral_weight=0)(images, logits)
    shared = replace(plain, kernels=[FeatureKernel(place, 3)])
    assert torch.allclose(shared(images, logits), expected, atol=1e-5)
    moved = np.stack([place, place[:, ::-1]])  # the second image's features the other way round: the same distances
    assert torch.allclose(replace(plain, kernels=[FeatureKernel(moved, 3)])(images, logits), expected, atol=0.1)
    assert shared.kernels[0].features is place


def test_more_iterations_go_further():
    images, logits = street()
    steps = [DenseCRF(gaussian_weight=1, bilateral_weight=2, iterations=i)(images, logits) for i in (0, 1, 2, 20, 21)]
    assert torch.allclose(steps[0], logits.softmax(dim=1), atol=1e-6)
    changes = [(after - before).abs().max() for before, after in pairwise(steps)]
    assert changes[0] > 0.1
    assert changes[-1] < 1e-3


@pytest.mark.parametrize("normalisation", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_any_normalisation_and_number_of_channels(normalisation, channels):
    images, logits = street(7, 9, channels, 1)
    found = DenseCRF(normalisation=normalisation)(images, logits)
    assert torch.allclose(found.sum(dim=1), torch.ones(1, 7, 9), atol=1e-5)


def test_smallest_images_no_images_one_label_many_labels():
    crf = DenseCRF()
    for size in ((1, 1), (1, 7), (5, 1)):
        images, logits = street(*size, images=1)
        assert torch.allclose(crf(images, logits).sum(dim=1), torch.ones(1, *size), atol=1e-5)
    assert crf(torch.zeros(0, 3, 5, 5, dtype=torch.uint8), torch.zeros(0, 2, 5, 5)).shape == (0, 2, 5, 5)
    images, _ = street(images=1)
    assert torch.allclose(crf(images, torch.randn(1, 1, 20, 26)), torch.ones(1, 1, 20, 26))
    many = crf(images[..., :6, :6], torch.randn(1, 3000, 6, 6))
    assert torch.allclose(many.sum(dim=1), torch.ones(1, 6, 6), atol=1e-4)


def test_half_precision_and_other_layouts_of_memory():
    images, logits = street()
    crf = DenseCRF(gaussian_weight=1, bilateral_weight=1)
    expected = crf(images, logits)
    turned = images.contiguous(memory_format=torch.channels_last), logits.contiguous(memory_format=torch.channels_last)
    assert torch.equal(crf(*turned), expected)
    assert torch.allclose(crf(images, logits.bfloat16()), expected, atol=0.05)
    with torch.inference_mode():
        assert torch.equal(crf(images, logits.requires_grad_()), expected)


def test_equal_parameters_are_equal():
    assert DenseCRF(compatibility=[[0, 1], [1, 0]]) == DenseCRF(compatibility=np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert len({DenseCRF(), DenseCRF(iterations=5), DenseCRF(iterations=6)}) == 2


def test_energies_of_labels():
    found = unary_from_labels(np.array([[0, 2, 9]]), 3, gt_prob=0.8, unknown=9)
    expected = [[[0.8, 0.1, 1 / 3]], [[0.1, 0.1, 1 / 3]], [[0.1, 0.8, 1 / 3]]]
    assert np.allclose(np.exp(-found), expected, atol=1e-6)
    assert unary_from_labels(np.array([[1]], np.uint8), 2, gt_prob=0.5, unknown=None).shape == (2, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gaussian_sigma": 0}, r"gaussian_sigma must be at least 0.01; got 0. A weight of 0 leaves a kernel out."),
        ({"bilateral_sigma_rgb": float("nan")}, "bilateral_sigma_rgb must be at least 0.01; got nan"),
        ({"bilateral_weight": float("inf")}, "bilateral_weight must be finite; got inf"),
        ({"iterations": -1}, "iterations must be at least 0; got -1"),
        ({"compatibility": [[0, 1, 2]]}, r"compatibility must be K numbers or K x K costs; got shape \(1, 3\)"),
        ({"compatibility": [1, float("nan")]}, "compatibility must be finite; got 1 NaN or infinite"),
        ({"compatibility": [[0, 1], [2, 0]]}, r"compatibility must be symmetric; .* Pass \(costs \+ costs.T\) / 2."),
    ],
)
def test_parameters_that_make_no_sense(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        DenseCRF(**arguments)


def test_an_unknown_normalisation():
    with pytest.raises(
        UnknownNameError, match=r"normalisation must be a known name; got 'symetric'. Did you mean 'symm"
    ):
        DenseCRF(normalisation="symetric")


def test_input_that_does_not_fit():
    images, logits = street()
    broken = logits.clone()
    broken[0, 1, 2, 3] = torch.nan
    features = FeatureKernel(np.zeros((20, 20, 1)), 1)
    fewer = FeatureKernel(np.zeros((3, 20, 26, 1)), 1)
    for crf, arguments, message in (
        (DenseCRF(), (images[..., :25], logits), r"images must have the size of logits, \(20, 26\); got \(20, 25\)"),
        (DenseCRF(), (images[:1], logits), r"images must be as many as logits \(2\); got 1"),
        (DenseCRF(), (images[..., :0], logits[..., :0]), "images must have at least one pixel"),
        (
            DenseCRF(),
            (images, broken),
            r"logits must be finite; got 1 NaN or infinite values. Check the model's output.",
        ),
        (DenseCRF(), (images, logits[:, :0]), "logits must have at least one label"),
        (DenseCRF(compatibility=[1, 2]), (images, logits), "compatibility must be for the 4 labels of logits; got 2"),
        (DenseCRF(kernels=[features]), (images, logits), r"features must have the size of the image, \(20, 26\); got"),
        (DenseCRF(kernels=[fewer]), (images, logits), "features must be of 2 images; got 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            crf(*arguments)


def test_numpy_input_that_does_not_fit():
    image, probs = np.zeros((4, 5, 3), np.uint8), np.full((2, 4, 5), 0.5)
    with pytest.raises(ArgumentError, match=r"image must have the size of unary, \(4, 6\); got \(4, 5\)"):
        DenseCRF().marginals(image, np.zeros((2, 4, 6)))
    with pytest.raises(ArgumentError, match=r"probs must be within 0 to 1; got -1 to 0.5. Logits go to DenseCRF"):
        refine(image, np.where(np.arange(5) == 2, -1, probs))
    with pytest.raises(ArgumentError, match="probs must be finite; got 40 NaN"):
        refine(image, probs * np.nan)
    with pytest.raises(ArgumentError, match=r"labels must be 0 to 1 or unknown \(255\); got 7. Map the ids first."):
        unary_from_labels(np.array([[0, 7]]), 2, gt_prob=0.5)
    with pytest.raises(ArgumentError, match="gt_prob must be between 0 and 1, both excluded; got 1"):
        unary_from_labels(np.array([[0]]), 2, gt_prob=1.0)
    with pytest.raises(ArgumentError, match="num_classes must be at least 2; got 1"):
        unary_from_labels(np.array([[0]]), 1, gt_prob=0.5)
    with pytest.raises(ArgumentError, match="features must be finite"):
        FeatureKernel(np.full((2, 2, 1), np.nan), 1)
    with pytest.raises(ArgumentError, match=r"features must be \(H, W, D\) or \(B, H, W, D\); got shape \(2, 2, 0\)"):
        FeatureKernel(np.zeros((2, 2, 0)), 1)


def test_pictures_of_0_to_1_are_refused_and_grey_or_pil_ones_taken() -> None:
    probs = np.full((2, 6, 6), 0.5, np.float32)
    with pytest.raises(ArgumentError, match=r"image must be uint8 pixels of 0 to 255, .*; got float64 of shape"):
        refine(np.zeros((6, 6, 3)), probs)
    with pytest.raises(ArgumentError, match=r"images must be uint8 pixels of 0 to 255"):
        DenseCRF()(torch.zeros(1, 3, 6, 6), torch.zeros(1, 2, 6, 6))
    grey = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    expected = refine(grey[..., None], probs)
    assert np.array_equal(refine(grey, probs), expected)
    assert np.array_equal(refine(Image.fromarray(grey), probs), expected)
