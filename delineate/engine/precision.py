"""Which number format training and prediction run in, chosen from what the hardware multiplies natively."""

from __future__ import annotations

import torch

from delineate.registry import Registry

# what a recipe may say -> what Lightning calls it
PRECISIONS: Registry[str] = Registry(
    "precision", {"auto": "auto", "float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
)


def resolve_precision(name: str, *, cuda: bool = False) -> str:
    """The precision that ``name`` means on this machine: ``"auto"`` becomes ``"bfloat16"`` or ``"float32"``.

    bfloat16 is chosen where matrix units multiply it: AMX on the CPU, Ampere and later on the GPU. AVX512-BF16 alone
    does not qualify: on such a processor convolutions ran at half the speed of float32 (``python -m bench.precision``
    measures it on yours).

    Args:
        name: a key of :data:`PRECISIONS`.
        cuda: whether the work runs on a GPU.

    Raises:
        UnknownNameError: for any other name.
    """
    PRECISIONS[name]
    if name != "auto":
        return name
    if cuda:
        return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float32"
    return "bfloat16" if has_amx() else "float32"


def has_amx() -> bool:
    """Whether this processor and operating system let a process use AMX tiles for bfloat16."""
    return bool(torch.cpu._is_amx_tile_supported())


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype to autocast to for a resolved precision, or None for plain float32."""
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
