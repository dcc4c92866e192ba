from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from delineate.errors import ArgumentError, MissingDependencyError
from delineate.export import onnx as module
from delineate.export.onnx import export_onnx
from delineate.models.catalogue import create_model
from delineate.ops.mirroring import mirror_pad
from delineate.ops.padding import crop_to_size, pad_to_multiple
from delineate.ops.unpooling import max_pool, max_unpool
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy
from tests.models.small import SMALL

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# behind a lattice whose size depends on the image
NOT_EXPRESSIBLE = ("crf_rnn",)


class Tiny(nn.Module):
    """Every operation with a form of its own for export, in a few layers."""

    num_classes, in_channels = 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> SemanticOutputs:
        features = self.first(mirror_pad(pad_to_multiple(images, 4), (1, 1, 1, 1)))
        values, indices = max_pool(features)
        unpooled = max_unpool(values, indices, features.shape[2:])
        return SemanticOutputs(crop_to_size(self.last(unpooled), images.shape[2:]))


class Given(nn.Module):
    """A model whose logits are ``function`` of the images."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> SemanticOutputs:
        return SemanticOutputs(self.function(images))


def run(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Path]:
    """A model in training mode on float64, and its file with everything in it."""
    torch.manual_seed(0)
    model = Tiny().double().train()
    path = tmp_path_factory.mktemp("export") / "new" / "tiny.onnx"
    taxonomy = Taxonomy(("background", "Gebäude"), background=0, ignore_index=254)
    preprocessing = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert export_onnx(model, path, in_channels=3, preprocessing=preprocessing, taxonomy=taxonomy) == path
    return model, path


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (4, 3, 33, 20), (2, 3, 64, 64)])
def test_takes_raw_pixels_of_any_batch_and_size(tiny: tuple[Tiny, Path], shape: tuple[int, ...]):
    model, path = tiny
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    images = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))(pixels)
    twin = Tiny().eval()
    twin.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    with torch.no_grad():
        expected = twin(images).logits
    torch.testing.assert_close(run(path, pixels.float()), expected, rtol=1e-4, atol=1e-4)


def test_metadata_and_names(tiny: tuple[Tiny, Path]):
    session = onnxruntime.InferenceSession(str(tiny[1]), providers=["CPUExecutionProvider"])
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["batch", 3, "height", "width"])
    assert (logits.name, logits.shape) == ("logits", ["batch", 2, "height", "width"])
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    assert metadata.pop("input") == "pixels"
    assert {name: json.loads(value) for name, value in metadata.items()} == {
        "classes": ["background", "Gebäude"],
        "colours": [[0, 0, 0], [128, 0, 0]],
        "ignore_index": 254,
        "background": 0,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
    }


def test_one_file_and_the_model_left_as_it_was(tiny: tuple[Tiny, Path]):
    model, path = tiny
    assert [file.name for file in path.parent.iterdir()] == ["tiny.onnx"]
    assert model.training
    assert model.last.weight.dtype == torch.float64


def test_without_preprocessing_it_takes_normalised_images_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture
):
    path = tmp_path / "scaled.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(Given(lambda images: images[:, :2] * 2), str(path), in_channels=3, opset=18)
    assert capfd.readouterr() == ("", "")
    images = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(run(path, images), images[:, :2] * 2)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {"input": "normalised"}
    assert "version: 18" in str(importlib.import_module("onnx").load(path).opset_import)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda images: images / float(images.shape[2]), "model must be expressible in ONNX; got: Found the following"),
        (lambda images: torch.special.bessel_j0(images), "model must be expressible in ONNX; got: "),
        (
            lambda images: images * (2 if torch.compiler.is_exporting() else 3),
            "the logits it gives in PyTorch, within 0.0001 of the largest; got 0.333 for images of 1 x 3 x 48 x 64.",
        ),
        (
            lambda images: images[:, :, 1:] if torch.compiler.is_exporting() else images,
            "give in ONNX logits of (1, 3, 48, 64) for images of 1 x 3 x 48 x 64; got (1, 3, 47, 64).",
        ),
    ],
)
def test_a_failed_export_says_so_and_keeps_the_old_file(tmp_path: Path, function, said: str):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ArgumentError) as caught:
        export_onnx(Given(function), path, in_channels=3)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_argument_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ArgumentError, match="in_channels must be the 1 channels of preprocessing; got 3"):
        export_onnx(Tiny(), tmp_path / "a.onnx", in_channels=3, preprocessing=Preprocessing((0.5,), (0.5,)))
    with pytest.raises(ArgumentError, match="in_channels must be the 3 that the model takes; got 4"):
        export_onnx(Tiny(), tmp_path / "a.onnx", in_channels=4)
    monkeypatch.setattr(module, "LARGEST_FILE", 100)
    with pytest.raises(ArgumentError, match=r"model must fit into one ONNX file of 2 GB; got 0\.0 GB"):
        export_onnx(Tiny(), tmp_path / "a.onnx", in_channels=3)


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == library else find(name, *rest))
    with pytest.raises(MissingDependencyError, match=rf"{library} must be installed .* 'delineate\[export\]'"):
        export_onnx(Tiny(), tmp_path / "a.onnx", in_channels=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SMALL) - set(NOT_EXPRESSIBLE)))
def test_every_model_exports(tmp_path: Path, name: str):
    """The export compares the file with the model by itself, at two other batches and sizes."""
    model = create_model(name, **{"num_classes": 3, "in_channels": 3, **SMALL[name]})
    assert export_onnx(model, tmp_path / f"{name}.onnx", in_channels=3, preprocessing=Preprocessing()).is_file()


@pytest.mark.parametrize("name", NOT_EXPRESSIBLE)
def test_what_cannot_be_exported_says_why(tmp_path: Path, name: str):
    with pytest.raises(
        ArgumentError, match=r"^model must have no permutohedral lattice to be exported; got a CRF as a"
    ):
        export_onnx(create_model(name, num_classes=3, **SMALL[name]), tmp_path / "a.onnx", in_channels=3)
