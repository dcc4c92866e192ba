"""One answer for each superpixel: the mean of the network's, so that its outlines are those of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int32, Shaped
from torch import Tensor

from delineate.checks import require
from delineate.kernels.colour import lab_of_rgb
from delineate.kernels.graph_segmentation import gaussian_smoothed, graph_segments
from delineate.kernels.superpixels import slic_segments
from delineate.kernels.threads import run_pieces
from delineate.ops.pixels import check_pixels, pixel_array
from delineate.registry import unknown_name

Array = TypeVar("Array", Tensor, np.ndarray)
METHODS = ("slic", "graph")


def slic_superpixels(
    image: Any,
    *,
    segments: int = 500,
    compactness: float | int = 10.0,
    iterations: int = 10,
) -> Int32[np.ndarray, "H W"]:
    """Superpixels of like size and compact shape that follow the edges of the picture.

    Source: Achanta, Shaji, Smith, Lucchi, Fua, Suesstrunk, "SLIC Superpixels Compared to State-of-the-Art Superpixel
        Methods", PAMI 2012, algorithm 1.
    Differs: runs a fixed number of iterations (the paper's ten); a part of a cluster that lies apart and has less than
        a quarter of the mean superpixel's pixels joins the superpixel that it shares most border with.

    Args:
        image: uint8 ``(H, W, C)``, ``(H, W)`` or a PIL image. RGB is compared in CIE L*a*b*; any other number of
            channels, each from 0 to 100 like L*.
        segments: how many to aim at.
        compactness: the paper's m, 1 to 40: the difference in colour that weighs as much as the distance to the next
            superpixel. Larger ones are more regular.
        iterations: assignments and updates.

    Returns:
        Numbers from 0, in order of each superpixel's first pixel; each is 4-connected.

    Raises:
        ArgumentError: when a number is out of range.

    Example:
        >>> image = np.zeros((20, 30, 3), np.uint8)
        >>> np.bincount(slic_superpixels(image, segments=6).ravel())
        array([100, 100, 100, 100, 100, 100])
    """
    _check_slic(segments, compactness, iterations)
    image = pixel_array(image)
    colours = lab_of_rgb(image) if image.shape[2] == 3 else image.astype(np.float32) * np.float32(100 / 255)
    return slic_segments(colours, segments=segments, compactness=float(compactness), iterations=iterations)


def graph_superpixels(
    image: Any, *, sigma: float | int = 0.8, scale: float | int = 300.0, min_size: int = 20
) -> Int32[np.ndarray, "H W"]:
    """Segments of any size and shape whose inner steps are smaller than the steps between them.

    Source: Felzenszwalb, Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, algorithm 1.
    Differs: the colour channels are compared at once by their Euclidean distance, as in the authors' program, not one
        segmentation a channel and their intersection.

    Args:
        image: uint8 ``(H, W, C)``, ``(H, W)`` or a PIL image; compared in the values it has, 0 to 255.
        sigma: of the Gaussian that smooths the image first, in pixels; the paper's is 0.8.
        scale: the paper's k, 150 to 500 for its photographs: larger ones prefer larger segments.
        min_size: pixels of the smallest segment.

    Returns:
        Numbers from 0, in order of each segment's first pixel; each is 8-connected.

    Raises:
        ArgumentError: when a number is out of range.

    Example:
        >>> image = np.zeros((20, 30, 3), np.uint8)
        >>> image[5:15, 5:15] = 200
        >>> np.bincount(graph_superpixels(image, sigma=0).ravel())
        array([500, 100])
    """
    _check_graph(sigma, scale, min_size)
    return graph_segments(gaussian_smoothed(pixel_array(image), sigma=sigma), scale=scale, min_size=min_size)


def superpixel_means(probs: Array, segments: Any) -> Array:
    """Every pixel given the mean probabilities of its superpixel; the argmax is then the superpixel's class.

    Source: Farabet, Couprie, Najman, LeCun, "Learning Hierarchical Features for Scene Labeling", PAMI 2013, section
        4.1.
    Differs: nothing.

    Args:
        probs: of one image, ``(K, H, W)``, a tensor or an array.
        segments: numbers from 0, ``(H, W)``, such as :func:`slic_superpixels` returns.

    Returns:
        Of the kind and the type of ``probs``.

    Example:
        >>> probs = torch.tensor([[[0.9, 0.2, 0.3]], [[0.1, 0.8, 0.7]]])
        >>> superpixel_means(probs, torch.tensor([[0, 0, 1]]))[0]
        tensor([[0.5500, 0.5500, 0.3000]])
    """
    if isinstance(probs, np.ndarray):
        return superpixel_means(torch.from_numpy(probs), segments).numpy()
    numbers = torch.as_tensor(segments).reshape(-1).long().to(probs.device)
    if numbers.numel() == 0:
        return probs.clone()
    values = probs.flatten(1).float()
    count = int(numbers.max()) + 1
    sums = values.new_zeros(len(values), count).index_add_(1, numbers, values)
    means = sums / torch.bincount(numbers, minlength=count).clamp_min(1)
    return means[:, numbers].reshape(probs.shape).to(probs.dtype)


def superpixel_vote(labels: Array, segments: Any, *, ignore_index: int = 255) -> Array:
    """Every pixel given the most frequent label of its superpixel; of equally frequent ones the smallest.

    Args:
        labels: from 0, ``(H, W)``, a tensor or an array.
        segments: numbers from 0, ``(H, W)``.
        ignore_index: a label that has no vote and stays where it is.

    Returns:
        Of the kind and the type of ``labels``.

    Example:
        >>> superpixel_vote(torch.tensor([[1, 2, 2, 0]]), torch.tensor([[0, 0, 0, 1]]))
        tensor([[2, 2, 2, 0]])
    """
    if isinstance(labels, np.ndarray):
        return superpixel_vote(torch.from_numpy(labels), segments, ignore_index=ignore_index).numpy()
    numbers = torch.as_tensor(segments).reshape(-1).long().to(labels.device)
    counted = labels.reshape(-1) != ignore_index
    if not bool(counted.any()):
        return labels.clone()
    known = labels.reshape(-1)[counted].long()
    classes = int(known.max()) + 1
    votes = torch.bincount(numbers[counted] * classes + known, minlength=(int(numbers.max()) + 1) * classes)
    winners = votes.reshape(-1, classes).argmax(1)[numbers].reshape(labels.shape).to(labels.dtype)
    return torch.where(counted.reshape(labels.shape), winners, labels)


@dataclass(frozen=True)
class SuperpixelVoting:
    """Class probabilities averaged over superpixels; called with images and logits, as a dense CRF is.

    Args:
        method: "slic" for compact superpixels of like size, "graph" for segments of any size and shape.
        segments: of SLIC: how many to aim at in an image.
        compactness: of SLIC, see :func:`slic_superpixels`.
        iterations: of SLIC.
        sigma: of the graph, see :func:`graph_superpixels`.
        scale: of the graph.
        min_size: of the graph.

    Raises:
        UnknownNameError: on another method.
        ArgumentError: when a number is out of range.

    Example:
        >>> images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
        >>> probs = SuperpixelVoting(segments=1)(images, torch.randn(1, 2, 4, 4))
        >>> tuple(probs.shape), probs[0, 0].unique().numel()
        ((1, 2, 4, 4), 1)
    """

    method: str = "slic"
    segments: int = 500
    compactness: float | int = 10.0
    iterations: int = 10
    sigma: float | int = 0.8
    scale: float | int = 300.0
    min_size: int = 20

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("superpixel method", self.method, METHODS)
        _check_slic(self.segments, self.compactness, self.iterations)
        _check_graph(self.sigma, self.scale, self.min_size)

    def superpixels(self, image: Any) -> Int32[np.ndarray, "H W"]:
        """The superpixels of one image."""
        if self.method == "graph":
            return graph_superpixels(image, sigma=self.sigma, scale=self.scale, min_size=self.min_size)
        return slic_superpixels(image, segments=self.segments, compactness=self.compactness, iterations=self.iterations)

    def __call__(self, images: Shaped[Tensor, "B C H W"], logits: Float[Tensor, "N K h w"]) -> Float[Tensor, "N K h w"]:
        """The mean softmax probabilities of each pixel's superpixel, float32, on the device of ``logits``.

        Args:
            images: 0 to 255; superpixels are found on the CPU, images in parallel.
            logits: before the softmax.

        Raises:
            ArgumentError: when images and logits differ in number or size.
        """
        check_pixels(images)
        require(
            images.shape[0] == logits.shape[0] and images.shape[2:] == logits.shape[2:],
            "logits",
            f"fit the {images.shape[0]} images of {tuple(images.shape[2:])} pixels",
            f"shape {tuple(logits.shape)}",
        )
        probs = logits.float().softmax(dim=1)
        pixels = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images.cpu()]
        found = run_pieces(self.superpixels, pixels)
        means = [superpixel_means(p, torch.from_numpy(s)) for p, s in zip(probs, found, strict=True)]
        return torch.stack(means) if means else probs


def _check_slic(segments: int, compactness: float | int, iterations: int) -> None:
    require(segments >= 1, "segments", "be at least 1", segments)
    require(compactness > 0, "compactness", "be positive", compactness)
    require(iterations >= 1, "iterations", "be at least 1", iterations)


def _check_graph(sigma: float | int, scale: float | int, min_size: int) -> None:
    require(sigma >= 0, "sigma", "be 0 pixels or more", sigma)
    require(scale >= 0, "scale", "be 0 or more", scale)
    require(min_size >= 1, "min_size", "be at least 1 pixel", min_size)
