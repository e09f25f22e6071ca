"""Which of a kernel's implementations runs, and how a person is told."""

import functools
import importlib.util
import warnings

import torch
from torch import Tensor


def uses_triton(x: Tensor) -> bool:
    """Whether Triton's kernels take it: on CUDA where Triton is installed, and not in float64,
    which they would compute in float32."""
    return x.is_cuda and x.dtype != torch.float64 and _installed("triton")


@functools.cache
def xformers_works() -> bool:
    """Whether xformers' attention runs on this process's GPU; tried once.

    A wheel that was built for another CUDA is imported and has no kernel: that is a warning.
    """
    if not _installed("xformers"):
        return False
    try:
        from xformers.ops import memory_efficient_attention

        with torch.enable_grad():
            tried = torch.zeros(1, 1, 1, 8, dtype=torch.half, device="cuda", requires_grad=True)
            memory_efficient_attention(tried, tried, tried).sum().backward()
    except (ImportError, RuntimeError) as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        warnings.warn(f"attention: torch's, for xformers does not work ({why})", stacklevel=2)
        return False
    return True


def kernels_on(device_type: str) -> str:
    """Which implementations run on "cpu" or "cuda", in words; torch's are plain PyTorch."""
    if device_type != "cuda":
        return f"kernels: torch (no triton on {device_type}); attention: torch"
    kernels = "triton" if _installed("triton") else "torch (triton is not installed)"
    if xformers_works():
        attention = "xformers in half precision, else torch"
    else:
        lack = "does not work" if _installed("xformers") else "is not installed"
        attention = f"torch (xformers {lack})"
    return f"kernels: {kernels}; attention: {attention}"


@functools.cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
