"""TaskRes: a learned residual on every class's text feature."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from models.clip import Clip
from models.methods.adapted import (
    Adapted,
    Card,
    Method,
    Report,
    class_tokens,
    exactly,
    refuse_teacher,
)
from models.methods.descent import ShotBatches, descend
from models.methods.selection import Selection, only_head
from models.task import Task
from models.text_classifier import text_features


@dataclass(frozen=True, kw_only=True)
class TaskResHyper:
    alpha: PositiveFloat = 0.5
    """Factor on the residual."""
    unit_norm: bool = False
    """Whether text features have unit norm before the residual is added. The original's have not,
    so there what alpha does depends on how long a backbone's text features are."""
    lr: PositiveFloat = 2e-3
    """Adam step size; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt | None = None
    """Passes over the shots; by default 100, and 200 with more than 4 shots of a class."""
    batch: PositiveInt = 256
    """Images per step."""
    weight_decay: NonNegativeFloat = 5e-4
    """Of Adam (L2)."""


class TaskResAdapted(Adapted):
    """One head, `text`: cosine of image feature and moved text feature, times the logit scale."""

    def __init__(self, card: Card, clip: Clip, text: Tensor) -> None:
        super().__init__(card, clip)
        self._text = text

    def heads(self, tokens: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        self._only_own_names(names)
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ self._text.T}

    def tensors(self) -> dict[str, Tensor]:
        return {"text": self._text}


class TaskRes(Method):
    """normalise(t + α·x) with x = 0 at the start; cross-entropy; Adam; the last step is kept.

    t: the task's text classifier if of unit norm, else CLIP's features of the hand prompt.
    Source: TaskRes (Yu et al., 2023) as in LAION-Beyond. The schedule moves per step.
    """

    name = "taskres"
    Hyper = TaskResHyper

    @staticmethod
    def fit(
        task: Task,
        hyper: TaskResHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        report: Report | None = None,
    ) -> TaskResAdapted:
        refuse_teacher(TaskRes.name, teacher)
        base = task.text if hyper.unit_norm else text_features(task.clip, task.names, task.template)
        residual = torch.zeros_like(base).requires_grad_()
        batches = ShotBatches(task.train, hyper.batch, torch.Generator().manual_seed(seed))
        scale = task.clip.logit_scale

        def text() -> Tensor:
            return normalize(base + hyper.alpha * residual, dim=-1)

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            logits = scale * normalize(images, dim=-1) @ text().T
            yield cross_entropy(logits, batches.labels[rows])

        @torch.no_grad()
        def select() -> Selection:
            if not task.val:
                return Selection("text")
            logits = scale * class_tokens(task.val.clean) @ text().T
            return only_head("text", logits, task.val.labels)

        optimizer = torch.optim.Adam([residual], hyper.lr, weight_decay=hyper.weight_decay)
        few = int(batches.labels.bincount().max()) <= 4
        epochs = hyper.epochs or (100 if few else 200)
        descend(optimizer, losses, epochs * batches.epoch, batches.epoch, report, select)
        card = Card.of(TaskRes.name, task, hyper, seed, select())
        return TaskResAdapted(card, task.clip, text().detach())

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> TaskResAdapted:
        exactly(tensors, {"text": (len(card.names), clip.embed_dim)}, card.method)
        return TaskResAdapted(card, clip, tensors["text"])
