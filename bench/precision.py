"""How fast this processor convolves in each number format and memory order: what ``precision: auto`` rests on."""

from __future__ import annotations

import torch
from torch import nn

from bench.timing import seconds
from delineate.engine.precision import has_amx, resolve_precision


def throughput(dtype: torch.dtype, memory_format: torch.memory_format, *, channels: int, size: int) -> float:
    """TFLOP/s of a 3x3 convolution, forward and backward, batch 8."""
    convolution = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype).to(memory_format=memory_format)
    images = torch.randn(8, channels, size, size, dtype=dtype).contiguous(memory_format=memory_format).requires_grad_()

    def step() -> None:
        outputs = convolution(images)
        outputs.backward(torch.ones_like(outputs))

    step()
    fastest = min(seconds(step) for _ in range(7))
    return 3 * 2 * 8 * channels * channels * 9 * size * size / fastest / 1e12


def main() -> dict[str, float]:
    """Print TFLOP/s for each combination."""
    results = {}
    found = {"AMX": has_amx(), "AVX512-BF16": torch.cpu._is_avx512_bf16_supported()}
    units = ", ".join(f"{unit}: {'yes' if there else 'no'}" for unit, there in found.items())
    print(f"{units}; precision auto means {resolve_precision('auto')} here")
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        for memory_format, order in ((torch.contiguous_format, "NCHW"), (torch.channels_last, "NHWC")):
            speeds = [throughput(dtype, memory_format, channels=c, size=s) for c, s in ((64, 104), (256, 40))]
            results[f"{name} {order}"] = sum(speeds) / len(speeds)
            print(
                f"3x3 convolution, forward + backward, {name:9} {order}: "
                f"{speeds[0]:.2f} (64 channels) {speeds[1]:.2f} (256 channels) TFLOP/s"
            )
    return results


if __name__ == "__main__":
    main()
