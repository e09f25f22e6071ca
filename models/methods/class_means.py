"""Class means: the nearest mean of a class's shots, by cosine, of moments that nothing is tuned of.

What a frozen adapter's features are worth by themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.moments import moments
from models.clip import Clip
from models.methods.adapted import Adapted, Card, Method, Watch, exactly
from models.methods.imagine_model import ADAPTER, IMAGES_PER_PASS
from models.methods.selection import Selection, only_head
from models.methods.teacher import adapter_weights, take_over
from models.moment_adapter import AdapterConfig, MomentAdapter, require_fit
from models.precision import Precision, autocast
from models.task import Task


@dataclass(frozen=True, kw_only=True)
class ClassMeansHyper:
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    """Sizes of the adapter; with a teacher, the teacher's."""
    without_teacher: Literal["raw", "random"] = "raw"
    """What takes the place of a teacher's adapter: none, so that moments are of CLIP's own tokens,
    or one that is drawn at random."""
    precision: Precision = "auto"
    """Arithmetic of the adapter's matrix products."""


class ClassMeansAdapted(Adapted):
    """One head, `visual`: cosine of an image's moments and a class's mean, times CLIP's scale."""

    def __init__(
        self, card: Card, clip: Clip, means: Tensor, adapter: MomentAdapter | None
    ) -> None:
        """means: (C, 4D) of unit norm. adapter: None for moments of CLIP's own tokens."""
        super().__init__(card, clip)
        self.means, self.adapter = means, adapter

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        self._only_own_names(names, own)
        features = _features(tokens, self.clip, self.adapter, self.card.hyper["precision"])
        return {"visual": self.clip.logit_scale * features @ self.means.T}

    def tensors(self) -> dict[str, Tensor]:
        blocks = self.adapter.state_dict() if self.adapter else {}
        return {"means": self.means} | {ADAPTER + name: t for name, t in blocks.items()}


class ClassMeans(Method):
    """Nearest class mean by cosine on moments of frozen tokens, in every view of the shots.

    Source: prototypes (Snell et al., 2017) on ImagineFSL's moments; moments and means are of unit
    norm. A class without shots has no mean, and all its cosines are 0.
    """

    name = "class_means"
    Hyper = ClassMeansHyper

    @staticmethod
    def fit(
        task: Task,
        hyper: ClassMeansHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> ClassMeansAdapted:
        """teacher: see `ImagineFsl.fit`."""
        adapter = _adapter(task.clip, hyper, seed, teacher)
        tokens = task.train.tokens.flatten(0, 1)
        features = _features(tokens, task.clip, adapter, hyper.precision)
        labels = task.train.labels.repeat(task.train.view_count)
        sums = features.new_zeros(len(task.names), features.shape[1])
        means = normalize(sums.index_add_(0, labels, features), dim=1)
        selection = Selection("visual")
        if task.val:
            features = _features(task.val.clean, task.clip, adapter, hyper.precision)
            logits = task.clip.logit_scale * features @ means.T
            selection = only_head("visual", logits, task.val.labels)
        card = Card.of(ClassMeans.name, task, hyper, seed, selection)
        return ClassMeansAdapted(card, task.clip, means, adapter)

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ClassMeansAdapted:
        blocks, adapter = adapter_weights(tensors), None
        if blocks:
            config = AdapterConfig(**card.hyper["adapter"])
            require_fit(clip.embed_dim, config, blocks)
            adapter = MomentAdapter(clip.embed_dim, config).to(clip.mean.device)
            adapter.load_state_dict(blocks)
            adapter.eval()
        shapes = {ADAPTER + name: tuple(tensor.shape) for name, tensor in blocks.items()}
        exactly(tensors, shapes | {"means": (len(card.names), 4 * clip.embed_dim)}, card.method)
        return ClassMeansAdapted(card, clip, tensors["means"], adapter)


def _adapter(
    clip: Clip, hyper: ClassMeansHyper, seed: int, teacher: dict[str, Tensor] | None
) -> MomentAdapter | None:
    if teacher is None and hyper.without_teacher == "raw":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = MomentAdapter(clip.embed_dim, hyper.adapter)
    if teacher is not None:
        take_over(adapter, teacher, ClassMeans.name)
    return adapter.to(clip.mean.device).eval()


@torch.no_grad()
def _features(
    tokens: Tensor, clip: Clip, adapter: MomentAdapter | None, precision: Precision
) -> Tensor:
    """Moments of unit norm, (N, 4D) float32 where the CLIP lies, of (N, T, D) tokens."""
    parts = []
    for part in tokens.split(IMAGES_PER_PASS):
        x = part.to(clip.mean.device).float()
        if adapter is not None:
            with autocast(x.device, precision):
                x = adapter(x)
        parts.append(normalize(moments(x), dim=1))
    return torch.cat(parts)
