"""The tensor lattice against a dictionary, against the compiled one, and against the Gaussian it stands for."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from delineate.errors import ArgumentError
from delineate.kernels import permutohedral as kernels
from delineate.ops.permutohedral import (
    TensorLattice,
    build_lattice,
    permutohedral_filter,
    splat_blur_slice,
    tensor_lattice,
)


def slow_filter(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Adams et al., section 3, one point at a time, lattice points as keys of a dictionary."""
    dimensions = features.shape[1]
    corners = dimensions + 1
    embedded = []
    for point in features:
        scaled = [x * math.sqrt(2 / 3) * corners / math.sqrt((i + 1) * (i + 2)) for i, x in enumerate(point.tolist())]
        elevated = [sum(scaled[k:]) - (k * scaled[k - 1] if k else 0) for k in range(corners)]
        # among the remainder-0 points around, the simplex's own has residuals within D + 1 of each other
        base = [corners * math.floor(x / corners) for x in elevated]
        for shift in product((0, corners), repeat=corners):
            start = [b + s for b, s in zip(base, shift, strict=True)]
            residual = [x - s for x, s in zip(elevated, start, strict=True)]
            if sum(start) == 0 and max(residual) - min(residual) <= corners + 1e-9:
                break
        down = sorted(range(corners), key=lambda k, r=residual: -r[k])
        gaps = [residual[a] - residual[b] for a, b in pairwise(down)]
        weights = [gap / corners for gap in gaps]
        weights.append(1 - sum(weights))  # of the start itself, which is also the last corner reached
        here, own = list(start), {}
        own[tuple(here)] = weights[-1]
        for place, weight in enumerate(weights[:-1]):
            here = [x - 1 for x in here]
            here[down[place]] += corners
            own[tuple(_climbed(start, down[: place + 1], corners))] = weight
        embedded.append(own)
    table: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(values.shape[1]))
    for own, value in zip(embedded, values, strict=True):
        for key, weight in own.items():
            table[key] = table[key] + weight * value
    for axis in range(corners):
        old = dict(table)
        nothing = np.zeros(values.shape[1])
        for key in old:
            step = [corners - 1 if k == axis else -1 for k in range(corners)]
            after, before = (tuple(x + sign * s for x, s in zip(key, step, strict=True)) for sign in (1, -1))
            table[key] = old[key] + (old.get(after, nothing) + old.get(before, nothing)) / 2
    gain = 1 / (1 + 2.0**-dimensions)
    return gain * np.array([sum(weight * table[key] for key, weight in own.items()) for own in embedded])


def _climbed(start: list[int], raised: list[int], corners: int) -> list[int]:
    """The corner reached from ``start`` by one step along each of the axes in ``raised``."""
    return [x - len(raised) + (corners if k in raised else 0) for k, x in enumerate(start)]


def pixels_of(size: tuple[int, int], *, sigma_xy: float, sigma_rgb: float) -> torch.Tensor:
    """Features of a picture with two flat halves and some noise."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    colour = (columns * 2 // size[1])[..., None] * torch.tensor([90.0, 40.0, 10.0]) + torch.rand(*size, 3) * 20
    places = torch.stack([columns, rows], dim=-1) / sigma_xy
    return torch.cat([places, colour / sigma_rgb], dim=-1).flatten(0, 1)


@pytest.mark.parametrize(("points", "dimensions"), [(1, 1), (40, 1), (60, 2), (50, 3), (40, 5)])
def test_equals_a_dictionary_of_lattice_points(points, dimensions):
    features = torch.randn(points, dimensions, dtype=torch.float64)
    values = torch.randn(points, 3, dtype=torch.float64)
    found = permutohedral_filter(values, build_lattice(features))
    np.testing.assert_allclose(found.numpy(), slow_filter(features.numpy(), values.numpy()), atol=1e-10)


@pytest.mark.parametrize(("points", "dimensions"), [(0, 2), (1, 3), (500, 2), (700, 5), (300, 12)])
def test_both_lattices_give_one_answer(points, dimensions):
    features, values = torch.randn(points, dimensions) * 2, torch.rand(points, 7)
    compiled, tensors = build_lattice(features), tensor_lattice(features)
    assert isinstance(compiled, kernels.Lattice)
    assert compiled.neighbours.shape == tensors.neighbours.shape
    one, other = permutohedral_filter(values, compiled), permutohedral_filter(values, tensors)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_both_lattices_agree_on_a_picture():
    features, values = pixels_of((24, 31), sigma_xy=8.0, sigma_rgb=13.0), torch.rand(24 * 31, 4)
    one = permutohedral_filter(values, build_lattice(features))
    other = permutohedral_filter(values, tensor_lattice(features))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_weights_are_barycentric_and_neighbours_mutual():
    lattice = tensor_lattice(torch.randn(200, 4, dtype=torch.float64))
    assert (lattice.weights >= -1e-12).all()
    torch.testing.assert_close(lattice.weights.sum(1), torch.ones(200, dtype=torch.float64))
    missing = lattice.neighbours.shape[1]
    assert set(lattice.vertices.unique().tolist()) == set(range(missing))
    for axis in lattice.neighbours:
        before, behind = axis.unbind(1)
        known = behind < missing
        assert torch.equal(before[behind[known]], torch.arange(missing)[known])


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_gradient_is_the_adjoint(kind):
    lattice = build_lattice(torch.randn(80, 3, dtype=kind))
    x, y = torch.randn(80, 2, dtype=kind, requires_grad=True), torch.randn(80, 2, dtype=kind, requires_grad=True)
    forward = permutohedral_filter(x, lattice)
    (back,) = torch.autograd.grad((forward * y).sum(), x, create_graph=True)
    torch.testing.assert_close((forward * y).sum(), (x * back).sum())
    again = torch.autograd.grad((back * x.detach()).sum(), y)[0]  # back is the adjoint of y: its own adjoint is forward
    torch.testing.assert_close(again, forward.detach())


def test_the_gradient_is_that_of_plain_autograd():
    lattice = tensor_lattice(torch.randn(50, 4, dtype=torch.float64))
    values = torch.randn(50, 3, dtype=torch.float64, requires_grad=True)
    target = torch.randn(50, 3, dtype=torch.float64)
    own = torch.autograd.grad((permutohedral_filter(values, lattice) * target).sum(), values)[0]
    plain = torch.autograd.grad((splat_blur_slice(values, lattice) * target).sum(), values)[0]
    torch.testing.assert_close(own, plain)
    assert torch.autograd.gradcheck(lambda v: permutohedral_filter(v, lattice), (values,))
    # the order of the axes matters where lattice points are missing, so the filter is not its own adjoint
    assert not torch.allclose(splat_blur_slice(target, lattice), own)


def test_a_dense_grid_is_blurred_like_a_gaussian():
    """Where lattice points lie all around, the normalised filter is near the exact Gaussian."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    places = torch.stack([columns, rows], dim=-1).flatten(0, 1) / 3
    exact = torch.exp(-torch.cdist(places, places).square() / 2)
    values = torch.rand(1600, 1)
    lattice = build_lattice(places)
    found = permutohedral_filter(values, lattice) / permutohedral_filter(torch.ones(1600, 1), lattice)
    wanted = exact @ values / exact.sum(1, keepdim=True)
    assert (found - wanted).abs().mean() < 0.01
    assert (found - wanted).abs().max() < 0.05


def test_moving_all_points_along_the_lattice_changes_nothing():
    features, values = torch.rand(30, 1, dtype=torch.float64), torch.rand(30, 2, dtype=torch.float64)
    step = 2 / (math.sqrt(2 / 3) * 2 / math.sqrt(2))  # to the lattice point (2, -2)
    one = permutohedral_filter(values, build_lattice(features))
    other = permutohedral_filter(values, build_lattice(features + step))
    torch.testing.assert_close(one, other)


def test_order_of_points_does_not_matter():
    features, values = torch.randn(60, 3, dtype=torch.float64), torch.rand(60, 2, dtype=torch.float64)
    order = torch.randperm(60)
    one = permutohedral_filter(values, build_lattice(features))
    other = permutohedral_filter(values[order], build_lattice(features[order]))
    torch.testing.assert_close(one[order], other)


def test_far_points_do_not_see_each_other():
    features = torch.tensor([[0.0, 0.0], [0.2, 0.1], [40.0, 0.0]])
    found = permutohedral_filter(torch.eye(3), build_lattice(features))
    assert found[0, 1] > 0.3
    assert not found[2, :2].any()
    assert not found[:2, 2].any()


def test_shapes_are_known_without_values():
    lattice = build_lattice(torch.empty(10, 3, device="meta"))
    assert isinstance(lattice, TensorLattice)
    values = torch.empty(10, 2, device="meta", requires_grad=True)
    found = permutohedral_filter(values, lattice)
    assert found.is_meta
    assert found.shape == (10, 2)
    found.sum().backward()
    assert values.grad.shape == (10, 2)


@pytest.mark.gpu
def test_a_gpu_gives_the_same():
    features, values = torch.randn(500, 5), torch.rand(500, 4)
    found = permutohedral_filter(values.cuda(), build_lattice(features.cuda())).cpu()
    torch.testing.assert_close(found, permutohedral_filter(values, build_lattice(features)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), 1e7])
def test_features_without_a_place_are_refused(strange):
    with pytest.raises(ArgumentError, match="features must be finite and at most 1e"):
        build_lattice(torch.tensor([[0.0, strange]]))


def test_values_that_do_not_belong_to_the_lattice_are_refused():
    lattice = build_lattice(torch.zeros(4, 2))
    with pytest.raises(ArgumentError, match="values must have a row for each of the lattice's 4 points; got 3"):
        permutohedral_filter(torch.zeros(3, 1), lattice)
    with pytest.raises(ArgumentError, match=r"values must be torch.float32 on cpu, .*; got torch.float64 on cpu"):
        permutohedral_filter(torch.zeros(4, 1, dtype=torch.float64), lattice)
