"""The base tester of every segmenter. A model's test inherits it and fills in a few lines::

    class TestENet(SegmenterTests):
        name = "enet"
        published = [({"num_classes": 11}, 363_791)]

``options`` make a quick small version for the tests that compute; ``published`` are parameter counts, taken on the meta
device, so they may be as large as the paper's.
"""

from __future__ import annotations

import fnmatch
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from delineate.models.catalogue import MODELS, create_model, parameter_count
from delineate.structures.outputs import SemanticOutputs

ODD_SIZES = [(1, 1), (33, 47), (97, 65)]


class Logits(nn.Module):
    """The logits of a segmenter as a bare tensor, which is what torch.export can return."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).logits


class SegmenterTests:
    name: str
    options: dict[str, Any] = {}
    num_classes: int = 3
    published: list[tuple[dict[str, Any], int]] = []
    # parameters that no gradient reaches, as glob patterns: say why beside them
    without_gradient: tuple[str, ...] = ()
    sizes: list[tuple[int, int]] = ODD_SIZES
    # the size of training images; large enough for the deepest feature to have more than one pixel
    training_size: tuple[int, int] = (64, 96)

    def build(self, **options: Any) -> nn.Module:
        return create_model(self.name, **{"num_classes": self.num_classes, "in_channels": 3, **self.options, **options})

    def batch(self, count: int = 2, channels: int = 3) -> tuple[Tensor, Tensor]:
        """Noise in which the class can be seen: label = brightness of the left, the middle, the right."""
        height, width = self.training_size
        target = (torch.arange(width) * self.num_classes // width).expand(count, height, width).contiguous()
        images = torch.randn(count, channels, height, width) * 0.3 + target[:, None]
        return images, target

    def loss(self, model: nn.Module, images: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of every head with the dropout of one fixed seed, so that two calls can be compared."""
        torch.manual_seed(1)
        outputs = model(images)
        heads = (outputs.logits, *outputs.auxiliary)
        return torch.stack([F.cross_entropy(logits, target) for logits in heads]).sum()

    def test_has_a_catalogue_entry_with_its_paper(self) -> None:
        entry = MODELS[self.name]
        assert entry.name == self.name
        assert 1980 < entry.year < 2100
        assert entry.paper
        assert entry.summary

    def test_has_the_published_number_of_parameters(self) -> None:
        for options, expected in self.published:
            assert parameter_count(self.name, **options) == expected, options

    def test_says_its_classes_and_channels(self) -> None:
        model = self.build(num_classes=4, in_channels=2)
        assert (model.num_classes, model.in_channels) == (4, 2)

    @torch.no_grad()
    def test_logits_have_the_size_of_any_input(self) -> None:
        model = self.build().eval()
        for height, width in self.sizes:
            outputs = model(torch.randn(1, 3, height, width))
            assert outputs.logits.shape == (1, self.num_classes, height, width)
            assert outputs.logits.isfinite().all()

    @pytest.mark.parametrize("channels", [1, 4])
    @torch.no_grad()
    def test_takes_any_number_of_channels(self, channels: int) -> None:
        model = self.build(in_channels=channels).eval()
        images = torch.randn(1, channels, 33, 47)
        logits = model(images).logits
        assert logits.shape == (1, self.num_classes, 33, 47)
        images[:, -1] += 1
        assert not torch.equal(model(images).logits, logits) or self.starts_constant(model)

    def starts_constant(self, model: nn.Module) -> bool:
        """Whether the untrained model answers the same everywhere (a zero-initialised classifier)."""
        logits = model(torch.randn(1, model.in_channels, 33, 47)).logits
        return bool((logits == logits[..., :1, :1]).all())

    @torch.no_grad()
    def test_returns_one_type_in_training_and_evaluation(self) -> None:
        model, (images, _) = self.build(), self.batch()
        for training in (True, False):
            outputs = model.train(training)(images)
            assert type(outputs) is SemanticOutputs
            assert outputs.logits.shape == (2, self.num_classes, *self.training_size)

    def test_gradients_reach_every_parameter_and_one_step_lowers_the_loss(self) -> None:
        model = self.build().train()
        images, target = self.batch()
        # the first step moves zero-initialised classifiers, behind which no gradient passes yet
        for _ in range(3):
            model.zero_grad(set_to_none=True)
            before = self.loss(model, images, target)
            before.backward()
            gradients = [parameter for parameter in model.parameters() if parameter.grad is not None]
            squared = sum(parameter.grad.double().square().sum() for parameter in gradients)
            with torch.no_grad():
                for parameter in gradients:
                    # as long as the slope promises a loss lower by a fiftieth
                    parameter -= 0.02 * float(before) / float(squared) * parameter.grad
            after = self.loss(model, images, target)
            assert after < before
        missing = [
            name
            for name, parameter in model.named_parameters()
            if (parameter.grad is None or not parameter.grad.any())
            and not any(fnmatch.fnmatchcase(name, pattern) for pattern in self.without_gradient)
        ]
        assert missing == []

    @torch.no_grad()
    def test_evaluation_repeats_and_keeps_no_trace_of_earlier_sizes(self) -> None:
        model = self.build().eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        images = torch.randn(1, 3, 33, 47)
        first = model(images).logits
        model(torch.randn(2, 3, 40, 24))
        assert torch.equal(model(images).logits, first)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    @torch.no_grad()
    def test_state_dict_carries_the_whole_model(self) -> None:
        model = self.build()
        model.train()(self.batch()[0])  # moves the batch statistics away from their start
        torch.manual_seed(7)
        other = self.build()
        other.load_state_dict(model.state_dict())
        images = torch.randn(1, 3, 33, 47)
        assert torch.equal(model.eval()(images).logits, other.eval()(images).logits)

    @torch.no_grad()
    def test_memory_format_changes_nothing_and_bfloat16_stays_finite(self) -> None:
        model = self.build().eval()
        images = torch.randn(2, 3, 40, 56)
        expected = model(images).logits
        model.to(memory_format=torch.channels_last)
        logits = model(images.to(memory_format=torch.channels_last)).logits
        torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(images).logits.isfinite().all()

    @pytest.mark.slow
    @torch.no_grad()
    def test_exports_to_onnx_with_dynamic_batch_and_size(self, tmp_path: Path) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
        model = Logits(self.build().eval())
        dynamic = torch.export.Dim.DYNAMIC
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.onnx warns of its own deprecations
            torch.onnx.export(
                model,
                (torch.randn(2, 3, 70, 101),),
                tmp_path / "model.onnx",
                dynamo=True,
                dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
                verbose=False,
            )
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
        for shape in [(1, 3, 1, 1), (1, 3, 33, 47), (3, 3, 128, 65)]:
            images = torch.randn(*shape)
            (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
            torch.testing.assert_close(torch.from_numpy(logits), model(images), atol=1e-4, rtol=1e-4)


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Give ``target`` the state of a reference implementation that has the same layers under other names."""
    values, names = list(source.state_dict().values()), list(target.state_dict())
    assert len(values) == len(names)
    target.load_state_dict(dict(zip(names, values, strict=True)))
