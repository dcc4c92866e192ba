"""MultiBox: its parameters by hand, priors, and boxes that start at them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delineate.errors import ArgumentError, UnknownNameError
from delineate.losses.bipartite_multibox import BipartiteMultiBoxLoss
from delineate.models.multibox import clustered_boxes, multibox, tiled_boxes
from delineate.postprocess.detection import detected_boxes
from tests.models.detector import DetectorTests

ALEXNET = 2_469_696  # torchvision's convolutions
CONNECTED = (9216 + 1) * 4096 + (4096 + 1) * 4096  # 6 x 6 x 256 to 4096, and again
SMALL = {"encoder": "test_resnet", "bins": 2, "hidden": (16,), "dropout": 0}


class MultiBoxTests(DetectorTests):
    factory = staticmethod(multibox)


class TestMultiBox(MultiBoxTests):
    loss = BipartiteMultiBoxLoss()
    options = SMALL
    published = [
        ({"num_classes": 1}, ALEXNET + CONNECTED + 4097 * 91 * 5),
        ({"num_classes": 20, "class_head": "none"}, ALEXNET + CONNECTED + 4097 * 91 * 5),
        ({"num_classes": 20}, ALEXNET + CONNECTED + 4097 * 91 * 25),
        ({"num_classes": 20, "priors": [[0, 0, 1, 1]] * 100}, ALEXNET + CONNECTED + 4097 * 100 * 25),
    ]

    @torch.no_grad()
    def test_boxes_start_at_their_priors_and_find_nothing(self) -> None:
        torch.manual_seed(0)
        outputs = self.build().eval()(torch.zeros(2, 3, 40, 70))
        assert outputs.logits.shape == (2, 91, 3)
        assert outputs.size == (64, 96)
        torch.testing.assert_close(outputs.boxes[:, :, 0], tiled_boxes().expand(2, -1, -1), atol=0.1, rtol=0)
        assert float(outputs.objectness.sigmoid().mean()) == pytest.approx(0.01, rel=0.2)

    @torch.no_grad()
    def test_residuals_are_scaled(self) -> None:
        whole, tenth = self.build().eval(), self.build(residual_scale=0.1).eval()
        tenth.load_state_dict(whole.state_dict())
        images = self.batch()[0]
        moved = [model(images).boxes[:, :, 0] - model.priors for model in (whole, tenth)]
        torch.testing.assert_close(moved[1], moved[0] / 10, atol=1e-6, rtol=1e-4)


class TestMultiBoxByPredictions(MultiBoxTests):
    loss = BipartiteMultiBoxLoss(matching="predictions", alpha=10)
    options = {**SMALL, "class_head": "none"}

    @torch.no_grad()
    def test_without_a_class_head_boxes_are_things(self) -> None:
        model = self.build().eval()
        outputs = model(self.batch()[0])
        assert outputs.logits.shape == (3, 91, 1)
        found = detected_boxes(outputs, [self.size] * 3, model.decoding)[0]
        assert len(found) > 0
        assert not found.labels.any()


class TestMultiBoxByRegions(MultiBoxTests):
    loss = BipartiteMultiBoxLoss()
    options = {**SMALL, "class_head": "regions", "class_hidden": 8}
    published = [
        ({"num_classes": 20, "class_head": "regions"}, ALEXNET + CONNECTED + 4097 * 91 * 5 + 12_545 * 1024 + 1025 * 20),
    ]

    @torch.no_grad()
    def test_a_class_is_that_of_what_a_box_holds(self) -> None:
        """One classifier for all: boxes of the same place say the same, and a change elsewhere is not seen."""
        torch.manual_seed(0)
        priors = [[0.0, 0.0, 0.25, 1.0], [0.75, 0.0, 1.0, 1.0], [0.0, 0.0, 0.25, 1.0]]
        model = self.build(priors=priors).eval()
        torch.nn.init.zeros_(model.residuals.weight)
        images = torch.rand(1, 3, 64, 512)
        first = model(images).logits[0]
        images[..., 384:] = torch.rand(1, 3, 64, 128)  # the last quarter
        second = model(images).logits[0]
        torch.testing.assert_close(first[0], first[2])
        assert not torch.allclose(first[0], first[1])
        torch.testing.assert_close(first[0], second[0])
        assert not torch.allclose(first[1], second[1])


def test_priors_travel_with_the_weights() -> None:
    model = multibox(2, priors=tiled_boxes((1, 2)), **SMALL)
    other = multibox(2, priors=torch.rand(5, 4), **SMALL)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.priors, tiled_boxes((1, 2)))


def test_tiles_cover_the_image_once_for_each_cut() -> None:
    tiles = tiled_boxes((3, 5))
    areas = (tiles[:, 2:] - tiles[:, :2]).prod(1)
    assert len(tiles) == 9 + 25
    assert areas[:9].tolist() == pytest.approx([1 / 9] * 9)
    assert float(areas.sum()) == pytest.approx(2)
    assert tiles[9].tolist() == pytest.approx([0, 0, 0.2, 0.2])
    assert tiles[10].tolist() == pytest.approx([0.2, 0, 0.4, 0.2])  # row by row


class TestClusters:
    def test_centres_of_separate_clusters_are_their_means(self) -> None:
        generator = torch.Generator().manual_seed(0)
        centres = torch.tensor([[0.0, 0, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9], [0.0, 0, 1, 1]])
        noise = torch.randn(3, 50, 4, generator=generator) * 0.01
        boxes = centres[:, None] + noise
        order = torch.randperm(150, generator=generator)
        found = clustered_boxes(boxes.flatten(0, 1)[order], 3)
        torch.testing.assert_close(found, boxes.mean(1))
        assert torch.equal(found, clustered_boxes(boxes.flatten(0, 1)[order], 3))

    def test_each_centre_is_the_mean_of_the_boxes_nearest_to_it(self) -> None:
        boxes = torch.rand(300, 4, generator=torch.Generator().manual_seed(1))
        found = clustered_boxes(boxes, 8, seed=3)
        nearest = torch.cdist(boxes.double(), found.double()).argmin(1).numpy()
        means = np.stack([boxes.double().numpy()[nearest == k].mean(0) for k in range(8)])
        np.testing.assert_allclose(found.numpy(), means, atol=1e-5)

    def test_as_many_as_there_are_different_boxes_at_most(self) -> None:
        boxes = torch.tensor([[0.0, 0, 1, 1], [0.0, 0, 1, 1], [0.0, 0, 0.5, 1]])
        assert clustered_boxes(boxes, 2).tolist() == [[0, 0, 0.5, 1], [0, 0, 1, 1]]
        with pytest.raises(ArgumentError, match="count must lie between 1 and the number of different boxes, 2; got 3"):
            clustered_boxes(boxes, 3)
        with pytest.raises(ArgumentError, match=r"boxes must be \(N, 4\) xyxy shares; got shape \(0, 4\)"):
            clustered_boxes(torch.zeros(0, 4), 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="softmax"):
        multibox(3, class_head="soft")
    with pytest.raises(ArgumentError, match=r"priors must be shares of the image, finite; got 300\.0. Divide pixels"):
        multibox(3, priors=[[0, 0, 300, 200]])
    with pytest.raises(ArgumentError, match="priors must be shares of the image, finite; got nan"):
        multibox(3, priors=[[0, 0, float("nan"), 1]])
    with pytest.raises(ArgumentError, match=r"priors must be \(N, 4\) xyxy shares; got shape \(1, 2\)"):
        multibox(3, priors=[[0.5, 0.5]])
    with pytest.raises(ArgumentError, match="sides must be numbers from 1 on"):
        tiled_boxes(())
