"""Connected regions of label maps, and their merging: small ones into the neighbour they share most border with.

Regions are joined by union-find. What is merged is worked off from the smallest size up: a region only grows, so each
size is a list that is walked once. A region is walked pixel by pixel, which costs little because only small ones are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from delineate.kernels.arrays import frozen


@njit(nogil=True, cache=True)
def _root(parents, node):
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@njit(nogil=True, cache=True)
def _join(parents, a, b):
    """The first pixel of a region is its root."""
    a, b = _root(parents, a), _root(parents, b)
    if a < b:
        parents[b] = a
    else:
        parents[a] = b


@njit(nogil=True, cache=True)
def _number(labels, eight, regions):
    height, width = labels.shape
    parents = regions.reshape(-1)
    for y in range(height):
        for x in range(width):
            pixel, label = y * width + x, labels[y, x]
            parents[pixel] = pixel
            if x > 0 and labels[y, x - 1] == label:
                parents[pixel] = _root(parents, pixel - 1)
            if y == 0:
                continue
            if labels[y - 1, x] == label:
                _join(parents, pixel, pixel - width)
            if eight:
                if x > 0 and labels[y - 1, x - 1] == label:
                    _join(parents, pixel, pixel - width - 1)
                if x + 1 < width and labels[y - 1, x + 1] == label:
                    _join(parents, pixel, pixel - width + 1)
    count = 0
    for pixel in range(parents.size):  # a root comes before the rest of its region, which then finds the number there
        above = parents[pixel]
        if above == pixel:
            parents[pixel] = count
            count += 1
        else:
            parents[pixel] = parents[above]
    return count


@njit(nogil=True, cache=True)
def _merge(labels, regions, count, largest, eight, ignored, chosen, enclosed):
    height, width = labels.shape
    flat, numbers = labels.reshape(-1), regions.reshape(-1)
    parents, sizes, label_of = np.arange(count), np.zeros(count, np.int64), np.empty(count, np.int64)
    first, last, after = np.full(count, -1), np.empty(count, np.int64), np.full(flat.size, -1)
    for pixel in range(flat.size):  # the pixels of each region as a chain
        region = numbers[pixel]
        if first[region] < 0:
            first[region], label_of[region] = pixel, flat[pixel]
        else:
            after[last[region]] = pixel
        last[region] = pixel
        sizes[region] += 1

    waiting, newest, behind = np.full(largest + 1, -1), np.full(largest + 1, -1), np.full(count, -1)
    votes, voted = np.zeros(chosen.size, np.int64), np.empty(chosen.size, np.int64)
    for region in range(count):  # the regions of each size as a queue
        size, label = sizes[region], label_of[region]
        if size <= largest and label != ignored and (enclosed or chosen[label]):
            if newest[size] < 0:
                waiting[size] = region
            else:
                behind[newest[size]] = region
            newest[size] = region

    neighbours = 8 if eight else 4
    down, right = (-1, 0, 0, 1, -1, -1, 1, 1), (0, -1, 1, 0, -1, 1, -1, 1)
    for size in range(1, largest + 1):
        region = waiting[size]
        while region >= 0:
            following, behind[region] = behind[region], -1
            if parents[region] == region and sizes[region] == size:
                distinct, open_side = 0, False
                pixel = first[region]
                while pixel >= 0:
                    y, x = pixel // width, pixel % width
                    for side in range(neighbours):
                        near_y, near_x = y + down[side], x + right[side]
                        if near_y < 0 or near_x < 0 or near_y >= height or near_x >= width:
                            open_side = True
                            continue
                        other = _root(parents, numbers[near_y * width + near_x])
                        if other == region:
                            continue
                        label = label_of[other]
                        if label == ignored:
                            open_side = True
                            continue
                        if votes[label] == 0:
                            voted[distinct] = label
                            distinct += 1
                        votes[label] += 1
                    pixel = after[pixel]
                winner = -1
                for place in range(distinct):
                    label = voted[place]
                    if winner < 0 or votes[label] > votes[winner] or (votes[label] == votes[winner] and label < winner):
                        winner = label
                for place in range(distinct):
                    votes[voted[place]] = 0
                surrounded = distinct == 1 and not open_side and chosen[max(winner, 0)]
                if winner >= 0 and (surrounded or not enclosed):
                    label_of[region] = winner
                    end, pixel = last[region], first[region]
                    while True:  # only the region's own pixels: the chain grows behind them
                        y, x = pixel // width, pixel % width
                        for side in range(neighbours):
                            near_y, near_x = y + down[side], x + right[side]
                            if near_y < 0 or near_x < 0 or near_y >= height or near_x >= width:
                                continue
                            other = _root(parents, numbers[near_y * width + near_x])
                            if other != region and label_of[other] == winner:
                                # the one in hand waits in no queue, so it can be put into another
                                parents[other] = region
                                sizes[region] += sizes[other]
                                after[last[region]] = first[other]
                                last[region] = last[other]
                        if pixel == end:
                            break
                        pixel = after[pixel]
                    grown = sizes[region]
                    if grown <= largest and (enclosed or chosen[winner]):
                        if newest[grown] < 0:
                            waiting[grown] = region
                        else:
                            behind[newest[grown]] = region
                        newest[grown] = region
            region = following
    for pixel in range(flat.size):
        flat[pixel] = label_of[_root(parents, numbers[pixel])]


def connected_regions(labels: np.ndarray, *, connectivity: int) -> tuple[np.ndarray, int]:
    """The connected regions of equal labels, numbered in order of each region's first pixel, row by row.

    Args:
        labels: (H, W) integers.
        connectivity: 4 for pixels that share a side, 8 for corners too.

    Returns:
        (H, W) int32 numbers from 0, and how many there are.

    Example:
        >>> connected_regions(np.array([[3, 3, 5], [5, 5, 3]]), connectivity=4)[0].tolist()
        [[0, 0, 1], [2, 2, 3]]
    """
    regions = np.empty(labels.shape, np.int32)
    return regions, _number(frozen(labels, np.int32), connectivity == 8, regions)


def _merged(
    labels: np.ndarray, largest: int, connectivity: int, ignored: int, chosen: np.ndarray, enclosed: bool
) -> np.ndarray:
    merged = np.array(labels, np.int32, order="C")
    if merged.size == 0 or largest < 1:
        return merged
    regions, count = connected_regions(merged, connectivity=connectivity)
    largest = min(largest, merged.size)
    _merge(merged, regions, count, largest, connectivity == 8, ignored, frozen(chosen, np.bool_), enclosed)
    return merged


def merged_small_regions(
    labels: np.ndarray, *, largest: int, connectivity: int, ignored: int, chosen: np.ndarray
) -> np.ndarray:
    """The label map with every region of at most ``largest`` pixels given the label it shares most border with.

    The smallest first, and again while what has merged is still small. Of equal borders the smallest label wins.

    Args:
        labels: (H, W) integers from 0, below ``len(chosen)``.
        largest: pixels.
        connectivity: 4 or 8; also of the pairs of pixels that a border is counted in.
        ignored: the label that neither changes nor spreads; -1 for none.
        chosen: (K,) bool, the labels whose regions may be merged into others.

    Returns:
        (H, W) int32.
    """
    return _merged(labels, largest, connectivity, ignored, chosen, False)


def merged_enclosed_regions(
    labels: np.ndarray, *, largest: int, connectivity: int, ignored: int, chosen: np.ndarray
) -> np.ndarray:
    """As :func:`merged_small_regions`, where one single label surrounds a region and no edge of the map cuts it.

    ``chosen`` are the labels that such regions may be given.
    """
    return _merged(labels, largest, connectivity, ignored, chosen, True)
