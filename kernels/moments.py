"""Moment pooling: the first three moments of an image's patch tokens, beside its class token."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels.backend import uses_triton

EPSILON = 1e-5
"""Added to the variance before the square root, and to |m₃| before the cube root."""

CHUNK_ELEMENTS = 1 << 19
"""Tokens x channels that are worked on at once on the CPU: what its caches hold."""


def moments_reference(tokens: Tensor) -> Tensor:
    """[class token, mean, deviation, signed cube root of the third central moment].

    tokens: (B, 1 + N, D) B images, token 0 the class token, N >= 1 patches, D channels, any float
    dtype. Returns (B, 4 D) in float32 (float64 for float64): moments need the precision. With x the
    patches, μ their mean: σ = sqrt(mean (x−μ)² + ε), m₃ = mean (x−μ)³, ρ = sign(m₃) (|m₃| + ε)^⅓.
    Source: ImagineFSL (Yang et al., 2025), higher-order moment pooling; the ε as in its released
    models. ρ jumps by 2 ε^⅓ where m₃ changes sign; the gradient ignores the jump.
    """
    _check(tokens)
    work = tokens.to(_exact(tokens.dtype))
    cls, patches = work[:, 0], work[:, 1:]
    mean = patches.mean(dim=1)
    centred = patches - mean.unsqueeze(1)
    deviation = (centred.square().mean(dim=1) + EPSILON).sqrt()
    third = centred.pow(3).mean(dim=1)
    skew = third.sign() * (third.abs() + EPSILON).pow(1 / 3)
    return torch.cat([cls, mean, deviation, skew], dim=-1)


def moments(tokens: Tensor) -> Tensor:
    """What `moments_reference` computes, with one pass over the tokens forward and one backward.

    Kept for the backward pass are the tokens and three numbers per image and channel. All sums are
    of centred values: raw power sums would lose float32's digits where the mean is large. Triton's
    kernels on CUDA; on the CPU, a few images at a time.
    """
    _check(tokens)
    with torch.autocast(tokens.device.type, enabled=False):
        return _Moments.apply(tokens)


class _Moments(torch.autograd.Function):
    """(B, 1 + N, D) to (B, 4 D)."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor) -> Tensor:
        statistics = central_moments(tokens)
        mean, variance, third = statistics
        ctx.save_for_backward(tokens, statistics)
        deviation = (variance + EPSILON).sqrt()
        skew = third.sign() * (third.abs() + EPSILON).pow(1 / 3)
        return torch.cat([tokens[:, 0].to(mean.dtype), mean, deviation, skew], dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        tokens, statistics = ctx.saved_tensors
        mean, variance, third = statistics
        patches = tokens.shape[1] - 1
        of_cls, of_mean, of_deviation, of_skew = gradient.chunk(4, dim=-1)
        second = of_deviation / (patches * (variance + EPSILON).sqrt())
        # The reference's gradient is 0 where m₃ is: there sign() is.
        cubic = of_skew * third.sign().square() * (third.abs() + EPSILON).pow(-2 / 3) / patches
        constant = of_mean / patches - cubic * variance
        return token_gradient(tokens, of_cls, mean, torch.stack([constant, second, cubic]))


def central_moments(tokens: Tensor) -> Tensor:
    """(B, 1 + N, D) to (3, B, D): mean, variance and third central moment of the patches."""
    if uses_triton(tokens):
        from kernels import triton_moments

        return triton_moments.central_moments(tokens)
    images, _, channels = tokens.shape
    exact = _exact(tokens.dtype)
    out = torch.empty(3, images, channels, dtype=exact, device=tokens.device)
    for part in _chunks(tokens):
        patches = tokens[part, 1:].to(exact)
        out[0, part] = patches.mean(dim=1)
        centred = patches - out[0, part].unsqueeze(1)
        square = centred.square()
        out[1, part] = square.mean(dim=1)
        out[2, part] = square.mul_(centred).mean(dim=1)
    return out


def token_gradient(tokens: Tensor, of_cls: Tensor, mean: Tensor, powers: Tensor) -> Tensor:
    """Gradient of the tokens, (B, 1 + N, D) in their dtype: a polynomial of the centred patches.

    of_cls: (B, D) of the class token; mean: (B, D); powers: (3, B, D) factors of (x−μ)⁰, (x−μ)¹
    and (x−μ)².
    """
    if uses_triton(tokens):
        from kernels import triton_moments

        return triton_moments.token_gradient(tokens, of_cls, mean, powers)
    out = torch.empty_like(tokens)
    out[:, 0] = of_cls
    for part in _chunks(tokens):
        constant, second, cubic = powers[:, part].unsqueeze(2)
        centred = tokens[part, 1:] - mean[part].unsqueeze(1)
        out[part, 1:] = torch.addcmul(second, cubic, centred).mul_(centred).add_(constant)
    return out


def _chunks(tokens: Tensor) -> list[slice]:
    """Of whole images."""
    images, length, channels = tokens.shape
    size = max(1, CHUNK_ELEMENTS // (length * channels))
    return [slice(start, start + size) for start in range(0, images, size)]


def _check(tokens: Tensor) -> None:
    if tokens.shape[1] < 2:
        raise ValueError(f"tokens must hold at least one patch, got shape {tuple(tokens.shape)}")


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
