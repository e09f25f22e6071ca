"""FSNL: few-shot name learning for concepts whose names CLIP never saw."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

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
from models.methods.fsnl_loss import ImageLoss, NameLoss
from models.methods.selection import Selection, only_head
from models.name_learner import NameLearner
from models.prompts import PromptTokenizer
from models.task import Task

SHOTS_PER_BATCH = 4
RANDOM_DEVIATION = 0.02


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
    fixed_length: bool = False
    """FLE: every name is n_ctx random embeddings, not one for each of its tokens."""
    n_ctx: PositiveInt = 4
    """N_CTX: embeddings of a name of fixed length."""
    clip_init: bool = True
    """CIFC: names start as CLIP's embeddings of their tokens, else drawn from N(0, 0.02²)."""
    loss: NameLoss = "full"
    """What is learned from: "base" is USE_CAPTION off, "caption" and "clip" are ablations."""
    imagined_weight: ClosedUnitInterval = 0.0
    """Share of imagined images in the loss, the shots' is the rest; 0 where none are imagined."""


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
            learner = NameLearner(self.clip, names, self.card.hint, self._learned)
            self._text[names] = learner.class_features()
        return self._text[names]


class Fsnl(Method):
    """Learns the name embeddings alone, both towers frozen, by the base loss of the paper.

    With captions, (base + caption loss) / 2, contexts swapped between classes. SGD, lr scaled by
    batch / 128, one warm-up epoch at 1e-5, cosine to 0. The last step is kept. Source: FSNL
    (LAION-Beyond). Deviations: the schedule moves per step, not per epoch; absent classes are
    masked in the losses; a name is found by its label, not by substring. Ours: imagined images of
    the same classes beside the shots, batches of the same size drawn independently, in the same
    loss.
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
        generator = torch.Generator().manual_seed(seed)
        shapes = _shapes(task.clip, task.names, hyper)
        random = hyper.fixed_length or not hyper.clip_init
        start = [RANDOM_DEVIATION * torch.randn(shape, generator=generator) for shape in shapes]
        given = dict(zip(task.names, start, strict=True)) if random else {}
        learner = NameLearner(task.clip, task.names, task.hint, given)
        _train(learner, task, hyper, generator, report)
        selection = _selection(task, learner)
        embeddings = [embedding.detach().clone() for embedding in learner.embeddings()]
        return FsnlAdapted(Card.of(Fsnl.name, task, hyper, seed, selection), task.clip, embeddings)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> FsnlAdapted:
        shapes = _shapes(clip, card.names, FsnlHyper(**card.hyper))
        exactly(tensors, {_key(i): shape for i, shape in enumerate(shapes)}, card.method)
        return FsnlAdapted(card, clip, [tensors[_key(i)] for i in range(len(card.names))])


def _shapes(clip: Clip, names: Sequence[str], hyper: FsnlHyper) -> list[tuple[int, int]]:
    """(L_c, W) of every name's embeddings."""
    tokenizer, width = PromptTokenizer(clip), clip.text_width
    lengths = [hyper.n_ctx if hyper.fixed_length else len(tokenizer.name(n)) for n in names]
    return [(length, width) for length in lengths]


def _train(
    learner: NameLearner,
    task: Task,
    hyper: FsnlHyper,
    generator: torch.Generator,
    report: Report | None,
) -> None:
    scale = task.clip.logit_scale
    batch = len(task.names) * min(int(task.train.labels.bincount().max()), SHOTS_PER_BATCH)
    sources = [(task.train, 1.0)]
    if task.imagined is not None and hyper.imagined_weight > 0:
        sources = [(task.train, 1 - hyper.imagined_weight), (task.imagined, hyper.imagined_weight)]
    parts = [
        (
            share,
            ShotBatches(features, batch, generator),
            ImageLoss(learner, features, task.names, scale, hyper.loss, generator),
        )
        for features, share in sources
    ]
    against_classes = any(loss.which in ("full", "base") for _, _, loss in parts)

    def losses() -> Iterator[Tensor]:
        classes = learner.class_features() if against_classes else None
        total = torch.zeros(())
        for share, batches, loss in parts:
            images, rows = batches.next()
            total = total + share * loss(normalize(images, dim=-1), rows, classes)
        yield total

    epoch, lr = parts[0][1].epoch, hyper.lr * batch / 128
    optimizer = torch.optim.SGD(
        learner.parameters(), lr, hyper.momentum, weight_decay=hyper.weight_decay
    )
    steps = hyper.epochs * epoch
    descend(optimizer, losses, steps, epoch, report, lambda: _selection(task, learner))


@torch.no_grad()
def _selection(task: Task, learner: NameLearner) -> Selection:
    if not task.val:
        return Selection("text")
    cosines = class_tokens(task.val.clean) @ learner.class_features().T
    return only_head("text", task.clip.logit_scale * cosines, task.val.labels)


def _key(number: int) -> str:
    return f"name_embedding.{number}"
