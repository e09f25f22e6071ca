"""ImagineFSL: a moment adapter, a visual head and a text head tuned on real and imagined images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from kernels.fusion import fuse
from models.clip import Clip
from models.methods.adapted import Adapted, Card, Method, Report, exactly, val_figures
from models.methods.batches import endless_batches
from models.methods.imagine_model import ImagineModel, Pooled
from models.methods.selection import Selection, choose_head
from models.methods.teacher import take_over
from models.moment_adapter import AdapterConfig
from models.precision import Precision
from models.schedules import cosine
from models.task import Task

EVALUATIONS = 4


@dataclass(frozen=True, kw_only=True)
class ImagineFslHyper:
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Sizes of the adapter; with a teacher, the teacher's."""
    head_steps: NonNegativeInt = 300
    """Steps on the heads alone before the adapter moves, on moments computed once (cheap)."""
    head_lr: PositiveFloat = 2e-3
    """AdamW step size of both heads and the temperature in these steps, cosine to 0."""
    steps: NonNegativeInt = 60
    """Steps of adapter and heads together, each on one real and one imagined batch."""
    adapter_lr: PositiveFloat = 3e-4
    """AdamW step size of adapter and temperature in these steps, cosine to 0."""
    head_lr_factor: PositiveFloat = 0.1
    """Step size of both heads, trained by then, over the adapter's in these steps."""
    batch_real: PositiveInt = 64
    """Real images per step, all of them (in every view) if there are fewer."""
    batch_imagined: PositiveInt = 64
    """Imagined images per step."""
    real_weight: ClosedUnitInterval = 0.8
    """Share of the real batch in the loss; 1 where nothing is imagined."""
    text_weight: NonNegativeFloat = 1.0
    """Weight of the text head's cross-entropy beside the visual head's."""
    weight_decay: NonNegativeFloat = 1e-4
    """Of AdamW, on all but the temperature."""
    temperature: PositiveFloat | None = None
    """Factor on the text head's cosines at the start; by default CLIP's own logit scale."""
    precision: Precision = "auto"
    """Of the adapter's matrix products, in training and in prediction alike."""


class ImagineFslAdapted(Adapted):
    """Heads `visual`, `text` and `fused`: the log of the mixed probabilities, or the score of the
    other fusion rules, which imported models bring."""

    def __init__(self, card: Card, clip: Clip, model: ImagineModel) -> None:
        super().__init__(card, clip)
        self.model = model.eval()

    def heads(self, tokens: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        self._only_own_names(names)
        visual, text = self.model.predict(tokens)
        chosen = self.card.selection
        fused = fuse(visual, text, chosen.fusion_weight, chosen.visual_temperature, chosen.rule)
        if chosen.rule == "probabilities":
            fused = fused.log()
        return {"fused": fused, "visual": visual, "text": text}

    def tensors(self) -> dict[str, Tensor]:
        return self.model.state_dict()


class ImagineFsl(Method):
    """Adapter (from a teacher or from scratch), both heads and temperature, on frozen tokens.

    loss = w·(CE_visual + λ CE_text) on real + (1 − w)·(the same) on imagined images. AdamW, cosine
    to 0. Head and fusion weight are chosen on val. Source: ImagineFSL (Yang et al., 2025).
    Deviations: the heads are trained first, on standardised moments of the starting adapter (the
    original moves all at once over thousands of steps, visual head 10 times and text head 0.2 times
    as fast as the adapter; features pooled once make that part cheap, and a random head would spoil
    a pretrained adapter: Kumar et al., 2022); real and imagined images are drawn independently and
    steps are stated; the temperature is clamped at 100 and not
    decayed; probabilities are fused, not normed logits.
    """

    name = "imaginefsl"
    Hyper = ImagineFslHyper

    @staticmethod
    def fit(
        task: Task,
        hyper: ImagineFslHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        report: Report | None = None,
    ) -> ImagineFslAdapted:
        """teacher: the adapter's weights, as `Teacher.adapter_state` or with `adapter.` in front.

        Without it the adapter starts at random; ValueError if it does not fit `hyper.adapter`.
        """
        generator = torch.Generator().manual_seed(seed)
        model = _initial_model(task, hyper, seed, teacher)
        _train(model, task, hyper, generator, report)
        card = Card.of(ImagineFsl.name, task, hyper, seed, _selection(task, model))
        return ImagineFslAdapted(card, task.clip, model)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ImagineFslAdapted:
        adapter = AdapterConfig(**card.hyper["adapter"])
        precision = card.hyper["precision"]
        model = ImagineModel(clip.embed_dim, len(card.names), adapter, precision)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        exactly(tensors, shapes, card.method)
        model.load_state_dict(tensors)
        return ImagineFslAdapted(card, clip, model)


def _initial_model(
    task: Task, hyper: ImagineFslHyper, seed: int, teacher: dict[str, Tensor] | None
) -> ImagineModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ImagineModel(task.clip.embed_dim, len(task.names), hyper.adapter, hyper.precision)
    if teacher is not None:
        take_over(model.adapter, teacher, ImagineFsl.name)
    with torch.no_grad():
        model.text_head.weight.copy_(task.text)
        model.log_temperature.fill_(hyper.temperature or task.clip.logit_scale).log_()
    model.clamp_temperature()
    return model


def _train(
    model: ImagineModel,
    task: Task,
    hyper: ImagineFslHyper,
    generator: torch.Generator,
    report: Report | None,
) -> None:
    """First the heads on features pooled once, then adapter and heads together."""
    batches = Batches(task, hyper, generator)
    pooled = [model.pool_all(tokens) for tokens in batches.tokens]
    model.standardise(pooled[0])

    def cached(rows: list[Tensor]) -> Pooled:
        return Pooled.join([part.rows(r) for part, r in zip(pooled, rows, strict=True)])

    def fresh(rows: list[Tensor]) -> Pooled:
        return model.pool(torch.cat([t[r] for t, r in zip(batches.tokens, rows, strict=True)]))

    def say(step: int, loss: Tensor) -> None:
        if report is not None:
            report({"step": step, "loss": loss.item(), **val_figures(_selection(task, model))})

    model.adapter.requires_grad_(False)
    alone = _Rates(adapter=0.0, heads=hyper.head_lr, temperature=hyper.head_lr)
    losses = _descend(model, batches, cached, hyper, alone, hyper.head_steps)
    for step, loss in enumerate(losses, start=1):
        if step == hyper.head_steps:
            say(step, loss)
    model.adapter.requires_grad_(True)
    lr = hyper.adapter_lr
    together = _Rates(adapter=lr, heads=lr * hyper.head_lr_factor, temperature=lr)
    losses = _descend(model, batches, fresh, hyper, together, hyper.steps)
    for step, loss in enumerate(losses, start=1):
        if step % max(1, hyper.steps // EVALUATIONS) == 0:
            say(hyper.head_steps + step, loss)


@dataclass(frozen=True)
class _Rates:
    """AdamW step sizes at the start of a phase."""

    adapter: float
    heads: float
    temperature: float


def _descend(
    model: ImagineModel,
    batches: "Batches",
    pool: Callable[[list[Tensor]], Pooled],
    hyper: ImagineFslHyper,
    rates: _Rates,
    steps: int,
) -> Iterator[Tensor]:
    """AdamW steps with cosine to 0, yielding each loss; what needs no gradient stays as it is."""
    heads = [*model.visual_head.parameters(), *model.text_head.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": model.adapter.parameters(), "lr": rates.adapter},
        {"params": heads, "lr": rates.heads},
        {"params": [model.log_temperature], "lr": rates.temperature, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=hyper.weight_decay)
    schedule = LambdaLR(optimizer, lambda step: cosine(1.0, 0.0, step, max(steps, 1)))
    for _ in range(steps):
        rows, labels, weights = batches.next()
        visual, text = model.logits(pool(rows))
        each = cross_entropy(visual, labels, reduction="none")
        each = each + hyper.text_weight * cross_entropy(text, labels, reduction="none")
        loss = each @ weights
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        model.clamp_temperature()
        yield loss.detach()


class Batches:
    """Independent streams of real and imagined images; every view of an image is a row."""

    def __init__(self, task: Task, hyper: ImagineFslHyper, generator: torch.Generator) -> None:
        sources = [(task.train, hyper.batch_real, hyper.real_weight if task.imagined else 1.0)]
        if task.imagined:
            sources.append((task.imagined, hyper.batch_imagined, 1 - hyper.real_weight))
        self.tokens = [features.tokens.flatten(0, 1) for features, _, _ in sources]
        self._labels = [f.labels.repeat(len(f.tokens)) for f, _, _ in sources]
        self._shares = [share for _, _, share in sources]
        self._streams = [
            endless_batches(len(tokens), batch, generator)
            for tokens, (_, batch, _) in zip(self.tokens, sources, strict=True)
        ]

    def next(self) -> tuple[list[Tensor], Tensor, Tensor]:
        """Rows of each source's tokens, all their labels (B,), and their weights in the loss (B,).

        A source's weights sum to its share, so the loss is a weighted sum of two means.
        """
        rows = [next(stream) for stream in self._streams]
        labels = [of[r] for of, r in zip(self._labels, rows, strict=True)]
        weights = [
            torch.full((len(r),), share / len(r))
            for r, share in zip(rows, self._shares, strict=True)
        ]
        return rows, torch.cat(labels), torch.cat(weights)


def _selection(task: Task, model: ImagineModel) -> Selection:
    if task.val is None:
        return Selection("fused")
    visual, text = model.predict(task.val.clean)
    return choose_head(visual, text, task.val.labels)
