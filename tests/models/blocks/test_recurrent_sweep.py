from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from delineate.errors import ArgumentError
from delineate.models.blocks.recurrent_sweep import BidirectionalGRU, RecurrentSweep


def stepped(gru: nn.GRU, sequence: Tensor) -> Tensor:
    """The two directions of one sequence L x C, a cell at a time."""
    sides = []
    for suffix in ("", "_reverse"):
        cell = nn.GRUCell(gru.input_size, gru.hidden_size).to(sequence.dtype)
        cell.load_state_dict(
            {name: getattr(gru, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        )
        steps = sequence if not suffix else sequence.flip(0)
        state = sequence.new_zeros(1, gru.hidden_size)
        states = []
        for step in steps:
            state = cell(step[None], state)
            states.append(state[0])
        sides.append(torch.stack(states if not suffix else states[::-1]))
    return torch.cat(sides, 1)


@pytest.mark.parametrize("patch", [1, 2, 3])
@torch.no_grad()
def test_equals_cells_stepped_along_each_column_then_each_row(patch: int) -> None:
    sweep = RecurrentSweep(3, 4, patch_size=patch).double()
    for parameter in sweep.parameters():
        parameter.normal_(std=0.5)
    features = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    height, width = -(-5 // patch), -(-7 // patch)
    padded = torch.zeros(2, 3, height * patch, width * patch, dtype=torch.float64)
    padded[:, :, :5, :7] = features
    expected = torch.empty(2, 8, height, width, dtype=torch.float64)
    for image in range(2):
        squares = torch.stack(
            [
                torch.stack(
                    [
                        padded[image, :, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].flatten()
                        for x in range(width)
                    ]
                )
                for y in range(height)
            ]
        )  # h w C
        columns = torch.stack([stepped(sweep.columns.recurrence, squares[:, x]) for x in range(width)], 1)
        for y in range(height):
            expected[image, :, y] = stepped(sweep.rows.recurrence, columns[y]).T
    torch.testing.assert_close(sweep(features), expected, rtol=1e-12, atol=1e-12)


def test_every_pixel_sees_the_whole_feature() -> None:
    sweep = RecurrentSweep(2, 3).double()
    features = torch.randn(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    for row, column in ((0, 0), (3, 2), (5, 4)):
        (gradient,) = torch.autograd.grad(sweep(features)[0, :, row, column].sum(), features)
        assert (gradient.abs().sum(1) > 0).all()


@torch.no_grad()
def test_mirroring_the_feature_and_the_directions_mirrors_the_result() -> None:
    sweep, mirrored = RecurrentSweep(3, 4), RecurrentSweep(3, 4)
    mirrored.load_state_dict(sweep.state_dict())
    for name, value in sweep.rows.recurrence.named_parameters():
        other = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
        getattr(mirrored.rows.recurrence, other).copy_(value)
    features = torch.randn(1, 3, 5, 6)
    forwards, backwards = mirrored(features.flip(3)).flip(3).chunk(2, 1)
    torch.testing.assert_close(torch.cat([backwards, forwards], 1), sweep(features))


def test_recurrent_matrices_start_orthogonal() -> None:
    gru = BidirectionalGRU(3, 6).recurrence
    for gate in (*gru.weight_hh_l0.chunk(3), *gru.weight_hh_l0_reverse.chunk(3)):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert not gru.bias_ih_l0.any()


def test_one_pixel_and_meta_tensors() -> None:
    assert RecurrentSweep(2, 3, patch_size=2)(torch.randn(1, 2, 1, 1)).shape == (1, 6, 1, 1)
    with torch.device("meta"):
        assert RecurrentSweep(2, 3)(torch.zeros(2, 2, 4, 5)).shape == (2, 6, 4, 5)


def test_errors() -> None:
    with pytest.raises(ArgumentError, match="channels must be at least 1; got 0"):
        RecurrentSweep(2, 0)
    with pytest.raises(ArgumentError, match="patch_size must be at least 1; got 0"):
        RecurrentSweep(2, 2, patch_size=0)
