"""CoOp: context words learned once for all classes, in place of "a photo of a"."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from models.clip import Clip
from models.context_learner import TEMPLATE, ContextLearner
from models.methods.adapted import (
    Adapted,
    Card,
    WatchMany,
    class_tokens,
    exactly,
    refuse_teacher,
)
from models.methods.descent import ShotBatches
from models.methods.population import (
    BatchedMethod,
    Population,
    cross_entropies,
    descend_together,
    sgd,
    tower_bytes,
)
from models.methods.selection import Selection, only_head
from models.task import Task


@dataclass(frozen=True, kw_only=True)
class CoOpHyper:
    lr: PositiveFloat = 2e-3
    """SGD learning rate; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt = 200
    """Passes over the shots."""
    batch: PositiveInt = 128
    """Images per step."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay of SGD, on the context."""


class CoOpAdapted(Adapted):
    """Zero-shot CLIP with the learned context around any names; one head, `text`."""

    open_vocabulary = True
    reads = "class token"

    def __init__(self, card: Card, clip: Clip, context: Tensor) -> None:
        super().__init__(card, clip)
        self.context = context
        self._text: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        asked, _ = self._label_space(names, own)
        if asked not in self._text:
            learner = ContextLearner(self.clip, asked)
            (self._text[asked],) = learner.features(self.context[None])
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ self._text[asked].T}

    def tensors(self) -> dict[str, Tensor]:
        return {"context": self.context}


class CoOp(BatchedMethod):
    """Cross-entropy; SGD; the last step is kept.

    Source: CoOp (Zhou et al., 2022), unified context of 4, as in LAION-Beyond. Deviations: prompts
    are cut to the longest (the tower is causal), the schedule moves per step.
    """

    name = "coop"
    context = TEMPLATE
    asks = frozenset({"names"})
    Hyper = CoOpHyper
    reads = "class token"
    varying = frozenset({"lr", "epochs", "momentum", "weight_decay"})

    @staticmethod
    def member_bytes(task: Task, hyper: CoOpHyper) -> int:
        tower = task.clip.text
        tokens = tower.positions(ContextLearner(task.clip, task.names).prompts.ids.shape[1])
        return tower_bytes(len(task.names), tokens, tower.width, tower.depth)

    @staticmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[CoOpHyper],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> list[CoOpAdapted | None]:
        refuse_teacher(CoOp.name, teacher)
        learner = ContextLearner(task.clip, task.names)
        batch, scale = hypers[0].batch, task.clip.logit_scale
        batches = ShotBatches(task.train, batch, torch.Generator().manual_seed(seed))

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            texts = learner.features(population.stacked["context"])
            logits = scale * normalize(images, dim=-1) @ texts.mT
            yield cross_entropies(logits, batches.labels[rows]).mean(dim=1)

        @torch.no_grad()
        def select(_: int, parameters: Mapping[str, Tensor]) -> Selection:
            if not task.val:
                return Selection("text")
            (texts,) = learner.features(parameters["context"][None])
            logits = scale * class_tokens(task.val.clean) @ texts.T
            return only_head("text", logits, task.val.labels)

        population = Population(
            [{"context": learner.context}] * len(hypers),
            lambda m, parameters: sgd(parameters, hypers[m]),
        )
        budgets = [hyper.epochs * batches.epoch for hyper in hypers]
        learned = descend_together(population, losses, budgets, batches.epoch, watch, select)

        def adapted(hyper: CoOpHyper, context: Tensor, selection: Selection) -> CoOpAdapted:
            card = Card.of(CoOp.name, task, hyper, seed, selection)
            return CoOpAdapted(card, task.clip, context.detach())

        return [
            member and adapted(hyper, member[0]["context"], member[1])
            for hyper, member in zip(hypers, learned, strict=True)
        ]

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> CoOpAdapted:
        shape = tuple(ContextLearner(clip, card.names).context.shape)
        exactly(tensors, {"context": shape}, card.method)
        return CoOpAdapted(card, clip, tensors["context"])
