"""TaskRes: a learned residual on every class's text feature."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.clip import Clip
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
)
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
    """Adam learning rate; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt | None = None
    """Passes over the shots; by default 100, and 200 with more than 4 shots of a class."""
    batch: PositiveInt = 256
    """Images per step."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay of Adam (L2)."""


class TaskResAdapted(Adapted):
    """One head, `text`: cosine of image feature and moved text feature, times the logit scale."""

    reads = "class token"

    def __init__(self, card: Card, clip: Clip, text: Tensor) -> None:
        super().__init__(card, clip)
        self._text = text

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        self._only_own_names(names, own)
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ self._text.T}

    def tensors(self) -> dict[str, Tensor]:
        return {"text": self._text}


class TaskRes(BatchedMethod):
    """normalise(t + α·x) with x = 0 at the start; cross-entropy; Adam; the last step is kept.

    t: the task's text classifier if of unit norm, else CLIP's features of the hand prompt.
    Source: TaskRes (Yu et al., 2023) as in LAION-Beyond. The schedule moves per step.
    """

    name = "taskres"
    Hyper = TaskResHyper
    reads = "class token"
    varying = frozenset({"lr", "epochs", "weight_decay", "alpha"})

    @staticmethod
    def member_bytes(task: Task, hyper: TaskResHyper) -> int:
        return 4 * len(task.names) * (3 * task.clip.embed_dim + 3 * hyper.batch)

    @staticmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[TaskResHyper],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> list[TaskResAdapted | None]:
        refuse_teacher(TaskRes.name, teacher)
        first, scale = hypers[0], task.clip.logit_scale
        base = task.text if first.unit_norm else text_features(task.clip, task.names, task.template)
        batches = ShotBatches(task.train, first.batch, torch.Generator().manual_seed(seed))

        def text(residual: Tensor, alpha: float | Tensor) -> Tensor:
            return normalize(base + alpha * residual, dim=-1)

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            alphas = population.of_members([hyper.alpha for hyper in hypers])[:, None, None]
            texts = text(population.stacked["residual"], alphas)
            logits = scale * normalize(images, dim=-1) @ texts.mT
            yield cross_entropies(logits, batches.labels[rows]).mean(dim=1)

        @torch.no_grad()
        def select(m: int, parameters: Mapping[str, Tensor]) -> Selection:
            if not task.val:
                return Selection("text")
            texts = text(parameters["residual"], hypers[m].alpha)
            logits = scale * class_tokens(task.val.clean) @ texts.T
            return only_head("text", logits, task.val.labels)

        def optimizer(m: int, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Adam:
            decay = hypers[m].weight_decay
            return torch.optim.Adam(
                parameters.values(), hypers[m].lr, weight_decay=decay, fused=True
            )

        population = Population([{"residual": torch.zeros_like(base)}] * len(hypers), optimizer)
        few = int(batches.labels.bincount().max()) <= 4
        epochs = [hyper.epochs or (100 if few else 200) for hyper in hypers]
        budgets = [batches.epoch * passes for passes in epochs]
        learned = descend_together(population, losses, budgets, batches.epoch, watch, select)

        def adapted(hyper: TaskResHyper, residual: Tensor, selection: Selection) -> TaskResAdapted:
            card = Card.of(TaskRes.name, task, hyper, seed, selection)
            return TaskResAdapted(card, task.clip, text(residual, hyper.alpha).detach())

        return [
            member and adapted(hyper, member[0]["residual"], member[1])
            for hyper, member in zip(hypers, learned, strict=True)
        ]

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> TaskResAdapted:
        exactly(tensors, {"text": (len(card.names), clip.embed_dim)}, card.method)
        return TaskResAdapted(card, clip, tensors["text"])
