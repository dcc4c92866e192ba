"""The names and order of torchvision's detectors, brought to this library's.

Source: torchvision's ``retinanet_resnet50_fpn``, ``ssd300_vgg16`` and their like.
Differs: torchvision has the background first, here it is the last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from delineate.models.torchvision_weights import STAGED_RESNET

Labels = Sequence[int]
PYRAMID = {
    **{f"backbone.fpn.inner_blocks.{level}.0": f"pyramid.pyramid.laterals.{level}" for level in range(4)},
    **{f"backbone.fpn.layer_blocks.{level}.0": f"pyramid.pyramid.outputs.{level}" for level in range(4)},
    "backbone.fpn.extra_blocks.p6": "pyramid.extra.sixth",
    "backbone.fpn.extra_blocks.p7": "pyramid.extra.seventh",
}
HEADS = {"classes": "head.classification_head", "boxes": "head.regression_head"}
LAST = {"classes": "cls_logits", "boxes": "bbox_reg"}
RETINANET_ANCHORS, SSD_FIRST_BOXES = 9, 4  # at each place of every map, and of the first

# names in torchvision's older files, those of the first versions among them, and what it calls them today
OLDER: dict[str, Callable[[re.Match[str]], str]] = {
    r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)": lambda found: f"{found[1]}.0.{found[2]}",
    r"(rpn\.head\.conv)\.(weight|bias)": lambda found: f"{found[1]}.0.0.{found[2]}",
    r"(head\.\w+_head\.conv)\.(\d+)\.(weight|bias)": lambda found: f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}",
    r"(roi_heads\.mask_head)\.mask_fcn(\d+)\.(weight|bias)": lambda found: (
        f"{found[1]}.{int(found[2]) - 1}.0.{found[3]}"
    ),
}


def present_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state under the names that torchvision's detectors have today; its older files have others.

    Example:
        >>> import torch
        >>> state = {"rpn.head.conv.bias": torch.zeros(1), "roi_heads.mask_head.mask_fcn2.bias": torch.zeros(1)}
        >>> list(present_names(state))
        ['rpn.head.conv.0.0.bias', 'roi_heads.mask_head.1.0.bias']
    """
    found = {}
    for name, value in state.items():
        for pattern, present in OLDER.items():
            if match := re.fullmatch(pattern, name):
                name = present(match)
                break
        found[name] = value
    return found


def renamed_state(state: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under new names, each by the longest prefix of its name that the table has.

    Raises:
        KeyError: when the table has no prefix of a name.

    Example:
        >>> import torch
        >>> list(renamed_state({"a.b.weight": torch.zeros(1), "a.c": torch.zeros(1)}, {"a": "x", "a.b": "y"}))
        ['y.weight', 'x.c']
    """
    renamed = {}
    for name, value in state.items():
        prefixes = [prefix for prefix in table if name == prefix or name.startswith(f"{prefix}.")]
        if not prefixes:
            raise KeyError(name)
        prefix = max(prefixes, key=len)
        renamed[table[prefix] + name.removeprefix(prefix)] = value
    return renamed


def retinanet_state(
    state: Mapping[str, Tensor],
    *,
    labels: Labels | None = None,
    norm: str = "none",
    layers: int = 4,
    staged: bool = True,
) -> dict[str, Tensor]:
    """The state of ``retinanet_resnet50_fpn``, or with ``norm="group"`` of its second version.

    Args:
        state: torchvision's.
        labels: those of torchvision's that are kept, in their new order; all when None, its unused first too.
        norm: of the heads.
        layers: of the heads, before the last.
        staged: whether the encoder is "torchvision/...", whose layers are grouped by stride; timm's keep their names.
    """
    step = 2 if norm == "none" else 3
    heads = {}
    for ours, theirs in HEADS.items():
        for layer in range(layers):
            heads[f"{theirs}.conv.{layer}.0"] = f"{ours}.{step * layer}"
            heads[f"{theirs}.conv.{layer}.1"] = f"{ours}.{step * layer + 1}"
        heads[f"{theirs}.{LAST[ours]}"] = f"{ours}.{step * layers}"
    renamed = renamed_state(state, {**_body(staged), **PYRAMID, **heads})
    if labels is not None:
        for part in ("weight", "bias"):
            name = f"classes.{step * layers}.{part}"
            renamed[name] = selected_classes(renamed[name], labels, count=len(renamed[name]) // RETINANET_ANCHORS)
    return renamed


def ssd_state(state: Mapping[str, Tensor], *, labels: Labels | None = None) -> dict[str, Tensor]:
    """The state of ``ssd300_vgg16``, the background moved from the first place to the last.

    Args:
        state: torchvision's.
        labels: those of torchvision's that are kept, in their new order; all objects' when None.
    """
    table = {"backbone.scale_weight": "norm.scale", "backbone.features": "stages.0"}
    # torchvision nests the layers from pool5 on one level deeper, behind the seven from pool4 to conv5_3
    table |= {f"backbone.extra.0.{place}": f"stages.1.{place}" for place in range(7)}
    table |= {f"backbone.extra.0.7.{place}": f"stages.1.{7 + place}" for place in range(5)}
    table |= {f"backbone.extra.{stage}": f"stages.{stage + 1}" for stage in range(1, 5)}
    table["head.classification_head.module_list"] = "classes"
    table["head.regression_head.module_list"] = "boxes"
    renamed = renamed_state(state, table)
    count = len(renamed["classes.0.bias"]) // SSD_FIRST_BOXES
    order = _with_background(labels, count)
    for name in renamed:
        if name.startswith("classes."):
            renamed[name] = selected_classes(renamed[name], order, count=count)
    return renamed


def faster_rcnn_state(
    state: Mapping[str, Tensor], *, labels: Labels | None = None, staged: bool = True
) -> dict[str, Tensor]:
    """The state of ``fasterrcnn_resnet50_fpn`` or its second version, the background moved to the last place.

    Args:
        state: torchvision's.
        labels: those of torchvision's that are kept, in their new order; all objects' when None.
        staged: whether the encoder is "torchvision/...", whose layers are grouped by stride; timm's keep their names.
    """
    table = {**_body(staged), "rpn.head.cls_logits": "proposals.objectness", "rpn.head.bbox_pred": "proposals.boxes"}
    table |= {f"rpn.head.conv.{layer}.0": f"proposals.hidden.{2 * layer}" for layer in range(2)}
    second = "roi_heads.box_head.0.0.weight" in state
    for level in range(4):
        for theirs, ours in (("inner_blocks", "laterals"), ("layer_blocks", "outputs")):
            # the second version's are a convolution and its batch norm
            for part in (0, 1):
                place = f".{part}" if second else ""
                table[f"backbone.fpn.{theirs}.{level}.{part}"] = f"neck.pyramid.{ours}.{level}{place}"
    if second:
        for layer in range(4):
            table[f"roi_heads.box_head.{layer}.0"] = f"box_head.{3 * layer}"
            table[f"roi_heads.box_head.{layer}.1"] = f"box_head.{3 * layer + 1}"
        table["roi_heads.box_head.5"] = "box_head.13"
    else:
        table |= {"roi_heads.box_head.fc6": "box_head.1", "roi_heads.box_head.fc7": "box_head.3"}
    table |= {"roi_heads.box_predictor.cls_score": "classes", "roi_heads.box_predictor.bbox_pred": "boxes"}
    renamed = renamed_state(state, table)
    order = _with_background(labels, len(renamed["classes.bias"]))
    for name in ("classes.weight", "classes.bias"):
        renamed[name] = renamed[name][order]
    for name in ("boxes.weight", "boxes.bias"):
        renamed[name] = renamed[name].unflatten(0, (-1, 4))[order].flatten(0, 1)
    return renamed


def mask_head_state(state: Mapping[str, Tensor], *, labels: Labels | None = None) -> dict[str, Tensor]:
    """The mask head of ``maskrcnn_resnet50_fpn`` or its second version, without the background's mask.

    Args:
        state: torchvision's; what belongs to other parts is passed over.
        labels: those of torchvision's that are kept, in their new order; all objects' when None.
    """
    found = _below(state, "roi_heads.mask")
    second = "_head.0.1.weight" in found
    step = 3 if second else 2
    table = {"_predictor.conv5_mask": f"head.{4 * step}", "_predictor.mask_fcn_logits": f"head.{4 * step + 2}"}
    for layer in range(4):
        table |= {f"_head.{layer}.{part}": f"head.{step * layer + part}" for part in range(2)}
    renamed = renamed_state(found, table)
    for name in renamed:
        if name.startswith(f"head.{4 * step + 2}."):
            renamed[name] = renamed[name][1:] if labels is None else renamed[name][list(labels)]
    return renamed


def keypoint_head_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keypoint head of ``keypointrcnn_resnet50_fpn``.

    Args:
        state: torchvision's; what belongs to other parts is passed over.
    """
    table = {f"_head.{2 * layer}": f"head.{2 * layer}" for layer in range(8)}
    return renamed_state(_below(state, "roi_heads.keypoint"), {**table, "_predictor.kps_score_lowres": "head.16"})


def mask_rcnn_state(
    state: Mapping[str, Tensor], *, labels: Labels | None = None, staged: bool = True
) -> dict[str, Tensor]:
    """The state of ``maskrcnn_resnet50_fpn``, its second version, or ``keypointrcnn_resnet50_fpn``.

    Args:
        state: torchvision's.
        labels: those of torchvision's that are kept, in their new order; all objects' when None.
        staged: whether the encoder is "torchvision/...", whose layers are grouped by stride; timm's keep their names.
    """
    heads = ("roi_heads.mask", "roi_heads.keypoint")
    found = faster_rcnn_state(
        {name: value for name, value in state.items() if not name.startswith(heads)}, labels=labels, staged=staged
    )
    if any(name.startswith(heads[0]) for name in state):
        return found | mask_head_state(state, labels=labels)
    return found | keypoint_head_state(state)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def selected_classes(values: Tensor, classes: Sequence[int], *, count: int | None = None) -> Tensor:
    """The rows of a last layer that belong to these classes, at each of the layer's anchors.

    Args:
        values: weight or bias, the classes of the first anchor first.
        classes: which, in their new order.
        count: classes that an anchor has in ``values``; as many as ``classes`` when left out.

    Example:
        >>> import torch
        >>> selected_classes(torch.arange(6), [1, 2, 0]).tolist()
        [1, 2, 0, 4, 5, 3]
    """
    rows = values.unflatten(0, (-1, len(classes) if count is None else count))
    return rows[:, list(classes)].flatten(0, 1)


def _with_background(labels: Labels | None, count: int) -> list[int]:
    """These of torchvision's ``count`` labels, or all objects', and the first, which is the background, behind them."""
    return [*(range(1, count) if labels is None else labels), 0]


def _body(staged: bool) -> dict[str, str]:
    if not staged:
        return {"backbone.body": "encoder.model"}
    return {f"backbone.body.{theirs}": f"encoder.{ours}" for theirs, ours in STAGED_RESNET.items()}
