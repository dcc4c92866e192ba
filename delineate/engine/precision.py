"""Which number format training and prediction run in, chosen from what the hardware multiplies natively."""

from __future__ import annotations

import torch

from delineate.machine import processor_name
from delineate.registry import Registry

# what a recipe may say -> what Lightning calls it
PRECISIONS: Registry[str] = Registry(
    "precision", {"auto": "auto", "float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
)


def resolve_precision(name: str, *, cuda: bool = False) -> str:
    """The precision that ``name`` means on this machine: ``"auto"`` becomes ``"bfloat16"`` or ``"float32"``.

    bfloat16 is chosen where it is multiplied faster than float32: :func:`multiplies_bfloat16` on the CPU, Ampere and
    later on the GPU. ``python -m bench.precision`` measures it on your processor.

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
    return "bfloat16" if multiplies_bfloat16() else "float32"


def multiplies_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32: in AMX tiles, or in AVX512-BF16 if it is AMD's.

    AMD's (Zen 4 and later) multiply twice as many of them at a time. Others that have AVX512-BF16 without AMX do not:
    on an Intel Xeon convolutions ran at half the speed of float32.
    """
    return has_amx() or ("AMD" in processor_name() and bool(torch.cpu._is_avx512_bf16_supported()))


def has_amx() -> bool:
    """Whether this processor and operating system let a process use AMX tiles for bfloat16."""
    return bool(torch.cpu._is_amx_tile_supported())


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype to autocast to for a resolved precision, or None for plain float32."""
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
