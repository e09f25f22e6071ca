"""CLIP-Adapter: two small layers behind CLIP's image feature, mixed with the feature itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from models.clip import Clip
from models.methods.adapted import Card, Method, Report, exactly, refuse_teacher
from models.methods.descent import ShotBatches, descend
from models.methods.selection import Selection, only_head
from models.methods.zero_shot import ZeroShotAdapted
from models.task import Task
from models.text_classifier import TemplateSet


@dataclass(frozen=True, kw_only=True)
class ClipAdapterHyper:
    templates: TemplateSet = "hand"
    """The dataset's hand prompt, the ensemble of it with seven ImageNet templates, or prompts of
    each class."""
    ratio: ClosedUnitInterval = 0.2
    """Share of the adapted feature; the rest is CLIP's own."""
    reduction: PositiveInt = 4
    """Channels of the feature over those between the two layers."""
    lr: PositiveFloat = 0.01
    """SGD step size; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt = 200
    """Passes over the shots."""
    batch: PositiveInt = 32
    """Images per step."""
    momentum: NonNegativeFloat = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """Of SGD."""


class FeatureAdapter(nn.Module):
    """normalise(r·ReLU(W2 ReLU(W1 x)) + (1 − r)·x), (B, D) not normalised to (B, D) unit norm."""

    def __init__(self, dim: int, reduction: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(dim, max(1, dim // reduction), bias=False)
        self.up = nn.Linear(self.down.out_features, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        adapted = self.up(self.down(x).relu()).relu()
        return normalize(self.ratio * adapted + (1 - self.ratio) * x, dim=-1)


class ClipAdapterAdapted(ZeroShotAdapted):
    """Zero-shot CLIP behind the adapter, so any name can be asked for; one head, `text`."""

    def __init__(self, card: Card, clip: Clip, text: Tensor, adapter: FeatureAdapter) -> None:
        super().__init__(card, clip, text)
        self.adapter = adapter.requires_grad_(False)

    def heads(self, tokens: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        text = self.text(tuple(self.card.names if names is None else names))
        return {"text": self.clip.logit_scale * self.adapter(tokens[..., 0, :].float()) @ text.T}

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self.adapter.state_dict()


class ClipAdapter(Method):
    """Cross-entropy against the frozen text classifier; SGD; the last step is kept.

    Source: CLIP-Adapter (Gao et al., 2021) as in LAION-Beyond. Deviations: the width is the
    backbone's, the text is encoded once, the schedule moves per step.
    """

    name = "clip_adapter"
    Hyper = ClipAdapterHyper

    @staticmethod
    def fit(
        task: Task,
        hyper: ClipAdapterHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        report: Report | None = None,
    ) -> ClipAdapterAdapted:
        refuse_teacher(ClipAdapter.name, teacher)
        text = task.classifier(hyper.templates)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = FeatureAdapter(task.clip.embed_dim, hyper.reduction, hyper.ratio)
        batches = ShotBatches(task.train, hyper.batch, torch.Generator().manual_seed(seed))
        scale = task.clip.logit_scale

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            yield cross_entropy(scale * adapter(images) @ text.T, batches.labels[rows])

        @torch.no_grad()
        def select() -> Selection:
            if not task.val:
                return Selection("text")
            logits = scale * adapter(task.val.clean[:, 0].float()) @ text.T
            return only_head("text", logits, task.val.labels)

        optimizer = torch.optim.SGD(
            adapter.parameters(), hyper.lr, hyper.momentum, weight_decay=hyper.weight_decay
        )
        descend(optimizer, losses, hyper.epochs * batches.epoch, batches.epoch, report, select)
        card = Card.of(ClipAdapter.name, task, hyper, seed, select())
        return ClipAdapterAdapted(card, task.clip, text, adapter)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ClipAdapterAdapted:
        hyper = ClipAdapterHyper(**card.hyper)
        adapter = FeatureAdapter(clip.embed_dim, hyper.reduction, hyper.ratio)
        shapes = {name: tuple(t.shape) for name, t in adapter.state_dict().items()}
        exactly(tensors, shapes | {"text": (len(card.names), clip.embed_dim)}, card.method)
        adapter.load_state_dict({name: tensors[name] for name in shapes})
        return ClipAdapterAdapted(card, clip, tensors["text"], adapter)
