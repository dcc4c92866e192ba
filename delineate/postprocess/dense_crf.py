"""A dense conditional random field that moves the borders of a segmentation to the edges of the image.

Every pixel is tied to every other by Gaussian kernels: one of the distance, which removes specks, and one of distance
and colour, which makes labels follow the edges that the eye sees.

Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
Differs: the defaults and the symmetric normalisation are those of the authors' later code, which DeepLab used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Integer, Shaped
from torch import Tensor

from delineate.checks import require
from delineate.kernels.mean_field import PairwiseKernel, mean_field, pixel_features
from delineate.kernels.permutohedral import Lattice, build_lattice
from delineate.kernels.threads import run_pieces
from delineate.ops.pixels import check_pixels, pixel_array
from delineate.registry import unknown_name

NORMALISATIONS = ("symmetric", "before", "after", "none")
LEAST_PROBABILITY = 1e-5  # what a probability of 0 counts as: its logarithm would leave no room for neighbours
LEAST_SIGMA = 0.01  # below, features outgrow float32; neighbouring pixels are worlds apart long before


@dataclass(frozen=True, eq=False)
class FeatureKernel:
    """A Gaussian kernel over features of the pixels: depth, a flow field, the channels of a network.

    Args:
        features: of every pixel, each divided by the standard deviation wanted along it; the same for all images of a
            batch, or with a batch axis in front.
        weight: what agreement with like pixels is worth, in nats.
    """

    features: Float[np.ndarray, "*B H W D"]
    weight: float | int

    def __post_init__(self) -> None:
        features = self.features
        require(
            features.ndim in (3, 4) and features.shape[-1] > 0,
            "features",
            "be (H, W, D) or (B, H, W, D)",
            f"shape {features.shape}",
            "Add an axis for a single feature: features[..., None].",
        )
        finite = bool(np.isfinite(features).all())
        require(finite, "features", "be finite", "NaN or infinity", "Fill in missing values.")
        _check_finite("weight", self.weight)


@dataclass(frozen=True)
class DenseCRF:
    """Mean-field inference in a fully connected CRF; an instance is a function of images and logits.

    Args:
        gaussian_sigma: standard deviation of the kernel of the distance, in pixels.
        gaussian_weight: what a label gains where all like pixels share it, in nats; 0 leaves the kernel out.
        bilateral_sigma_xy: standard deviation of the bilateral kernel along the image, in pixels.
        bilateral_sigma_rgb: and along each channel, in levels of 0 to 255.
        bilateral_weight: as ``gaussian_weight``.
        iterations: of mean field; 5 to 10 are usual, 0 is the softmax.
        compatibility: None for Potts, where only equal labels support each other; K numbers, for how strongly each
            label does; or K x K costs of two labels at like pixels, symmetric.
        normalisation: of each kernel by its sum ``n`` over all pixels: "symmetric" (by the root of ``n`` on both
            sides), "before" or "after" the filter, or "none".
        kernels: more kernels, of other features.

    Raises:
        ArgumentError: when a sigma is not positive, a weight not finite, ``iterations`` negative, ``compatibility`` of
            the wrong shape or not symmetric.
        UnknownNameError: for an unknown normalisation.

    Example:
        >>> image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
        >>> image[..., 4:] = 255
        >>> logits = torch.zeros(1, 2, 8, 8)
        >>> logits[:, 0, :, :3] = logits[:, 1, :, 3:] = 1.0  # label 1 reaches one column too far to the left
        >>> logits[0, :, 2, 6] = torch.tensor([1.0, 0.0])  # and has a hole
        >>> DenseCRF()(image, logits).argmax(dim=1)[0, 2].tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]
    """

    gaussian_sigma: float | int = 3.0
    gaussian_weight: float | int = 3.0
    bilateral_sigma_xy: float | int = 80.0
    bilateral_sigma_rgb: float | int = 13.0
    bilateral_weight: float | int = 10.0
    iterations: int = 5
    compatibility: Any = None  # numbers in any kind of sequence; kept as tuples
    normalisation: str = "symmetric"
    kernels: Sequence[FeatureKernel] = ()

    def __post_init__(self) -> None:
        for name in ("gaussian_sigma", "bilateral_sigma_xy", "bilateral_sigma_rgb"):
            value = getattr(self, name)
            holds = LEAST_SIGMA <= value < float("inf")
            require(holds, name, f"be at least {LEAST_SIGMA}", value, "A weight of 0 leaves a kernel out.")
        for name in ("gaussian_weight", "bilateral_weight"):
            _check_finite(name, getattr(self, name))
        require(self.iterations >= 0, "iterations", "be at least 0", self.iterations)
        if self.normalisation not in NORMALISATIONS:
            raise unknown_name("normalisation", self.normalisation, NORMALISATIONS)
        object.__setattr__(self, "kernels", tuple(self.kernels))
        if self.compatibility is not None:
            table = np.asarray(self.compatibility, np.float32)
            _check_compatibility(table)
            object.__setattr__(self, "compatibility", _tuples(table))

    def __call__(
        self, images: Shaped[Tensor, "B C H W"], logits: Float[Tensor, "N K h w"]
    ) -> Float32[Tensor, "N K h w"]:
        """Probabilities of every label at every pixel, after inference.

        Args:
            images: as they were read, without normalisation; any number of channels.
            logits: of a model, before the softmax.

        Returns:
            On the logits' device; they add up to 1 over the labels. Labels less likely than ``exp(-60)`` times the
            likeliest are 0.

        Raises:
            ArgumentError: when sizes differ, logits are not finite, or ``compatibility`` is of another K.
        """
        check_pixels(images)
        _check_sizes("images", tuple(images.shape[-2:]), "logits", tuple(logits.shape[-2:]))
        require(
            len(images) == len(logits), "images", f"be as many as logits ({len(logits)})", len(images), "Pass one each."
        )
        pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        scores = logits.detach().to("cpu", torch.float32).numpy()
        self._check_scores("logits", scores)
        gaussian = self._gaussian(pixels.shape[1], pixels.shape[2]) if len(pixels) else None
        probs = np.empty(scores.shape, np.float32)

        def infer(index: int) -> None:
            self._infer(pixels[index], scores[index], probs[index], index, len(pixels), gaussian)

        run_pieces(infer, range(len(pixels)))
        return torch.from_numpy(probs).to(logits.device)

    def marginals(self, image: Any, unary: Float[np.ndarray, "K h w"]) -> Float32[np.ndarray, "K h w"]:
        """Probabilities of one image in NumPy, from the energy (minus the log probability) of each label.

        Raises:
            ArgumentError: as for a call.

        Example:
            >>> unary = unary_from_labels(np.array([[1, 255, 0]]), 2, gt_prob=0.7)
            >>> DenseCRF(iterations=1).marginals(np.zeros((1, 3, 1), np.uint8), unary)[1].astype(float).round(3)
            array([[0.731, 0.52 , 0.3  ]])
        """
        image = pixel_array(image)
        _check_sizes("image", image.shape[:2], "unary", unary.shape[1:])
        scores = np.negative(unary, dtype=np.float32)
        self._check_scores("unary", scores)
        probs = np.empty_like(scores, order="C")
        self._infer(image, scores, probs, 0, 1, self._gaussian(*image.shape[:2]))
        return probs

    def _check_scores(self, name: str, scores: np.ndarray) -> None:
        _check_all_finite(name, scores)
        labels = scores.shape[-3]
        require(labels > 0, name, "have at least one label", f"shape {scores.shape}")
        if self.compatibility is not None:
            require(
                len(self.compatibility) == labels,
                "compatibility",
                f"be for the {labels} labels of {name}",
                f"{len(self.compatibility)} labels",
            )

    def _gaussian(self, height: int, width: int) -> Lattice | None:
        """The lattice of the distance alone, the same for all images of one size."""
        if not self.gaussian_weight or not self.iterations:
            return None
        empty = np.empty((height, width, 0), np.uint8)
        return build_lattice(pixel_features(empty, sigma=float(self.gaussian_sigma)))

    def _potential(self, weight: float, labels: int) -> np.ndarray:
        if self.compatibility is None:
            return np.full(labels, weight, np.float32)
        table = np.asarray(self.compatibility, np.float32)
        potential: np.ndarray = weight * table if table.ndim == 1 else -weight * table  # what is paid is not gained
        return potential

    def _infer(
        self,
        image: np.ndarray,
        scores: np.ndarray,
        probs: np.ndarray,
        index: int,
        images: int,
        gaussian: Lattice | None,
    ) -> None:
        labels, height, width = scores.shape
        lattices = [] if gaussian is None else [(gaussian, self.gaussian_weight)]
        if self.iterations:
            if self.bilateral_weight:
                sigma, sigma_colour = float(self.bilateral_sigma_xy), float(self.bilateral_sigma_rgb)
                features = pixel_features(image, sigma=sigma, sigma_colour=sigma_colour)
                lattices.append((build_lattice(features), self.bilateral_weight))
            for kernel in self.kernels:
                features = _features_of(kernel, index, images, height, width)
                lattices.append((build_lattice(features), kernel.weight))
        kernels = [PairwiseKernel(lattice, self._potential(float(weight), labels)) for lattice, weight in lattices]
        flat, out = scores.reshape(labels, height * width), probs.reshape(labels, height * width)
        mean_field(flat, kernels, iterations=self.iterations, normalisation=self.normalisation, out=out)


def refine(
    image: Any, probs: Float[np.ndarray, "K h w"], *, crf: DenseCRF | None = None
) -> Float32[np.ndarray, "K h w"]:
    """Probabilities of one image after a dense CRF, from those before.

    Args:
        image: uint8 ``(H, W, C)`` with any number of channels, ``(H, W)``, or a PIL image.
        probs: 0 to 1. Of one object, stack background and object: ``np.stack([1 - p, p])``.
        crf: its parameters; the defaults when None.

    Returns:
        They add up to 1 over the labels.

    Raises:
        ArgumentError: when sizes differ, or probabilities are not within 0 to 1.

    Example:
        >>> probs = np.full((2, 4, 4), 0.5, np.float32)
        >>> probs[:, :, 0] = [[0.1], [0.9]]
        >>> float(refine(np.zeros((4, 4, 3), np.uint8), probs)[1].min()) > 0.99
        True
    """
    _check_all_finite("probs", probs)
    least, most = (probs.min(), probs.max()) if probs.size else (0.0, 0.0)
    require(
        least >= 0 and most <= 1,
        "probs",
        "be within 0 to 1",
        f"{least:g} to {most:g}",
        "Logits go to DenseCRF itself, which takes tensors.",
    )
    unary = -np.log(np.maximum(probs, LEAST_PROBABILITY, dtype=np.float32))
    return (crf or DenseCRF()).marginals(image, unary)


def unary_from_labels(
    labels: Integer[np.ndarray, "H W"], num_classes: int, *, gt_prob: float, unknown: int | None = 255
) -> Float32[np.ndarray, "K H W"]:
    """Energies that trust a label map to a degree: of scribbles, or of a prediction without scores.

    Args:
        labels: 0 to ``num_classes - 1``, or ``unknown``.
        num_classes: at least 2.
        gt_prob: the probability that a label is right, between 0 and 1; the other labels share the rest.
        unknown: pixels of this label may be anything; None when there are none.

    Returns:
        Minus the logarithm of each label's probability.

    Raises:
        ArgumentError: for a label out of range, or ``gt_prob`` not between 0 and 1.

    Example:
        >>> np.exp(-unary_from_labels(np.array([[0, 255]]), 2, gt_prob=0.7)).astype(float).round(2).tolist()
        [[[0.7, 0.5]], [[0.3, 0.5]]]
    """
    require(num_classes >= 2, "num_classes", "be at least 2", num_classes, "One class leaves nothing to infer.")
    require(0 < gt_prob < 1, "gt_prob", "be between 0 and 1, both excluded", gt_prob)
    open_pixels = np.zeros(labels.shape, np.bool_) if unknown is None else labels == unknown
    strange = ~open_pixels & ((labels < 0) | (labels >= num_classes))
    if strange.any():
        wrong = int(labels[strange][0])
        require(False, "labels", f"be 0 to {num_classes - 1} or unknown ({unknown})", wrong, "Map the ids first.")
    unary = np.full((num_classes, *labels.shape), -np.log((1 - gt_prob) / (num_classes - 1)), np.float32)
    rows, columns = np.nonzero(~open_pixels)
    unary[labels[rows, columns], rows, columns] = -np.log(gt_prob)
    unary[:, open_pixels] = np.log(num_classes)
    return unary


def _features_of(kernel: FeatureKernel, index: int, images: int, height: int, width: int) -> np.ndarray:
    features = kernel.features
    _check_sizes("features", features.shape[-3:-1], "the image", (height, width))
    if features.ndim == 4:
        require(len(features) == images, "features", f"be of {images} images", len(features), "Pass one set for each.")
        features = features[index]
    return np.asarray(features, np.float32).reshape(height * width, features.shape[-1])


def _check_sizes(first: str, size: tuple[int, ...], second: str, other: tuple[int, ...]) -> None:
    require(
        tuple(size) == tuple(other),
        first,
        f"have the size of {second}, {tuple(other)}",
        tuple(size),
        "Resize one of them; logits to the image, before the CRF.",
    )
    require(min(size) > 0, first, "have at least one pixel", tuple(size))


def _check_finite(name: str, value: float | int) -> None:
    require(bool(np.isfinite(value)), name, "be finite", value)


def _check_all_finite(name: str, values: np.ndarray) -> None:
    # a sum is finite only of finite numbers, and is had faster; one that overflows is looked at again
    with np.errstate(over="ignore", invalid="ignore"):
        whole = values.sum()
    if not np.isfinite(whole):
        wrong = int((~np.isfinite(values)).sum())
        require(wrong == 0, name, "be finite", f"{wrong} NaN or infinite values", "Check the model's output.")


def _check_compatibility(table: np.ndarray) -> None:
    square = table.ndim == 2 and table.shape[0] == table.shape[1]
    require(
        table.ndim == 1 or square,
        "compatibility",
        "be K numbers or K x K costs",
        f"shape {table.shape}",
    )
    _check_all_finite("compatibility", table)
    require(
        table.ndim == 1 or bool((table == table.T).all()),
        "compatibility",
        "be symmetric",
        "costs that depend on the order of two labels",
        "Pass (costs + costs.T) / 2.",
    )


def _tuples(table: np.ndarray) -> tuple[Any, ...]:
    return tuple(table.tolist()) if table.ndim == 1 else tuple(tuple(row) for row in table.tolist())
