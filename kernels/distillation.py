"""Self-distillation: teacher targets (centred, Sinkhorn-Knopp, or neither), losses, KoLeo.

Letters: B crops, V views of a sample, K prototypes, M masked patches. Logits may be of any float
dtype; everything is computed in float32, or float64 where that is given.
"""

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, pairwise_distance

Centering = Literal["centre", "sinkhorn", "none"]


def teacher_probs(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Centred and sharpened teacher distribution, softmax((logits − centre) / temperature).

    logits: (B, K); centre: (K,); temperature > 0. Returns (B, K), rows sum to 1.
    Source: DINO (Caron et al., 2021), algorithm 1, function H.
    """
    return torch.softmax((_exact(logits) - centre) / temperature, dim=-1)


def moved_centre(centre: Tensor, logits: Tensor, momentum: float) -> Tensor:
    """The centre after one more batch, momentum · centre + (1 − momentum) · mean of all logits.

    centre: (K,); logits: (B, K), this worker's share. The mean is over the rows of all workers, so
    it does not depend on how rows are spread; where there is no row at all the centre stays.
    Source: DINO (Caron et al., 2021), equation 4.
    """
    total = torch.cat([_exact(logits).sum(dim=0), centre.new_tensor([float(len(logits))])])
    _sum_over_workers(total)
    rows = total[-1]
    moved = centre * momentum + total[:-1] / rows.clamp(min=1) * (1 - momentum)
    return torch.where(rows > 0, moved, centre)


def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Teacher distribution in which, over the batch, all prototypes are used equally.

    logits: (B, K), this worker's share. exp(logits / temperature) is scaled in turn so that the
    prototypes' sums over all workers' rows are equal and every row sums to 1, rows last; all in
    logarithms, for exp overflows float32 from logits of 6.3 on at a temperature of 0.07.
    Returns (B, K). Source: SwAV (Caron et al., 2020), algorithm 1; as in DINOv2, without a queue.
    """
    log_probs = _exact(logits) / temperature
    for _ in range(iterations):
        log_probs = log_probs - _logsumexp_over_workers(log_probs)
        log_probs = log_probs - log_probs.logsumexp(dim=1, keepdim=True)
    return log_probs.exp()


def teacher_targets(
    logits: Tensor, centre: Tensor, temperature: float, centering: Centering
) -> Tensor:
    """(B, K) teacher logits to target distributions, by any of the three ways of centring."""
    if centering == "sinkhorn":
        return sinkhorn(logits, temperature)
    return teacher_probs(logits, centre if centering == "centre" else centre * 0, temperature)


def cross_entropy_rows(probs: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """−Σ_k probs · log softmax(logits / temperature), per row.

    probs: (B, K) teacher distributions; logits: (B, K) student. Returns (B,).
    """
    return -(probs * log_softmax(_exact(logits) / temperature, dim=-1)).sum(dim=-1)


def view_loss(probs: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy of every student view against every teacher view of the same sample.

    probs: (V, B, K) teacher's global views; logits: (V', B, K) student's views, the first V of them
    the same views. A view is not compared with itself. Returns a scalar.
    Source: DINO (Caron et al., 2021), equation 3, as a mean over pairs of views.
    """
    pairs = [
        cross_entropy_rows(probs[t], logits[s], temperature).mean()
        for t in range(len(probs))
        for s in range(len(logits))
        if s != t
    ]
    return torch.stack(pairs).mean()


def patch_loss(
    probs: Tensor, logits: Tensor, weights: Tensor, crops: int, temperature: float
) -> Tensor:
    """Cross entropy over masked patches: the mean within a crop, then summed and divided by crops.

    probs, logits: (M, K); weights: (M,), one over the number of masked patches of the patch's crop;
    crops: all crops of the batch, unmasked ones included, so a crop without mask counts as 0.
    Returns a scalar. Source: iBOT (Zhou et al., 2022), equation 2, with DINOv2's normalisation.
    """
    return (cross_entropy_rows(probs, logits, temperature) * weights).sum() / crops


def koleo(features: Tensor, epsilon: float = 1e-8) -> Tensor:
    """−mean log distance to the nearest other row, rows on the unit sphere: spreads them out.

    features: (B, D), B >= 2. Returns a scalar. Nearest by inner product, without gradient.
    Source: Sablayrolles et al., 2019, section 3.2 (differential entropy regulariser).
    """
    if len(features) < 2:
        raise ValueError(f"KoLeo needs at least 2 rows, got {len(features)}")
    unit = normalize(_exact(features), eps=epsilon, dim=-1)
    with torch.no_grad():
        similarity = unit @ unit.T
        nearest = similarity.fill_diagonal_(-1).argmax(dim=1)
    return -torch.log(pairwise_distance(unit, unit[nearest], eps=epsilon) + epsilon).mean()


def _exact(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _sum_over_workers(x: Tensor) -> None:
    if dist.is_initialized():
        dist.all_reduce(x)


def _logsumexp_over_workers(x: Tensor) -> Tensor:
    """(B, K) of each worker to (K,), over all workers' rows."""
    local = x.logsumexp(dim=0)
    if not dist.is_initialized():
        return local
    top = local.clone()
    dist.all_reduce(top, op=dist.ReduceOp.MAX)
    total = torch.exp(local - top)
    dist.all_reduce(total)
    return top + total.log()
