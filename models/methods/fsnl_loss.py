"""FSNL's losses of one batch of images: against the class texts, and against captions."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import cross_entropy

from kernels.contrastive import base_double_loss, caption_loss
from models.name_learner import NameLearner
from models.task import Features

NameLoss = Literal["full", "base", "caption", "clip"]
"""What FSNL learns from.

full: the mean of base and caption loss; the base loss where no image has a caption.
base: images against class texts alone (captions not used).
caption: images against captions alone, contexts swapped between classes.
clip: every image against its own caption, CLIP's diagonal cross-entropy, nothing swapped.
"""


class ImageLoss:
    """The loss of batches from one set of images; see `NameLoss`.

    A caption that is empty or does not hold its name counts as the hand prompt. Raises ValueError
    for "caption" where no image has one.
    """

    def __init__(
        self,
        learner: NameLearner,
        features: Features,
        names: Sequence[str],
        scale: float,
        which: NameLoss,
        generator: torch.Generator,
    ) -> None:
        """names: all class names; scale: CLIP's logit scale; generator: draws the swaps."""
        captions = features.captions or ("",) * len(features)
        if which == "caption" and not any(captions):
            raise ValueError("loss: 'caption', but no image has one; allowed: full, base, clip")
        self.learner, self.labels, self.scale = learner, features.labels, scale
        self.generator = generator
        self.which: NameLoss = "base" if which == "full" and not any(captions) else which
        self.contexts = learner.tokenizer.captions(captions, self.labels.tolist(), names)

    def __call__(
        self, tables: Tensor, images: Tensor, rows: Tensor, classes: Tensor | None
    ) -> Tensor:
        """(k,) losses of k tables of names (k, ΣL, W).

        images: (B, D) unit norm; rows: (B,) int64, which images they are; classes: (k, C, D), the
        class features of these tables, needed by "full" and "base".
        """
        labels = self.labels[rows]
        base = None
        if classes is not None:
            base = self._each(images, classes, lambda s: base_double_loss(s, labels))
        if self.which == "base" and base is not None:
            return base
        if self.which == "clip":
            diagonal = torch.arange(len(rows), device=labels.device)
            texts = self._texts(tables, rows, labels)
            return self._each(
                images,
                texts,
                lambda s: (cross_entropy(s, diagonal) + cross_entropy(s.T, diagonal)) / 2,
            )
        swapped = rows[other_class(labels.cpu(), self.generator)]
        texts = self._texts(tables, swapped, labels)
        by_caption = self._each(images, texts, lambda s: caption_loss(s, labels))
        return (base + by_caption) / 2 if self.which == "full" and base is not None else by_caption

    def _each(self, images: Tensor, texts: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """(k,) the loss of the logits against each member's texts (k, K, D)."""
        return vmap(loss)(self.scale * images @ texts.mT)

    def _texts(self, tables: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
        """(k, B, D) features of these images' contexts with the names of labels (B,)."""
        of_labels = labels.tolist()
        contexts = [
            self.contexts[row] or self.learner.hands[label]
            for row, label in zip(rows.tolist(), of_labels, strict=True)
        ]
        names = [self.learner.names[label] for label in of_labels]
        prompts = self.learner.tokenizer.fill(contexts, names)
        return self.learner.stacked_features(tables, prompts, labels)


def other_class(labels: Tensor, generator: torch.Generator) -> Tensor:
    """For each of B samples one of another class, drawn evenly; itself where there is none.

    labels: (B,) int64. Returns positions (B,) int64. Source: FSNL's context swap.
    """
    others = (labels[:, None] != labels[None, :]).float()
    alone = others.sum(dim=1) == 0
    others[alone, alone.nonzero().flatten()] = 1
    return torch.multinomial(others, 1, generator=generator).flatten()
