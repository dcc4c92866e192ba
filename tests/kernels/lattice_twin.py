"""The permutohedral lattice as the paper tells it: a dictionary from lattice points to values, one point at a time."""

import numpy as np


def simplex(feature):
    """The corners of the simplex around a point, as coordinates that add up to 0, and its barycentric weights."""
    d = len(feature)
    k = np.arange(1, d + 1)
    x = feature.astype(float) * np.sqrt(2 / 3) * (d + 1) / np.sqrt(k * (k + 1))
    elevated = np.array([x.sum(), *(x[i:].sum() - i * x[i - 1] for i in range(1, d + 1))])
    nearest = np.rint(elevated / (d + 1)).astype(int) * (d + 1)
    order = np.argsort(-(elevated - nearest), kind="stable")
    rank = np.empty(d + 1, int)
    rank[order] = np.arange(d + 1)
    rank += nearest.sum() // (d + 1)
    nearest += (d + 1) * ((rank < 0).astype(int) - (rank > d))
    rank %= d + 1
    corners = [nearest + np.where(rank <= d - r, r, r - d - 1) for r in range(d + 1)]
    # the point is the weighted mean of the corners: a linear system, where the kernel takes differences
    system = np.vstack([np.array(corners).T, np.ones(d + 1)])
    weights = np.linalg.lstsq(system, np.append(elevated, 1.0), rcond=None)[0]
    return [tuple(int(c) for c in corner) for corner in corners], weights


def lattice_filter(features, values, *, reverse=False):
    d = features.shape[1]
    simplices = [simplex(feature) for feature in features]
    table = {}
    for (corners, weights), value in zip(simplices, values, strict=True):
        for corner, weight in zip(corners, weights, strict=True):
            table[corner] = table.get(corner, 0) + weight * value
    for axis in range(d, -1, -1) if reverse else range(d + 1):
        step = np.full(d + 1, -1)
        step[axis] = d

        def at(corner, sign, table=table, step=step):
            return table.get(tuple(int(c) for c in np.array(corner) + sign * step), 0)

        table = {corner: value + 0.5 * (at(corner, 1) + at(corner, -1)) for corner, value in table.items()}
    sliced = [sum(w * table[c] for c, w in zip(corners, weights, strict=True)) for corners, weights in simplices]
    return np.array(sliced) / (1 + 2.0**-d)
