"""ImagineFSL-LoRA: ImagineFSL whose image tower learns, too, by low-rank updates."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.clip import Clip
from models.lora import Lora, LoraConfig, Part, picture_tokens, require_rank
from models.methods.adapted import Card, Method, Watch, exactly
from models.methods.descent import descend
from models.methods.image_batches import ImageBatches
from models.methods.imagine_model import ImagineModel
from models.methods.imagine_training import ImagineFslHyper
from models.methods.imaginefsl import ImagineFsl, ImagineFslAdapted
from models.methods.selection import Selection, choose_head
from models.moment_adapter import BelowOne
from models.precision import autocast
from models.task import Task
from models.views import ViewConfig

FINE_TUNING_VIEWS = ViewConfig(smallest_crop=0.08, blur=(0.2, 0.2), solarise=(0.0, 0.0))
LORA = "lora."
"""Prefix of the names of the update's tensors in a saved model."""


@dataclass(frozen=True, kw_only=True)
class ImagineFslLoraHyper(ImagineFslHyper):
    steps: NonNegativeInt = 0
    """Steps of adapter and heads together on frozen tokens, between those of the heads alone and
    those on pictures."""
    lora_steps: PositiveInt = 200
    """Steps of updates, adapter and heads together, each on real and imagined pictures; the step
    sizes of adapter and heads begin anew."""
    lora_lr: PositiveFloat = 1e-4
    """AdamW learning rate of the updates, cosine to 0."""
    rank: PositiveInt = 16
    """Rank of the updates."""
    alpha: PositiveFloat = 32.0
    """Scale of the updates: one is alpha / rank · BA."""
    dropout: BelowOne = 0.1
    """Dropout of the updates' inputs."""
    parts: tuple[Part, ...] = ("q", "k", "v", "out")
    """Linear maps of the image tower's blocks that are updated."""
    augmentation: ViewConfig = FINE_TUNING_VIEWS
    """How a training picture is shown. Of `blur` and `solarise` the first number counts."""


class ImagineFslLoraAdapted(ImagineFslAdapted):
    """ImagineFSL's heads on the tokens of the updated image tower."""

    reads = "images"

    def __init__(self, card: Card, clip: Clip, model: ImagineModel, lora: Lora) -> None:
        super().__init__(card, clip, model)
        self.lora, self._merged = lora, lora.merged()

    def heads(
        self,
        images: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        self._only_own_names(names, own)
        return super().heads(picture_tokens(self._merged, images, self.model.precision))

    def tensors(self) -> dict[str, Tensor]:
        updates = {LORA + name: tensor for name, tensor in self.lora.parameters().items()}
        return super().tensors() | updates


class ImagineFslLora(Method):
    """Goes on from ImagineFSL's fit: updates of the image tower, adapter, heads and temperature.

    The same loss on real and imagined pictures; AdamW, cosine to 0; the last step is kept; head and
    fusion weight are chosen on val. Source: ImagineFSL (Yang et al., 2025), its LoRA variant.
    Deviations: those of `ImagineFsl`; no RandAugment beside crop, flip, jitter, grey and blur; the
    temperature is learned as in ImagineFSL; what is saved are the updates, not merged weights.
    """

    name = "imaginefsl_lora"
    asks = frozenset({"image maps"})
    Hyper = ImagineFslLoraHyper
    reads = "images"

    @classmethod
    def reads_patches(cls, hyper: ImagineFslLoraHyper, searched: Collection[str]) -> bool:
        return True  # in ImagineFSL's fit, from which it goes on

    @staticmethod
    def fit(
        task: Task,
        hyper: ImagineFslLoraHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> ImagineFslLoraAdapted:
        """teacher: see `ImagineFsl.fit`."""
        model = ImagineFsl.fit(task, hyper, seed, teacher, watch).model
        lora = Lora(task.clip, _config(hyper), seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # dropout has no generator of its own
            _train(model, lora, task, hyper, seed, watch)
        card = Card.of(ImagineFslLora.name, task, hyper, seed, _selection(model, lora, task))
        return ImagineFslLoraAdapted(card, task.clip, model, lora)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ImagineFslLoraAdapted:
        heads = {name: t for name, t in tensors.items() if not name.startswith(LORA)}
        updates = {n.removeprefix(LORA): t for n, t in tensors.items() if n.startswith(LORA)}
        config = _config(ImagineFslLoraHyper(**card.hyper))
        require_rank(updates, config.rank)
        lora = Lora(clip, config, seed=0)
        exactly(updates, {n: tuple(p.shape) for n, p in lora.parameters().items()}, card.method)
        lora.load(updates)
        model = ImagineFsl.restore(card, heads, clip).model
        return ImagineFslLoraAdapted(card, clip, model, lora)


def _config(hyper: ImagineFslLoraHyper) -> LoraConfig:
    return LoraConfig(
        rank=hyper.rank,
        alpha=hyper.alpha,
        dropout=hyper.dropout,
        towers=("image",),
        parts=hyper.parts,
    )


def _train(
    model: ImagineModel,
    lora: Lora,
    task: Task,
    hyper: ImagineFslLoraHyper,
    seed: int,
    watch: Watch | None,
) -> None:
    clip, lr = lora.clip, hyper.adapter_lr
    sources = [(task.train, hyper.batch_real, hyper.real_weight if task.imagined else 1.0)]
    if task.imagined:
        sources.append((task.imagined, hyper.batch_imagined, 1 - hyper.real_weight))
    streams = [
        (ImageBatches(features, batch, clip.image_size, hyper.augmentation, [seed, number]), share)
        for number, (features, batch, share) in enumerate(sources)
    ]
    heads = [*model.visual_head.parameters(), *model.text_head.parameters()]
    optimizer = torch.optim.AdamW(
        [
            {"params": list(lora.parameters().values()), "lr": hyper.lora_lr},
            {"params": model.adapter.parameters(), "lr": lr},
            {"params": heads, "lr": lr * hyper.head_lr_factor},
            {"params": [model.log_temperature], "lr": lr, "weight_decay": 0.0},
        ],
        weight_decay=hyper.weight_decay,
    )

    def losses() -> Iterator[Tensor]:
        lora.train(True)
        model.clamp_temperature()
        for batches, share in streams:
            views, labels = batches.next()
            with autocast(views.device, hyper.precision):
                tokens = clip.encode_tokens(clip.normalise(views))
            visual, text = model(tokens)
            loss = cross_entropy(visual, labels)
            yield share * (loss + hyper.text_weight * cross_entropy(text, labels))

    later = watch and _later(watch, hyper.head_steps + hyper.steps)
    model.requires_grad_(True)
    descend(optimizer, losses, hyper.lora_steps, 0, later, lambda: _selection(model, lora, task))
    model.clamp_temperature()


def _later(watch: Watch, steps: int) -> Watch:
    """A Watch of steps that come after others."""
    return lambda metrics: watch(metrics | {"step": steps + metrics["step"]})


def _selection(model: ImagineModel, lora: Lora, task: Task) -> Selection:
    if not task.val:
        return Selection("fused")
    tokens = picture_tokens(lora.merged(), task.val.inputs("images"), model.precision)
    return choose_head(*model.predict(tokens), task.val.labels)
