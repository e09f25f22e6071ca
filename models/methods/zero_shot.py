"""Zero-shot CLIP: nothing is learned, every name that can be written can be a class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.clip import Clip
from models.methods.adapted import (
    OTHER,
    Adapted,
    Card,
    Method,
    Watch,
    class_tokens,
    exactly,
    refuse_teacher,
)
from models.methods.selection import Selection, only_head
from models.task import Task
from models.text_classifier import TemplateSet, templates, text_classifier


@dataclass(frozen=True, kw_only=True)
class ZeroShotHyper:
    templates: TemplateSet = "hand"
    """The dataset's hand prompt, the ensemble of it with seven ImageNet templates, or prompts of
    each class."""


class ZeroShotAdapted(Adapted):
    """Cosine of image feature and text feature times CLIP's logit scale; one head, `text`."""

    open_vocabulary = True
    reads = "class token"

    def __init__(self, card: Card, clip: Clip, text: Tensor) -> None:
        super().__init__(card, clip)
        self._own = text
        self._others: dict[str, Tensor] = {}

    def heads(
        self,
        tokens: Tensor,
        names: Sequence[str] | None = None,
        own: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        text = self.text(*self._label_space(names, own))
        return {"text": self.clip.logit_scale * class_tokens(tokens) @ text.T}

    def tensors(self) -> dict[str, Tensor]:
        return {"text": self._own}

    def text(self, names: Sequence[str], own: Sequence[int]) -> Tensor:
        """(C, D) unit-norm text features of these classes, the task's own and any others."""
        others = [name for name, place in zip(names, own, strict=True) if place == OTHER]
        if new := [name for name in dict.fromkeys(others) if name not in self._others]:
            which = templates(self.card.hyper["templates"], self.card.template)
            features = text_classifier(self.clip, new, which)
            self._others |= dict(zip(new, features, strict=True))
        return torch.stack(
            [
                self._others[name] if place == OTHER else self._own[place]
                for name, place in zip(names, own, strict=True)
            ]
        )


class ZeroShot(Method):
    """CLIP as it is; the shots are not looked at."""

    name = "zero_shot"
    Hyper = ZeroShotHyper
    reads = "class token"

    @staticmethod
    def fit(
        task: Task,
        hyper: ZeroShotHyper,
        seed: int,
        teacher: dict[str, Tensor] | None = None,
        watch: Watch | None = None,
    ) -> ZeroShotAdapted:
        refuse_teacher(ZeroShot.name, teacher)
        text = task.classifier(hyper.templates)
        selection = Selection("text")
        if task.val:
            logits = task.clip.logit_scale * class_tokens(task.val.clean) @ text.T
            selection = only_head("text", logits, task.val.labels)
        return ZeroShotAdapted(
            Card.of(ZeroShot.name, task, hyper, seed, selection), task.clip, text
        )

    @staticmethod
    def restore(card: Card, tensors: dict[str, Tensor], clip: Clip) -> ZeroShotAdapted:
        exactly(tensors, {"text": (len(card.names), clip.embed_dim)}, card.method)
        return ZeroShotAdapted(card, clip, tensors["text"])
