"""Moment-DINO: an adapter over a frozen CLIP distils itself, on moments and masked patches."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from kernels import distillation
from kernels.distillation import Centering
from kernels.moments import moments
from models.clip import Clip
from models.dino_head import DinoHead, HeadConfig
from models.moment_adapter import AdapterConfig, MomentAdapter

COMPONENTS = ("mask_token", "adapter", "dino_head", "ibot_head")
"""Trained parts of a branch, which are also the prefixes of its checkpoint."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors of the terms in the total loss."""

    dino: NonNegativeFloat = 2 / 3
    """Moments of one view against the other's. The released recipe's effective weight: DINOv2
    divides by one local crop even where there is none."""
    ibot: NonNegativeFloat = 1.0
    """Masked patches against the teacher's view of them."""
    koleo: NonNegativeFloat = 0.0
    """Spread of the student's moments, summed over the two views."""


@dataclass(frozen=True, kw_only=True)
class MomentDinoConfig:
    """The model that is pretrained; the defaults are those released for ViT-B/16."""

    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    dino_head: HeadConfig = field(default_factory=HeadConfig)
    """Head on the moments."""
    ibot_head: HeadConfig = field(default_factory=HeadConfig)
    """Head on the masked patches."""
    centering: Centering = "centre"
    """How the teacher's output is kept from collapsing."""
    centre_momentum: NonNegativeFloat = 0.9
    """Share of the old centre in the new one."""
    student_temperature: PositiveFloat = 0.1
    weights: LossWeights = field(default_factory=LossWeights)


class BranchOutput(NamedTuple):
    """What a branch says of a batch in V views.

    A tuple, for in a dataclass FSDP2 of PyTorch 2.11 finds no tensor to begin its backward pass at.
    """

    moments: Tensor
    """(V·B, 4D), the two whole views first."""
    dino: Tensor
    """(V·B, K) logits of the moments."""
    ibot: Tensor
    """(M, K') logits of the masked patches."""


class Branch(nn.Module):
    """What student and teacher each have of their own: mask token, adapter, two heads."""

    def __init__(self, backbone: Clip, config: MomentDinoConfig) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, backbone.vision_width))
        self.adapter = MomentAdapter(backbone.embed_dim, config.adapter)
        self.dino_head = DinoHead(4 * backbone.embed_dim, config.dino_head)
        self.ibot_head = DinoHead(backbone.embed_dim, config.ibot_head)

    def forward(
        self,
        tokens_of: Callable[[Tensor], Tensor],
        patches: Tensor,
        drop_path: Tensor | None = None,
        local: Tensor | None = None,
    ) -> BranchOutput:
        """The branch's moments and logits of a batch in two views.

        tokens_of: makes (2B, 1 + N, D) from the mask token; patches: (M,) of all 2B·N patches;
        local: (L·B, 1 + N', D) tokens of local crops; drop_path: (depth, 2, (2 + L)·B).

        The mask token is read in here because a sharded module has whole weights only in its
        own forward.
        """
        tokens = tokens_of(self.mask_token)
        adapted = self.adapter(tokens, None if drop_path is None else drop_path[..., : len(tokens)])
        pooled = moments(adapted)
        if local is not None:
            local_drop_path = None if drop_path is None else drop_path[..., len(tokens) :]
            pooled = torch.cat([pooled, moments(self.adapter(local, local_drop_path))])
        masked = adapted[:, 1:].flatten(0, 1)[patches]
        return BranchOutput(pooled, self.dino_head(pooled), self.ibot_head(masked))

    def components(self) -> dict[str, list[nn.Parameter]]:
        """Trained weights by component."""
        parts: dict[str, list[nn.Parameter]] = {part: [] for part in COMPONENTS}
        for name, weight in self.named_parameters():
            parts[name.split(".")[0]].append(weight)
        return parts


@dataclass(frozen=True)
class Step:
    """Losses of one batch, with what the teacher said (no gradient flows into it).

    loss: their weighted sum.
    """

    loss: Tensor
    dino: Tensor
    ibot: Tensor
    koleo: Tensor
    teacher: BranchOutput


class MomentDino(nn.Module):
    """Student and teacher over one frozen backbone, which is passed in with every call.

    The backbone is neither trained, averaged, sharded nor saved, so it is no part of this module.
    Source: ImagineFSL (Yang et al., 2025), section 3.3; DINO and iBOT as the kernels say.
    """

    dino_centre: Tensor
    ibot_centre: Tensor

    def __init__(self, backbone: Clip, config: MomentDinoConfig) -> None:
        super().__init__()
        self.config = config
        self.student = Branch(backbone, config)
        self.teacher = Branch(backbone, config)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.register_buffer("dino_centre", torch.zeros(config.dino_head.prototypes))
        self.register_buffer("ibot_centre", torch.zeros(config.ibot_head.prototypes))

    def forward(
        self,
        backbone: Clip,
        crops: Tensor,
        masks: Tensor,
        teacher_temperature: float,
        drop_path: Tensor | None = None,
        local_crops: Tensor | None = None,
    ) -> Step:
        """Losses of one batch of B >= 2 images in two views, and in L local ones of the student's.

        crops: (2B, 3, R, R) normalised, first all of view 1, then all of view 2 in the same order;
        masks: (2B, N) bool, True where the student sees the mask token; drop_path: the student's
        factors (depth, 2, (2 + L)·B); local_crops: (L·B, 3, r, r), view by view. Tokens of crops
        are computed once for both branches; only masked crops go through the backbone again, with
        the mask token, and only they are differentiated there.
        """
        with torch.no_grad():
            clean = backbone.encode_tokens(crops)
            local = None if local_crops is None else backbone.encode_tokens(local_crops)
        rows = masks.any(dim=1).nonzero().squeeze(1)
        patches = masks.flatten().nonzero().squeeze(1)

        def with_masks(mask_token: Tensor) -> Tensor:
            hidden = backbone.encode_tokens(crops[rows], masks[rows], mask_token)
            return clean.index_copy(0, rows, hidden.to(clean.dtype))

        with torch.no_grad():
            teacher = self.teacher(lambda _: clean, patches)
        student = self.student(with_masks, patches, drop_path, local)
        with torch.autocast(crops.device.type, enabled=False):
            return self._losses(student, teacher, masks, teacher_temperature)

    def _losses(
        self, student: BranchOutput, teacher: BranchOutput, masks: Tensor, temperature: float
    ) -> Step:
        config, weights = self.config, self.config.weights
        temperatures = {
            "student_temperature": config.student_temperature,
            "teacher_temperature": temperature,
        }
        dino = distillation.view_loss(
            student.dino.unflatten(0, (-1, len(masks) // 2)),
            teacher.dino.unflatten(0, (2, -1)),
            distillation.column_potential(
                teacher.dino, self.dino_centre, temperature, config.centering
            ),
            **temperatures,
        )
        per_patch = 1 / masks.sum(dim=1, keepdim=True).clamp(min=1).float()
        ibot = distillation.patch_loss(
            student.ibot,
            teacher.ibot,
            distillation.column_potential(
                teacher.ibot, self.ibot_centre, temperature, config.centering
            ),
            per_patch.expand_as(masks)[masks],
            len(masks),
            **temperatures,
        )
        first, second, *_ = student.moments.split(len(masks) // 2)
        koleo = distillation.koleo(first) + distillation.koleo(second)
        loss = weights.dino * dino + weights.ibot * ibot + weights.koleo * koleo
        return Step(loss, dino, ibot, koleo, teacher)

    @torch.no_grad()
    def move_teacher(self, step: Step, momentum: float) -> None:
        """teacher = momentum · teacher + (1 − momentum) · student, and the centres, after a step.

        Not called for a step that is skipped.
        """
        teacher: list[Tensor] = list(self.teacher.parameters())
        student: list[Tensor] = list(self.student.parameters())
        torch._foreach_mul_(teacher, momentum)
        torch._foreach_add_(teacher, student, alpha=1 - momentum)
        keep = self.config.centre_momentum
        self.dino_centre.copy_(distillation.moved_centre(self.dino_centre, step.teacher.dino, keep))
        self.ibot_centre.copy_(distillation.moved_centre(self.ibot_centre, step.teacher.ibot, keep))
