"""Which true box each anchor answers for: by overlap, best priors first, as an exact pairing, or adaptively.

All rules give one :class:`Assignment`. An image without objects is an ordinary image: all its anchors are background.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from torch import Tensor

from delineate.checks import require
from delineate.kernels import assignment as kernels
from delineate.ops.boxes import BoxPairs, check_boxes

Number = int | float

BACKGROUND, IGNORED = -1, -2
CROWD_SHARE = 0.5  # an anchor with more of its area than this in a crowd teaches nothing
_MOST_PAIRS = 1 << 22  # overlaps or distances held at once: 16 MiB
_INSIDE = 0.01  # pixels that a centre must lie inside a truth, as in ATSS's release


@dataclass(frozen=True, eq=False)
class Assignment:
    """What each anchor is to learn.

    Args:
        matches: row of its true box; -1 for background, -2 for an anchor that counts in no loss.

    Example:
        >>> found = Assignment(torch.tensor([1, -1, -2, 0]))
        >>> found.labels(torch.tensor([7, 3]), background=20, ignored=-100).tolist()
        [3, 20, -100, 7]
    """

    matches: Int64[Tensor, " A"]

    @property
    def positive(self) -> Bool[Tensor, " A"]:
        """Which anchors answer for a true box."""
        return self.matches >= 0

    @property
    def background(self) -> Bool[Tensor, " A"]:
        """Which anchors must find nothing."""
        return self.matches == BACKGROUND

    @property
    def ignored(self) -> Bool[Tensor, " A"]:
        """Which anchors count in no loss."""
        return self.matches == IGNORED

    def labels(self, truths: Int64[Tensor, " T"], *, background: int, ignored: int) -> Int64[Tensor, " A"]:
        """The label of each anchor.

        Args:
            truths: label of each true box.
            background: label of an anchor that must find nothing.
            ignored: label of an anchor that does not count.
        """
        table = torch.cat((truths, truths.new_tensor([ignored, background])))  # -2 and -1 count from the end
        return table[self.matches]

    def of_positives(self, truths: Shaped[Tensor, "T ..."]) -> Shaped[Tensor, "P ..."]:
        """The true rows that the positive anchors answer for, in the anchors' order: their boxes, masks or joints."""
        return truths[self.matches[self.positive]]


def assign_by_iou(
    anchors: Float[Tensor, "A 4"],
    truths: Float[Tensor, "T 4"],
    *,
    positive: Number,
    negative: Number,
    least_negative: Number = 0.0,
    keep_best: Number | None = None,
    crowd_boxes: Float[Tensor, "C 4"] | None = None,
) -> Assignment:
    """Each anchor's best true box where they overlap enough; background where it overlaps little; ignored in between.

    Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1.2 (0.7, 0.3, best kept); Girshick, "Fast R-CNN", ICCV
    2015, section 2.3 (0.5, 0.5, at least 0.1); Lin et al., "Focal Loss", ICCV 2017, section 4 (0.5, 0.4). Ties and
    kept anchors as torchvision's ``Matcher``.
    Differs: a truth that no anchor overlaps keeps none (torchvision then keeps all that overlap nothing).

    Args:
        anchors: xyxy pixels; or proposals.
        truths: xyxy pixels, without crowds.
        positive: least IoU of a positive anchor.
        negative: IoU below which an anchor is background.
        least_negative: IoU from which on it is, ignored below: 0.1 makes background of hard neighbours only.
        keep_best: the least IoU from which on a truth keeps the anchors that overlap it most, all that tie, even below
            ``positive``; such an anchor answers for its own best truth. 0 keeps them whatever it is, None keeps none.
        crowd_boxes: background anchors that lie in one of these by more than half of their area are ignored.

    Raises:
        ArgumentError: when ``negative`` is above ``positive`` or boxes are not (N, 4).

    Example:
        >>> anchors = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 2.], [0., 0., 4., 1.]])
        >>> assign_by_iou(anchors, torch.tensor([[0., 0., 4., 4.]]), positive=0.7, negative=0.3).matches.tolist()
        [0, -2, -1]
    """
    require(
        0 <= least_negative <= negative <= positive,
        "negative",
        "lie between least_negative and positive",
        f"least_negative={least_negative}, negative={negative}, positive={positive}",
    )
    anchors, truths = _checked(anchors, truths)
    if len(truths) == 0:
        # the best overlap with nothing is 0
        matches = _filled(anchors, IGNORED if least_negative > 0 else BACKGROUND)
        return _without_crowds(matches, anchors, crowd_boxes)
    overlaps, nearest, tops = _best_overlaps(anchors, truths)
    # torch compares float32 with the threshold rounded to float32, which the literal 0.7 is not
    matches = torch.where(overlaps >= positive, nearest, IGNORED)
    matches[(overlaps < negative) & (overlaps >= least_negative)] = BACKGROUND
    if keep_best is not None:
        kept = (tops > 0) & (tops >= keep_best)
        best = _reaching(anchors, truths, torch.where(kept, tops, torch.nan))
        matches = torch.where(best, nearest, matches)
    return _without_crowds(matches, anchors, crowd_boxes)


def assign_best_priors(
    anchors: Float[Tensor, "A 4"],
    truths: Float[Tensor, "T 4"],
    *,
    positive: Number = 0.5,
    crowd_boxes: Float[Tensor, "C 4"] | None = None,
) -> Assignment:
    """Every true box gets an anchor of its own, the best pair first; then every anchor its best true box if above 0.5.

    Source: Liu et al., "SSD", ECCV 2016, section 2.2; the release's ``MatchBBox``: pairs are taken greedily, largest
    overlap first, so that two objects do not share their only anchor.
    Differs: nothing. (torchvision lets two objects that share a best anchor lose one of them.)

    Args:
        anchors: xyxy pixels.
        truths: xyxy pixels, without crowds.
        positive: IoU above which an anchor is positive.
        crowd_boxes: background anchors that lie in one of these by more than half of their area are ignored.

    Raises:
        ArgumentError: when boxes are not (N, 4).

    Example:
        >>> anchors = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 3.], [8., 8., 9., 9.]])
        >>> assign_best_priors(anchors, torch.tensor([[0., 0., 4., 4.], [0., 0., 3., 3.]])).matches.tolist()
        [0, 1, -1]
    """
    anchors, truths = _checked(anchors, truths)
    matches = _filled(anchors, BACKGROUND)
    if len(truths):
        # a turn on the host: the pairing is sequential, and its boxes are few
        arrays = anchors.cpu().numpy(), truths.cpu().numpy()
        overlaps, nearest, tops, top_anchors = kernels.best_overlaps(*arrays)
        nearest[~(torch.from_numpy(overlaps) > positive).numpy()] = BACKGROUND
        pairs = kernels.greedy_pairs(*arrays, tops, top_anchors)
        found = pairs >= 0
        nearest[pairs[found]] = found.nonzero()[0]
        matches = torch.from_numpy(nearest).to(anchors.device)
    return _without_crowds(matches, anchors, crowd_boxes)


def assign_bipartite(costs: Float[Tensor, "A T"]) -> Assignment:
    """The pairing of predictions with true boxes, one each, that costs least in all; other predictions are background.

    Source: Erhan et al., "Scalable Object Detection using Deep Neural Networks" (MultiBox), CVPR 2014, section 3.
    Differs: nothing: the minimum is exact. Where the rows are fewer than the columns, the most expensive truths are
    left out.

    Args:
        costs: of each prediction with each truth; no gradient flows through the choice.

    Raises:
        ArgumentError: when a cost is not finite.

    Example:
        >>> assign_bipartite(torch.tensor([[1., 2.], [1., 9.], [5., 5.]])).matches.tolist()
        [1, 0, -1]
    """
    table = costs.detach().to("cpu", torch.float64)
    require(bool(table.isfinite().all()), "costs", "be finite", "NaN or infinity")
    predictions, truths = table.shape
    if predictions == 0 or truths == 0:
        return Assignment(_filled(costs, BACKGROUND))
    if truths <= predictions:
        matches = torch.from_numpy(kernels.cheapest_pairs(table.T.numpy()))
    else:
        owners = torch.from_numpy(kernels.cheapest_pairs(table.numpy()))
        matches = torch.empty(predictions, dtype=torch.int64)
        matches[owners[owners >= 0]] = (owners >= 0).nonzero()[:, 0]
    return Assignment(matches.to(costs.device))


def assign_atss(
    anchors: Float[Tensor, "A 4"],
    anchors_per_level: Sequence[int],
    truths: Float[Tensor, "T 4"],
    *,
    top: int = 9,
    crowd_boxes: Float[Tensor, "C 4"] | None = None,
) -> Assignment:
    """Positive are the anchors near a true box whose overlap stands out among those near it; all others background.

    Near are the ``top`` of each level whose centres are closest to the truth's; standing out means an IoU of at least
    their mean plus their standard deviation, and a centre inside the truth.

    Source: Zhang et al., "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample
    Selection", CVPR 2020, algorithm 1; the deviation is the sample's (divided by n - 1), as in the release.
    Differs: with a single anchor near, the deviation is 0, not undefined. An anchor that stands out for several truths
    answers for the one that it overlaps most, as in the release; of equally distant anchors torch's choice is near.

    Args:
        anchors: xyxy pixels, level by level.
        anchors_per_level: how many anchors each level has.
        truths: xyxy pixels, without crowds.
        top: anchors near a truth at each level; with several anchors a place, the paper takes 9 times as many.
        crowd_boxes: background anchors that lie in one of these by more than half of their area are ignored.

    Raises:
        ArgumentError: when the levels do not add up to the anchors, ``top`` is not above 0, or boxes are not (N, 4).

    Example:
        >>> anchors = torch.tensor([[0., 0., 4., 4.], [4., 0., 8., 4.], [8., 0., 12., 4.], [12., 0., 16., 4.]])
        >>> assign_atss(anchors, [4], torch.tensor([[3.5, 0., 8., 4.]]), top=3).matches.tolist()
        [-1, 0, -1, -1]
    """
    require(top > 0, "top", "be above 0", top)
    anchors, truths = _checked(anchors, truths)
    total = sum(anchors_per_level)
    require(total == len(anchors), "anchors_per_level", f"add up to {len(anchors)} anchors", total)
    matches = _filled(anchors, BACKGROUND)
    if len(truths) == 0 or len(anchors) == 0:
        return _without_crowds(matches, anchors, crowd_boxes)
    near = _near(anchors, anchors_per_level, truths, top)  # T n
    pairs = BoxPairs(anchors[near], truths[:, None])
    deviation = pairs.iou.std(dim=1, keepdim=True) if near.shape[1] > 1 else 0
    centres = (anchors[near][..., :2] + anchors[near][..., 2:]) / 2
    inside = torch.cat((centres - truths[:, None, :2], truths[:, None, 2:] - centres), dim=-1).amin(dim=-1) > _INSIDE
    rows, places = (inside & (pairs.iou >= pairs.iou.mean(dim=1, keepdim=True) + deviation)).nonzero(as_tuple=True)
    taken, overlaps = near[rows, places], pairs.iou[rows, places]
    most = overlaps.new_zeros(len(anchors)).scatter_reduce(0, taken, overlaps, "amax")
    best = overlaps == most[taken]
    first = torch.full_like(matches, len(truths)).scatter_reduce(0, taken[best], rows[best], "amin")
    return _without_crowds(torch.where(first < len(truths), first, matches), anchors, crowd_boxes)


def _near(anchors: Tensor, anchors_per_level: Sequence[int], truths: Tensor, top: int) -> Int64[Tensor, "T n"]:
    """The anchors of each level whose centres are nearest to each truth's."""
    found, start = [], 0
    goals = (truths[:, :2] + truths[:, 2:]) / 2
    for count in anchors_per_level:
        if count == 0:
            continue
        level = anchors[start : start + count]
        centres = (level[:, :2] + level[:, 2:]) / 2
        nearest = []
        for some in goals.split(max(1, _MOST_PAIRS // count)):
            distances = (some[:, None, 0] - centres[:, 0]) ** 2 + (some[:, None, 1] - centres[:, 1]) ** 2
            nearest.append(distances.topk(min(top, count), dim=1, largest=False).indices)
        found.append(torch.cat(nearest) + start)
        start += count
    return torch.cat(found, dim=1)


def _best_overlaps(
    anchors: Tensor, truths: Tensor
) -> tuple[Float32[Tensor, " A"], Int64[Tensor, " A"], Float32[Tensor, " T"]]:
    """Each anchor's best overlap and truth, and each truth's best overlap."""
    if _on_host(anchors):
        found = kernels.best_overlaps(anchors.numpy(), truths.numpy())
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]), torch.from_numpy(found[2])
    best, tops = [], anchors.new_zeros(len(truths))
    for ious in _overlaps_in_turn(anchors, truths):
        best.append(ious.max(dim=1))
        tops = torch.maximum(tops, ious.amax(dim=0))
    return torch.cat([part.values for part in best]), torch.cat([part.indices for part in best]), tops


def _reaching(anchors: Tensor, truths: Tensor, goals: Tensor) -> Bool[Tensor, " A"]:
    """Which anchors overlap some truth by exactly its goal."""
    if _on_host(anchors):
        return torch.from_numpy(kernels.reaching_anchors(anchors.numpy(), truths.numpy(), goals.numpy()))
    return torch.cat([(ious == goals).any(dim=1) for ious in _overlaps_in_turn(anchors, truths)])


def _on_host(anchors: Tensor) -> bool:
    return anchors.device.type == "cpu"


def _overlaps_in_turn(anchors: Tensor, truths: Tensor) -> Iterator[Float32[Tensor, "a T"]]:
    for some in anchors.split(max(1, _MOST_PAIRS // len(truths))):
        yield BoxPairs(some[:, None], truths[None]).iou


def _without_crowds(matches: Tensor, anchors: Tensor, crowd_boxes: Tensor | None) -> Assignment:
    """``matches`` with the background anchors that lie in a crowd ignored."""
    if crowd_boxes is None or len(crowd_boxes) == 0:
        return Assignment(matches)
    check_boxes("crowd_boxes", crowd_boxes)
    areas = (anchors[:, 2:] - anchors[:, :2]).clamp(min=0).prod(dim=1)
    crowded = torch.zeros_like(matches, dtype=torch.bool)
    for crowd in crowd_boxes.detach().to(anchors):  # an image has few
        corner = torch.maximum(anchors[:, :2], crowd[:2])
        shared = (torch.minimum(anchors[:, 2:], crowd[2:]) - corner).clamp(min=0).prod(dim=1)
        crowded |= shared > CROWD_SHARE * areas
    return Assignment(torch.where(crowded & (matches == BACKGROUND), IGNORED, matches))


def _checked(anchors: Tensor, truths: Tensor) -> tuple[Tensor, Tensor]:
    check_boxes("anchors", anchors)
    check_boxes("truths", truths)
    return anchors.detach().float().as_subclass(Tensor), truths.detach().to(anchors.device).float().as_subclass(Tensor)


def _filled(anchors: Tensor, value: int) -> Int64[Tensor, " A"]:
    return torch.full((len(anchors),), value, dtype=torch.int64, device=anchors.device)
