"""Self-distillation: teacher targets (centred, Sinkhorn-Knopp, or neither), losses, KoLeo.

Letters: B crops, V views of a sample, K prototypes, M masked patches. Logits may be of any float
dtype; everything is computed in float32, or float64 where that is given.

The three ways of centring differ in one number per prototype, the `potential`: all targets are
softmax(teacher logits / temperature + potential). So one loss serves all of them.
"""

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import log_softmax, normalize, pairwise_distance

from kernels.backend import uses_triton

Centering = Literal["centre", "sinkhorn", "none"]

CHUNK_ELEMENTS = 1 << 18
"""Rows x prototypes that are worked on at once on the CPU: what its caches hold."""
SINKHORN_ITERATIONS = 3


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
    summed = logits.sum(dim=0, dtype=centre.dtype)
    total = torch.cat([summed, centre.new_tensor([float(len(logits))])])
    _sum_over_workers(total)
    rows = total[-1]
    moved = centre * momentum + total[:-1] / rows.clamp(min=1) * (1 - momentum)
    return torch.where(rows > 0, moved, centre)


def sinkhorn(logits: Tensor, temperature: float, iterations: int = SINKHORN_ITERATIONS) -> Tensor:
    """Teacher distribution in which, over the batch, all prototypes are used equally.

    logits: (B, K), this worker's share. exp(logits / temperature) is scaled in turn so that the
    prototypes' sums over all workers' rows are equal and every row sums to 1, rows last; all in
    logarithms, for exp overflows float32 from logits of 6.3 on at a temperature of 0.07.
    Returns (B, K). Source: SwAV (Caron et al., 2020), algorithm 1; as in DINOv2, without a queue.
    """
    log_probs = _exact(logits) / temperature
    for _ in range(iterations):
        log_probs = log_probs - _logsumexp_over_workers(log_probs.logsumexp(dim=0))
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


def view_loss_reference(probs: Tensor, logits: Tensor, temperature: float) -> Tensor:
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


def patch_loss_reference(
    probs: Tensor, logits: Tensor, weights: Tensor, crops: int, temperature: float
) -> Tensor:
    """Cross entropy over masked patches: the mean within a crop, then summed and divided by crops.

    probs, logits: (M, K); weights: (M,), one over the number of masked patches of the patch's crop;
    crops: all crops of the batch, unmasked ones included, so a crop without mask counts as 0.
    Returns a scalar. Source: iBOT (Zhou et al., 2022), equation 2, with DINOv2's normalisation.
    """
    return (cross_entropy_rows(probs, logits, temperature) * weights).sum() / crops


def column_potential(
    logits: Tensor, centre: Tensor, temperature: float, centering: Centering
) -> Tensor:
    """What centring adds to the teacher's logits, (K,), so that softmax(logits / temperature +
    potential) is what `teacher_targets` returns.

    logits: (B, K), this worker's share; only Sinkhorn-Knopp looks at them. Its last step scales
    rows, as softmax does; what is left of it is the logarithm of the prototypes' scaling.
    """
    if centering == "centre":
        return -centre / temperature
    if centering == "none":
        return torch.zeros_like(centre)
    local = _column_logsumexp(logits, None, temperature, centre)
    for _ in range(SINKHORN_ITERATIONS - 1):
        potential = -_logsumexp_over_workers(local)
        local = _column_logsumexp(logits, potential, temperature, centre)
    return -_logsumexp_over_workers(local)


def view_loss(
    student: Tensor,
    teacher: Tensor,
    potential: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """`view_loss_reference` of the teacher's targets, by the kernel of `_CrossEntropy`.

    student: (V', B, K), V' >= 2, logits of the student's views; teacher: (V, B, K), of the global
    ones, V <= V', the same views as the student's first V. potential: (K,). Returns a scalar.
    """
    views, crops = student.shape[:2]
    if views < max(2, len(teacher)):
        raise ValueError(f"{views} student views are too few for {len(teacher)} of the teacher")
    pairs = len(teacher) * (views - 1)
    weights = potential.new_full((crops,), 1 / (pairs * crops))
    return _CrossEntropy.apply(
        student, teacher, potential, weights, True, student_temperature, teacher_temperature
    )


def patch_loss(
    student: Tensor,
    teacher: Tensor,
    potential: Tensor,
    weights: Tensor,
    crops: int,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """`patch_loss_reference` of the teacher's targets, by the kernel of `_CrossEntropy`.

    student, teacher: (M, K) logits; potential: (K,); weights: (M,) and crops as in the reference.
    Returns a scalar.
    """
    return _CrossEntropy.apply(
        student.unsqueeze(0),
        teacher.unsqueeze(0),
        potential,
        weights / crops,
        False,
        student_temperature,
        teacher_temperature,
    )


class _CrossEntropy(torch.autograd.Function):
    """Weighted sum over rows of student views' cross entropies with their teacher views.

    Loss and gradient come from the same pass. Between forward and backward there is one tensor as
    large as the student's logits, its gradient, which the backward pass scales in place (so a
    second backward pass through the same graph is an error); the teacher's probabilities exist for
    some rows at a time. The gradient is kept without weights, so that float16 does not lose it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        potential: Tensor,
        weights: Tensor,
        skip_same: bool,
        student_temperature: float,
        teacher_temperature: float,
    ) -> Tensor:
        rows, gradient = cross_entropies(
            student, teacher, potential, skip_same, student_temperature, teacher_temperature
        )
        ctx.save_for_backward(gradient, weights)
        return (rows * weights).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weights = ctx.saved_tensors
        return gradient.mul_((scale * weights).unsqueeze(1)), None, None, None, None, None, None


def cross_entropies(
    student: Tensor,
    teacher: Tensor,
    potential: Tensor,
    skip_same: bool,
    student_temperature: float,
    teacher_temperature: float,
) -> tuple[Tensor, Tensor]:
    """Per student row, the sum of its cross entropies, and its gradient.

    student: (V', B, K) logits; teacher: (V, B, K); potential: (K,). Row (v, b) is compared with the
    teacher's rows (t, b), without t = v if skip_same. Returns (V', B) in the potential's dtype and
    (V', B, K) in the student's. Triton's kernel on CUDA; on the CPU, some rows at a time.
    """
    if uses_triton(student):
        from kernels import triton_distillation

        if student.shape[-1] <= triton_distillation.MOST_PROTOTYPES:
            return triton_distillation.cross_entropies(
                student, teacher, potential, skip_same, student_temperature, teacher_temperature
            )
    losses, gradient = potential.new_empty(student.shape[:2]), torch.empty_like(student)
    for view in range(len(student)):
        sources = [t for t in range(len(teacher)) if not (skip_same and t == view)]
        for part in _chunks(student[view]):
            logits = _exact(student[view, part]) / student_temperature
            probs = torch.softmax(logits, dim=1)
            # The largest logit gives away the normaliser: no second exp.
            normaliser = logits.amax(dim=1) - probs.amax(dim=1).log()
            targets = torch.zeros_like(probs)
            for source in sources:
                scaled = _exact(teacher[source, part]) / teacher_temperature
                targets += torch.softmax(scaled.add_(potential), dim=1)
            probs.mul_(len(sources)).sub_(targets).div_(student_temperature)
            gradient[view, part] = probs
            losses[view, part] = len(sources) * normaliser - targets.mul_(logits).sum(dim=1)
    return losses, gradient


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


def _chunks(logits: Tensor) -> list[slice]:
    """Of whole rows."""
    size = max(1, CHUNK_ELEMENTS // logits.shape[1])
    return [slice(start, start + size) for start in range(0, len(logits), size)]


def _column_logsumexp(
    logits: Tensor, potential: Tensor | None, temperature: float, like: Tensor
) -> Tensor:
    """(K,) over this worker's rows of logits / temperature, (B, K); where there is a potential,
    rows are first scaled so that they sum to 1 under it. like: has the result's shape and dtype."""
    total = torch.full_like(like, -torch.inf)
    for part in _chunks(logits):
        scaled = _exact(logits[part]) / temperature
        if potential is not None:
            scaled -= (scaled + potential).logsumexp(dim=1, keepdim=True)
        total = torch.logaddexp(total, scaled.logsumexp(dim=0))
    return total


def _logsumexp_over_workers(local: Tensor) -> Tensor:
    """(K,) of each worker's rows to (K,) of all workers' rows."""
    if not dist.is_initialized():
        return local
    top = local.clone()
    dist.all_reduce(top, op=dist.ReduceOp.MAX)
    total = torch.exp(local - top)
    dist.all_reduce(total)
    return top + total.log()
