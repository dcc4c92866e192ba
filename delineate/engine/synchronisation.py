"""What processes must agree on to compute what one process would: sums, means and batch statistics."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import batch_norm


def world_size() -> int:
    """The number of processes that train together; 1 when there is no process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum over processes; its gradient is summed over processes too, since each one's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes, differentiable; ``value`` itself when there is one."""
    if world_size() == 1:
        return value
    total: Tensor = _SumOverProcesses.apply(value)
    return total


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of ``value`` over all processes, differentiable.

    A loss divided by the mean of its denominators, averaged over processes as gradients are, equals the loss of all
    samples together, however the ignored pixels are spread.
    """
    return sum_over_processes(value) / world_size() if world_size() > 1 else value


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the batches of all processes, on any device.

    Same parameters and buffers as ``BatchNorm2d``, so weights pass both ways. torch's SyncBatchNorm runs on GPUs only.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalised activations ``(B, C, H, W)``."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        values = input.float()
        local = torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
        count = torch.full((1,), float(values.numel() // values.shape[1]), device=values.device)
        total = sum_over_processes(torch.cat([local.flatten(), count]))
        features, number = self.num_features, total[-1]
        mean = total[:features] / number
        variance = (total[features : 2 * features] / number - mean.square()).clamp_min(0)
        counted = self.num_batches_tracked
        if self.running_mean is not None and self.running_var is not None and counted is not None:
            with torch.no_grad():
                counted.add_(1)
                share = self.momentum if self.momentum is not None else 1.0 / float(counted)
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * (number / (number - 1).clamp_min(1)), share)
        scale = torch.rsqrt(variance + self.eps)
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        return (values * scale[:, None, None] + shift[:, None, None]).to(input.dtype)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """``model`` with every plain ``BatchNorm2d`` counting over all processes; weights and names stay.

    Subclasses that add an activation (timm's ``BatchNormAct2d``) keep it.
    """
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SynchronisedBatchNorm2d
        elif isinstance(module, nn.BatchNorm2d) and hasattr(module, "act"):
            module.__class__ = _SynchronisedBatchNormAct2d
    return model


class _SynchronisedBatchNormAct2d(SynchronisedBatchNorm2d):
    """timm's normalisation with its activation behind it."""

    def forward(self, input: Tensor) -> Tensor:
        normalised = (
            super().forward(input)
            if self.training
            else batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        )
        activated: Tensor = self.act(self.drop(normalised))  # type: ignore[operator]
        return activated
