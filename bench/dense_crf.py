"""Dense CRF of two images with 21 labels and 5 iterations, against pydensecrf's published time and against the memory.

pydensecrf no longer builds where Python and Cython are recent, so its side is a figure: 0.66 s for 375 x 500 and 8.2 s
for 1024 x 2048 pixels, on one core of a processor like the one this was written on. The images are a photograph from
scikit-learn, which decides how many lattice points there are; the logits are smooth blobs under noise.

The floor is what must pass through memory: logits, corners and weights once in each of 6 visits. ``--stages`` measures
each part of the work by itself, in processor seconds of one thread. Run as ``python -m bench.dense_crf``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from bench.confusion_matrix import read_bandwidth
from bench.timing import seconds
from delineate.kernels import mean_field, permutohedral, simplices
from delineate.kernels.threads import available_processors
from delineate.postprocess.dense_crf import DenseCRF

GOAL = 5.0
PEER_SECONDS = {(375, 500): 0.66, (1024, 2048): 8.2}
LABELS, VISITS, CORNERS = 21, 6, 3 + 6
STAGES = (
    (simplices, ("_embed", "_join", "_look_around")),
    (permutohedral, ("_sort", "_gather", "_blur", "_splat_ones", "_slice_ones")),
    (mean_field, ("_place", "_interleave", "_shift", "_scale", "_spread", "_visit", "_separate")),
)


def scene(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph of that size, and logits of blobs about 25 pixels wide under noise."""
    generator = np.random.default_rng(0)
    photo = Image.fromarray(load_sample_image("china.jpg")).resize((width, height), Image.Resampling.BICUBIC)
    coarse = torch.from_numpy(generator.normal(0, 2, (1, LABELS, height // 25 + 1, width // 25 + 1)))
    blobs = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.from_numpy(generator.normal(0, 1, blobs.shape))
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None], (blobs + noise).float()


def stages(work: Callable[[], object], runs: int) -> dict[str, float]:
    """Least processor seconds of each kernel within the work, on one thread."""
    spent: dict[str, float] = {}

    def timed(name: str, kernel: Callable) -> Callable:
        def call(*arguments: object) -> object:
            start = time.thread_time()
            result = kernel(*arguments)
            spent[name] = spent.get(name, 0.0) + time.thread_time() - start
            return result

        return call

    least: dict[str, float] = {}
    patches = [
        patch.object(module, name, timed(name, getattr(module, name))) for module, names in STAGES for name in names
    ]
    with patch("delineate.kernels.threads.thread_count", lambda: 1):
        for each in patches:
            each.start()
        for _ in range(runs):
            spent.clear()
            start = time.thread_time()
            work()
            spent["all"] = time.thread_time() - start
            least = {name: min(value, least.get(name, value)) for name, value in spent.items()}
        for each in patches:
            each.stop()
    return least


def main(*, runs: int = 7, parts: bool = False) -> float:
    """Print the table; returns the smallest ratio on two threads."""
    crf, ratios = DenseCRF(), []
    print(f"dense CRF, {LABELS} labels, 5 iterations, Gaussian and bilateral kernels, best of {runs}:")
    for (height, width), peer in PEER_SECONDS.items():
        images, logits = scene(height, width)
        crf(images[..., :8, :8], logits[..., :8, :8])  # compiles
        work = partial(crf, images, logits)
        for threads in (1, 2):
            if threads > available_processors():
                continue
            with patch("delineate.kernels.threads.thread_count", lambda threads=threads: threads):
                best = min(seconds(work) for _ in range(runs))
                moved = VISITS * height * width * 4 * (permutohedral.padded(LABELS) + 2 * CORNERS)
                with patch("bench.confusion_matrix.thread_count", lambda threads=threads: threads):
                    floor = moved / read_bandwidth()
            print(
                f"  {height} x {width}, {threads} thread(s): {best * 1e3:7.1f} ms, {height * width / best / 1e6:5.2f} "
                f"Mpixel/s; pydensecrf {peer * 1e3:.0f} ms, {peer / best:4.1f} x (goal {GOAL:g} x on 2); "
                f"floor {floor * 1e3:.1f} ms"
            )
            if threads == 2:
                ratios.append(peer / best)
        if parts:
            found = stages(work, runs)
            print("    " + ", ".join(f"{name.lstrip('_')} {value * 1e3:.1f}" for name, value in found.items()), "ms")
    return min(ratios, default=float("nan"))


if __name__ == "__main__":
    main(parts="--stages" in sys.argv)
