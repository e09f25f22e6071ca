"""A cache of labelled features as a classifier beside CLIP's text classifier (Tip-Adapter).

N images, M keys, C classes. affinity = z·Kᵀ: cosines (N, M) of unit-norm images and keys, computed
once, so a sweep over sharpness β and weight α costs no forward pass.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

SWEEP_ELEMENTS = 1 << 24
"""Logits held at once by the sweep (64 MiB in float32)."""


def cache_logits(affinity: Tensor, labels: Tensor, classes: int, beta: float | Tensor) -> Tensor:
    """Σ of exp(−β(1 − affinity)) over the keys of each class: (N, C) in affinity.dtype.

    affinity: (N, M) cosines; labels: (M,) int64 in [0, C), the keys' classes; beta: > 0, no unit.
    A class without a key gets 0. Source: Tip-Adapter (Zhang et al., 2022), equation 6.
    """
    values = one_hot(labels, classes).to(affinity.dtype)
    return (beta * (affinity - 1)).exp() @ values


def cache_sweep(
    text: Tensor,
    affinity: Tensor,
    labels: Tensor,
    target: Tensor,
    alphas: Tensor,
    betas: Tensor,
) -> Tensor:
    """Cross-entropy (K, W) of text + α·cache for K sharpnesses and W weights, in nats.

    text: (N, C) logits; affinity, labels: see `cache_logits`; target: (N,) int64; alphas: (W,),
    0 or more; betas: (K,) > 0. All weights of one sharpness are one pass, in chunks of rows that
    bound its memory. Raises ValueError if there are no images.
    """
    images, classes = text.shape
    if not images:
        raise ValueError("cache sweep needs at least 1 image, got 0")
    loss = torch.zeros(len(betas), len(alphas))
    rows = max(1, SWEEP_ELEMENTS // max(classes * len(alphas), affinity.shape[1]))
    for start in range(0, images, rows):
        part = slice(start, start + rows)
        repeated = target[part].repeat(len(alphas))
        for k, beta in enumerate(betas):
            cache = cache_logits(affinity[part], labels, classes, beta)
            fused = text[part] + alphas[:, None, None] * cache
            each = cross_entropy(fused.flatten(0, 1), repeated, reduction="none")
            loss[k] += each.view(len(alphas), -1).sum(dim=1)
    return loss / images
