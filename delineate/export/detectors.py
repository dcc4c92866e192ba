"""A detector as one ONNX file: from pixels to boxes, scores and classes, decoding and suppression inside."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delineate.checks import require
from delineate.export.detection_graph import (
    Objects,
    clamp_in_onnx,
    one_stage_objects,
    roi_pool_in_onnx,
    survivors_in_onnx,
    topk_in_onnx,
    two_stage_objects,
    two_stage_outputs,
)
from delineate.export.onnx import DRAWS, Exported, check_exportable, exported_program, metadata, session_of
from delineate.files import replaced_file
from delineate.models.faster_rcnn import FasterRCNN
from delineate.ops.torchvision_ops import torchvision_operator
from delineate.postprocess.detection import GROUPS, detected_objects
from delineate.structures.outputs import AnchorOutputs, GridOutputs, RegionOutputs, SlotOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.scored_boxes import DetectionOptions
from delineate.structures.taxonomy import Taxonomy

# images of any size are traced with one whose coarsest level has several places: a single one would be taken for a rule
TRACED_SIZE = (193, 289)
CHECKED_SIZES = ((150, 200), (60, 90))
TOLERANCE = 1e-4  # of a score, and of a corner as a share of the images' longer side
MAP_TOLERANCE = 1e-3  # of a mask's or heat map's value
FEW = (10, 30)  # objects that a check compares, about
COLUMNS = ("boxes", "scores", "labels", "image_indices")  # "images" are the input
MAPS = {"masks": "masks", "keypoints": "heatmaps"}  # what a model describes, and what the output is called


class ExportedDetector(Exported):
    """What the file computes: pixels or normalised images, and the score to be above, to objects.

    Args:
        model: the detector.
        preprocessing: what turns pixels 0..255 into the model's input; None when images come normalised.
        options: how its outputs are decoded.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing | None, options: DetectionOptions) -> None:
        super().__init__(model, preprocessing)
        self.options = options
        self.describes: str | None = getattr(model, "describes", None)

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        return [*COLUMNS, *([MAPS[self.describes]] if self.describes else [])]

    def forward(self, images: Tensor, score_threshold: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The columns of :class:`~delineate.export.detection_graph.Objects`, and the maps where the model has them.

        Raises:
            ArgumentError: when the model is no detector.
        """
        size, inputs = (images.shape[-2], images.shape[-1]), self.inputs(images)
        if isinstance(self.model, FasterRCNN):
            outputs, ranks, count = two_stage_outputs(self.model, inputs)
            found = two_stage_objects(outputs, ranks, count, size, self.options, score_threshold)
            return (*found, *([self.maps(outputs, found)] if self.describes else []))
        outputs = self.model(inputs)
        known = isinstance(outputs, AnchorOutputs | GridOutputs | SlotOutputs)
        advice = "delineate.export.onnx.export_onnx exports segmenters."
        require(known, "model", "be a detector", type(outputs).__name__, advice)
        return one_stage_objects(outputs, size, self.options, score_threshold)

    def maps(self, outputs: RegionOutputs, found: Objects) -> Tensor:
        """Of each object its class's mask as probabilities, (N, S, S), or the logits of its joints, (N, J, S, S)."""
        maps: Tensor = self.model.described(outputs, found.boxes, found.images)  # type: ignore[operator]
        if self.describes == "keypoints":
            return maps
        own = found.labels[:, None, None, None].expand(-1, 1, *maps.shape[2:])
        return maps.gather(1, own)[:, 0].sigmoid()


def export_detector(
    model: nn.Module,
    path: str | Path,
    *,
    in_channels: int,
    size: tuple[int, int] | None = None,
    options: DetectionOptions | None = None,
    opset: int | None = None,
    preprocessing: Preprocessing | None = None,
    taxonomy: Taxonomy | None = None,
    facts: Mapping[str, object] | None = None,
    check: bool = True,
) -> Path:
    """Write ``model`` as an ONNX file that takes any batch of images of one size; returns the path.

    Input "images" is float32 ``B C H W`` (RGB): raw pixel values 0..255 when ``preprocessing`` is given, whose
    normalisation is then part of the file; otherwise already normalised. Input "score_threshold" may be left out, and
    is then that of ``options``: objects have a higher score.

    Outputs are one row an object, image by image and best first: "boxes" ``N 4``, xyxy in pixels of ``images``;
    "scores" ``N``; "labels" ``N``, from 0; "image_indices" ``N``, which image of the batch. An image without objects
    has no row, and there may be none at all. A model with masks has "masks" ``N S S`` too: the probabilities in the
    box, which :func:`~delineate.postprocess.mask_pasting.paste_masks` turns into a mask of any picture's size. One with
    joints has "heatmaps" ``N J S S``, the logits of each joint's place in the box, for
    :func:`~delineate.postprocess.keypoint_decoding.decode_keypoints`.

    The file's metadata are those of :func:`~delineate.export.onnx.export_onnx`, with "decoding", the options, as JSON.
    The model itself is left as it was.

    Args:
        model: a detector, on any device and in any mode; exported in evaluation mode and float32.
        path: the file; written whole or not at all.
        in_channels: of the images.
        size: (height, width) that all images have: the file is smaller then, and its anchors are constants. None for
            the one size that the model takes, or else for any.
        options: how the model's outputs become objects; None for ``model.decoding``.
        opset: the ONNX operator set; None for the exporter's own choice.
        preprocessing: the normalisation to put into the file.
        taxonomy: the classes to write into the metadata.
        facts: more for the metadata, each as JSON.
        check: runs the file with onnxruntime on other batches, among them images without objects, and compares with
            the model.

    Raises:
        MissingDependencyError: when the libraries of ``delineate[export]`` are not installed.
        ArgumentError: when ``in_channels`` or ``size`` is not what the model or ``preprocessing`` takes, when the model
            is no detector, cannot be exported or outgrows the 2 GB of one file, or when the file does not find the same
            objects, scores within a ten-thousandth and corners within a ten-thousandth of the images' longer side.
    """
    check_exportable(model, in_channels, preprocessing, check=check)
    options = getattr(model, "decoding", DetectionOptions()) if options is None else options
    require(options.groups in GROUPS, "groups", 'be "level" or "class"', f'"{options.groups}"')
    takes = getattr(model, "input_size", None)
    if takes is not None:
        require(
            size is None or tuple(size) == tuple(takes), "size", f"be the {tuple(takes)} that the model takes", size
        )
        size = takes
    exported = ExportedDetector(copy.deepcopy(model), preprocessing, options).eval().float().cpu()
    program = _program(exported, in_channels, size, opset)
    chosen = {name: value for name, value in asdict(options).items() if value is not None}
    about = {"decoding": chosen, **(facts or {})}
    program.model.metadata_props.update(metadata(preprocessing, taxonomy, about))
    with replaced_file(path) as temporary:
        program.save(str(temporary), external_data=False)
        if check:
            several, one = (size, size) if size is not None else CHECKED_SIZES
            _check(exported, temporary, ((3, in_channels, *several), (1, in_channels, *one)))
    return Path(path)


def _program(
    exported: ExportedDetector, in_channels: int, size: tuple[int, int] | None, opset: int | None
) -> torch.onnx.ONNXProgram:
    import onnx_ir

    threshold = torch.tensor(float(exported.options.score_threshold))
    translations: dict[Any, Any] = {torch.ops.delineate.survivors.default: survivors_in_onnx}
    if isinstance(exported.model, FasterRCNN):
        torchvision_operator("roi_pool")  # loads the library, or says why it cannot
        translations[torch.ops.torchvision.roi_pool.default] = roi_pool_in_onnx
    shapes: dict[int, str] = {0: "batch"}
    if size is None:
        shapes |= {2: "height", 3: "width"}
        translations[torch.ops.aten.topk.default] = topk_in_onnx
        translations[torch.ops.aten.clamp.default] = clamp_in_onnx
    program = exported_program(
        exported,
        (torch.zeros(2, in_channels, *(size or TRACED_SIZE)), threshold),
        dynamic_shapes={"images": shapes, "score_threshold": None},
        input_names=["images", "score_threshold"],
        output_names=exported.names,
        opset_version=opset,
        custom_translation_table=translations,
    )
    graph = program.model.graph
    given = graph.inputs[1]
    given.const_value = onnx_ir.tensor(threshold.numpy(), name=given.name)
    graph.register_initializer(given)  # an input with an initial value may be left out
    for column in graph.outputs:
        column.shape = onnx_ir.Shape(["objects", *list(column.shape or ())[1:]])
    return program


def _check(exported: ExportedDetector, path: Path, shapes: tuple[tuple[int, ...], ...]) -> None:
    """Compare the file with the model, on noise; raise unless they find the same."""
    session = session_of(path)
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        said = ""
        for _ in range(DRAWS):  # rarely, a near-tie of two scores or overlaps falls to the other side
            said = _difference(exported, session, exported.noise(shape, generator))
            if not said:
                break
        where = f"for images of {' x '.join(map(str, shape))}"
        require(not said, "model", "find in ONNX the objects that it finds in PyTorch", f"{said} {where}")


@torch.inference_mode()
def _difference(exported: ExportedDetector, session: Any, images: Tensor) -> str:
    """What the file finds differently, with its own threshold and those that tell most; "" if nothing."""
    outputs = exported.model(exported.inputs(images))
    size = (images.shape[-2], images.shape[-1])
    for threshold in (None, *_telling_thresholds(exported, outputs, size)):
        options = exported.options if threshold is None else replace(exported.options, score_threshold=threshold)
        each = detected_objects(outputs, [size] * len(images), options)
        owners = torch.repeat_interleave(torch.tensor([len(one) for one in each]))
        expected = Objects(
            torch.cat([one.boxes for one in each]),
            torch.cat([one.scores for one in each]),
            torch.cat([one.labels for one in each]),
            owners,
        )
        given = {"images": images.numpy()}
        if threshold is not None:
            given["score_threshold"] = np.array(threshold, np.float32)
        columns = [torch.from_numpy(column) for column in session.run(exported.names, given)]
        found = Objects(*columns[:4])
        if len(found.scores) != len(expected.scores):
            return f"{len(found.scores)} instead of {len(expected.scores)}"
        same = _same(expected, found, max(size))
        if not (same.any(0).all() and same.any(1).all()):
            return f"{int((~same.any(1)).sum())} of {len(same)} elsewhere, or of another score or class"
        if exported.describes and len(same):
            away = (columns[4][same.int().argmax(1)] - exported.maps(outputs, expected)).abs()
            if away.max() > MAP_TOLERANCE:
                return f"{MAPS[exported.describes]} that differ by {away.max():.3g}"
    return ""


def _same(expected: Objects, found: Objects, side: int) -> Tensor:
    """(N, M): which of the objects are the same ones."""
    near = (expected.boxes[:, None] - found.boxes).abs().amax(-1) <= TOLERANCE * side
    near &= (expected.scores[:, None] - found.scores).abs() <= TOLERANCE
    return near & (expected.labels[:, None] == found.labels) & (expected.images[:, None] == found.images)


def _telling_thresholds(exported: ExportedDetector, outputs: Any, size: tuple[int, int]) -> list[float]:
    """Scores to be above: for a few objects, for none in one of several images, and for none at all."""
    images = len(outputs.proposals.logits) if isinstance(outputs, RegionOutputs) else len(outputs.logits)
    options = replace(exported.options, score_threshold=-1e30, most=FEW[1])
    each = detected_objects(outputs, [size] * images, options)
    scores = torch.cat([one.scores for one in each]).sort(descending=True).values
    if not len(scores):
        return []
    first, last = min(FEW[0], len(scores) - 1), min(FEW[1], len(scores) - 1)
    gaps = (scores[:-1] - scores[1:])[first:last]
    thresholds = [float(scores[0]) + 1]
    if len(gaps):  # in the widest of them, so that rounding moves no score across
        place = first + int(gaps.argmax())
        thresholds.append(float(scores[place : place + 2].mean()))
    lowest = min(float(one.scores[0]) if len(one) else -1e30 for one in each)
    if bool((scores > lowest).any()):
        thresholds.append((lowest + float(scores[scores > lowest].min())) / 2 if lowest > -1e30 else lowest)
    return thresholds
