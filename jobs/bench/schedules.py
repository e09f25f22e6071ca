"""One process of `python -m jobs.bench pretrain`: whole training steps, ours or straightforward.

The straightforward schedule is what the method says, without what follows from the backbone being
frozen: two backbones, the teacher's averaged like its other weights, every crop through both,
attention as matrix products with a softmax between them, and the kernels' plain references.
"""

import copy
import dataclasses
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import interpolate

from jobs.bench.apart import peak_bytes
from kernels import distillation
from kernels.moments import moments_reference
from models.backbones import TINY, load_clip
from models.block_masks import draw_masks
from models.building import clip_from_config
from models.clip import Clip
from models.moment_adapter import draw_drop_path
from models.moment_dino import Branch, BranchOutput, MomentDino, MomentDinoConfig, Step
from models.precision import Precision, autocast

Schedule = Literal["ours", "straightforward"]

VIT_B16: dict[str, Any] = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "head_width": 64,
    },
    "text_cfg": {"width": 8, "heads": 1, "layers": 1},
}  # fmt: skip
"""ViT-B/16's image tower with random weights, and no text tower to speak of."""


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What is trained on what; a batch is `captions` in two views."""

    backbone: Literal["ViT-B/16", "tiny"]
    model: MomentDinoConfig
    captions: int


TEMPERATURE, MOMENTUM, LARGEST_NORM = 0.05, 0.99, 3.0
MASKED_SHARE, MASK_RATIO = 0.5, (0.1, 0.5)


def serve(
    pipe: Connection, shapes: Shapes, schedule: Schedule, precision: Precision, first: Path
) -> None:
    """Writes losses and gradients of the first step to `first`, then answers every True on the
    pipe by the seconds of one more step, and at the end tells the peak memory in bytes."""
    torch.manual_seed(0)
    backbone = load_clip(TINY) if shapes.backbone == "tiny" else clip_from_config(VIT_B16)
    model = MomentDino(backbone, shapes.model)
    step, move_teacher = _ours(model, backbone)
    if schedule == "straightforward":
        step, move_teacher = _straightforward(model, backbone)
    batch = _batch(backbone, shapes)
    parts = model.student.components()
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=1e-4, weight_decay=0.04)

    def losses() -> Step:
        with autocast(torch.device("cpu"), precision):
            done = step(*batch)
        done.loss.backward()
        return done

    done = losses()
    torch.save(
        {
            "losses": torch.stack([done.dino, done.ibot, done.koleo]).detach(),
            **{part: [weight.grad for weight in weights] for part, weights in parts.items()},
        },
        first,
    )
    optimizer.zero_grad()
    pipe.send(0.0)
    while pipe.recv():
        started = time.perf_counter()
        done = losses()
        for weights in parts.values():
            torch.nn.utils.clip_grad_norm_(weights, LARGEST_NORM)
        optimizer.step()
        move_teacher(done)
        optimizer.zero_grad()
        pipe.send(time.perf_counter() - started)
    pipe.send(peak_bytes())


Batch = tuple[Tensor, Tensor, Tensor]
"""Crops, masks, drop path: as `MomentDino.forward` takes them."""


def _ours(model: MomentDino, backbone: Clip) -> tuple[Callable[..., Step], Callable[[Step], None]]:
    def step(crops: Tensor, masks: Tensor, drop_path: Tensor) -> Step:
        return model(backbone, crops, masks, TEMPERATURE, drop_path)

    return step, lambda done: model.move_teacher(done, MOMENTUM)


def _straightforward(
    model: MomentDino, backbone: Clip
) -> tuple[Callable[..., Step], Callable[[Step], None]]:
    teachers = copy.deepcopy(backbone)

    def step(crops: Tensor, masks: Tensor, drop_path: Tensor) -> Step:
        patches = masks.flatten().nonzero().squeeze(1)
        with sdpa_kernel(SDPBackend.MATH):
            with torch.no_grad():
                taught = _plain_branch(model.teacher, teachers.encode_tokens(crops), patches, None)
            hidden = backbone.encode_tokens(crops, masks, model.student.mask_token)
            learnt = _plain_branch(model.student, hidden, patches, drop_path)
        with torch.autocast("cpu", enabled=False):
            return _plain_losses(model, learnt, taught, masks)

    @torch.no_grad()
    def move_teacher(done: Step) -> None:
        averaged: list[Tensor] = list(teachers.parameters())
        torch._foreach_mul_(averaged, MOMENTUM)
        torch._foreach_add_(averaged, list(backbone.parameters()), alpha=1 - MOMENTUM)
        model.move_teacher(done, MOMENTUM)

    return step, move_teacher


def _plain_branch(
    branch: Branch, tokens: Tensor, patches: Tensor, drop_path: Tensor | None
) -> BranchOutput:
    adapted = branch.adapter(tokens, drop_path)
    pooled = moments_reference(adapted)
    masked = adapted[:, 1:].flatten(0, 1)[patches]
    return BranchOutput(pooled, branch.dino_head(pooled), branch.ibot_head(masked))


def _plain_losses(
    model: MomentDino, student: BranchOutput, teacher: BranchOutput, masks: Tensor
) -> Step:
    config, weights = model.config, model.config.weights
    dino_probs, ibot_probs = (
        distillation.teacher_targets(logits, centre, TEMPERATURE, config.centering)
        for logits, centre in (
            (teacher.dino, model.dino_centre),
            (teacher.ibot, model.ibot_centre),
        )
    )
    dino = distillation.view_loss_reference(
        dino_probs.unflatten(0, (2, -1)),
        student.dino.unflatten(0, (2, -1)),
        config.student_temperature,
    )
    per_patch = 1 / masks.sum(dim=1, keepdim=True).clamp(min=1).float()
    ibot = distillation.patch_loss_reference(
        ibot_probs,
        student.ibot,
        per_patch.expand_as(masks)[masks],
        len(masks),
        config.student_temperature,
    )
    first, second = student.moments.chunk(2)
    koleo = distillation.koleo(first) + distillation.koleo(second)
    loss = weights.dino * dino + weights.ibot * ibot + weights.koleo * koleo
    return Step(loss, dino, ibot, koleo, teacher)


def _batch(backbone: Clip, shapes: Shapes) -> Batch:
    """Smooth random pictures: neighbouring patches are alike, as in photographs."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2 * shapes.captions, 3, 8, 8, generator=generator)
    crops = interpolate(coarse, size=backbone.image_size, mode="bicubic").clamp(0, 1)
    rng = np.random.default_rng(0)
    masks = draw_masks(len(crops), backbone.grid, MASKED_SHARE, MASK_RATIO, rng)
    drop_path = draw_drop_path(len(crops), shapes.model.adapter, generator)
    return backbone.normalise(crops), torch.from_numpy(masks), drop_path
