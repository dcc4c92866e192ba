"""The base tester of every one-stage detector. A model's test inherits it and fills in a few lines::

    class TestRetinaNet(DetectorTests):
        factory = staticmethod(retinanet)
        options = {"encoder": "resnet18", "channels": 16}
        published = [({"num_classes": 80}, 37_968_692)]

``options`` make a quick small version; ``published`` are parameter counts, taken on the meta device.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from delineate.postprocess.detection import detected_boxes
from delineate.structures.outputs import AnchorOutputs, GridOutputs, SlotOutputs
from delineate.structures.scored_boxes import DetectionOptions


class DetectorTests:
    factory: Callable[..., nn.Module]
    loss: nn.Module
    options: dict[str, Any] = {}
    num_classes: int = 3
    published: list[tuple[dict[str, Any], int]] = []
    size: tuple[int, int] = (64, 96)
    # parameters that no gradient reaches, as glob patterns: say why beside them
    without_gradient: tuple[str, ...] = ()

    def build(self, **options: Any) -> nn.Module:
        given = {"num_classes": self.num_classes, **self.options, **options}
        return type(self).factory(given.pop("num_classes"), **given)

    def batch(self, channels: int = 3) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Two images with bright rectangles of two classes, and one with nothing."""
        height, width = self.size
        images = torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(0)) * 0.1
        boxes = torch.tensor([[0.05, 0.1, 0.5, 0.9], [0.55, 0.2, 0.95, 0.7]]) * torch.tensor([width, height] * 2)
        labels = torch.tensor([0, 2])
        for box, label in zip(boxes.long().tolist(), labels.tolist(), strict=True):
            images[:2, :, box[1] : box[3], box[0] : box[2]] += 1 + label
        return images, [
            {"boxes": boxes, "labels": labels},
            {"boxes": boxes[:1], "labels": labels[:1]},
            {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        ]

    def test_has_the_published_number_of_parameters(self) -> None:
        for options, expected in self.published:
            with torch.device("meta"):
                model = type(self).factory(**options)
            assert sum(parameter.numel() for parameter in model.parameters()) == expected, options

    def test_says_its_classes_and_channels(self) -> None:
        model = self.build(num_classes=4, in_channels=2)
        assert (model.num_classes, model.in_channels) == (4, 2)

    @torch.no_grad()
    def test_returns_one_type_in_training_and_evaluation(self) -> None:
        model, (images, _) = self.build(), self.batch()
        kinds = {type(model.train(training)(images)) for training in (True, False)}
        assert len(kinds) == 1
        assert kinds <= {AnchorOutputs, GridOutputs, SlotOutputs}

    @pytest.mark.parametrize("channels", [1, 4])
    @torch.no_grad()
    def test_takes_any_number_of_channels(self, channels: int) -> None:
        model = self.build(in_channels=channels).eval()
        outputs = model(self.batch(channels)[0])
        assert outputs.logits.isfinite().all()

    @torch.no_grad()
    def test_evaluation_repeats(self) -> None:
        model, (images, _) = self.build().eval(), self.batch()
        assert torch.equal(model(images).logits, model(images).logits)

    @torch.no_grad()
    def test_boxes_lie_in_the_image_whatever_the_weights_say(self) -> None:
        model, (images, _) = self.build().eval(), self.batch()
        size = (self.size[0] - 3, self.size[1] - 5)  # what lies beyond is padding
        found = detected_boxes(model(images), [size] * 3, DetectionOptions(score_threshold=-1e9, most=20))
        for one in found:
            assert len(one) == 20
            assert (one.boxes >= 0).all()
            assert (one.boxes[:, [0, 2]] <= size[1]).all()
            assert (one.boxes[:, [1, 3]] <= size[0]).all()
            assert (one.scores.diff() <= 0).all()

    def test_gradients_reach_every_parameter_and_steps_lower_the_loss(self) -> None:
        torch.manual_seed(0)
        model, (images, targets) = self.build().train(), self.batch()
        loss = self.loss.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
        values = []
        for _ in range(6):
            optimizer.zero_grad(set_to_none=True)
            torch.manual_seed(1)  # the dropout of one seed
            value = loss(model(images), targets)["loss"]
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
        assert values[-1] < values[0]
        missing = [
            name
            for name, parameter in model.named_parameters()
            if (parameter.grad is None or not parameter.grad.any())
            and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.without_gradient)
        ]
        assert not missing, missing

    def test_a_batch_without_any_object_has_a_finite_loss(self) -> None:
        model, (images, targets) = self.build().train(), self.batch()
        value = self.loss(model(images), [targets[2]] * 3)["loss"]
        value.backward()
        assert torch.isfinite(value)

    @torch.no_grad()
    def test_state_dict_carries_the_whole_model(self) -> None:
        model, (images, _) = self.build().eval(), self.batch()
        other = self.build().eval()
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(images).logits, model(images).logits)
