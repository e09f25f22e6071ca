"""Which arithmetic runs: bfloat16 where the hardware has it, float32 elsewhere or when asked."""

import functools
import logging
from typing import Literal

import torch

log = logging.getLogger(__name__)

Precision = Literal["auto", "fp32", "bf16"]
TrainPrecision = Literal["auto", "fp32", "bf16", "fp16"]
"""float16 needs its loss scaled, which only pretraining does."""


def autocast(device: torch.device, precision: TrainPrecision = "auto") -> torch.autocast:
    """Context in which matrix products run in the chosen arithmetic; weights stay in float32.

    auto: bfloat16 where the processor multiplies in it, else float32. Logs which one runs, once.
    """
    if precision == "auto":
        precision = "bf16" if has_bf16(device.type) else "fp32"
    _say(device.type, precision)
    if precision == "fp32":
        return torch.autocast(device.type, enabled=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float16
    return torch.autocast(device.type, dtype=dtype)


@functools.cache
def has_bf16(device_type: str) -> bool:
    """Whether products in bfloat16 are faster there: AMX or AVX512-BF16, or a GPU since Ampere."""
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        # Not in torch.cpu's public names, and not in every release.
        asks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        return any(getattr(torch.cpu, ask, bool)() for ask in asks)
    return False


@functools.cache
def _say(device_type: str, which: str) -> None:
    """Once per process and path."""
    log.info("precision on %s: %s", device_type, which)
