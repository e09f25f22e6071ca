"""CoOp: context words learned once for all classes, in place of "a photo of a"."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from models.clip import Clip
from models.context_learner import ContextLearner
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


@dataclass(frozen=True, kw_only=True)
class CoOpHyper:
    lr: PositiveFloat = 2e-3
    """SGD step size; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt = 200
    """Passes over the shots."""
    batch: PositiveInt = 128
    """Images per step."""
    momentum: NonNegativeFloat = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """On the context."""


class CoOpAdapted(Adapted):
    """Zero-shot CLIP with the learned context around any names; one head, `text`."""

    open_vocabulary = True

    def __init__(self, card: Card, clip: Clip, context: Tensor) -> None:
        super().__init__(card, clip)
        self.context = context
        self._text: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def heads(self, tokens: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        asked = tuple(self.card.names if names is None else names)
        if asked not in self._text:
            learner = ContextLearner(self.clip, asked)
            (self._text[asked],) = learner.features(self.context[None])
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ self._text[asked].T}

    def tensors(self) -> dict[str, Tensor]:
        return {"context": self.context}


class CoOp(Method):
    """Cross-entropy; SGD; the last step is kept.

    Source: CoOp (Zhou et al., 2022), unified context of 4, as in LAION-Beyond. Deviations: prompts
    are cut to the longest (the tower is causal), the schedule moves per step.
    """

    name = "coop"
    Hyper = CoOpHyper

    @staticmethod
    def fit(
        task: Task,
        hyper: CoOpHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        report: Report | None = None,
    ) -> CoOpAdapted:
        refuse_teacher(CoOp.name, teacher)
        learner = ContextLearner(task.clip, task.names)
        batches = ShotBatches(task.train, hyper.batch, torch.Generator().manual_seed(seed))
        scale = task.clip.logit_scale

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            logits = scale * normalize(images, dim=-1) @ learner.class_features().T
            yield cross_entropy(logits, batches.labels[rows])

        @torch.no_grad()
        def select() -> Selection:
            if not task.val:
                return Selection("text")
            logits = scale * class_tokens(task.val.clean) @ learner.class_features().T
            return only_head("text", logits, task.val.labels)

        optimizer = torch.optim.SGD(
            learner.parameters(), hyper.lr, hyper.momentum, weight_decay=hyper.weight_decay
        )
        descend(optimizer, losses, hyper.epochs * batches.epoch, batches.epoch, report, select)
        card = Card.of(CoOp.name, task, hyper, seed, select())
        return CoOpAdapted(card, task.clip, learner.context.detach())

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> CoOpAdapted:
        shape = tuple(ContextLearner(clip, card.names).context.shape)
        exactly(tensors, {"context": shape}, card.method)
        return CoOpAdapted(card, clip, tensors["context"])
