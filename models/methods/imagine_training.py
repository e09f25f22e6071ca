"""How ImagineFSL is trained: the heads on features pooled once, then adapter and heads."""

import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
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
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from models.methods.adapted import WatchMany
from models.methods.batches import endless_batches
from models.methods.imagine_model import (
    ADAPTER,
    HEADS,
    IMAGES_PER_PASS,
    MAX_TEMPERATURE,
    TEMPERATURE,
    ImagineModel,
    Pooled,
)
from models.methods.population import (
    Learned,
    Population,
    cross_entropies,
    descend_together,
    members_at_once,
    split,
    tower_bytes,
)
from models.methods.selection import Selection, choose_head
from models.moment_adapter import AdapterConfig
from models.precision import Precision
from models.task import Features, Task


@dataclass(frozen=True, kw_only=True)
class ImagineFslHyper:
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Sizes of the adapter; with a teacher, the teacher's."""
    head_steps: NonNegativeInt = 300
    """Steps on the heads alone before the adapter moves, on moments computed once (cheap)."""
    head_lr: PositiveFloat = 2e-3
    """AdamW learning rate of both heads and the temperature in the head steps, cosine to 0."""
    steps: NonNegativeInt = 60
    """Steps of adapter and heads together, each on one real and one imagined batch."""
    adapter_lr: PositiveFloat = 3e-4
    """AdamW learning rate of adapter and temperature in the steps of all, cosine to 0."""
    head_lr_factor: PositiveFloat = 0.1
    """Learning rate of both heads in the steps of all, relative to the adapter's."""
    batch_real: PositiveInt = 64
    """Real images per step, all of them (in every view) if there are fewer."""
    batch_imagined: PositiveInt = 64
    """Imagined images per step."""
    real_weight: ClosedUnitInterval = 0.8
    """Share of the real batch in the loss; 1 where nothing is imagined."""
    text_weight: NonNegativeFloat = 1.0
    """Weight of the text head's cross-entropy beside the visual head's."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of AdamW, on all but the temperature."""
    temperature: PositiveFloat | None = None
    """Factor on the text head's cosines at the start; by default CLIP's own logit scale."""
    precision: Precision = "auto"
    """Arithmetic of the adapter's matrix products, in training and in prediction alike."""


def train(
    model: ImagineModel,
    task: Task,
    hypers: Sequence[ImagineFslHyper],
    seed: int,
    watch: WatchMany | None,
) -> list[Learned | None]:
    """First the heads on features pooled once, then adapter and heads together."""
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    learned = _train_heads(model, task, hypers, seed, watch)
    size = members_at_once(_adapter_bytes(task, hypers[0]), task.text.device)
    for head_steps in sorted({hyper.head_steps for hyper in hypers}):
        left = [m for m, h in enumerate(hypers) if h.head_steps == head_steps and learned[m]]
        for batch in split(left, size):
            starts = [start | member[0] for m in batch if (member := learned[m])]
            watch_later = watch and _later(watch, batch, head_steps)
            results = _train_all(model, task, [hypers[m] for m in batch], starts, seed, watch_later)
            for m, member in zip(batch, results, strict=True):
                learned[m] = member
    return learned


def _later(watch: WatchMany, members: list[int], steps: int) -> WatchMany:
    """A Watch of some members in steps that come after others."""
    return lambda i, metrics: watch(members[i], metrics | {"step": steps + metrics["step"]})


def _train_heads(
    model: ImagineModel,
    task: Task,
    hypers: Sequence[ImagineFslHyper],
    seed: int,
    watch: WatchMany | None,
) -> list[Learned | None]:
    """Members share the adapter they start with, and so all that it makes of the images."""
    batches = Batches(task, hypers[0], seed)
    pooled = [model.pool_all(task.train.tokens.flatten(0, 1))]
    drawn = [torch.arange(len(pooled[0].cls))]
    if task.imagined:
        steps = max(hyper.head_steps for hyper in hypers)
        drawn.append(Batches(task, hypers[0], seed).drawn(steps)[1])
        pooled.append(_pooled_imagined(model, task.imagined, drawn[1]))
    model.start_on(pooled[0], task.train.labels.repeat(task.train.view_count))
    val = model.pool_all(task.val.clean) if task.val else None

    def losses() -> Iterator[Tensor]:
        rows, labels, means = batches.next()
        sources = zip(pooled, drawn, rows, strict=True)
        features = Pooled.join([p.rows(torch.searchsorted(d, r)) for p, d, r in sources])
        yield _losses(model, population, hypers, features, labels, means)

    @torch.no_grad()
    def select(_: int, parameters: Mapping[str, Tensor]) -> Selection:
        if val is None or task.val is None:
            return Selection("fused")
        return choose_head(*model.stacked_logits(parameters, val), task.val.labels)

    heads = {name: model.get_parameter(name) for name in HEADS}
    scales = [torch.tensor(hyper.temperature or task.clip.logit_scale) for hyper in hypers]
    starts = [heads | {TEMPERATURE: scale.log().to(task.text)} for scale in scales]
    population = Population(starts, lambda m, parameters: _optimizer(parameters, hypers[m], None))
    budgets = [hyper.head_steps for hyper in hypers]
    return descend_together(population, losses, budgets, 0, watch, select, evaluations=1)


@dataclass(frozen=True)
class _PooledBy:
    """What an adapter made of images, and all that it depends on."""

    sizes: tuple[AdapterConfig, Precision]
    weights: list[Tensor]
    places: Tensor | None
    """Of the images among those whose tokens lie there."""
    rows: Tensor
    """Of all views of all images; ascending."""
    pooled: Pooled
    """Of these rows."""


_LAST_POOLED: MutableMapping[Tensor, _PooledBy] = WeakTensorKeyDictionary()
"""What was pooled of the imagined tokens that this process has in memory."""


def _pooled_imagined(model: ImagineModel, imagined: Features, rows: Tensor) -> Pooled:
    """`pool` of these views of the imagined images, in their order.

    rows: (K,) int64, ascending. Fits that draw the same rows, as all do where there are few, and
    start with the same adapter share them. Those of other rows are pooled anew, all of them: the
    last bits depend on what is pooled together, and must not on what was fitted before.
    """
    sizes, weights = (model.adapter.config, model.precision), list(model.adapter.parameters())
    last = _LAST_POOLED.get(imagined.stored)
    if (
        last is None
        or last.sizes != sizes
        or not _are_equal(last.places, imagined.places)
        or not torch.equal(last.rows, rows)
        or not all(map(torch.equal, last.weights, weights))
    ):
        parts = [model.pool_all(imagined.views(part)) for part in rows.split(IMAGES_PER_PASS)]
        copies = [weight.detach().clone() for weight in weights]
        last = _PooledBy(sizes, copies, imagined.places, rows, Pooled.join(parts))
        _LAST_POOLED[imagined.stored] = last
    return last.pooled


def _are_equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _train_all(
    model: ImagineModel,
    task: Task,
    hypers: Sequence[ImagineFslHyper],
    starts: Sequence[Mapping[str, Tensor]],
    seed: int,
    watch: WatchMany | None,
) -> list[Learned | None]:
    """Adapter, heads and temperature of every member, from `starts`; all had as many head steps."""
    batches = Batches(task, hypers[0], seed, skipped=hypers[0].head_steps)

    def losses() -> Iterator[Tensor]:
        rows, labels, means = batches.next()
        tokens = torch.cat([f.views(r) for f, r in zip(batches.sources, rows, strict=True)])
        pooled = model.stacked_pool(population.stacked, tokens)
        yield _losses(model, population, hypers, pooled, labels, means)

    def select(_: int, parameters: Mapping[str, Tensor]) -> Selection:
        if not task.val:
            return Selection("fused")
        model.load(parameters)
        return choose_head(*model.predict(task.val.clean), task.val.labels)

    population = Population(
        starts, lambda m, parameters: _optimizer(parameters, hypers[m], hypers[m].adapter_lr)
    )
    budgets = [hyper.steps for hyper in hypers]
    return descend_together(population, losses, budgets, 0, watch, select)


def _losses(
    model: ImagineModel,
    population: Population,
    hypers: Sequence[ImagineFslHyper],
    pooled: Pooled,
    labels: Tensor,
    means: Tensor,
) -> Tensor:
    """(k,) losses of a batch; means: (S, B), see `Batches.next`."""
    visual, text = model.stacked_logits(population.stacked, pooled)
    text_weight = population.of_members([h.text_weight for h in hypers])[:, None]
    each = cross_entropies(visual, labels) + text_weight * cross_entropies(text, labels)
    real = population.of_members([h.real_weight if len(means) > 1 else 1.0 for h in hypers])
    shares = torch.stack([real, 1 - real], dim=1)[:, : len(means)]
    return (each * (shares @ means)).sum(dim=1)


def _optimizer(
    parameters: Mapping[str, nn.Parameter], hyper: ImagineFslHyper, adapter_lr: float | None
) -> torch.optim.AdamW:
    """adapter_lr: None in the steps on the heads alone."""
    heads_lr = adapter_lr * hyper.head_lr_factor if adapter_lr else hyper.head_lr
    temperature = parameters[TEMPERATURE]
    groups: list[dict[str, Any]] = [
        {"params": [parameters[name] for name in HEADS], "lr": heads_lr},
        {"params": [temperature], "lr": adapter_lr or hyper.head_lr, "weight_decay": 0.0},
    ]
    if adapter_lr:
        adapter = [p for name, p in parameters.items() if name.startswith(ADAPTER)]
        groups.append({"params": adapter, "lr": adapter_lr})
    optimizer = torch.optim.AdamW(groups, weight_decay=hyper.weight_decay, fused=True)
    ceiling = math.log(MAX_TEMPERATURE)

    def clamp(*_: Any) -> None:
        temperature.data.clamp_(max=ceiling)

    clamp()
    optimizer.register_step_post_hook(clamp)
    return optimizer


def _adapter_bytes(task: Task, hyper: ImagineFslHyper) -> int:
    images = hyper.batch_real + (hyper.batch_imagined if task.imagined else 0)
    return tower_bytes(images, task.clip.num_tokens, task.clip.embed_dim, hyper.adapter.depth)


class Batches:
    """Independent streams of real and imagined images; every view of an image is a row."""

    def __init__(self, task: Task, hyper: ImagineFslHyper, seed: int, skipped: int = 0) -> None:
        """skipped: first batches that are left out."""
        self.sources = [task.train]
        sizes = [hyper.batch_real]
        if task.imagined:
            self.sources.append(task.imagined)
            sizes.append(hyper.batch_imagined)
        generator = torch.Generator().manual_seed(seed)
        self._labels = [source.labels.repeat(source.view_count) for source in self.sources]
        self._streams = [
            endless_batches(len(labels), batch, generator)
            for labels, batch in zip(self._labels, sizes, strict=True)
        ]
        for _ in range(skipped):
            self._rows()

    def next(self) -> tuple[list[Tensor], Tensor, Tensor]:
        """Rows of each source's views, all their labels (B,), and what makes means of them.

        That is (S, B) for S sources, 1 / its images of the batch for a source's own images, else 0:
        the loss is a weighted sum of a mean for each source.
        """
        rows = self._rows()
        labels = [source_labels[r] for source_labels, r in zip(self._labels, rows, strict=True)]
        means = [torch.full((1, len(r)), 1 / len(r)) for r in rows]
        return rows, torch.cat(labels), torch.block_diag(*means).to(self._labels[0].device)

    def drawn(self, steps: int) -> list[Tensor]:
        """Rows of each source's views that the next batches hold, ascending, each once."""
        drawn: list[list[Tensor]] = [[torch.empty(0, dtype=torch.int64)] for _ in self._streams]
        for _ in range(steps):
            for of_source, rows in zip(drawn, self._rows(), strict=True):
                of_source.append(rows)
        return [torch.cat(of_source).unique() for of_source in drawn]

    def _rows(self) -> list[Tensor]:
        return [next(stream) for stream in self._streams]
