"""Which of a kernel's implementations runs."""

import functools
import importlib.util

import torch
from torch import Tensor


def uses_triton(x: Tensor) -> bool:
    """Whether Triton's kernels take it: on CUDA where Triton is installed, and not in float64,
    which they would compute in float32."""
    return x.is_cuda and x.dtype != torch.float64 and _triton_installed()


@functools.cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None
