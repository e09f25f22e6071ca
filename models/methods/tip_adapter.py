"""Tip-Adapter: the shots' features as a cache beside zero-shot CLIP, as they are or trained."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize

from kernels.key_cache import cache_logits, cache_sweep
from models.clip import Clip
from models.methods.adapted import (
    Adapted,
    Card,
    Method,
    Watch,
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
from models.task import Features, Task

ALPHAS = torch.cat([torch.zeros(1), torch.logspace(-1, 1.7, 24)])
BETAS = torch.logspace(-0.3, 1.7, 24)
"""Values of α and β that are searched: the original's reach 50; α = 0 is zero-shot."""


@dataclass(frozen=True, kw_only=True)
class TipAdapterHyper:
    alpha: NonNegativeFloat = 1.0
    """Weight of the cache beside the text logits where no val is there to choose it."""
    beta: PositiveFloat = 5.5
    """Sharpness of the cache where no val is there to choose it."""


@dataclass(frozen=True, kw_only=True)
class TipAdapterFHyper(TipAdapterHyper):
    lr: PositiveFloat = 1e-3
    """AdamW learning rate of the keys; cosine to 0 over the run."""
    epochs: PositiveInt = 20
    """Passes over the shots, with the declared alpha and beta."""
    batch: PositiveInt = 256
    """Images per step."""
    weight_decay: NonNegativeFloat = 0.01
    """Weight decay of AdamW."""


@dataclass(frozen=True)
class Cache:
    """What is learned: text (C, D) unit norm; M keys (M, D) with labels (M,) int64; scalars."""

    text: Tensor
    keys: Tensor
    labels: Tensor
    alpha: Tensor
    beta: Tensor

    def logits(self, images: Tensor, scale: float) -> Tensor:
        """(B, C) logits of unit-norm image features (B, D); scale: CLIP's.

        Of k caches, (k, B, C): keys (k, M, D), alpha and beta (k, 1, 1).
        """
        cache = cache_logits(images @ self.keys.mT, self.labels, len(self.text), self.beta)
        return scale * images @ self.text.T + self.alpha * cache


class TipAdapterAdapted(Adapted):
    """One head, `fused`: text logits plus α times the cache's."""

    reads = "class token"

    def __init__(self, card: Card, clip: Clip, cache: Cache) -> None:
        super().__init__(card, clip)
        self.cache = cache

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        self._only_own_names(names, own)
        return {"fused": self.cache.logits(class_tokens(tokens), self.clip.logit_scale)}

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self.cache))


class TipAdapter(Method):
    """No training: a key per shot, the normalised mean of its views' features.

    α and β: least cross-entropy on val over a grid. Source: Tip-Adapter (Zhang et al., 2022).
    Deviations: views are the encoder's, not ten random crops; CLIP's own logit scale; the original
    chooses by accuracy, in which many values tie on few images.
    """

    name = "tip_adapter"
    Hyper = TipAdapterHyper
    reads = "class token"

    @staticmethod
    def fit(
        task: Task,
        hyper: TipAdapterHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> TipAdapterAdapted:
        refuse_teacher(TipAdapter.name, teacher)
        return _chosen(TipAdapter.name, task, hyper, seed, _cache(task, hyper))

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> TipAdapterAdapted:
        keys = tensors.get("labels", torch.empty(0)).numel()
        shapes: dict[str, tuple[int, ...]] = {"alpha": (), "beta": (), "labels": (keys,)}
        shapes |= {"text": (len(card.names), clip.embed_dim), "keys": (keys, clip.embed_dim)}
        exactly(tensors, shapes, card.method)
        if ((tensors["labels"] < 0) | (tensors["labels"] >= len(card.names))).any():
            raise ValueError(f"labels of a {card.method} model: allowed are 0 to {len(card.names)}")
        return TipAdapterAdapted(card, clip, Cache(**tensors))


class TipAdapterF(BatchedMethod):
    """Tip-Adapter whose keys are trained by cross-entropy, AdamW, before α and β are chosen."""

    name = "tip_adapter_f"
    Hyper = TipAdapterFHyper
    reads = "class token"
    restore = staticmethod(TipAdapter.restore)

    varying = frozenset({"lr", "epochs", "weight_decay", "alpha", "beta"})

    @staticmethod
    def member_bytes(task: Task, hyper: TipAdapterFHyper) -> int:
        keys = len(task.train)
        return 4 * keys * (3 * min(hyper.batch, keys) + task.clip.embed_dim)

    @staticmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[TipAdapterFHyper],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> list[TipAdapterAdapted | None]:
        refuse_teacher(TipAdapterF.name, teacher)
        caches = [_cache(task, hyper) for hyper in hypers]
        batch, scale = hypers[0].batch, task.clip.logit_scale
        rng = torch.Generator().manual_seed(seed)
        batches = ShotBatches(task.train, batch, rng, drop_last=False)  # as its own loader

        def losses() -> Iterator[Tensor]:
            images, rows = batches.next()
            alphas, betas = (
                population.of_members(values)[:, None, None]
                for values in ([h.alpha for h in hypers], [h.beta for h in hypers])
            )
            stack = replace(caches[0], keys=population.stacked["keys"], alpha=alphas, beta=betas)
            logits = stack.logits(normalize(images, dim=-1), scale)
            yield cross_entropies(logits, batches.labels[rows]).mean(dim=1)

        def select(m: int, parameters: Mapping[str, Tensor]) -> Selection:
            return _selection(task, replace(caches[m], keys=parameters["keys"]))

        def optimizer(m: int, parameters: Mapping[str, nn.Parameter]) -> torch.optim.AdamW:
            lr, decay = hypers[m].lr, hypers[m].weight_decay
            return torch.optim.AdamW(
                parameters.values(), lr, eps=1e-4, weight_decay=decay, fused=True
            )

        population = Population([{"keys": cache.keys} for cache in caches], optimizer)
        budgets = [hyper.epochs * batches.epoch for hyper in hypers]
        learned = descend_together(population, losses, budgets, 0, watch, select)

        def adapted(hyper: TipAdapterFHyper, cache: Cache, keys: Tensor) -> TipAdapterAdapted:
            trained = replace(cache, keys=keys.detach())
            return _chosen(TipAdapterF.name, task, hyper, seed, trained)

        return [
            member and adapted(hyper, cache, member[0]["keys"])
            for hyper, cache, member in zip(hypers, caches, learned, strict=True)
        ]


def _cache(task: Task, hyper: TipAdapterHyper) -> Cache:
    mean = task.train.tokens[:, :, 0].float().mean(dim=0)
    alpha, beta = (torch.tensor(value, device=mean.device) for value in (hyper.alpha, hyper.beta))
    return Cache(task.text, normalize(mean, dim=-1), task.train.labels, alpha, beta)


@torch.no_grad()
def _selection(task: Task, cache: Cache) -> Selection:
    if not task.val:
        return Selection("fused")
    logits = cache.logits(class_tokens(task.val.clean), task.clip.logit_scale)
    return only_head("fused", logits, task.val.labels)


def _chosen(
    method: str, task: Task, hyper: TipAdapterHyper, seed: int, cache: Cache
) -> TipAdapterAdapted:
    """The model with the α and β that are best on val, or the declared ones."""
    if task.val:
        alpha, beta = _best(task.val, cache, task.clip.logit_scale)
        cache = replace(cache, alpha=alpha.to(cache.keys), beta=beta.to(cache.keys))
    card = Card.of(method, task, hyper, seed, _selection(task, cache))
    return TipAdapterAdapted(card, task.clip, cache)


def _best(val: Features, cache: Cache, scale: float) -> tuple[Tensor, Tensor]:
    images = class_tokens(val.clean)
    text, affinity = (scale * images @ cache.text.T).cpu(), (images @ cache.keys.T).cpu()
    loss = cache_sweep(text, affinity, cache.labels.cpu(), val.labels.cpu(), ALPHAS, BETAS)
    k, w = divmod(int(loss.argmin()), len(ALPHAS))
    return ALPHAS[w], BETAS[k]
