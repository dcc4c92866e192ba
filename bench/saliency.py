"""All saliency measures of 400x300 maps: delineate on one thread and on two against PySODMetrics, in one run.

The maps are soft everywhere and nowhere zero, which is the worst case: rows of zeros need no distances. Both sides get
the same bytes and must agree before they are timed. The floor is what reading map and mask once must take; the measures
themselves need the map some ten times over, and a distance transform, so it is a limit of the memory and not a goal.
Run as ``python -m bench.saliency``.
"""

from __future__ import annotations

import sys
import warnings
from unittest.mock import patch

import numpy as np
import torch

from bench.confusion_matrix import read_bandwidth
from bench.timing import compare
from delineate.kernels.threads import available_processors
from delineate.metrics.saliency import image_saliency, saliency_scores
from delineate.metrics.saliency_metric import SaliencyScores

GOAL = 8.0
IMAGES, HEIGHT, WIDTH = 8, 300, 400


def blurred(field: np.ndarray, passes: int) -> np.ndarray:
    """Three-pixel means along both axes, round the edge."""
    for _ in range(passes):
        for axis in (0, 1):
            field = (np.roll(field, 1, axis) + field + np.roll(field, -1, axis)) / 3
    return field


def maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Wavy blobs (about an eighth of the image), and a soft map of them that is shifted and noisy."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    target = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(3):
        row, column = generator.uniform(0.2, 0.8, 2) * (HEIGHT, WIDTH)
        tall, wide = generator.uniform(20, 80, 2)
        wave = 1 + 0.2 * np.sin(5 * np.arctan2(rows - row, columns - column))
        target |= ((rows - row) / tall) ** 2 + ((columns - column) / wide) ** 2 < wave
    noise = blurred(generator.random((HEIGHT, WIDTH)), 4)
    soft = blurred(np.roll(target, 6, axis=1) * 0.8 + noise * 0.2, 10)
    return (255 * soft.clip(0, 1)).astype(np.uint8), target


def main(runs: int = 7) -> float:
    """Print the table; returns how many times faster one thread is."""
    try:
        import py_sod_metrics as peer
    except ImportError:
        sys.exit("bench.saliency needs PySODMetrics: pip install pysodmetrics")
    pairs = [maps(seed) for seed in range(IMAGES)]
    prediction, target = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
    grey = [(prediction, target.astype(np.uint8) * 255) for prediction, target in pairs]

    def one_thread() -> dict:
        return saliency_scores(image_saliency(prediction, target) for prediction, target in pairs)

    def two_threads() -> dict:
        scores = SaliencyScores()
        with patch("delineate.metrics.saliency_metric.thread_count", lambda: 2):
            scores.update(prediction, target)
        return scores.compute()

    def theirs() -> dict:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mae, f, weighted, structure, e = (
                peer.MAE(),
                peer.Fmeasure(),
                peer.WeightedFmeasure(),
                peer.Smeasure(),
                peer.Emeasure(),
            )
        for prediction, target in grey:
            for measure in (mae, f, weighted, structure, e):
                measure.step(pred=prediction, gt=target)
        f_results, e_results = f.get_results(), e.get_results()["em"]
        return {
            "mae": mae.get_results()["mae"],
            "max_f": f_results["fm"]["curve"].max(),
            "mean_f": f_results["fm"]["curve"].mean(),
            "adaptive_f": f_results["fm"]["adp"],
            "weighted_f": weighted.get_results()["wfm"],
            "s_measure": structure.get_results()["sm"],
            "max_e": e_results["curve"].max(),
            "mean_e": e_results["curve"].mean(),
            "adaptive_e": e_results["adp"],
            "precision": f_results["pr"]["p"],
            "recall": f_results["pr"]["r"],
        }

    expected = theirs()
    for found in (one_thread(), two_threads()):
        if not all(np.allclose(found[name], value, rtol=0, atol=1e-9) for name, value in expected.items()):
            raise SystemExit("delineate and PySODMetrics differ")
    floor = 2 * HEIGHT * WIDTH / read_bandwidth()
    print(f"saliency measures, {IMAGES} maps of {WIDTH}x{HEIGHT}, equal to 1e-9, median of {runs}; per image:")
    ratios = []
    for threads, ours in ((1, one_thread), (2, two_threads)):
        if threads <= available_processors():
            result = compare(ours, theirs, runs=runs)
            ratios.append(result.ratio)
            milliseconds = [1e3 * seconds / IMAGES for seconds in (result.ours, result.peer)]
            print(
                f"  {threads} thread(s) {milliseconds[0]:6.2f} ms   PySODMetrics {milliseconds[1]:6.2f} ms   "
                f"{result.ratio:5.1f} x   goal {GOAL:g} x"
            )
    print(f"  floor (read map and mask once) {floor * 1e3:.3f} ms")
    return ratios[0]


if __name__ == "__main__":
    main()
