"""Prediction of images that fit neither the model nor the memory: overlapping tiles, blended without seams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise, product

import numpy as np
import torch
from jaxtyping import Float, Int32, UInt8
from torch import Tensor

from delineate.checks import require

Infer = Callable[[UInt8[Tensor, "B C h w"]], Float[Tensor, "B K h w"]]


@dataclass(frozen=True)
class TiledPrediction:
    """What :func:`predict_tiled` returns.

    Args:
        labels: the class of every pixel; ``uint8``, or ``int32`` above 255 classes.
        scores: the softmax probability of that class, or None when it was not asked for.
    """

    labels: UInt8[np.ndarray, "H W"] | Int32[np.ndarray, "H W"]
    scores: Float[np.ndarray, "H W"] | None


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along one side, in order: the first is 0, the last tile ends at the last pixel.

    As few tiles as an overlap of at least ``overlap`` allows, spread evenly: pushing only the last one back would
    make its overlap, and with it the memory that carries the overlap, nearly as large as a tile.

    Args:
        size: length of the side in pixels.
        tile: length of a tile; a shorter side is one tile.
        overlap: pixels that neighbours share at least, in ``0 .. tile - 1``.

    Example:
        >>> tile_starts(1200, 512, 64)
        [0, 344, 688]
        >>> tile_starts(300, 512, 64)
        [0]
    """
    if size <= tile:
        return [0]
    steps = math.ceil((size - tile) / (tile - overlap))
    return [step * (size - tile) // steps for step in range(steps + 1)]


def tile_windows(size: tuple[int, int], *, tile: int = 512, overlap: int = 64) -> list[tuple[int, int, int, int]]:
    """Windows (top, left, bottom, right) that cover a picture, row by row; see :func:`tile_starts`.

    Args:
        size: (height, width) of the picture.
        tile: side of a window in pixels; a shorter side of the picture is one window.
        overlap: pixels that neighbours share at least.

    Raises:
        ArgumentError: on an empty picture, or an overlap that leaves no room to move.

    Example:
        >>> tile_windows((300, 900), tile=512, overlap=64)
        [(0, 0, 300, 512), (0, 388, 300, 900)]
    """
    require(min(size) > 0, "size", "be a positive (height, width)", size)
    _require_tiles(tile, overlap)
    sides = [[(start, min(start + tile, length)) for start in tile_starts(length, tile, overlap)] for length in size]
    return [(top, left, bottom, right) for (top, bottom), (left, right) in product(*sides)]


def _require_tiles(tile: int, overlap: int) -> None:
    require(tile > 0, "tile", "be a positive number of pixels", tile)
    require(overlap >= 0, "overlap", "not be negative", overlap)
    advice = f"Pass overlap={tile // 8} or a larger tile."
    require(overlap < tile, "overlap", f"be smaller than tile ({tile})", overlap, advice)


def tile_weights(starts: list[int], tile: int, size: int) -> Float[Tensor, "tiles tile"]:
    """The share that each tile has in each of its pixels along one side; at every pixel the shares sum to one.

    Where two tiles overlap, the outer quarter belongs to the other tile alone, since a model sees least context at the
    rim of its input, and the middle half passes from one to the other along a raised cosine. So a model whose
    receptive field reaches at most a quarter of the overlap answers as it does on the whole image.

    Args:
        starts: as :func:`tile_starts` gives them.
        tile: length of a tile in pixels, at most ``size``.
        size: length of the side in pixels.

    Returns:
        float32 in 0..1.

    Example:
        >>> tile_weights([0, 4], 8, 12)[0].tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.8535..., 0.1464..., 0.0]
    """
    weights = torch.ones(len(starts), tile, dtype=torch.float64)
    for index, (left, right) in enumerate(pairwise(starts)):
        shared = left + tile - right
        rim = shared // 4
        position = (torch.arange(shared, dtype=torch.float64) - rim + 0.5) / max(shared - 2 * rim, 1)
        rise = torch.sin(position.clamp(0, 1) * (math.pi / 2)) ** 2
        weights[index, tile - shared :] *= rise.flip(0)
        weights[index + 1, :shared] *= rise
    total = torch.zeros(size, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight  # one already where two tiles meet, less where three do
    for start, weight in zip(starts, weights, strict=True):
        weight /= total[start : start + tile]
    return weights.float()


class _Canvas:
    """Blended logits, kept only where a later tile still adds to them; labels and scores everywhere else.

    Tiles arrive row by row, left to right. ``below`` holds the rows that the next row of tiles shares with this one,
    ``beside`` the columns that the next tile shares with this one; together ``O(overlap * width * K)`` numbers.
    """

    def __init__(
        self, size: tuple[int, int], tile: tuple[int, int], overlap: int, num_classes: int, score_dtype: str | None
    ) -> None:
        self.tops, self.lefts = (tile_starts(size[i], tile[i], overlap) for i in (0, 1))
        self.weights = [tile_weights(self.tops, tile[0], size[0]), tile_weights(self.lefts, tile[1], size[1])]
        self.size, self.tile, self.num_classes = size, tile, num_classes
        self.labels = np.empty(size, np.uint8 if num_classes <= 255 else np.int32)
        self.scores = None if score_dtype is None else np.empty(size, score_dtype)
        self.below: Tensor | None = None
        self.beside: Tensor | None = None

    def windows(self) -> Iterator[tuple[int, int]]:
        """Row and column numbers of the tiles, in the order in which :meth:`add` wants them."""
        return product(range(len(self.tops)), range(len(self.lefts)))

    def add(self, row: int, column: int, logits: Float[Tensor, "K h w"]) -> None:
        """Blend one tile in, and settle every pixel that no later tile covers."""
        top, left = self.tops[row], self.lefts[column]
        rows = self._settled(self.tops, row, 0)
        columns = self._settled(self.lefts, column, 1)
        share = torch.outer(self.weights[0][row], self.weights[1][column]).to(logits.device)
        block = logits.float() * share
        if self.beside is not None and column > 0:
            block[:, :, : self.beside.shape[2]] += self.beside
        self.beside = block[:, :, columns:].clone()
        block = block[:, :, :columns]
        if self.below is None:
            carried = max(
                (above + self.tile[0] - start for above, start in pairwise(self.tops)),
                default=0,
            )
            self.below = block.new_zeros(self.num_classes, carried, self.size[1])
        here = slice(left, left + columns)
        if row > 0:
            shared = self.tops[row - 1] + self.tile[0] - top
            block[:, :shared] += self.below[:, :shared, here]
        self.below[:, : self.tile[0] - rows, here] = block[:, rows:]
        self._settle(slice(top, top + rows), here, block[:, :rows])

    def _settled(self, starts: list[int], index: int, side: int) -> int:
        """How many pixels from its start a tile has to itself and to earlier tiles."""
        return (starts[index + 1] if index + 1 < len(starts) else self.size[side]) - starts[index]

    def _settle(self, rows: slice, columns: slice, logits: Float[Tensor, "K h w"]) -> None:
        highest, label = logits.max(dim=0)
        self.labels[rows, columns] = label.cpu().numpy()
        if self.scores is not None:
            self.scores[rows, columns] = (logits - highest).exp_().sum(dim=0).reciprocal_().cpu().numpy()


@torch.inference_mode()
def predict_tiled(
    image: UInt8[np.ndarray, "H W C"],
    infer: Infer,
    *,
    num_classes: int,
    tile: int = 512,
    overlap: int = 64,
    batch_size: int = 4,
    score_dtype: str | None = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> TiledPrediction:
    """The labels of an image of any size, from a model that sees one tile of it at a time.

    Logits of overlapping tiles are blended with weights that sum to one (:func:`tile_weights`). Besides the image and
    the result, memory holds one batch of tiles and the logits of the overlaps, about
    ``4 * overlap * width * num_classes`` bytes. An image no larger than a tile goes through ``infer`` whole, so that
    its result is the untiled one.

    Source: the overlap-tile strategy of Ronneberger et al., "U-Net", MICCAI 2015, sec. 2.
    Differs: tiles are blended instead of cut to their valid centres; models pad their own input.

    Args:
        image: RGB, or whatever channels ``infer`` takes; a ``np.memmap`` is read tile by tile.
        infer: tiles to logits of the same height and width, on any device, in any float type.
        num_classes: channels of the logits.
        tile: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share at least; a quarter of it should cover the part of a tile's rim
            that the model gets wrong.
        batch_size: tiles a call of ``infer``.
        score_dtype: "float32" or "float16" for the probability of the winning class, or None to leave it out.
        progress: called with (tiles done, all tiles) after each batch.

    Returns:
        Labels and scores at the size of the image.

    Raises:
        ArgumentError: on an empty image, an overlap that leaves no room to move, or logits of the wrong shape.

    Example:
        >>> ramp = np.arange(120, dtype=np.uint8).reshape(1, 120, 1).repeat(90, axis=0)
        >>> def darker_than_60(tiles):
        ...     return torch.cat([tiles.float(), 120 - tiles.float()], dim=1)
        >>> predict_tiled(ramp, darker_than_60, num_classes=2, tile=64, overlap=16).labels.sum()
        np.uint64(5400)
    """
    require(min(image.shape) > 0, "image", "have pixels and channels", f"shape {image.shape}")
    _require_tiles(tile, overlap)
    require(batch_size > 0, "batch_size", "be positive", batch_size)
    require(num_classes > 0, "num_classes", "be positive", num_classes)
    require(score_dtype in ("float32", "float16", None), "score_dtype", "be 'float32', 'float16' or None", score_dtype)
    height, width = min(tile, image.shape[0]), min(tile, image.shape[1])
    canvas = _Canvas(image.shape[:2], (height, width), overlap, num_classes, score_dtype)
    waiting, total, done = canvas.windows(), len(canvas.tops) * len(canvas.lefts), 0
    while batch := list(islice(waiting, batch_size)):
        corners = [(canvas.tops[row], canvas.lefts[column]) for row, column in batch]
        tiles = np.stack([image[top : top + height, left : left + width] for top, left in corners])
        logits = infer(torch.from_numpy(tiles).permute(0, 3, 1, 2))
        expected = (len(batch), num_classes, height, width)
        require(
            tuple(logits.shape) == expected,
            "infer",
            f"return logits of shape {expected}",
            f"shape {tuple(logits.shape)}",
        )
        for (row, column), scores in zip(batch, logits, strict=True):
            canvas.add(row, column, scores)
        done += len(batch)
        if progress is not None:
            progress(done, total)
    return TiledPrediction(canvas.labels, canvas.scores)
