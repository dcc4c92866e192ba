"""Detectors in ONNX: the graph's way of decoding against the image by image one, and files against both."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor, nn

from delineate.engine.weights import ModelCard
from delineate.errors import ArgumentError
from delineate.export import catalogue
from delineate.export import detectors as module
from delineate.export.detection_graph import NOTHING, Objects, survivors
from delineate.export.detectors import ExportedDetector, export_detector
from delineate.export.onnx import export_onnx
from delineate.models.blocks.anchor_rows import anchor_rows
from delineate.models.faster_rcnn import faster_rcnn, faster_rcnn_vgg16
from delineate.models.localizer import localizer
from delineate.models.mask_rcnn import keypoint_rcnn, mask_rcnn
from delineate.models.multibox import multibox
from delineate.models.retinanet import retinanet
from delineate.models.ssd import ssd300
from delineate.models.yolo9000 import yolo9000
from delineate.models.yolov1 import yolov1
from delineate.models.yolov2 import yolov2
from delineate.ops.anchors import base_anchors, pyramid_anchors
from delineate.ops.padding import pad_to_multiple
from delineate.postprocess.detection import detected_objects
from delineate.structures.outputs import AnchorOutputs, SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.scored_boxes import DetectionOptions
from delineate.structures.taxonomy import Taxonomy

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZE = (64, 96)
SMALL = (40, 50)  # Tiny's, which pads it
PIXELS = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
NAMES = ["boxes", "scores", "labels", "image_indices"]
EXPORTED = ["retinanet", "ssd300", "yolov1", "yolov2", "yolo9000", "localizer", "multibox"]
EXPORTED += ["faster_rcnn", "faster_rcnn_vgg16", "keypoint_rcnn"]


class Tiny(nn.Module):
    """Two levels of anchors, read straight from the pixels."""

    num_classes, in_channels = 3, 3
    decoding = DetectionOptions(score_threshold=0.6, candidates=30, most=8)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 7, 8, stride=8), nn.Dropout(0.5), nn.Conv2d(3, 7, 16, stride=16)])

    def forward(self, images: Tensor) -> AnchorOutputs:
        padded = pad_to_multiple(images, 16)
        maps = [self.layers[0](padded), self.layers[2](self.layers[1](padded))]
        sizes = [(level.shape[2], level.shape[3]) for level in maps]
        bases = [base_anchors([12], [1.0]), base_anchors([30], [1.0])]
        anchors = pyramid_anchors(bases, sizes, over=(padded.shape[2], padded.shape[3]))
        rows = torch.cat([anchor_rows(level, 7) for level in maps], dim=1)
        counts = tuple(level.shape[0] for level in anchors)
        return AnchorOutputs(rows[..., :3], rows[..., 3:], torch.cat(anchors), counts)


class Dishonest(Tiny):
    """Moves its boxes while it is exported."""

    def forward(self, images: Tensor) -> AnchorOutputs:
        outputs = super().forward(images)
        return replace(outputs, deltas=outputs.deltas + 0.01) if torch.compiler.is_exporting() else outputs


def small(name: str) -> tuple[nn.Module, tuple[int, int]]:
    """A quick version of a detector in evaluation mode, and the size of images to try it on."""
    pyramid: dict[str, Any] = {"encoder": "test_resnet", "channels": 8}
    regions: dict[str, Any] = {**pyramid, "hidden": 8, "after": 40}
    made: dict[str, Any] = {
        "retinanet": lambda: retinanet(3, layers=1, **pyramid),
        "ssd300": lambda: ssd300(3, width=0.04),
        "yolov1": lambda: yolov1(3, grid=2, width=0.05, hidden=8),
        "yolov2": lambda: yolov2(3, width=0.05),
        "yolo9000": lambda: yolo9000(4, tree=("thing", "plant", "thing/dog", "thing/cat"), width=0.05),
        "localizer": lambda: localizer(3, encoder="test_resnet", bins=2, objects=4, hidden=(8,)),
        "multibox": lambda: multibox(3, encoder="test_resnet", bins=1, hidden=(8,), class_head="regions"),
        "faster_rcnn": lambda: faster_rcnn(3, **regions),
        "faster_rcnn_vgg16": lambda: faster_rcnn_vgg16(3, width=0.05, hidden=8),
        "mask_rcnn": lambda: mask_rcnn(3, head_channels=8, **regions),
        "keypoint_rcnn": lambda: keypoint_rcnn(1, joints=4, head_channels=8, **regions),
    }
    model = made[name]().eval()
    return model, getattr(model, "input_size", SIZE)


def listed(model: nn.Module, images: Tensor, options: DetectionOptions) -> Objects:
    """What the model finds, image by image."""
    with torch.no_grad():
        each = detected_objects(model(images), [(images.shape[2], images.shape[3])] * len(images), options)
    owners = torch.repeat_interleave(torch.tensor([len(one) for one in each]))
    columns = (torch.cat([getattr(one, name) for one in each]) for name in ("boxes", "scores", "labels"))
    return Objects(*columns, owners)


def assert_same(found: Sequence[Tensor], expected: Objects) -> None:
    """The same objects in the same order, but for what is equally good."""
    found = Objects(*found[:4])
    assert [len(column) for column in found] == [len(expected.scores)] * 4
    torch.testing.assert_close(found.scores, expected.scores, rtol=0, atol=1e-4)
    assert torch.equal(found.images, expected.images)
    near = (found.boxes[:, None] - expected.boxes).abs().amax(-1) <= 0.05
    same = near & (found.labels[:, None] == expected.labels) & (found.images[:, None] == expected.images)
    assert same.any(0).all()
    assert same.any(1).all()


def run(path: Path, images: Tensor, threshold: float | None = None) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"images": images.numpy()}
    if threshold is not None:
        given["score_threshold"] = torch.tensor(threshold).numpy()
    return [torch.from_numpy(column) for column in session.run(None, given)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tiny, Path]:
    """A model in training mode on float64, and its file with everything in it."""
    torch.manual_seed(0)
    model = Tiny().double().train()
    path = tmp_path_factory.mktemp("export") / "new" / "tiny.onnx"
    taxonomy = Taxonomy(("cell", "nucleus", "Grät"))
    facts = {"task": "detection"}
    export_detector(model, path, in_channels=3, size=SMALL, preprocessing=PIXELS, taxonomy=taxonomy, facts=facts)
    return model, path


@pytest.fixture(scope="module")
def twin(tiny: tuple[Tiny, Path]) -> Tiny:
    """The same model as it was exported."""
    return copy.deepcopy(tiny[0]).float().eval()


def pixels(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_what_suppression_leaves_of_each_row_by_hand():
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 5], [6, 0, 9, 4]], [[0, 0, 1, 1], [2, 0, 3, 1], [4, 0, 5, 1]]])
    scores = torch.tensor([[[0.8, 0.9, 0.3], [0.9, NOTHING, 0.3]], [[0.3, 0.2, 0.1], [NOTHING] * 3]])
    expected = [[[False, True, True], [True, False, True]], [[True, True, False], [False] * 3]]
    assert survivors(boxes, scores, 0.5, 2).tolist() == expected


@pytest.mark.parametrize("name", EXPORTED)
@torch.no_grad()
def test_a_batch_at_once_equals_image_by_image(name: str):
    model, size = small(name)
    images = torch.randn(3, 3, *size)
    images[1] *= 3
    for options in (
        DetectionOptions(score_threshold=0.0, candidates=50, most=12),
        DetectionOptions(score_threshold=0.0, candidates=20, most=300, groups="class", iou_threshold=0.3),
    ):
        every = listed(model, images, options)
        best = [float(every.scores[every.images == image].max()) for image in range(3)]
        between = (min(best) + sorted(best)[1]) / 2  # one image has nothing above
        for threshold in (0.0, between, 1e9):
            found = ExportedDetector(model, None, options)(images, torch.tensor(threshold))
            assert_same(found, listed(model, images, replace(options, score_threshold=threshold)))
    assert len(found[1]) == 0


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_takes_raw_pixels_of_any_batch(tiny: tuple[Tiny, Path], twin: Tiny, batch: int):
    images = pixels(batch, 3, *SMALL)
    every = listed(twin, PIXELS(images), replace(twin.decoding, score_threshold=0.0))
    assert len(every.scores) > 0
    assert_same(run(tiny[1], images.float(), 0.0), every)
    assert_same(run(tiny[1], images.float()), listed(twin, PIXELS(images), twin.decoding))


def test_an_image_without_objects_and_a_batch_of_them(tiny: tuple[Tiny, Path], twin: Tiny):
    images = pixels(3, 3, *SMALL)
    every = listed(twin, PIXELS(images), replace(twin.decoding, score_threshold=0.0))
    best = sorted((float(every.scores[every.images == image].max()), image) for image in range(3))
    found = run(tiny[1], images.float(), (best[0][0] + best[1][0]) / 2)
    assert set(found[3].tolist()) == {best[1][1], best[2][1]}
    nothing = run(tiny[1], images.float(), 2.0)
    assert [tuple(column.shape) for column in nothing] == [(0, 4), (0,), (0,), (0,)]


def test_names_types_and_metadata(tiny: tuple[Tiny, Path]):
    session = onnxruntime.InferenceSession(str(tiny[1]), providers=["CPUExecutionProvider"])
    (images,), (threshold,) = session.get_inputs(), session.get_overridable_initializers()
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["batch", 3, *SMALL])
    assert (threshold.name, threshold.type, threshold.shape) == ("score_threshold", "tensor(float)", [])
    assert [(one.name, one.type, one.shape) for one in session.get_outputs()] == [
        ("boxes", "tensor(float)", ["objects", 4]),
        ("scores", "tensor(float)", ["objects"]),
        ("labels", "tensor(int64)", ["objects"]),
        ("image_indices", "tensor(int64)", ["objects"]),
    ]
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    assert metadata["input"] == "pixels"
    assert json.loads(metadata["classes"]) == ["cell", "nucleus", "Grät"]
    assert json.loads(metadata["task"]) == "detection"
    expected = {"score_threshold": 0.6, "iou_threshold": 0.5, "candidates": 30, "groups": "level", "most": 8}
    assert json.loads(metadata["decoding"]) == expected


def test_one_file_and_the_model_left_as_it_was(tiny: tuple[Tiny, Path]):
    model, path = tiny
    assert [file.name for file in path.parent.iterdir()] == ["tiny.onnx"]
    assert model.training
    assert model.layers[0].weight.dtype == torch.float64


def test_masks_and_proposals_in_a_file_of_one_size(tmp_path: Path):
    """The export compares masks with the model's by itself."""
    model, _ = small("mask_rcnn")
    options = DetectionOptions(score_threshold=0.1, most=5)
    path = export_detector(model, tmp_path / "masks.onnx", in_channels=3, size=SIZE, options=options)
    images = torch.randn(2, 3, *SIZE)
    found = run(path, images, 0.0)
    assert_same(found, listed(model, images, replace(options, score_threshold=0.0)))
    assert tuple(found[4].shape) == (10, 28, 28)
    assert 0 <= found[4].min() < found[4].max() <= 1
    assert [tuple(column.shape) for column in run(path, images[:1], 2.0)] == [(0, 4), (0,), (0,), (0,), (0, 28, 28)]


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_every_detector_exports(tmp_path: Path, name: str):
    """The export compares the file with the model by itself."""
    model, size = small(name)
    path = export_detector(model, tmp_path / f"{name}.onnx", in_channels=3, size=size, preprocessing=PIXELS)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    maps = ["heatmaps"] if name == "keypoint_rcnn" else []
    assert [one.name for one in session.get_outputs()] == NAMES + maps
    assert session.get_inputs()[0].shape == ["batch", 3, *size]


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """Without the annotations' checks: sizes that stay open are no ints while a model is exported."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_takes_images_of_any_size(tmp_path: Path):
    model = Tiny().eval()
    path = export_detector(model, tmp_path / "any.onnx", in_channels=3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    for shape in ((1, 3, 33, 20), (4, 3, 64, 96), (2, 3, 16, 16)):  # the last of one place at the coarser level
        images = torch.randn(*shape)
        assert_same(run(path, images, 0.0), listed(model, images, replace(model.decoding, score_threshold=0.0)))


def test_a_file_that_finds_something_else_is_refused(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    said = r"^model must find in ONNX the objects .* or of another score or class for images of 3 x 3 x 40 x 50\.$"
    with pytest.raises(ArgumentError, match=said):
        export_detector(Dishonest().eval(), path, in_channels=3, size=SMALL)
    assert path.read_bytes() == b"old"


def test_argument_errors(tmp_path: Path):
    path = tmp_path / "a.onnx"
    with pytest.raises(ArgumentError, match="in_channels must be the 3 that the model takes; got 1"):
        export_detector(Tiny(), path, in_channels=1)
    with pytest.raises(ArgumentError, match='groups must be "level" or "class"; got "image"'):
        export_detector(Tiny(), path, in_channels=3, options=DetectionOptions(groups="image"))
    with pytest.raises(ArgumentError, match=r"size must be the \(128, 128\) that the model takes; got \(64, 64\)"):
        export_detector(small("yolov1")[0], path, in_channels=3, size=(64, 64))
    assert not path.exists()


@pytest.mark.usefixtures("unchecked_shapes")
def test_each_kind_of_model_has_its_own_function(tmp_path: Path):
    class Segmenter(nn.Module):
        def forward(self, images: Tensor) -> SemanticOutputs:
            return SemanticOutputs(images)

    with pytest.raises(ArgumentError, match=r"^model must be a detector; got SemanticOutputs\. .*export_onnx"):
        export_detector(Segmenter(), tmp_path / "a.onnx", in_channels=3, size=SMALL)
    with pytest.raises(ArgumentError, match=r"^model must be a segmenter; got AnchorOutputs\. .*export_detector"):
        export_onnx(Tiny(), tmp_path / "a.onnx", in_channels=3)


@pytest.mark.parametrize(
    ("fit", "size"),
    [
        ({}, None),
        ({"fit": "shortest", "size": None, "shortest": [600, 800], "longest": 1333}, (800, 1333)),
        ({"fit": "letterbox", "size": [64, 96]}, (64, 96)),
    ],
)
def test_a_card_says_how_its_model_is_exported(monkeypatch: pytest.MonkeyPatch, fit: dict[str, Any], size: Any):
    given: dict[str, Any] = {}
    monkeypatch.setattr(catalogue, "export_detector", lambda model, path, **options: given.update(options))
    card = ModelCard("x", {}, PIXELS, Taxonomy(("cell",)), task="detection", fit=fit)
    catalogue.EXPORTERS["onnx"](Tiny(), Path("a.onnx"), card)
    assert given["size"] == size
    assert given["facts"] == {"task": "detection", **({"fit": fit} if fit else {})}
    assert given["preprocessing"] is PIXELS


def test_what_is_checked_tells_something():
    """Thresholds with some objects, with none in one image, and with none at all."""
    torch.manual_seed(0)
    exported = ExportedDetector(Tiny().eval(), None, DetectionOptions(score_threshold=2.0))
    images = torch.randn(3, 3, *SIZE)
    with torch.no_grad():
        outputs = exported.model(images)
        thresholds = module._telling_thresholds(exported, outputs, SIZE)
        counts = [listed(exported.model, images, replace(exported.options, score_threshold=t)) for t in thresholds]
    assert len(counts[0].scores) == 0
    assert 10 <= len(counts[1].scores) <= 30
    assert 0 < len(counts[2].images.unique()) < 3
