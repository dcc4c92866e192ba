import jaxtyping
import pytest
import torch
import torchvision
from torchvision import tv_tensors

from delineate.errors import ArgumentError, UnknownNameError
from delineate.ops import suppression
from delineate.ops.suppression import batched_nms, nms, soft_nms, weighted_box_fusion

THRESHOLDS = (0.0, 1e-7, 0.05, 0.3, 1 / 3, 0.5, 0.7, 0.95, 1.0)


def laid(corner, size):
    return torch.cat([corner, corner + size], dim=1)


def on_a_grid(count):
    """Equal boxes, IoUs of few values that meet thresholds exactly, boxes without area."""
    return laid(torch.randint(0, 8, (count, 2)).float(), torch.randint(0, 6, (count, 2)).float())


def spread(count):
    return laid(torch.rand(count, 2) * 300, torch.rand(count, 2) * 60)


def of_every_size(count):
    """More widths than there are levels to store them in."""
    return laid(torch.randn(count, 2) * 1000, (torch.randn(count, 2) * 5).exp())


def rows(count):
    """Lines of text: long, flat, one below the other."""
    size = torch.stack([200 + 100 * torch.rand(count), 1 + torch.rand(count)], dim=1)
    return laid(torch.rand(count, 2) * torch.tensor([20.0, 30.0]), size)


def clusters(count):
    objects = spread(max(1, count // 8))
    return objects[torch.randint(0, len(objects), (count,))] + torch.randn(count, 4) * 3


def turned(count):
    """Corners in any order."""
    return torch.rand(count, 4) * 20


def far_out(count):
    return spread(count) + 2.0**20


def tiny(count):
    """Areas around the smallest float32, where they have few digits."""
    return on_a_grid(count) * 10 ** (torch.rand(1) * 4 - 23) * (1 + torch.rand(count, 4) * 0.1)


def huge(count):
    """Areas around the largest float32."""
    return spread(count) * 10.0 ** torch.randint(16, 19, (1,))


def broken(count):
    boxes = on_a_grid(count)
    places = torch.rand(count, 4) < 0.05
    boxes[places] = torch.tensor([float("inf"), -float("inf"), float("nan")])[torch.randint(0, 3, (int(places.sum()),))]
    return boxes


KINDS = (on_a_grid, spread, of_every_size, rows, clusters, turned, far_out, tiny, huge, broken)


def scores_of(count):
    """Half of the time with many ties."""
    return torch.rand(count) if torch.rand(()) < 0.5 else torch.randint(0, 5, (count,)) / 4


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_indices_are_torchvisions(kind):
    kept = total = 0
    for problem in range(200):
        count = int(torch.randint(1, 40 if problem % 10 else 500, ()))
        boxes, scores = kind(count), scores_of(count)
        if problem % 5 == 0:
            boxes, scores = boxes.double(), scores.double()
        threshold = THRESHOLDS[problem % len(THRESHOLDS)]
        found = nms(boxes, scores, iou_threshold=threshold)
        assert torch.equal(found, torchvision.ops.nms(boxes, scores, threshold)), (problem, threshold)
        kept, total = kept + len(found), total + count
    assert 0 < kept < total


@pytest.mark.parametrize("kind", [spread, of_every_size, rows, clusters], ids=lambda kind: kind.__name__)
def test_many_boxes_are_torchvisions(kind):
    boxes, scores = kind(2500), torch.rand(2500)
    for threshold in (0.0, 0.2, 0.5, 0.8):
        assert torch.equal(nms(boxes, scores, iou_threshold=threshold), torchvision.ops.nms(boxes, scores, threshold))


def test_at_the_threshold_a_box_stays():
    boxes = torch.tensor([[0.0, 0, 2, 4], [0, 0, 2, 2]])  # IoU 4 / 8
    scores = torch.tensor([0.5, 0.4])
    assert nms(boxes, scores, iou_threshold=0.5).tolist() == [0, 1]
    assert nms(boxes, scores, iou_threshold=0.49999999).tolist() == [0]
    assert nms(boxes, 1 - scores, iou_threshold=0.49999999).tolist() == [1]


def test_zero_and_one():
    boxes = torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2], [1.999, 0, 4, 2], [0, 0, 2, 2]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    assert nms(boxes, scores, iou_threshold=0).tolist() == [0, 1]  # the first two only touch
    assert nms(boxes, scores, iou_threshold=1).tolist() == [0, 1, 2, 3]


def test_equal_scores_and_scores_without_a_value():
    boxes = torch.tensor([[0.0, 0, 2, 2]]).repeat(40, 1)
    assert nms(boxes, torch.zeros(40), iou_threshold=0.5).tolist() == [0]
    scores = torch.tensor([0.5, float("nan"), float("inf"), -float("inf")])
    apart = boxes[:4] + torch.arange(4)[:, None] * 5
    assert nms(apart, scores, iou_threshold=0.5).tolist() == [1, 2, 0, 3]


def test_one_box_and_none():
    one, none = torch.tensor([[1.0, 1, 1, 1]]), torch.zeros(0, 4)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert nms(one, torch.ones(1), iou_threshold=0.5).tolist() == [0]
    assert batched_nms(one, torch.ones(1), torch.tensor([7]), iou_threshold=0.5).tolist() == [0]
    for found in (
        nms(none, torch.zeros(0), iou_threshold=0.5),
        batched_nms(none, torch.zeros(0), nothing, iou_threshold=0.5),
        soft_nms(none, torch.zeros(0))[0],
    ):
        assert found.dtype == torch.int64
        assert found.shape == (0,)
    fused = weighted_box_fusion(none, torch.zeros(0), nothing, nothing, iou_threshold=0.5)
    assert [tuple(part.shape) for part in fused] == [(0, 4), (0,), (0,)]
    assert fused[2].dtype == torch.int64


def test_other_types_of_tensor():
    """Half precision is that of the same numbers in float32; gradients, views and named boxes are no obstacle."""
    boxes, scores = on_a_grid(60).bfloat16(), torch.rand(60).bfloat16()
    expected = torchvision.ops.nms(boxes.float(), scores.float(), 0.47)
    assert torch.equal(nms(boxes, scores, iou_threshold=0.47), expected)
    assert torch.equal(nms(boxes.double(), scores, iou_threshold=0.47), expected)
    assert torch.equal(
        nms(boxes.float().requires_grad_(), scores.float().requires_grad_(), iou_threshold=0.47), expected
    )
    strided = torch.cat([boxes.float(), boxes.float()], dim=1)[:, 4:]
    assert torch.equal(nms(strided, scores.float(), iou_threshold=0.47), expected)
    named = tv_tensors.BoundingBoxes(boxes.float(), format="XYXY", canvas_size=(20, 20))
    found = nms(named, scores.float(), iou_threshold=0.47)
    assert type(found) is torch.Tensor
    assert torch.equal(found, expected)
    zeros = torch.zeros(60, dtype=torch.int64)
    assert type(weighted_box_fusion(named, scores.float(), zeros, zeros, iou_threshold=0.47)[0]) is torch.Tensor
    assert soft_nms(boxes, scores)[1].dtype == torch.float32


@pytest.mark.parametrize("kind", [on_a_grid, clusters, far_out, broken], ids=lambda kind: kind.__name__)
def test_groups_equal_a_loop_over_them(kind):
    for problem in range(60):
        count = int(torch.randint(1, 120, ()))
        boxes, scores, groups = kind(count), scores_of(count), torch.randint(-3, 9, (count,)) * 1000
        threshold = THRESHOLDS[problem % len(THRESHOLDS)]
        survives = torch.zeros(count, dtype=torch.bool)
        for group in groups.unique():
            members = (groups == group).nonzero()[:, 0]
            survives[members[torchvision.ops.nms(boxes[members], scores[members], threshold)]] = True
        order = scores.argsort(descending=True, stable=True)
        found = batched_nms(boxes, scores, groups, iou_threshold=threshold)
        assert torch.equal(found, order[survives[order]])
        # the way of other devices
        assert torch.equal(suppression._group_by_group(boxes, scores, groups, threshold), found)


def test_groups_are_not_rounded():
    """What torchvision adds to the coordinates of class 90 moves an IoU across the threshold; here it stays exact."""
    boxes = torch.tensor([[0.0, 0, 1000, 1], [0, 0, 1000, 0.5 + 2**-12]])  # IoU a little above a half
    scores, groups = torch.tensor([0.9, 0.8]), torch.tensor([90_000, 90_000])
    assert batched_nms(boxes, scores, groups, iou_threshold=0.5).tolist() == [0]
    assert torchvision.ops.batched_nms(boxes, scores, groups, 0.5).tolist() == [0, 1]


def test_in_a_graph_torchvisions_operator_serves(monkeypatch):
    boxes, scores, groups = on_a_grid(80), torch.rand(80), torch.randint(-2, 5, (80,))
    expected = nms(boxes, scores, iou_threshold=0.5), batched_nms(boxes, scores, groups, iou_threshold=0.5)
    called = []

    def operator(name):
        called.append(name)
        return getattr(torchvision.ops, name)

    monkeypatch.setattr(suppression, "torchvision_operator", operator)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.equal(nms(boxes, scores, iou_threshold=0.5), expected[0])
    assert torch.equal(batched_nms(boxes, scores, groups, iou_threshold=0.5), expected[1])  # whole pixels: no rounding
    assert batched_nms(boxes[:0], scores[:0], groups[:0], iou_threshold=0.5).shape == (0,)
    assert called == ["nms"] * 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.create_unbacked_symint:FutureWarning")  # torchvision's registration
def test_exported():
    class Detector(torch.nn.Module):
        def forward(self, boxes, scores, groups):
            return nms(boxes, scores, iou_threshold=0.5), batched_nms(boxes, scores, groups, iou_threshold=0.5)

    inputs = on_a_grid(50), torch.rand(50), torch.randint(0, 3, (50,))
    program = torch.export.export(Detector(), inputs, strict=False)
    assert sum("torchvision.nms" in str(node.target) for node in program.graph.nodes) == 2
    assert all(torch.equal(a, b) for a, b in zip(program.module()(*inputs), Detector()(*inputs), strict=True))


def test_soft_by_hand():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 8], [9, 9, 10, 10]])  # IoU 1/2 of the first two
    scores = torch.tensor([0.8, 0.6, 0.5])
    indices, lowered = soft_nms(boxes, scores, sigma=0.25)
    assert indices.tolist() == [0, 2, 1]
    torch.testing.assert_close(lowered, torch.tensor([0.8, 0.5, 0.6 * torch.e**-1]))
    indices, lowered = soft_nms(boxes, scores, decay="linear", score_threshold=0.3)
    assert indices.tolist() == [0, 2, 1]
    torch.testing.assert_close(lowered, torch.tensor([0.8, 0.5, 0.3]))
    assert soft_nms(boxes, scores, decay="linear", score_threshold=0.31)[0].tolist() == [0, 2]
    assert soft_nms(boxes, scores, decay="linear", iou_threshold=0.5)[1].tolist() == scores.tolist()
    assert soft_nms(boxes, scores, score_threshold=0.7)[0].tolist() == [0]


def test_soft_without_overlaps_is_a_sort():
    boxes, scores = torch.arange(30.0)[:, None] * 3 + torch.tensor([0.0, 0, 2, 2]), torch.rand(30)
    indices, lowered = soft_nms(boxes, scores, score_threshold=0)
    assert indices.tolist() == scores.argsort(descending=True).tolist()
    assert torch.equal(lowered, scores[indices])


def published_fusion(boxes, scores, labels, sources, threshold, weights, least):
    """The seven steps of the paper's section 3, one cluster a list, every mean taken anew from its members."""
    found = []
    for label in sorted(set(labels)):
        rows = [row for row in range(len(boxes)) if labels[row] == label and scores[row] >= least]
        rows = [row for row in rows if boxes[row][2] > boxes[row][0] and boxes[row][3] > boxes[row][1]]
        confidence = {row: scores[row] * weights[sources[row]] for row in rows}
        clusters, means = [], []
        for row in sorted(rows, key=lambda row: -confidence[row]):
            ious = [torchvision.ops.box_iou(boxes[row][None], mean[None]).item() for mean in means]
            match = max(range(len(ious)), key=ious.__getitem__, default=None)
            if match is None or ious[match] <= threshold:
                clusters.append([row])
                means.append(boxes[row])
            else:
                clusters[match].append(row)
                total = sum(confidence[member] for member in clusters[match])
                means[match] = sum(confidence[member] * boxes[member] for member in clusters[match]) / total
        for cluster, mean in zip(clusters, means, strict=True):
            average = sum(confidence[row] for row in cluster) / len(cluster)
            found.append((average * min(len(cluster), len(weights)) / sum(weights), mean.tolist(), label))
    return sorted(found, key=lambda one: -one[0])


@pytest.mark.parametrize("seed", range(12))
def test_fusion_equals_the_published_steps(seed):
    torch.manual_seed(seed)
    boxes = torch.cat([clusters(45), torch.tensor([[3.0, 3, 3, 9], [9, 9, 3, 3]])]).double()
    scores = 0.01 + 0.99 * torch.rand(47, dtype=torch.float64)
    labels, sources = torch.randint(-1, 2, (47,)), torch.randint(0, 3, (47,))
    weights = [1, 1, 1] if seed % 2 else [2, 0.5, 1, 1]
    found, levels, names = weighted_box_fusion(
        boxes, scores, labels, sources, iou_threshold=0.4, weights=weights, skip_below=0.1
    )
    expected = published_fusion(boxes, scores.tolist(), labels.tolist(), sources.tolist(), 0.4, weights, 0.1)
    assert 5 < len(expected) < 40
    assert names.tolist() == [label for _, _, label in expected]
    torch.testing.assert_close(levels, torch.tensor([score for score, _, _ in expected], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([box for _, box, _ in expected], dtype=torch.float64))
    if seed % 2:  # one each, of as many models as there are sources, is what None means
        again = weighted_box_fusion(boxes, scores, labels, sources, iou_threshold=0.4, skip_below=0.1)
        assert all(torch.equal(a, b) for a, b in zip(again, (found, levels, names), strict=True))


def test_models_that_agree_keep_their_score():
    boxes, zeros = torch.tensor([[1.0, 2, 5, 6]]).repeat(3, 1), torch.zeros(3, dtype=torch.int64)
    fused, scores, _ = weighted_box_fusion(boxes, torch.full((3,), 0.5), zeros, torch.arange(3), iou_threshold=0.55)
    assert fused.tolist() == [[1, 2, 5, 6]]
    assert scores.tolist() == [0.5]
    lonely = weighted_box_fusion(
        boxes[:1], torch.tensor([0.5]), zeros[:1], zeros[:1], iou_threshold=0.55, weights=[1, 1]
    )
    assert lonely[1].tolist() == [0.25]  # the silence of the second model counts


@pytest.mark.gpu
def test_on_a_gpu():
    boxes, scores, groups = clusters(300), torch.rand(300), torch.randint(0, 5, (300,))
    cuda = [tensor.cuda() for tensor in (boxes, scores, groups)]
    assert torch.equal(nms(*cuda[:2], iou_threshold=0.5).cpu(), nms(boxes, scores, iou_threshold=0.5))
    assert torch.equal(
        batched_nms(*cuda, iou_threshold=0.5).cpu(), batched_nms(boxes, scores, groups, iou_threshold=0.5)
    )
    assert torch.equal(soft_nms(*cuda[:2])[0].cpu(), soft_nms(boxes, scores)[0])


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as on a user's machine
    boxes, scores, zeros = on_a_grid(3), torch.ones(3), torch.zeros(3, dtype=torch.int64)

    def says(message, function, *arguments, error=ArgumentError, **options):
        with pytest.raises(error) as raised:
            function(*arguments, **options)
        assert str(raised.value) == message

    says(
        "boxes must be (N, 4) xyxy pixels; got shape (3, 5). If column 4 is a score, pass boxes[:, :4] and "
        "boxes[:, 4].",
        nms, torch.zeros(3, 5), scores, iou_threshold=0.5,
    )  # fmt: skip
    says("boxes must be (N, 4) xyxy pixels; got shape (4,).", nms, boxes[0, :4], scores, iou_threshold=0.5)
    says("scores must be (3,), one a box; got shape (3, 1).", nms, boxes, scores[:, None], iou_threshold=0.5)
    says("iou_threshold must be between 0 and 1; got 50.", nms, boxes, scores, iou_threshold=50)
    says("iou_threshold must be between 0 and 1; got nan.", soft_nms, boxes, scores, iou_threshold=float("nan"))
    says("scores must be on cpu, as the boxes; got meta.", nms, boxes, scores.to("meta"), iou_threshold=0.5)
    says("groups must be (3,), one a box; got shape (2,).", batched_nms, boxes, scores, zeros[:2], iou_threshold=0.5)
    says(
        "groups must be integers; got torch.float32. Pass groups.long().",
        batched_nms, boxes, scores, scores, iou_threshold=0.5,
    )  # fmt: skip
    says(
        "decay must be a known name; got 'gausian'. Did you mean 'gaussian'?",
        soft_nms, boxes, scores, decay="gausian", error=UnknownNameError,
    )  # fmt: skip
    says("sigma must be above 0; got 0. Use decay='linear' or nms for a hard limit.", soft_nms, boxes, scores, sigma=0)
    says(
        "scores must be finite and at least 0; got -1.0. Pass probabilities, not logits.",
        soft_nms, boxes, torch.tensor([1.0, -1.0, 1.0]),
    )  # fmt: skip
    says(
        "boxes must be finite; got [0.0, 0.0, inf, 1.0]. Leave such boxes out before.",
        soft_nms, torch.tensor([[0.0, 0, torch.inf, 1]]).repeat(3, 1), scores,
    )  # fmt: skip
    fuse = {"iou_threshold": 0.5}
    says(
        "sources must be below the number of weights, 2; got 2. Pass one weight a model.",
        weighted_box_fusion, boxes, scores, zeros, torch.arange(3), weights=[1, 1], **fuse,
    )  # fmt: skip
    says(
        "sources must be models numbered from 0; got -1.",
        weighted_box_fusion, boxes, scores, zeros, zeros - 1, **fuse,
    )  # fmt: skip
    says(
        "weights must be finite, at least 0, and not all 0; got [0.0, 0.0].",
        weighted_box_fusion, boxes, scores, zeros, zeros, weights=[0, 0], **fuse,
    )  # fmt: skip
