"""The tables of models hold what they say: every figure of ours is computed again."""

import ast
import math
import re
from pathlib import Path

import pytest
import torch

from delineate.engine.model_facts import dense_part, model_facts
from delineate.models.catalogue import create_model, list_models, parameter_count
from delineate.structures.outputs import AnchorOutputs


def rows_of(page: str) -> list[list[str]]:
    text = (Path(__file__).parents[1] / "docs" / "models" / page).read_text(encoding="utf-8")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]


ROWS, DETECTORS = rows_of("semantic.md"), rows_of("detection.md")


def call(text: str) -> tuple[str, int, dict[str, object]]:
    node = ast.parse(text.strip("`"), mode="eval").body
    assert isinstance(node, ast.Call)
    options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    return node.func.id, ast.literal_eval(node.args[0]), options  # type: ignore[attr-defined]


def test_every_model_is_in_the_table():
    assert {call(row[0])[0] for row in ROWS} == set(list_models(task="semantic"))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_our_figures(row):
    name, classes, options = call(row[0])
    work = re.fullmatch(r"([\d.]+) G at (\d+) x (\d+)", row[4])
    assert work
    facts = model_facts(name, num_classes=classes, size=(int(work[2]), int(work[3])), **options)
    assert f"{facts.parameters:,}" == row[2]
    assert f"{facts.multiply_adds / 1e9:.1f}" == work[1]
    assert ("all" if math.isinf(facts.field.size[0]) else str(facts.field.size[0])) == row[6]


# the release of CRF-RNN counts a base with 21 biases more; the page says so
COUNTED = [row for row in ROWS if re.fullmatch(r"[\d,]{6,}", row[1]) and "crf_rnn" not in row[0]]


@pytest.mark.parametrize("row", COUNTED, ids=[row[0] for row in COUNTED])
def test_published_counts_are_met(row):
    assert row[1] == row[2]


def test_every_detector_is_in_the_table():
    objects = {name for task in ("detection", "instances", "keypoints") for name in list_models(task=task)}
    assert {call(row[0])[0] for row in DETECTORS} == objects


@pytest.mark.parametrize("row", DETECTORS, ids=[row[0] for row in DETECTORS])
def test_our_figures_of_detectors(row):
    name, classes, options = call(row[0])
    assert f"{parameter_count(name, num_classes=classes, **options):,}" == row[2]
    boxes = re.fullmatch(r"([\d,]+) at (\d+) x (\d+)", row[4])
    assert boxes
    with torch.device("meta"), torch.no_grad():
        model = dense_part(create_model(name, num_classes=classes, **options)).eval()
        outputs = model(torch.empty(1, 3, int(boxes[2]), int(boxes[3])))
    if isinstance(outputs, AnchorOutputs):
        count = len(outputs.anchors)
    else:
        count = outputs.objectness.numel() if outputs.objectness is not None else outputs.logits.shape[1]
    assert f"{count:,}" == boxes[1]
    if row[1]:
        published, ours = (int(cell.replace(",", "")) for cell in (row[1], row[2]))
        assert ours - published in (0, 53_120, 53_120 - 257)  # the page says what torchvision counts otherwise
    assert row[3] in ("", boxes[1])
