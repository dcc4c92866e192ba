"""torchvision's compiled operators, or the reason why they cannot serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from delineate.errors import MissingDependencyError


def torchvision_operator(name: str) -> Callable[..., Any]:
    """The function of :mod:`torchvision.ops` with that name, for which its compiled library is loaded.

    torchvision's library fits one release and one CUDA version of PyTorch. With another it is left out without a word,
    or ``import torchvision`` itself fails; the functions here that have kernels of their own on the CPU ask for
    torchvision only when they need it.

    Args:
        name: "nms", "roi_align", "roi_pool" and the like.

    Returns:
        The function, which also serves while a model is compiled or exported.

    Raises:
        MissingDependencyError: when torchvision cannot be imported, or its operators cannot be loaded.

    Example:
        >>> nms = torchvision_operator("nms")
        >>> nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1]]), torch.tensor([0.5, 0.9]), 0.5)
        tensor([1])
    """
    try:
        import torchvision
        from torchvision import ops
        from torchvision.extension import _has_ops
    except (ImportError, RuntimeError) as error:  # RuntimeError: built for another CUDA version, or another PyTorch
        raise MissingDependencyError(_message(name, f"a torchvision whose import fails ({error})")) from error
    if not _has_ops():
        raise MissingDependencyError(_message(name, f"torchvision {torchvision.__version__} without its operators"))
    operator: Callable[..., Any] = getattr(ops, name)
    return operator


def _message(name: str, found: str) -> str:
    return (
        f"torchvision must be built for PyTorch {torch.__version__}, so that its operator '{name}' can be used on this "
        f"device, or in a compiled or exported model; got {found}. Install torchvision and torch together, from one "
        "index, or compute on the CPU."
    )
