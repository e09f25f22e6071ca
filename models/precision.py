"""Which arithmetic runs: bfloat16 where the hardware has it, float32 elsewhere or when asked."""

import functools
from collections.abc import Iterable
from typing import Literal

import torch

from kernels.backend import kernels_on

Precision = Literal["auto", "fp32", "bf16"]
TrainPrecision = Literal["auto", "fp32", "bf16", "fp16"]
"""float16 needs its loss scaled, which only pretraining does."""


def autocast(device: torch.device, precision: TrainPrecision = "auto") -> torch.autocast:
    """Context in which matrix products run in the chosen arithmetic; weights stay in float32.

    auto: bfloat16 where the processor multiplies in it, else float32.
    """
    arithmetic = _arithmetic(device.type, precision)
    if arithmetic == "fp32":
        return torch.autocast(device.type, enabled=False)
    dtype = torch.bfloat16 if arithmetic == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def computing_on(device_type: str, precisions: Iterable[TrainPrecision]) -> str:
    """Which arithmetic and which kernels run on "cpu" or "cuda" in this process, in words.

    precisions: of all that is computed. Without a GPU in this process, "cuda" says so.
    """
    if device_type == "cuda" and not torch.cuda.is_available():
        return "arithmetic: not known, torch sees no GPU in this process"
    runs = sorted({_arithmetic(device_type, precision) for precision in precisions})
    where = torch.cuda.get_device_name() if device_type == "cuda" else bf16_unit() or "no bf16 unit"
    arithmetic = f"arithmetic: {' and '.join(runs)} on {device_type} ({where})"
    return f"{arithmetic}; {kernels_on(device_type)}"


@functools.cache
def has_bf16(device_type: str) -> bool:
    """Whether products in bfloat16 are faster there: AMX or AVX512-BF16, or a GPU since Ampere."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device_type == "cpu" and bf16_unit() is not None


def bf16_unit() -> str | None:
    """What this CPU multiplies bfloat16 with: "amx", "avx512_bf16", or None."""
    # Not in torch.cpu's public names, and not in every release.
    asks = {"amx": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    return next((unit for unit, ask in asks.items() if getattr(torch.cpu, ask, bool)()), None)


def _arithmetic(device_type: str, precision: TrainPrecision) -> str:
    if precision != "auto":
        return precision
    return "bf16" if has_bf16(device_type) else "fp32"
