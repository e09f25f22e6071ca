"""Moment pooling: the first three moments of an image's patch tokens, beside its class token."""

import torch
from torch import Tensor

EPSILON = 1e-5
"""Added to the variance before the square root, and to |m₃| before the cube root."""


def moments_reference(tokens: Tensor) -> Tensor:
    """[class token, mean, deviation, signed cube root of the third central moment].

    tokens: (B, 1 + N, D) B images, token 0 the class token, N >= 1 patches, D channels, any float
    dtype. Returns (B, 4 D) in float32 (float64 for float64): moments need the precision. With x the
    patches, μ their mean: σ = sqrt(mean (x−μ)² + ε), m₃ = mean (x−μ)³, ρ = sign(m₃) (|m₃| + ε)^⅓.
    Source: ImagineFSL (Yang et al., 2025), higher-order moment pooling; the ε as in its released
    models. ρ jumps by 2 ε^⅓ where m₃ changes sign; the gradient ignores the jump.
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"tokens must hold at least one patch, got shape {tuple(tokens.shape)}")
    work = tokens if tokens.dtype == torch.float64 else tokens.float()
    cls, patches = work[:, 0], work[:, 1:]
    mean = patches.mean(dim=1)
    centred = patches - mean.unsqueeze(1)
    deviation = (centred.square().mean(dim=1) + EPSILON).sqrt()
    third = centred.pow(3).mean(dim=1)
    skew = third.sign() * (third.abs() + EPSILON).pow(1 / 3)
    return torch.cat([cls, mean, deviation, skew], dim=-1)


def moments(tokens: Tensor) -> Tensor:
    """What `moments_reference` computes; there is no faster implementation yet."""
    with torch.autocast(tokens.device.type, enabled=False):
        return moments_reference(tokens)
