"""Confusion matrix of four 1024x2048 maps with 19 classes: delineate, torchmetrics and numpy.bincount, in one run.

The calls are interleaved and the median of the runs is taken, so that a busy machine slows all of them alike. The floor
is what reading both maps once must take: their bytes over the bandwidth that a plain sum over a large array reaches
in the same run, on the same number of threads. Run as ``python -m bench.confusion_matrix``.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from delineate.kernels.confusion import confusion_counts
from delineate.kernels.threads import run_pieces, thread_count

CLASSES, SHAPE = 19, (4, 1024, 2048)


def random_maps() -> tuple[np.ndarray, np.ndarray]:
    """Independent labels at every pixel: the worst case for anything that profits from runs."""
    generator = np.random.default_rng(0)
    return tuple(generator.integers(0, CLASSES, SHAPE, dtype=np.uint8) for _ in range(2))


def street_maps() -> tuple[np.ndarray, np.ndarray]:
    """Regions with curved borders, and a prediction whose borders are off by a few pixels and 1 % of which is noise."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[: SHAPE[1], : SHAPE[2]] / 256.0
    target = np.empty(SHAPE, np.uint8)
    for image in target:
        waves = generator.normal(size=(12, 3))
        field = sum(np.sin(4 * a * rows + 4 * b * columns + 6 * c) for a, b, c in waves)
        ranks = np.searchsorted(np.quantile(field[::16, ::16], np.linspace(0, 1, CLASSES + 1)[1:-1]), field)
        image[:] = ranks
    prediction = np.roll(target, 3, axis=2)
    noisy = generator.random(SHAPE) < 0.01
    prediction[noisy] = generator.integers(0, CLASSES, int(noisy.sum()), dtype=np.uint8)
    return target, prediction


def numpy_counts(target: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """FCN's score.py: one bincount over combined labels."""
    inside = target < CLASSES
    return np.bincount(CLASSES * target[inside].astype(np.int64) + prediction[inside], minlength=CLASSES**2).reshape(
        CLASSES, CLASSES
    )


def read_bandwidth() -> float:
    """Bytes a second of a plain sum over 256 MiB on as many threads as the kernel uses."""
    array = np.ones(1 << 25, np.int64)
    pieces = np.array_split(array, thread_count())
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        run_pieces(np.sum, pieces)
        seconds.append(time.perf_counter() - start)
    return array.nbytes / min(seconds)


def median_seconds(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median time of each call; one round runs every call once."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():  # compiles, fills caches
        call()
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main(runs: int = 5) -> dict[str, dict[str, float]]:
    """Print the table and return ``{maps: {name: seconds, ..., "ratio ...": times faster}}``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.classification import MulticlassConfusionMatrix
    bandwidth = read_bandwidth()
    results = {}
    print(f"confusion matrix, {SHAPE} uint8, {CLASSES} classes, {thread_count()} threads, median of {runs}")
    for maps, (target, prediction) in {"random": random_maps(), "regions": street_maps()}.items():
        target_tensor, prediction_tensor = torch.from_numpy(target), torch.from_numpy(prediction)
        target_long, prediction_long = target_tensor.long(), prediction_tensor.long()
        peer = MulticlassConfusionMatrix(CLASSES, ignore_index=255, validate_args=False)
        expected = numpy_counts(target, prediction)
        counted = confusion_counts(target, prediction, CLASSES)[0]
        if not (np.array_equal(counted, expected) and np.array_equal(peer(prediction_tensor, target_tensor), expected)):
            raise SystemExit("the three confusion matrices differ")
        seconds = median_seconds(
            {
                "delineate": lambda t=target, p=prediction: confusion_counts(t, p, CLASSES),
                "delineate int64": lambda t=target_long, p=prediction_long: confusion_counts(
                    t.numpy(), p.numpy(), CLASSES
                ),
                "numpy bincount": lambda t=target, p=prediction: numpy_counts(t, p),
                "torchmetrics": lambda t=target_tensor, p=prediction_tensor, m=peer: m.update(p, t),
                "torchmetrics int64": lambda t=target_long, p=prediction_long, m=peer: m.update(p, t),
            },
            runs,
        )
        floor = (target.nbytes + prediction.nbytes) / bandwidth
        results[maps] = {
            **seconds,
            "floor": floor,
            "ratio torchmetrics": seconds["torchmetrics"] / seconds["delineate"],
            "ratio torchmetrics int64": seconds["torchmetrics int64"] / seconds["delineate int64"],
            "ratio numpy": seconds["numpy bincount"] / seconds["delineate"],
        }
        print(f"\n{maps} maps")
        for name, value in seconds.items():
            print(f"  {name:20s} {value * 1e3:8.2f} ms  {value / seconds['delineate']:7.1f} x delineate")
        print(f"  {'floor (read once)':20s} {floor * 1e3:8.2f} ms  at {bandwidth / 1e9:.1f} GB/s")
    return results


if __name__ == "__main__":
    main()
