"""FSNL: few-shot name learning for concepts whose names CLIP never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from kernels.contrastive import base_double_loss, caption_loss
from models.clip import Clip
from models.methods.adapted import (
    Adapted,
    Card,
    Method,
    Report,
    class_tokens,
    exactly,
    refuse_teacher,
    val_figures,
)
from models.methods.batches import endless_batches
from models.methods.selection import Selection, only_head
from models.name_learner import NameLearner
from models.prompts import Context
from models.schedules import cosine
from models.task import Task

SHOTS_PER_BATCH = 4
EVALUATIONS = 4
WARM_UP_LR = 1e-5


@dataclass(frozen=True, kw_only=True)
class FsnlHyper:
    lr: PositiveFloat = 2e-4
    """SGD step size per 128 images of the batch; cosine to 0 over the run."""
    epochs: PositiveInt = 200
    """Passes over the shots, min(shots, 4) images per class a step: up to 4 shots, 1 step each."""
    momentum: NonNegativeFloat = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """On the name embeddings."""


class FsnlAdapted(Adapted):
    """Zero-shot CLIP with FSNL's prompt, where learned names stand for the names that were learned.

    Any name can be asked for: the task's own have their learned embeddings, all others CLIP's, so
    the logits of a label space without learned names are those of zero-shot. One head, `text`.
    """

    open_vocabulary = True

    def __init__(self, card: Card, clip: Clip, embeddings: Sequence[Tensor]) -> None:
        super().__init__(card, clip)
        self._learned = dict(zip(card.names, embeddings, strict=True))
        self._text: dict[tuple[str, ...], Tensor] = {}

    def heads(self, tokens: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        text = self._text_features(tuple(self.card.names if names is None else names))
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ text.T}

    def tensors(self) -> dict[str, Tensor]:
        return {_key(i): self._learned[name] for i, name in enumerate(self.card.names)}

    @torch.no_grad()
    def _text_features(self, names: tuple[str, ...]) -> Tensor:
        if names not in self._text:
            learner = NameLearner(self.clip, names, self.card.hint)
            for number, name in enumerate(names):
                if name in self._learned:
                    learner.set_embedding(number, self._learned[name])
            self._text[names] = learner.class_features()
        return self._text[names]


class Fsnl(Method):
    """Learns the name embeddings alone, both towers frozen, by the base loss of the paper.

    With captions, (base + caption loss) / 2, contexts swapped between classes. SGD, lr scaled by
    batch / 128, one warm-up epoch at 1e-5, cosine to 0. The last step is kept. Source: FSNL
    (LAION-Beyond). Deviations: the schedule moves per step, not per epoch; absent classes are
    masked in the losses; a name is found by its label, not by substring.
    """

    name = "fsnl"
    Hyper = FsnlHyper

    @staticmethod
    def fit(
        task: Task,
        hyper: FsnlHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        report: Report | None = None,
    ) -> FsnlAdapted:
        refuse_teacher(Fsnl.name, teacher)
        learner = NameLearner(task.clip, task.names, task.hint)
        _train(learner, task, hyper, torch.Generator().manual_seed(seed), report)
        selection = _selection(task, learner)
        embeddings = [embedding.detach().clone() for embedding in learner.embeddings()]
        return FsnlAdapted(Card.of(Fsnl.name, task, hyper, seed, selection), task.clip, embeddings)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> FsnlAdapted:
        learner = NameLearner(clip, card.names, card.hint)
        shapes = {_key(i): tuple(e.shape) for i, e in enumerate(learner.embeddings())}
        exactly(tensors, shapes, card.method)
        return FsnlAdapted(card, clip, [tensors[_key(i)] for i in range(len(card.names))])


def _train(
    learner: NameLearner,
    task: Task,
    hyper: FsnlHyper,
    generator: torch.Generator,
    report: Report | None,
) -> None:
    images, labels = class_tokens(task.train.tokens), task.train.labels
    batch = len(task.names) * min(int(labels.bincount().max()), SHOTS_PER_BATCH)
    per_epoch = -(-len(labels) // batch)
    steps, lr = hyper.epochs * per_epoch, hyper.lr * batch / 128
    batches = endless_batches(len(labels), batch, generator)
    loss_of = ShotLoss(learner, task, generator)
    optimizer = torch.optim.SGD(
        learner.parameters(), lr, hyper.momentum, weight_decay=hyper.weight_decay
    )
    for step in range(steps):
        rows = next(batches)
        views = torch.randint(len(images), (len(rows),), generator=generator)
        optimizer.param_groups[0]["lr"] = (
            WARM_UP_LR if step < per_epoch else cosine(lr, 0.0, step, steps)
        )
        optimizer.zero_grad()
        loss = loss_of(images[views, rows], rows)
        loss.backward()
        optimizer.step()
        if report is not None and (step + 1) % max(1, steps // EVALUATIONS) == 0:
            report(
                {"step": step + 1, "loss": loss.item(), **val_figures(_selection(task, learner))}
            )


class ShotLoss:
    """The loss of one batch of shots: base double loss, and the caption loss where captions are."""

    def __init__(self, learner: NameLearner, task: Task, generator: torch.Generator) -> None:
        self.learner, self.labels, self.generator = learner, task.train.labels, generator
        self.scale = task.clip.logit_scale
        captions = task.train.captions
        self.contexts: list[Context] | None = None
        if captions is not None:
            found = learner.tokenizer.captions(captions, self.labels.tolist(), task.names)
            # no caption, or one without the name: the hand prompt says as much as is known
            self.contexts = [context or learner.hand for context in found]

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        """images: (B, D) unit norm; rows: (B,) int64, which shots they are. Returns a scalar."""
        labels = self.labels[rows]
        base = base_double_loss(self.scale * images @ self.learner.class_features().T, labels)
        if self.contexts is None:
            return base
        swapped = rows[other_class(labels, self.generator)]
        texts = self.caption_features([self.contexts[row] for row in swapped.tolist()], labels)
        return (base + caption_loss(self.scale * images @ texts.T, labels)) / 2

    def caption_features(self, contexts: Sequence[Context], labels: Tensor) -> Tensor:
        """(B, D) unit-norm features of contexts with the names of the labels (B,) in them."""
        names = [self.learner.names[label] for label in labels.tolist()]
        return self.learner.features(self.learner.tokenizer.fill(contexts, names), labels)


def other_class(labels: Tensor, generator: torch.Generator) -> Tensor:
    """For each of B samples one of another class, drawn evenly; itself where there is none.

    labels: (B,) int64. Returns positions (B,) int64. Source: FSNL's context swap.
    """
    others = (labels[:, None] != labels[None, :]).float()
    alone = others.sum(dim=1) == 0
    others[alone, alone.nonzero().flatten()] = 1
    return torch.multinomial(others, 1, generator=generator).flatten()


@torch.no_grad()
def _selection(task: Task, learner: NameLearner) -> Selection:
    if task.val is None:
        return Selection("text")
    cosines = class_tokens(task.val.clean) @ learner.class_features().T
    return only_head("text", task.clip.logit_scale * cosines, task.val.labels)


def _key(number: int) -> str:
    return f"name_embedding.{number}"
