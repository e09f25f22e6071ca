"""Triton kernels of moment pooling, for CUDA: each reads every token once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_TOKENS = 64
BLOCK_CHANNELS = 64


def central_moments(tokens: Tensor) -> Tensor:
    """As `kernels.moments.central_moments`; sums in float32.

    Blocks of patches are centred by their own mean and then merged, so that one pass is as exact as
    two. Source of the merging: Pébay, 2008 (SAND2008-6212), equations 1.3 to 1.5.
    """
    images, length, channels = tokens.shape
    out = torch.empty(3, images, channels, dtype=torch.float32, device=tokens.device)
    if images:
        _central_moments[_grid(tokens)](
            tokens.contiguous(), out, images, length - 1, channels, BLOCK_TOKENS, BLOCK_CHANNELS
        )
    return out


def token_gradient(tokens: Tensor, of_cls: Tensor, mean: Tensor, powers: Tensor) -> Tensor:
    """As `kernels.moments.token_gradient`."""
    images, length, channels = tokens.shape
    out = torch.empty_like(tokens, memory_format=torch.contiguous_format)
    if images:
        _token_gradient[_grid(tokens)](
            tokens.contiguous(), of_cls.contiguous(), mean.contiguous(), powers.contiguous(), out,
            images, length - 1, channels, BLOCK_TOKENS, BLOCK_CHANNELS,
        )  # fmt: skip
    return out


def _grid(tokens: Tensor) -> tuple[int, int]:
    images, _, channels = tokens.shape
    return images, triton.cdiv(channels, BLOCK_CHANNELS)


@triton.jit
def _central_moments(  # type: ignore[no-untyped-def]
    tokens, out, B, N, D, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):
    """One program per image and block of channels. tokens: (B, 1 + N, D); out: (3, B, D)."""
    image = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    patches = tokens + (image * (1 + N) + 1) * D
    mean = tl.zeros([BLOCK_D], tl.float32)
    square = tl.zeros([BLOCK_D], tl.float32)
    cube = tl.zeros([BLOCK_D], tl.float32)
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & (d < D)[None, :]
        x = tl.load(patches + n[:, None] * D + d[None, :], mask=inside, other=0.0).to(tl.float32)
        before = start * 1.0
        here = tl.minimum(N - start, BLOCK_N) * 1.0
        after = before + here
        mean_here = tl.sum(x, axis=0) / here
        centred = tl.where(inside, x - mean_here[None, :], 0.0)
        square_here = tl.sum(centred * centred, axis=0)
        cube_here = tl.sum(centred * centred * centred, axis=0)
        apart = mean_here - mean
        cube += (
            cube_here
            + apart * apart * apart * (before * here / after * (before - here) / after)
            + 3.0 * apart * (before * square_here - here * square) / after
        )
        square += square_here + apart * apart * (before * here / after)
        mean += apart * (here / after)
    place = out + image * D + d
    tl.store(place, mean, mask=d < D)
    tl.store(place + B * D, square / N, mask=d < D)
    tl.store(place + 2 * B * D, cube / N, mask=d < D)


@triton.jit
def _token_gradient(  # type: ignore[no-untyped-def]
    tokens, of_cls, mean, powers, out, B, N, D, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):
    """One program per image and block of channels. tokens, out: (B, 1 + N, D); of_cls, mean:
    (B, D); powers: (3, B, D)."""
    image = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    row = image * D + d
    first = image * (1 + N) * D
    tl.store(out + first + d, tl.load(of_cls + row, mask=d < D, other=0.0), mask=d < D)
    centre = tl.load(mean + row, mask=d < D, other=0.0)[None, :]
    constant = tl.load(powers + row, mask=d < D, other=0.0)[None, :]
    second = tl.load(powers + B * D + row, mask=d < D, other=0.0)[None, :]
    cubic = tl.load(powers + 2 * B * D + row, mask=d < D, other=0.0)[None, :]
    for start in range(0, N, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & (d < D)[None, :]
        places = first + (1 + n)[:, None] * D + d[None, :]
        x = tl.load(tokens + places, mask=inside, other=0.0).to(tl.float32) - centre
        tl.store(out + places, constant + x * (second + x * cubic), mask=inside)
