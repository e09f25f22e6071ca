"""CLIP-LoRA: low-rank updates in both towers, learned by cross-entropy on class-name prompts."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from models.clip import Clip
from models.lora import Lora, LoraConfig, Part, Tower, picture_tokens, require_rank
from models.methods.adapted import Adapted, Card, Method, Watch, exactly, refuse_teacher
from models.methods.descent import descend
from models.methods.image_batches import ImageBatches
from models.methods.selection import Selection, only_head
from models.moment_adapter import BelowOne
from models.precision import Precision, autocast
from models.task import Task
from models.text_classifier import TEXTS_PER_BATCH, prompt_ids
from models.towers.interface import Gift
from models.views import ViewConfig

STEPS_PER_SHOT = 500
_GIFTS: dict[Tower, Gift] = {"image": "image maps", "text": "text maps"}
CROP_AND_FLIP = ViewConfig(
    smallest_crop=0.08, jitter=0.0, grey=0.0, blur=(0.0, 0.0), solarise=(0.0, 0.0)
)


@dataclass(frozen=True, kw_only=True)
class ClipLoraHyper:
    lr: PositiveFloat = 2e-4
    """AdamW learning rate, cosine to 0."""
    steps: PositiveInt | None = None
    """Steps; by default STEPS_PER_SHOT for each training image of the class that has most."""
    batch: PositiveInt = 32
    """Images per step, all of them if there are fewer."""
    weight_decay: NonNegativeFloat = 1e-2
    """Weight decay of AdamW."""
    rank: PositiveInt = 2
    """Rank of the updates."""
    alpha: PositiveFloat = 1.0
    """Scale of the updates: one is alpha / rank · BA."""
    dropout: BelowOne = 0.25
    """Dropout of the updates' inputs."""
    towers: tuple[Tower, ...] = ("image", "text")
    """Towers that are updated, in all their blocks."""
    parts: tuple[Part, ...] = ("q", "k", "v")
    """Linear maps of a block that are updated."""
    augmentation: ViewConfig = CROP_AND_FLIP
    """How a training image is shown. Of `blur` and `solarise` the first number counts."""
    precision: Precision = "auto"
    """Arithmetic of the towers' matrix products, in training and in prediction alike."""


class ClipLoraAdapted(Adapted):
    """Zero-shot CLIP with updated towers: any name can be asked for. One head, `text`."""

    open_vocabulary = True
    reads = "images"

    def __init__(self, card: Card, clip: Clip, lora: Lora) -> None:
        super().__init__(card, clip)
        self.lora, self._merged = lora, lora.merged()
        self._texts: dict[tuple[str, ...], Tensor] = {}

    @torch.no_grad()
    def heads(
        self,
        images: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        asked, _ = self._label_space(names, own)
        precision = self.card.hyper["precision"]
        if asked not in self._texts:
            ids = prompt_ids(self.clip, asked, self.card.template)
            self._texts[asked] = _texts(self._merged, ids, precision)
        return {"text": _logits(self._merged, images, self._texts[asked], precision)}

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.lora.parameters())


class ClipLora(Method):
    """Updates of q, k and v in all blocks of both towers; AdamW; the last step is kept.

    Source: CLIP-LoRA (Zanella and Ben Ayed, 2024). Deviations: the learning rate goes to 0, not
    1e-6; prompts are cut to the longest (the tower is causal).
    """

    name = "clip_lora"
    Hyper = ClipLoraHyper
    reads = "images"

    @classmethod
    def needs(cls, hyper: ClipLoraHyper, searched: Collection[str]) -> frozenset[Gift]:
        return frozenset(_GIFTS[tower] for tower in hyper.towers)

    @staticmethod
    def fit(
        task: Task,
        hyper: ClipLoraHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> ClipLoraAdapted:
        refuse_teacher(ClipLora.name, teacher)
        lora = Lora(task.clip, _config(hyper), seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # dropout has no generator of its own
            _train(lora, task, hyper, seed, watch)
        card = Card.of(ClipLora.name, task, hyper, seed, _selection(lora, task, hyper))
        return ClipLoraAdapted(card, task.clip, lora)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ClipLoraAdapted:
        config = _config(ClipLoraHyper(**card.hyper))
        require_rank(tensors, config.rank)
        lora = Lora(clip, config, seed=0)
        exactly(tensors, {n: tuple(p.shape) for n, p in lora.parameters().items()}, card.method)
        lora.load(tensors)
        return ClipLoraAdapted(card, clip, lora)


def _config(hyper: ClipLoraHyper) -> LoraConfig:
    return LoraConfig(
        rank=hyper.rank,
        alpha=hyper.alpha,
        dropout=hyper.dropout,
        towers=hyper.towers,
        parts=hyper.parts,
    )


def _train(lora: Lora, task: Task, hyper: ClipLoraHyper, seed: int, watch: Watch | None) -> None:
    clip = lora.clip
    augmented = (clip.image_size, hyper.augmentation, [seed])
    batches = ImageBatches(task.train, hyper.batch, *augmented)
    ids = prompt_ids(clip, task.names, task.template)

    def losses() -> Iterator[Tensor]:
        lora.train(True)
        views, labels = batches.next()
        with autocast(views.device, hyper.precision):
            images = clip.encode_images(clip.normalise(views))
        unit = normalize(images.float(), dim=-1)
        texts = _texts(clip, ids, hyper.precision)
        yield cross_entropy(clip.logit_scale * unit @ texts.T, labels)

    steps = hyper.steps or STEPS_PER_SHOT * int(task.train.labels.bincount().max())
    optimizer = torch.optim.AdamW(
        lora.parameters().values(), hyper.lr, weight_decay=hyper.weight_decay
    )
    descend(optimizer, losses, steps, 0, watch, lambda: _selection(lora, task, hyper))


@torch.no_grad()
def _selection(lora: Lora, task: Task, hyper: ClipLoraHyper) -> Selection:
    if not task.val:
        return Selection("text")
    clip = lora.merged()
    texts = _texts(clip, prompt_ids(clip, task.names, task.template), hyper.precision)
    logits = _logits(clip, task.val.inputs("images"), texts, hyper.precision)
    return only_head("text", logits, task.val.labels)


def _texts(clip: Clip, ids: Tensor, precision: Precision) -> Tensor:
    """Unit-norm features of prompts (C, 77): (C, D) float32."""
    with autocast(ids.device, precision):
        features = [clip.encode_text(part) for part in ids.split(TEXTS_PER_BATCH)]
    return normalize(torch.cat(features).float(), dim=-1)


def _logits(clip: Clip, images: Tensor, texts: Tensor, precision: Precision) -> Tensor:
    unit = normalize(picture_tokens(clip, images, precision)[:, 0].float(), dim=-1)
    return clip.logit_scale * unit @ texts.T
