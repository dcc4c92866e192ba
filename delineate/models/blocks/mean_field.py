"""The dense CRF as a layer: mean-field iterations that gradients pass, with kernels and compatibilities that learn.

Source: Zheng, Jayasumana, Romera-Paredes, Vineet, Su, Du, Huang, Torr, "Conditional Random Fields as Recurrent Neural
Networks", ICCV 2015; what the paper leaves open (normalisation, starting values, signs) from its released code,
torrvision/crfasrnn. The inference is that of Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with
Gaussian Edge Potentials", NIPS 2011.
Differs: nothing for one image; a batch is worked through image by image, where the release takes batches of one.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from delineate.checks import require
from delineate.errors import ArgumentError
from delineate.ops.permutohedral import Lattice, build_lattice, permutohedral_filter

Number = int | float

_TINY = 1e-20


class MeanField(nn.Module):
    """Iterations of: softmax, a spatial and a bilateral filter, class weights, compatibilities, the logits added.

    ``logits <- unary - compatibility (spatial_weights S q + bilateral_weights B q)``, where q is the softmax of the
    logits, and S and B are Gaussian filters whose rows add up to 1. No gradient reaches the pixels that B compares.

    Args:
        num_classes: of the logits.
        iterations: in training; 5 in the paper, as more make gradients vanish.
        test_iterations: in evaluation; 10 in the paper.
        theta_alpha: standard deviation of the bilateral filter in pixels of distance.
        theta_beta: standard deviation of the bilateral filter in grey levels, of 0..255.
        theta_gamma: standard deviation of the spatial filter in pixels of distance.
        spatial_weight: what ``spatial_weights`` starts with on its diagonal, the rest at 0.
        bilateral_weight: what ``bilateral_weights`` starts with on its diagonal, the rest at 0.

    Raises:
        ArgumentError: when a number of iterations is below 1 or a standard deviation not above 0.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        iterations: int = 5,
        test_iterations: int = 10,
        theta_alpha: Number = 160.0,
        theta_beta: Number = 3.0,
        theta_gamma: Number = 3.0,
        spatial_weight: Number = 3.0,
        bilateral_weight: Number = 5.0,
    ) -> None:
        super().__init__()
        for name, count in (("iterations", iterations), ("test_iterations", test_iterations)):
            require(isinstance(count, int) and count >= 1, name, "be a whole number, at least 1", count)
        for name, sigma in (
            ("theta_alpha", theta_alpha),
            ("theta_beta", theta_beta),
            ("theta_gamma", theta_gamma),
        ):
            require(0 < sigma < float("inf"), name, "be above 0", sigma)
        self.num_classes = num_classes
        self.iterations = iterations
        self.test_iterations = test_iterations
        self.theta_alpha = float(theta_alpha)
        self.theta_beta = float(theta_beta)
        self.theta_gamma = float(theta_gamma)
        self.spatial_weights = nn.Parameter(spatial_weight * torch.eye(num_classes))
        self.bilateral_weights = nn.Parameter(bilateral_weight * torch.eye(num_classes))
        self.compatibility = nn.Parameter(-torch.eye(num_classes))  # Potts: equal neighbours please each other

    def forward(self, unary: Float[Tensor, "B K H W"], pixels: Float[Tensor, "_ C _ _"]) -> Float[Tensor, "B K H W"]:
        """The logits after the last iteration; their softmax is the CRF's marginal probability.

        Args:
            unary: logits of a segmenter; float32, or float64 for exact gradients. Lower precisions become float32.
            pixels: the image, 0..255, with any number of channels.

        Raises:
            ArgumentError: when sizes differ, pixels are not finite, or the layer is being exported.
        """
        if torch.compiler.is_exporting():
            raise ArgumentError(
                "model must have no permutohedral lattice to be exported; got a CRF as a layer: how many lattice "
                "points there are, and which are neighbours, depends on the values of the pixels, and a graph of fixed "
                "operators cannot say so. Export its segmenter, and refine what that predicts with the dense CRF."
            )
        require(
            unary.shape[0] == pixels.shape[0] and unary.shape[2:] == pixels.shape[2:],
            "pixels",
            f"be of the batch and size of unary, {(unary.shape[0], *unary.shape[2:])}",
            (pixels.shape[0], *pixels.shape[2:]),
        )
        kind = "cpu" if unary.is_meta else unary.device.type  # shapes alone have no autocast
        with torch.autocast(kind, enabled=False):
            unary = unary.to(torch.promote_types(unary.dtype, torch.float32))
            pixels = pixels.detach().to(unary.dtype)
            places = _places(unary)
            spatial = _Filter(places / self.theta_gamma)
            refined = []
            for scores, image in zip(unary.flatten(2).mT, pixels.flatten(2).mT, strict=True):
                bilateral = _Filter(torch.cat([places / self.theta_alpha, image / self.theta_beta], dim=1))
                refined.append(self._refined(scores, spatial, bilateral))
            return torch.stack(refined).mT.unflatten(2, unary.shape[2:])

    def _refined(self, unary: Float[Tensor, "N K"], spatial: _Filter, bilateral: _Filter) -> Float[Tensor, "N K"]:
        logits = unary
        for _ in range(self.iterations if self.training else self.test_iterations):
            probs = logits.softmax(dim=1)
            messages = spatial(probs) @ self.spatial_weights.mT + bilateral(probs) @ self.bilateral_weights.mT
            logits = unary - messages @ self.compatibility.mT
        return logits


class _Filter:
    """A Gaussian filter over points, normalised so that constants stay what they are."""

    def __init__(self, features: Float[Tensor, "N D"]) -> None:
        self.lattice: Lattice = build_lattice(features)
        total = permutohedral_filter(features.new_ones(len(features), 1), self.lattice)
        self.scale = 1 / (total + _TINY)

    def __call__(self, values: Float[Tensor, "N C"]) -> Float[Tensor, "N C"]:
        return permutohedral_filter(values, self.lattice) * self.scale


def _places(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "N 2"]:
    """Column and row of every pixel, row by row."""
    rows, columns = (torch.arange(side, dtype=images.dtype, device=images.device) for side in images.shape[2:])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
