"""3 x 3 convolutions on the CPU with fewer multiplications, against torch's own, in the format that "auto" means.

Maps are channels last for both, as the networks here make them. What a processor reaches in torch's own, in GFLOP/s, is
near the limit of its units: what is gained comes from multiplying less. Run as ``python -m bench.convolution``.
"""

from __future__ import annotations

import torch
from torch import nn

from bench.timing import Comparison, compare
from delineate.engine.precision import autocast_dtype, resolve_precision
from delineate.engine.winograd import WinogradConv2d, winograd_pays

# channels in and out, height and width: of VGG16 at 300 x 300, and of a pyramid's and a ResNet's maps at 480 x 640
SHAPES = (
    (32, 32, 120, 160),
    (48, 48, 120, 160),
    (64, 64, 300, 300),
    (64, 64, 120, 160),
    (128, 128, 150, 150),
    (128, 128, 60, 80),
    (256, 256, 75, 75),
    (256, 256, 60, 80),
    (256, 720, 60, 80),
    (256, 256, 15, 20),
    (256, 256, 8, 10),
    (512, 512, 38, 38),
    (512, 512, 15, 20),
)


@torch.inference_mode()
def main(runs: int = 9) -> list[float]:
    """Print a row a shape; returns how many times faster each is."""
    ratios = []
    dtype = autocast_dtype(resolve_precision("auto")) or torch.float32
    exact = {torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    print(f"{dtype}; a predictor uses Winograd's here: {'yes' if winograd_pays(dtype) else 'no'}")
    print(f"{'channels':>12} {'map':>10} {'torch':>20} {'Winograd':>10} {'ratio':>7} {'largest error':>14}")
    for channels, results, height, width in SHAPES:
        torch.manual_seed(0)
        plain = nn.Conv2d(channels, results, 3, padding=1).to(memory_format=torch.channels_last)
        ours = WinogradConv2d(plain, dtype)
        plain = plain.to(dtype)
        images = torch.randn(1, channels, height, width).to(dtype=dtype, memory_format=torch.channels_last)
        expected = plain(images)
        error = float((ours(images) - expected).abs().max() / expected.abs().max())
        if error > exact:
            raise SystemExit("the two sides differ")
        measured: Comparison = compare(lambda: ours(images), lambda: plain(images), runs=runs, warmup=2)  # noqa: B023
        speed = 2 * 9 * channels * results * height * width / measured.peer / 1e9
        ratios.append(measured.ratio)
        print(
            f"{channels:5} to {results:3} {height:4} x {width:3} {measured.peer * 1e3:6.1f} ms {speed:4.0f} GFLOP/s "
            f"{measured.ours * 1e3:7.1f} ms {measured.ratio:6.2f}x {error:14.1e}"
        )
    return ratios


if __name__ == "__main__":
    main()
