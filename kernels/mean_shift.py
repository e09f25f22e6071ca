"""Mean shift on the unit sphere, and the losses of contrastive mean-shift learning.

B images, N of a memory, D channels; features of unit norm.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.neighbours import QUERIES_AT_ONCE, NeighbourIndex


def mean_shift(
    features: Tensor, memory: NeighbourIndex, k: int, share: float, itself: Tensor | None = None
) -> Tensor:
    """Every feature moved towards the mean of its k nearest neighbours: (B, D), unit norm.

    (1 - share)·f + share·mean of the neighbours, divided by its norm, through which no gradient
    flows; memory: of (N, D), frozen. itself: (B,) int64, the features' own places in the memory, -1
    for none. Source: contrastive mean-shift (Choi et al., 2024), as LAION-Beyond runs it; there the
    nearest key is dropped as the image itself, here it is the image itself that is left out.
    """
    with torch.no_grad():
        _, places = memory.nearest(features, k, itself)
        parts = places.split(QUERIES_AT_ONCE)
        centres = torch.cat([memory.keys[part].mean(dim=1) for part in parts])
    shifted = (1 - share) * features + share * centres
    return shifted / shifted.norm(dim=1, keepdim=True).detach()


def decoupled_loss(views: Tensor, temperature: float) -> Tensor:
    """-(a·p/τ - log Σ_b exp(a·b/τ)), mean over anchors a; p: the other view of the same image.

    views: (2, B, D), two views of each image. b: both views of all other images, so neither a nor p
    are in the sum. Returns a scalar. Source: decoupled contrastive loss (Yeh et al., 2022), as CMS
    uses it. Raises ValueError for a single image.
    """
    count = views.shape[1]
    if count < 2:
        raise ValueError("batch: 1 image; allowed: at least 2, for there is nothing to tell apart")
    flat = views.flatten(0, 1)
    image = torch.arange(count, device=views.device).repeat(2)
    logits = flat @ flat.T / temperature
    others = logits.masked_fill(image[:, None] == image[None, :], -torch.inf).logsumexp(dim=1)
    positive = (views[0] * views[1]).sum(dim=1).repeat(2) / temperature
    return (others - positive).mean()


def supervised_contrastive_loss(views: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean over anchors of the mean over positives of -log softmax of their cosines.

    views: (2, B, D); labels: (B,) int64. Positives: all views of the anchor's class but the anchor;
    the softmax is over all views but the anchor. Returns a scalar, 0 and differentiable for no
    image. Source: SupCon (Khosla et al., 2020), the loss "out".
    """
    if not len(labels):
        return views.sum() * 0
    flat, label = views.flatten(0, 1), labels.repeat(2)
    self = torch.eye(len(flat), dtype=torch.bool, device=views.device)
    logits = (flat @ flat.T / temperature).masked_fill(self, -torch.inf)
    log_softmax = (logits - logits.logsumexp(dim=1, keepdim=True)).masked_fill(self, 0)
    positive = (label[:, None] == label[None, :]) & ~self
    return -((log_softmax * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def unit(features: Tensor) -> Tensor:
    """(..., D) of unit norm, float32."""
    return normalize(features.float(), dim=-1)
