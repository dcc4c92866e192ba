"""Coverage-guided search for input that the readers of run lengths take wrongly; by hand, not part of the tests.

    python tests/fuzz/fuzz_rle.py -runs=200000

Texts and polygons made from arbitrary bytes must be refused with an ArgumentError or equal pycocotools, alike for one
mask and for many. With NUMBA_DISABLE_JIT=1 the search also sees the branches inside the kernels, at a hundredth of
the pace.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    import atheris

    plain = os.environ.get("NUMBA_DISABLE_JIT") == "1"
    if not plain:  # numba cannot compile what is instrumented, so the kernels come first
        import delineate.kernels.contours
        import delineate.kernels.rle_masks  # noqa: F401
    with atheris.instrument_imports(include=["delineate"]):
        import numpy as np

        from delineate.errors import ArgumentError
        from delineate.structures.rle import RLE
        from delineate.structures.rle_masks import RLEMasks, group_ious

    from pycocotools import mask as reference

    several = np.array([0, 1]), np.array([0, 2])
    # as Python, NumPy warns where the kernels' 64 bits wrap around on purpose
    np.seterr(over="ignore" if plain else "raise")

    def built(build):
        try:
            return build()
        except ArgumentError:
            return None

    def compare(mask: RLE, masks: RLEMasks) -> None:
        coco = mask.to_coco()
        assert mask.area == masks.areas()[0]
        assert mask.box == tuple(masks.boxes()[0].tolist())
        if mask.size[0] * mask.size[1] >= 1 << 29:  # the original shifts beyond its 32 bits
            return
        assert mask.area == reference.area(coco)
        if mask.area:
            assert mask.box == tuple(reference.toBbox(coco).tolist())
        if mask.size[0] * mask.size[1] > 1 << 16:
            return
        pixels = mask.decode()
        assert np.array_equal(pixels, reference.decode(coco))
        anew = RLE.encode(pixels)
        assert anew.counts.encode() == reference.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"]
        polygons = mask.to_polygons()
        assert (RLE.from_polygons(polygons, mask.size) == anew) if polygons else mask.area == 0
        edges = masks.boundaries(np.array([2]))[0]
        padded = np.pad(pixels, 2)
        inner = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).all(axis=(2, 3))
        assert np.array_equal(edges.decode(), pixels & ~inner)
        turned = RLE.encode(pixels[::-1].copy())
        pair = RLEMasks.from_rles([mask, turned])
        order, starts = several
        crowd = np.array([False, True])
        ious, _ = group_ious(pair, pair, crowd, order=order, starts=starts, truth_order=order, truth_starts=starts)
        both = [RLE.encode(one.decode()).to_coco() for one in pair]  # runs of length 0 mislead the original
        assert np.array_equal(ious.reshape(2, 2), reference.iou(both, both, [0, 1]))

    def one_input(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        size = provider.ConsumeIntInRange(1, 40), provider.ConsumeIntInRange(1, 40)
        if provider.ConsumeBool():
            size = provider.ConsumeIntInRange(1, 1 << 31), provider.ConsumeIntInRange(1, 1 << 31)
        kind = provider.ConsumeIntInRange(0, 2)
        if kind == 0:
            raw = provider.ConsumeBytes(200)
            text = (bytes(48 + byte % 64 for byte in raw) if provider.ConsumeBool() else raw).decode("latin-1")
            one = built(lambda: RLE(size, text))
            many = built(lambda: RLEMasks.from_texts([text], [size]))
        elif kind == 1:
            pixels, counts = size[0] * size[1], []
            while pixels and provider.remaining_bytes() and len(counts) < 100:
                counts.append(provider.ConsumeIntInRange(0, min(pixels, 1 << 40)))
                pixels -= counts[-1]
            counts.append(pixels)
            one = built(lambda: RLE.from_counts(counts, size))
            many = built(lambda: RLEMasks.from_counts(np.array(counts), np.array([0, len(counts)]), [size]))
        else:
            numbers = provider.ConsumeIntInRange(0, 24)
            corners = [
                provider.ConsumeFloat() if provider.ConsumeBool() else provider.ConsumeIntInRange(-300, 300) / 5
                for _ in range(numbers)
            ]
            one = built(lambda: RLE.from_polygons([corners], size))
            flat, starts = np.array(corners, np.float64), np.array([0, len(corners)])
            many = built(lambda: RLEMasks.from_polygons(flat, starts, np.array([0, 1]), [size]))
            if many is not None and size[1] < 1 << 16:
                steps = 5 * np.abs(np.diff(flat.reshape(-1, 2), axis=0, append=flat[None, :2])).max(axis=1).sum()
                if steps < 1 << 20:  # the original takes memory for every one
                    assert one.counts.encode() == reference.frPyObjects([corners], *size)[0]["counts"]
        assert (one is None) == (many is None)
        if one is not None and many is not None:
            assert many[0] == one
            compare(one, many)

    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
