"""Recurrent networks that sweep a feature along its columns and rows, so that every pixel knows the whole image."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.checks import require


class BidirectionalGRU(nn.Module):
    """Gated recurrent units that read sequences forwards and backwards.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014.
    Differs: PyTorch's unit resets the previous state after its matrix, as cuDNN's and Lasagne's do. While a model is
    exported, the same weights are written as one ONNX ``GRU``: PyTorch's exporter would unroll the steps, for one
    length alone.

    Args:
        in_channels: of each step.
        channels: of the state of each direction; twice as many are returned.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.recurrence = nn.GRU(in_channels, channels, bidirectional=True)
        # orthogonal recurrent matrices neither fade nor blow up what a sweep carries across an image
        for name, parameter in self.recurrence.named_parameters():
            if "bias" in name:
                nn.init.zeros_(parameter)
                continue
            for gate in parameter.chunk(3):
                if gate.is_meta:
                    continue  # nothing to draw, and orthogonal_ would have to decompose it
                nn.init.orthogonal_(gate) if "hh" in name else nn.init.xavier_uniform_(gate)

    def forward(self, sequences: Float[Tensor, "L N C"]) -> Float[Tensor, "L N D"]:
        """The states after each step: forwards in the first half of the channels, backwards in the second."""
        if torch.onnx.is_in_onnx_export():
            return self._as_onnx(sequences)
        states, _ = self.recurrence(sequences)
        return states

    def _as_onnx(self, sequences: Tensor) -> Tensor:
        sides: list[list[Tensor]] = [[], [], []]
        for suffix in ("", "_reverse"):
            parts = {
                name: self._update_gate_first(getattr(self.recurrence, f"{name}_l0{suffix}"))
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            }
            sides[0].append(parts["weight_ih"])
            sides[1].append(parts["weight_hh"])
            sides[2].append(torch.cat([parts["bias_ih"], parts["bias_hh"]]))
        length, count, _ = sequences.shape
        states: Tensor = torch.onnx.ops.symbolic(
            "GRU",
            [sequences, *(torch.stack(side) for side in sides)],
            {"direction": "bidirectional", "hidden_size": self.channels, "linear_before_reset": 1},
            dtype=sequences.dtype,
            shape=(length, 2, count, self.channels),
        )  # L 2 N D
        return states.permute(0, 2, 1, 3).flatten(2)

    @staticmethod
    def _update_gate_first(parameter: Tensor) -> Tensor:
        """ONNX's order of the gates: update, reset, new; PyTorch's has the reset gate first."""
        reset, update, new = parameter.chunk(3)
        return torch.cat([update, reset, new])


class RecurrentSweep(nn.Module):
    """A ReNet layer: each column read down and up, then each row of what came out, to the right and to the left.

    After the first sweep a pixel knows its column, after the second the whole image.

    Source: Visin et al., "ReNet: A Recurrent Neural Network Based Alternative to Convolutional Networks",
    arXiv:1505.00393, section 2.
    Differs: a feature whose size the patch does not divide is continued with zeros, as in the release.

    Args:
        in_channels: taken.
        channels: of each direction; twice as many are returned.
        patch_size: side of the squares of pixels that are one step each; the size shrinks by it.

    Raises:
        ArgumentError: when a number is below 1.

    Example:
        >>> sweep = RecurrentSweep(8, 5, patch_size=2)
        >>> tuple(sweep(torch.zeros(1, 8, 7, 10)).shape)
        (1, 10, 4, 5)
    """

    def __init__(self, in_channels: int, channels: int, *, patch_size: int = 1) -> None:
        super().__init__()
        require(channels >= 1, "channels", "be at least 1", channels)
        require(patch_size >= 1, "patch_size", "be at least 1", patch_size)
        self.patch_size = patch_size
        self.out_channels = 2 * channels
        self.columns = BidirectionalGRU(in_channels * patch_size**2, channels)
        self.rows = BidirectionalGRU(2 * channels, channels)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """States of both directions, at the size divided by the patch's, rounded up."""
        if self.patch_size > 1:
            height, width = features.shape[-2:]
            padded = F.pad(features, (0, -width % self.patch_size, 0, -height % self.patch_size))
            features = F.pixel_unshuffle(padded, self.patch_size)
        downwards = self._swept(self.columns, features.permute(2, 0, 3, 1))  # H B W D
        sideways = self._swept(self.rows, downwards.permute(2, 1, 0, 3))  # W B H D
        return sideways.permute(1, 3, 2, 0)

    @staticmethod
    def _swept(recurrence: BidirectionalGRU, steps: Float[Tensor, "L B M C"]) -> Float[Tensor, "L B M D"]:
        states: Tensor = recurrence(steps.flatten(1, 2))
        return states.unflatten(1, steps.shape[1:3])
