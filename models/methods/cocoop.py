"""CoCoOp: CoOp's context moved by every image, so one text pass per image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from models.clip import Clip
from models.context_learner import TEMPLATE, ContextLearner
from models.methods.adapted import (
    Adapted,
    Card,
    Method,
    Watch,
    class_tokens,
    exactly,
    refuse_teacher,
)
from models.methods.descent import ShotBatches, descend
from models.methods.selection import Selection, only_head
from models.task import Task

PROMPTS_PER_PASS = 1024
META_REDUCTION = 16


@dataclass(frozen=True, kw_only=True)
class CoCoOpHyper:
    lr: PositiveFloat = 0.032
    """SGD learning rate; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt = 10
    """Passes over the shots."""
    batch: PositiveInt = 16
    """Images per step, each with a prompt per class."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay of SGD, on context and meta-net."""


class ConditionalContext(nn.Module):
    """context + π(z) for every image, π = W2 ReLU(W1 z + b1) + b2 from D to D / 16 to W channels.

    B images, C names, M context vectors.
    """

    def __init__(self, learner: ContextLearner, clip: Clip) -> None:
        super().__init__()
        self.learner, self.scale = learner, clip.logit_scale
        hidden = max(1, clip.embed_dim // META_REDUCTION)
        self.down = nn.Linear(clip.embed_dim, hidden)
        self.up = nn.Linear(hidden, clip.text_width)
        self.to(clip.mean.device)

    def forward(self, images: Tensor) -> Tensor:
        """Unit-norm image features (B, D) to logits (B, C), B·C prompts at once."""
        bias = self.up(self.down(images).relu())
        texts = self.learner.features(self.learner.context + bias[:, None])
        return self.scale * (texts @ images[:, :, None]).squeeze(2)

    def at_once(self) -> int:
        """Images whose prompts make up one pass, at least 1."""
        return max(1, PROMPTS_PER_PASS // len(self.learner.prompts.ids))

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """`forward` without gradient for any number of images, in bounded memory."""
        return torch.cat([self(part) for part in images.split(self.at_once())])


class CoCoOpAdapted(Adapted):
    """The learned context and meta-net around any names; one head, `text`."""

    open_vocabulary = True
    reads = "class token"

    def __init__(self, card: Card, clip: Clip, learned: dict[str, Tensor]) -> None:
        super().__init__(card, clip)
        self._learned = learned

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        asked, _ = self._label_space(names, own)
        model = ConditionalContext(ContextLearner(self.clip, asked), self.clip)
        model.load_state_dict(self._learned)
        return {"text": model.predict(class_tokens(tokens))}

    def tensors(self) -> dict[str, Tensor]:
        return self._learned


class CoCoOp(Method):
    """Cross-entropy; SGD; the last step is kept.

    Source: CoCoOp (Zhou et al., 2022) as in LAION-Beyond. Deviations: the images of a batch are
    encoded together, not one by one; prompts are cut to the longest; the schedule moves per step.
    """

    name = "cocoop"
    context = TEMPLATE
    asks = frozenset({"names"})
    Hyper = CoCoOpHyper
    reads = "class token"

    @staticmethod
    def fit(
        task: Task,
        hyper: CoCoOpHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> CoCoOpAdapted:
        refuse_teacher(CoCoOp.name, teacher)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = ConditionalContext(ContextLearner(task.clip, task.names), task.clip)
        batches = ShotBatches(task.train, hyper.batch, torch.Generator().manual_seed(seed))

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            labels = batches.labels[rows]
            for part in torch.arange(len(rows)).split(model.at_once()):
                logits = model(normalize(images[part], dim=-1))
                yield cross_entropy(logits, labels[part], reduction="sum") / len(rows)

        def select() -> Selection:
            if not task.val:
                return Selection("text")
            return only_head("text", model.predict(class_tokens(task.val.clean)), task.val.labels)

        optimizer = torch.optim.SGD(
            model.parameters(), hyper.lr, hyper.momentum, weight_decay=hyper.weight_decay
        )
        descend(optimizer, losses, hyper.epochs * batches.epoch, batches.epoch, watch, select)
        learned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return CoCoOpAdapted(Card.of(CoCoOp.name, task, hyper, seed, select()), task.clip, learned)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> CoCoOpAdapted:
        model = ConditionalContext(ContextLearner(clip, card.names), clip)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        exactly(tensors, shapes, card.method)
        return CoCoOpAdapted(card, clip, tensors)
