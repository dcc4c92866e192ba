"""A segmenter as one ONNX file: any batch, any size, the normalisation and the class names inside."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from delineate.checks import require
from delineate.errors import ArgumentError, DelineateError, MissingDependencyError
from delineate.files import replaced_file
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

TRACED_SHAPE = (2, 65, 97)  # batch, height, width: no multiple of anything, so that no shortcut for one is taken
CHECKED_SHAPES = ((1, 48, 64), (3, 37, 90))
TOLERANCE = 1e-4  # of the largest logit, or of 1
DRAWS = 3  # images at most; rarely, a near-tie in max-pooling falls to the other side and moves what is unpooled there
LARGEST_FILE = 2 * 10**9  # bytes; protobuf holds no more in one message
NOISY_LOGGERS = ("torch.onnx", "torch.export", "torch.fx", "torch._dynamo", "torch._inductor", "onnxscript", "onnx_ir")


class Exported(nn.Module):
    """What the file computes: pixels or normalised images to logits.

    Args:
        model: the segmenter; its ``forward`` returns ``SemanticOutputs``.
        preprocessing: what turns pixels 0..255 into the model's input; None when images come normalised.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.model = model
        self.normalises = preprocessing is not None
        if preprocessing is not None:
            mean, std = torch.tensor(preprocessing.mean) * 255, torch.tensor(preprocessing.std) * 255
            self.register_buffer("mean", mean.view(1, -1, 1, 1))
            self.register_buffer("scale", std.reciprocal().view(1, -1, 1, 1))

    def inputs(self, images: Tensor) -> Tensor:
        """What the model takes of the images."""
        return (images - self.mean) * self.scale if self.normalises else images

    def noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Images to try it on."""
        if self.normalises:
            return torch.randint(0, 256, shape, generator=generator).float()
        return torch.randn(*shape, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the size of the images.

        Raises:
            ArgumentError: when the model is no segmenter.
        """
        outputs = self.model(self.inputs(images))
        condition, advice = "be a segmenter", "delineate.export.detectors.export_detector exports detectors."
        require(isinstance(outputs, SemanticOutputs), "model", condition, type(outputs).__name__, advice)
        logits: Tensor = outputs.logits
        return logits


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    in_channels: int,
    opset: int | None = None,
    preprocessing: Preprocessing | None = None,
    taxonomy: Taxonomy | None = None,
    check: bool = True,
) -> Path:
    """Write ``model`` as an ONNX file that takes any batch of images of any one size; returns the path.

    Input "images" is float32 ``B C H W`` (RGB): raw pixel values 0..255 when ``preprocessing`` is given, whose
    normalisation is then part of the file; otherwise already normalised. Output "logits" is float32 ``B K H W``. The
    file's metadata say which ("input": "pixels" or "normalised"), and hold "mean", "std", "classes", "colours",
    "ignore_index" and "background" as JSON where they are known. The model itself is left as it was.

    Args:
        model: a segmenter, on any device and in any mode; exported in evaluation mode and float32.
        path: the file; written whole or not at all.
        in_channels: of the images.
        opset: the ONNX operator set; None for the exporter's own choice.
        preprocessing: the normalisation to put into the file.
        taxonomy: the classes to write into the metadata.
        check: runs the file with onnxruntime at two other batches and sizes and compares with the model.

    Raises:
        MissingDependencyError: when the libraries of ``delineate[export]`` are not installed.
        ArgumentError: when ``in_channels`` is not that of ``preprocessing`` or of the model, when the model is no
            segmenter, cannot be exported or outgrows the 2 GB of one file, or when the file's logits differ from the
            model's by more than a ten-thousandth of the largest one.
    """
    check_exportable(model, in_channels, preprocessing, check=check)
    exported = Exported(copy.deepcopy(model), preprocessing).eval().float().cpu()
    batch, height, width = TRACED_SHAPE
    program = exported_program(
        exported,
        (torch.zeros(batch, in_channels, height, width),),
        dynamic_shapes={"images": {0: "batch", 2: "height", 3: "width"}},
        input_names=["images"],
        output_names=["logits"],
        opset_version=opset,
    )
    program.model.metadata_props.update(metadata(preprocessing, taxonomy))
    with replaced_file(path) as temporary:
        program.save(str(temporary), external_data=False)
        if check:
            _check(exported, temporary, in_channels)
    return Path(path)


def check_exportable(
    model: nn.Module, in_channels: int, preprocessing: Preprocessing | None, *, check: bool = True
) -> None:
    """Raise unless the libraries are there and the model fits its channels and into one file.

    Args:
        model: what is exported.
        in_channels: of the images.
        preprocessing: of them.
        check: whether the file is run afterwards, which needs onnxruntime.

    Raises:
        MissingDependencyError: when the libraries of ``delineate[export]`` are not installed.
        ArgumentError: otherwise.
    """
    for library in ("onnx", "onnxscript", *(["onnxruntime"] if check else [])):
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(
                f"{library} must be installed to export; got none. Run: pip install 'delineate[export]'"
            )
    require(
        preprocessing is None or preprocessing.channels == in_channels,
        "in_channels",
        f"be the {preprocessing.channels if preprocessing else 0} channels of preprocessing",
        in_channels,
    )
    takes = getattr(model, "in_channels", in_channels)
    require(takes == in_channels, "in_channels", f"be the {takes} that the model takes", in_channels)
    bytes_needed = sum(value.numel() * 4 for value in model.state_dict().values())
    require(bytes_needed < LARGEST_FILE, "model", "fit into one ONNX file of 2 GB", f"{bytes_needed / 1e9:.1f} GB")


def exported_program(module: nn.Module, example: tuple[Tensor, ...], **options: Any) -> torch.onnx.ONNXProgram:
    """``module`` as an ONNX graph, without a word from the exporter.

    Args:
        module: in evaluation mode.
        example: its arguments.
        options: of :func:`torch.onnx.export`.

    Raises:
        ArgumentError: when ONNX cannot express it, with the reason.
    """
    with _quiet():
        try:
            program = torch.onnx.export(module, example, dynamo=True, verbose=False, **options)
        except torch.onnx.OnnxExporterError as error:
            if isinstance(error.__cause__, DelineateError):  # the model says itself why not
                raise error.__cause__ from None
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise ArgumentError(f"model must be expressible in ONNX; got: {reason}") from error
    assert program is not None  # dynamo=True returns one
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no log lines below an error: the exporter comments on its own internals."""
    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    try:
        for name in NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def metadata(
    preprocessing: Preprocessing | None, taxonomy: Taxonomy | None, facts: Mapping[str, object] | None = None
) -> dict[str, str]:
    """What the file says of itself beside its graph: names to JSON, and "input", which is plain text.

    Args:
        preprocessing: that is part of the graph.
        taxonomy: of the classes.
        facts: anything more.
    """
    values: dict[str, object] = dict(facts or {})
    if preprocessing is not None:
        values |= preprocessing.to_dict()
    if taxonomy is not None:
        values |= taxonomy.to_dict()
        values["classes"] = values.pop("names")
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return {"input": "normalised" if preprocessing is None else "pixels", **texts}


def session_of(path: Path) -> Any:
    """The file in onnxruntime on the CPU, with as many threads as PyTorch has and no word below an error."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _check(exported: Exported, path: Path, in_channels: int) -> None:
    """Compare the file with the model, on noise; raise unless they agree."""
    session = session_of(path)
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in CHECKED_SHAPES:
        size = f"{batch} x {in_channels} x {height} x {width}"
        differences = []
        for _ in range(DRAWS):
            images = exported.noise((batch, in_channels, height, width), generator)
            with torch.inference_mode():
                expected = exported(images)
            (found,) = session.run(["logits"], {"images": images.numpy()})
            logits = torch.from_numpy(found)
            require(
                logits.shape == expected.shape,
                "model",
                f"give in ONNX logits of {tuple(expected.shape)} for images of {size}",
                tuple(logits.shape),
            )
            differences.append(((logits - expected).abs().max() / expected.abs().max().clamp_min(1.0)).item())
            if differences[-1] <= TOLERANCE:
                break
        require(
            differences[-1] <= TOLERANCE,
            "model",
            f"give in ONNX the logits it gives in PyTorch, within {TOLERANCE:g} of the largest",
            f"{differences[-1]:.3g} for images of {size}",
        )
