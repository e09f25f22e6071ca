"""Triton kernel of the distillation loss, for CUDA: it reads every logit once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_PROTOTYPES = 16_384
"""A program holds a whole row; a longer one would not fit its registers."""


def cross_entropies(
    student: Tensor,
    teacher: Tensor,
    potential: Tensor,
    skip_same: bool,
    student_temperature: float,
    teacher_temperature: float,
) -> tuple[Tensor, Tensor]:
    """As `kernels.distillation.cross_entropies`; computed in float32."""
    views, crops, prototypes = student.shape
    losses = torch.empty(views, crops, dtype=torch.float32, device=student.device)
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    if losses.numel():
        block = triton.next_power_of_2(prototypes)
        _cross_entropies[(views * crops,)](
            student.contiguous(), teacher.contiguous(), potential.contiguous(), losses, gradient,
            crops, prototypes, len(teacher), student_temperature, teacher_temperature,
            skip_same, block, num_warps=min(16, max(1, block // 512)),
        )  # fmt: skip
    return losses, gradient


@triton.jit
def _cross_entropies(  # type: ignore[no-untyped-def]
    student, teacher, potential, losses, gradient, B, K, teacher_views,
    student_temperature, teacher_temperature, SKIP_SAME: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program per student row; B rows per view, K prototypes."""
    row = tl.program_id(0).to(tl.int64)
    view, crop = row // B, row % B
    k = tl.arange(0, BLOCK)
    inside = k < K
    logits = tl.load(student + row * K + k, mask=inside, other=-float("inf")).to(tl.float32)
    logits = logits / student_temperature
    top = tl.max(logits, axis=0)
    probs = tl.exp(logits - top)
    total = tl.sum(probs, axis=0)
    shift = tl.load(potential + k, mask=inside, other=0.0).to(tl.float32)
    targets = tl.zeros([BLOCK], tl.float32)
    compared = 0.0
    for t in range(teacher_views):
        if t != view or not SKIP_SAME:
            source = (t * B + crop) * K + k
            scaled = tl.load(teacher + source, mask=inside, other=-float("inf")).to(tl.float32)
            scaled = scaled / teacher_temperature + shift
            scaled = tl.exp(scaled - tl.max(scaled, axis=0))
            targets += scaled / tl.sum(scaled, axis=0)
            compared += 1.0
    matched = tl.sum(targets * tl.where(inside, logits, 0.0), axis=0)
    tl.store(losses + row, compared * (top + tl.log(total)) - matched)
    slope = (compared * probs / total - targets) / student_temperature
    tl.store(gradient + row * K + k, slope, mask=inside)
