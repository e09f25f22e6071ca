"""FSNL: few-shot name learning for concepts whose names CLIP never saw."""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jsonargparse.typing import ClosedUnitInterval, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from models.clip import Clip
from models.methods.adapted import (
    OTHER,
    Adapted,
    Card,
    WatchMany,
    class_tokens,
    exactly,
    refuse_teacher,
)
from models.methods.descent import ShotBatches
from models.methods.fsnl_loss import ImageLoss, NameLoss
from models.methods.population import (
    BatchedMethod,
    Learned,
    Population,
    descend_together,
    sgd,
    tower_bytes,
)
from models.methods.selection import Selection, only_head
from models.methods.teacher import adapter_weights, take_over
from models.moment_adapter import AdapterConfig, MomentAdapter, require_fit
from models.name_learner import NameLearner
from models.prompts.interface import fsnl_template
from models.prompts.registry import prompt_tokenizer
from models.task import Features, Task

ADAPTER = "adapter."
"""Prefix of the names of the adapter's tensors in a saved model."""
IMAGES_PER_PASS = 256
SHOTS_PER_BATCH = 4
CONTEXT_TOKENS = 12
"""Tokens of a prompt beside its name, roughly."""
RANDOM_DEVIATION = 0.02


@dataclass(frozen=True, kw_only=True)
class FsnlHyper:
    lr: PositiveFloat = 2e-4
    """SGD learning rate per 128 images of the batch; cosine to 0 over the run."""
    epochs: PositiveInt = 200
    """Passes over the shots, min(shots, 4) images per class a step: up to 4 shots, 1 step each."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay of SGD, on the name embeddings."""
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
    adapted_weight: ClosedUnitInterval = 0.0
    """Share of the teacher's adapted class token in the image feature, CLIP's own is the rest; with
    a teacher alone."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Sizes of the teacher's adapter."""


class FsnlAdapted(Adapted):
    """Zero-shot CLIP with FSNL's prompt, where learned names stand for the names that were learned.

    Any name can be asked for: the task's own classes have their learned embeddings, all others
    CLIP's, so the logits of a label space without learned names are those of zero-shot (on the same
    image features). One head, `text`.
    """

    open_vocabulary = True

    def __init__(
        self,
        card: Card,
        clip: Clip,
        embeddings: Sequence[Tensor],
        adapter: MomentAdapter | None = None,
    ) -> None:
        super().__init__(card, clip)
        self.adapter = adapter
        self.reads = "class token" if adapter is None else "tokens"
        self._learned = list(embeddings)
        self._text: dict[tuple[tuple[str, ...], tuple[int, ...]], Tensor] = {}

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        text = self._text_features(*self._label_space(names, own))
        if self.adapter is not None:
            tokens = _blended(tokens, self.adapter, self.card.hyper["adapted_weight"])
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ text.T}

    def tensors(self) -> dict[str, Tensor]:
        names = {_key(place): embedding for place, embedding in enumerate(self._learned)}
        adapter = self.adapter.state_dict() if self.adapter is not None else {}
        return names | {ADAPTER + name: tensor for name, tensor in adapter.items()}

    @torch.no_grad()
    def _text_features(self, names: tuple[str, ...], own: tuple[int, ...]) -> Tensor:
        if (names, own) not in self._text:
            learned = {i: self._learned[place] for i, place in enumerate(own) if place != OTHER}
            learner = NameLearner(self.clip, names, self.card.hint, learned)
            self._text[names, own] = learner.class_features()
        return self._text[names, own]


class Fsnl(BatchedMethod):
    """Learns the name embeddings alone, both towers frozen, by the base loss of the paper.

    With captions, (base + caption loss) / 2, contexts swapped between classes. SGD, lr scaled by
    batch / 128, one warm-up epoch at 1e-5, cosine to 0. The last step is kept. Source: FSNL
    (LAION-Beyond). Deviations: the schedule moves per step, not per epoch; absent classes are
    masked in the losses; a name is found by its label, not by substring. Ours: imagined images of
    the same classes beside the shots, batches of the same size drawn independently, in the same
    loss; image features that are a mean of CLIP's class token and the teacher's adapted one.
    """

    name = "fsnl"
    asks = frozenset({"names"})
    Hyper = FsnlHyper
    varying = frozenset({"lr", "epochs", "momentum", "weight_decay", "imagined_weight"})

    @classmethod
    def reads_patches(cls, hyper: FsnlHyper, searched: Collection[str]) -> bool:
        return hyper.adapted_weight > 0 or "adapted_weight" in searched

    @classmethod
    def shape(cls, hyper: FsnlHyper) -> Hashable:
        return super().shape(hyper), hyper.imagined_weight > 0

    @staticmethod
    def member_bytes(task: Task, hyper: FsnlHyper) -> int:
        lengths = [length for length, _ in _shapes(task.clip, task.names, task.hint, hyper)]
        tower = task.clip.text
        tokens = tower.positions(CONTEXT_TOKENS + max(lengths))
        with_captions = any(task.train.captions or ()) and hyper.loss != "base"
        prompts = len(task.names) * (1 + SHOTS_PER_BATCH * with_captions)
        return tower_bytes(prompts, tokens, tower.width, tower.depth)

    @staticmethod
    def fit_batch(
        task: Task,
        hypers: Sequence[FsnlHyper],
        seed: int,
        teacher: dict[str, Tensor] | None,
        watch: WatchMany | None,
    ) -> list[FsnlAdapted | None]:
        adapter = _adapter(task.clip, hypers[0], teacher)
        if adapter is not None:
            task = _on_blended(task, adapter, hypers[0].adapted_weight)
        generator = torch.Generator().manual_seed(seed)
        shapes = _shapes(task.clip, task.names, task.hint, hypers[0])
        random = hypers[0].fixed_length or not hypers[0].clip_init
        start = [RANDOM_DEVIATION * torch.randn(shape, generator=generator) for shape in shapes]
        embeddings = dict(enumerate(start)) if random else {}
        learner = NameLearner(task.clip, task.names, task.hint, embeddings)
        learned = _train(learner, task, hypers, generator, watch)

        def adapted(
            hyper: FsnlHyper, parameters: dict[str, Tensor], selection: Selection
        ) -> FsnlAdapted:
            card = Card.of(Fsnl.name, task, hyper, seed, selection)
            names = parameters["table"].detach().split([length for length, _ in shapes])
            return FsnlAdapted(card, task.clip, [e.clone() for e in names], adapter)

        return [
            member and adapted(hyper, *member)
            for hyper, member in zip(hypers, learned, strict=True)
        ]

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> FsnlAdapted:
        sizes = AdapterConfig(**card.hyper.get("adapter", {}))
        hyper = FsnlHyper(**card.hyper | {"adapter": sizes})
        names = {n: t for n, t in tensors.items() if not n.startswith(ADAPTER)}
        # An imported name may have more or fewer embeddings than tokens.
        lengths, keys = _lengths(names, clip), map(_key, range(len(card.names)))
        exactly(names, {key: (lengths.get(key, 1), clip.text_width) for key in keys}, card.method)
        if hyper.adapted_weight:
            require_fit(clip.embed_dim, sizes, adapter_weights(tensors))
        adapter = _adapter(clip, hyper, tensors if hyper.adapted_weight else None)
        return FsnlAdapted(card, clip, [names[_key(i)] for i in range(len(names))], adapter)


def _adapter(
    clip: Clip, hyper: FsnlHyper, teacher: dict[str, Tensor] | None
) -> MomentAdapter | None:
    """The teacher's adapter, frozen. ValueError if it is not there, not used, or does not fit."""
    if not hyper.adapted_weight:
        refuse_teacher(f"{Fsnl.name} without adapted_weight", teacher)
        return None
    if teacher is None:
        raise ValueError(f"adapted_weight: {hyper.adapted_weight}; allowed without a teacher: 0")
    adapter = MomentAdapter(clip.embed_dim, hyper.adapter).requires_grad_(False)
    take_over(adapter.to(clip.mean.device), teacher, Fsnl.name)
    return adapter


def _on_blended(task: Task, adapter: MomentAdapter, weight: float) -> Task:
    """The task with one blended token in place of all tokens of an image."""

    def blended(features: Features) -> Features:
        parts = [
            [
                _blended(features.part(view, images), adapter, weight)
                for images in features.passes(IMAGES_PER_PASS)
            ]
            for view in range(features.view_count)
        ]
        tokens = torch.stack([torch.cat(of_view) for of_view in parts])
        return replace(features, stored=tokens, places=None)

    return replace(
        task,
        train=blended(task.train),
        val=task.val and blended(task.val),
        imagined=task.imagined and blended(task.imagined),
    )


@torch.no_grad()
def _blended(tokens: Tensor, adapter: MomentAdapter, weight: float) -> Tensor:
    """(N, T, D) tokens to (N, 1, D): the unit-norm class token and the adapted one's, averaged.

    tokens: anywhere; the result lies where the adapter does.
    """
    device = next(adapter.parameters()).device
    parts = [adapter(part.to(device).float())[:, 0] for part in tokens.split(IMAGES_PER_PASS)]
    plain, adapted = class_tokens(tokens[:, :1].to(device)), normalize(torch.cat(parts), dim=-1)
    return torch.lerp(plain, adapted, weight).unsqueeze(1)


def _shapes(clip: Clip, names: Sequence[str], hint: str, hyper: FsnlHyper) -> list[tuple[int, int]]:
    """(L_c, W) of every name's embeddings."""
    _, ids = prompt_tokenizer(clip).named(fsnl_template(hint), names)
    return [(hyper.n_ctx if hyper.fixed_length else len(i), clip.text_width) for i in ids]


def _lengths(names: Mapping[str, Tensor], clip: Clip) -> dict[str, int]:
    """Embeddings of each saved name, if they have room in a prompt."""
    room = prompt_tokenizer(clip).room
    return {key: len(t) for key, t in names.items() if t.ndim == 2 and 1 <= len(t) <= room}


def _train(
    learner: NameLearner,
    task: Task,
    hypers: Sequence[FsnlHyper],
    generator: torch.Generator,
    watch: WatchMany | None,
) -> list[Learned | None]:
    scale, which = task.clip.logit_scale, hypers[0].loss
    batch = len(task.names) * min(int(task.train.labels.bincount().max()), SHOTS_PER_BATCH)
    sources, imagined = [task.train], [hyper.imagined_weight for hyper in hypers]
    if task.imagined is not None and any(imagined):
        sources.append(task.imagined)
    parts = [
        (
            ShotBatches(features, batch, generator),
            ImageLoss(learner, features, task.names, scale, which, generator),
        )
        for features in sources
    ]
    against_classes = any(loss.which in ("full", "base") for _, loss in parts)

    def class_features(tables: Tensor) -> Tensor:
        return learner.stacked_features(tables, learner.prompts, torch.arange(len(learner.names)))

    def losses() -> Iterator[Tensor]:
        tables = population.stacked["table"]
        classes = class_features(tables) if against_classes else None
        each = []
        for batches, loss in parts:
            images, rows = batches.next()
            each.append(loss(tables, normalize(images, dim=-1), rows, classes))
        share = population.of_members(imagined)
        yield each[0] if len(each) == 1 else (1 - share) * each[0] + share * each[1]

    @torch.no_grad()
    def select(_: int, parameters: Mapping[str, Tensor]) -> Selection:
        if not task.val:
            return Selection("text")
        (texts,) = class_features(parameters["table"][None])
        images = class_tokens(task.val.inputs("class token").to(texts.device))
        return only_head("text", scale * images @ texts.T, task.val.labels)

    starts = [{"table": learner.table}] * len(hypers)
    population = Population(
        starts, lambda m, parameters: sgd(parameters, hypers[m], factor=batch / 128)
    )
    epoch = parts[0][0].epoch
    budgets = [hyper.epochs * epoch for hyper in hypers]
    return descend_together(population, losses, budgets, epoch, watch, select)


def _key(number: int) -> str:
    return f"name_embedding.{number}"
