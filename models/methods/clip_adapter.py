"""CLIP-Adapter: two small layers behind CLIP's image feature, mixed with the feature itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.clip import Clip
from models.methods.adapted import Card, WatchMany, exactly, refuse_teacher
from models.methods.descent import ShotBatches
from models.methods.population import (
    BatchedMethod,
    Population,
    cross_entropies,
    descend_together,
    sgd,
)
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
    """SGD learning rate; cosine to 0 over the run, the first epoch at 1e-5."""
    epochs: PositiveInt = 200
    """Passes over the shots."""
    batch: PositiveInt = 32
    """Images per step."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay of SGD."""


class FeatureAdapter(nn.Module):
    """normalise(r·ReLU(W2 ReLU(W1 x)) + (1 − r)·x), (B, D) not normalised to (B, D) unit norm."""

    def __init__(self, dim: int, reduction: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(dim, max(1, dim // reduction), bias=False)
        self.up = nn.Linear(self.down.out_features, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return adapt(x, self.down.weight, self.up.weight, self.ratio)


def adapt(x: Tensor, down: Tensor, up: Tensor, ratio: float | Tensor) -> Tensor:
    """(B, D) to as much; of k adapters, (k, B, D): weights (k, ., .), ratios (k, 1, 1)."""
    adapted = ((x @ down.mT).relu() @ up.mT).relu()
    return normalize(ratio * adapted + (1 - ratio) * x, dim=-1)


class ClipAdapterAdapted(ZeroShotAdapted):
    """Zero-shot CLIP behind the adapter, so any name can be asked for; one head, `text`."""

    def __init__(self, card: Card, clip: Clip, text: Tensor, adapter: FeatureAdapter) -> None:
        super().__init__(card, clip, text)
        self.adapter = adapter.requires_grad_(False)

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        text = self.text(*self._label_space(names, own))
        return {"text": self.clip.logit_scale * self.adapter(tokens[..., 0, :].float()) @ text.T}

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | self.adapter.state_dict()


class ClipAdapter(BatchedMethod):
    """Cross-entropy against the frozen text classifier; SGD; the last step is kept.

    Source: CLIP-Adapter (Gao et al., 2021) as in LAION-Beyond. Deviations: the width is the
    backbone's, the text is encoded once, the schedule moves per step.
    """

    name = "clip_adapter"
    Hyper = ClipAdapterHyper
    reads = "class token"
    varying = frozenset({"lr", "epochs", "momentum", "weight_decay", "ratio"})

    @staticmethod
    def member_bytes(task: Task, hyper: ClipAdapterHyper) -> int:
        return 4 * hyper.batch * (4 * task.clip.embed_dim + 3 * len(task.names))

    @staticmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[ClipAdapterHyper],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> list[ClipAdapterAdapted | None]:
        refuse_teacher(ClipAdapter.name, teacher)
        first, scale = hypers[0], task.clip.logit_scale
        text = task.classifier(first.templates)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = FeatureAdapter(task.clip.embed_dim, first.reduction, first.ratio)
        start = adapter.to(text.device).state_dict()
        batches = ShotBatches(task.train, first.batch, torch.Generator().manual_seed(seed))

        def logits(
            images: Tensor, parameters: Mapping[str, Tensor], ratio: float | Tensor
        ) -> Tensor:
            return (
                scale
                * adapt(images, parameters["down.weight"], parameters["up.weight"], ratio)
                @ text.T
            )

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            ratios = population.of_members([hyper.ratio for hyper in hypers])[:, None, None]
            outputs = logits(images, population.stacked, ratios)
            yield cross_entropies(outputs, batches.labels[rows]).mean(dim=1)

        @torch.no_grad()
        def select(m: int, parameters: Mapping[str, Tensor]) -> Selection:
            if not task.val:
                return Selection("text")
            outputs = logits(task.val.clean[:, 0].float(), parameters, hypers[m].ratio)
            return only_head("text", outputs, task.val.labels)

        population = Population(
            [start] * len(hypers), lambda m, parameters: sgd(parameters, hypers[m])
        )
        budgets = [hyper.epochs * batches.epoch for hyper in hypers]
        learned = descend_together(population, losses, budgets, batches.epoch, watch, select)

        def adapted(
            hyper: ClipAdapterHyper, parameters: dict[str, Tensor], selection: Selection
        ) -> ClipAdapterAdapted:
            card = Card.of(ClipAdapter.name, task, hyper, seed, selection)
            adapter = FeatureAdapter(task.clip.embed_dim, hyper.reduction, hyper.ratio)
            adapter.load_state_dict(parameters)
            return ClipAdapterAdapted(card, task.clip, text, adapter.to(text.device))

        return [
            member and adapted(hyper, *member)
            for hyper, member in zip(hypers, learned, strict=True)
        ]

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ClipAdapterAdapted:
        hyper = ClipAdapterHyper(**card.hyper)
        adapter = FeatureAdapter(clip.embed_dim, hyper.reduction, hyper.ratio)
        adapter.to(clip.mean.device)
        shapes = {name: tuple(t.shape) for name, t in adapter.state_dict().items()}
        exactly(tensors, shapes | {"text": (len(card.names), clip.embed_dim)}, card.method)
        adapter.load_state_dict({name: tensors[name] for name in shapes})
        return ClipAdapterAdapted(card, clip, tensors["text"], adapter)
