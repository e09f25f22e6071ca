"""TransCLIP: zero-shot answers to many images at once, each a little like its neighbours'."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.neighbours import NeighbourIndex

NEIGHBOURS, ITERATIONS, INNER_ITERATIONS = 3, 10, 5
MOST_CONFIDENT = 8
"""Images of which a class's first mean is made."""
LIKELIHOOD_WEIGHT = 1 / 50
TEXT_WEIGHT = 1.0
"""λ of the zero-shot variant."""


def transclip(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Class probabilities (N, C) of N images from their features and C class texts, no label.

    features: (N, D), text: (C, D), unit norm, float32; scale: CLIP's logit scale (the authors' is
    100). Minimises over probabilities z, means μ and a diagonal covariance Σ that classes share
        -(1/50) Σ_i z_i·log p_i  -  (1/6) Σ_ij w_ij z_i·z_j  +  Σ_i KL(z_i || ŷ_i^λ)
    with p a Gaussian mixture's likelihoods, w the cosines with each image's 3 nearest neighbours,
    ŷ zero-shot's probabilities, block by block: z five times by its fixed point
        z_i ∝ ŷ_i^λ exp((1/50) log p_i + (1/6) Σ_j (w_ij + w_ji) z_j),
    then μ as means under z, of unit norm, then Σ as the variance under z; ten times.
    Source: TransCLIP (Zanella et al., 2024), zero-shot variant: its objective and block updates;
    the weights 1/50 and 1/6, and the means' unit norm, are those of the authors' released solver.
    Deviation: fewer than 8 images or 4 give fewer confident images or neighbours.
    """
    count, dim = features.shape
    answers = (scale * features @ text.T).softmax(dim=1)
    z, variance = answers, features.new_full((dim,), 1 / dim)
    top = answers.topk(min(MOST_CONFIDENT, count), dim=0)
    means = normalize(torch.einsum("nc,ncd->cd", top.values, features[top.indices]), dim=-1)
    k = min(NEIGHBOURS, count - 1)
    itself = torch.arange(count, device=features.device)
    near = NeighbourIndex(features).nearest(features, k, itself) if k else None
    prior = TEXT_WEIGHT * answers.clamp(min=torch.finfo(answers.dtype).tiny).log()
    for _ in range(ITERATIONS):
        likelihood = prior + LIKELIHOOD_WEIGHT * _log_likelihood(features, means, variance)
        for _ in range(INNER_ITERATIONS):
            pull = _from_neighbours(z, *near) / (2 * k) if near else torch.zeros_like(z)
            z = (likelihood + pull).softmax(dim=1)
        means = normalize(z.T @ features, dim=-1)
        # Σ_ik z_ik (f_i - μ_k)², without a number for every image, class and channel
        variance = features.square().sum(dim=0) - 2 * (means * (z.T @ features)).sum(dim=0)
        variance = (variance + (z.sum(dim=0) @ means.square())) / count
    return z


def _log_likelihood(features: Tensor, means: Tensor, variance: Tensor) -> Tensor:
    """(N, C), up to what all classes share: -½ (f - μ)ᵀ Σ⁻¹ (f - μ)."""
    inverse = 1 / variance
    norms = (features.square() @ inverse)[:, None]
    return -0.5 * (norms - 2 * features @ (means * inverse).T + means.square() @ inverse)


def _from_neighbours(z: Tensor, cosines: Tensor, places: Tensor) -> Tensor:
    """Σ_j (w_ij + w_ji) z_j, (N, C); cosines, places: (N, k) of the nearest neighbours."""
    pulled = torch.zeros_like(z)
    for cosine, place in zip(cosines.T, places.T, strict=True):
        pulled += cosine[:, None] * z[place]
        pulled.index_add_(0, place, cosine[:, None] * z)
    return pulled
