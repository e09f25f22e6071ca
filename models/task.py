"""What a method gets to learn from: one dataset's few shots as frozen features, and its names."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from models.clip import Clip
from models.text_classifier import TemplateSet, zero_shot_classifier

Reads = Literal["class token", "tokens", "images"]
"""What a model answers from: CLIP's frozen class token alone, all its tokens, or pictures, because
its image tower is not frozen."""


@dataclass(frozen=True, eq=False)
class Features:
    """Frozen image tokens of N images with their labels.

    tokens: (V, N, 1 + P, D) float16 or float32, not normalised; V views of each image, view 0 the
    clean one, the others augmented; token 0 the class token, then P patches. May be memory-mapped.
    labels: (N,) int64, index into the task's names. captions: one text per image ("" if it has
    none), or None. images: (N, 3, S, S) uint8, the pictures themselves for a method that reads
    them, else None; S is CLIP's input size where nothing is trained on, and at least that where it
    is. May be memory-mapped. Where a GPU computes, the labels lie on it; all tokens, and pictures,
    stay in the CPU's memory, and who reads them moves a batch at a time. Raises ValueError if the
    sizes disagree.
    """

    tokens: Tensor
    labels: Tensor
    captions: tuple[str, ...] | None = None
    images: Tensor | None = None

    def __post_init__(self) -> None:
        if self.tokens.ndim != 4:
            shape = tuple(self.tokens.shape)
            raise ValueError(f"tokens must be (views, images, tokens, channels), got {shape}")
        images = self.tokens.shape[1]
        if len(self.labels) != images:
            raise ValueError(f"{images} images, but {len(self.labels)} labels")
        if self.captions is not None and len(self.captions) != images:
            raise ValueError(f"{images} images, but {len(self.captions)} captions")
        if self.images is not None and len(self.images) != images:
            raise ValueError(f"{images} images, but {len(self.images)} pictures")

    def __len__(self) -> int:
        return self.tokens.shape[1]

    @property
    def clean(self) -> Tensor:
        """View 0, (N, 1 + P, D), as stored."""
        return self.tokens[0]

    def inputs(self, reads: Reads) -> Tensor:
        """What a model that reads this answers from: `clean` or its first token, or the pictures.

        Raises ValueError if they are not there.
        """
        if reads == "class token":
            return self.clean[:, :1]
        if reads == "tokens":
            return self.clean
        if self.images is None:
            raise ValueError("images: none; allowed: the pictures of all images, as uint8")
        return self.images


@dataclass(frozen=True, eq=False)
class Task:
    """One cell of an evaluation: a dataset, its shots, and the frozen CLIP. No test split here.

    names: the C class names, as a user reads them. hint: what they are ("animal"). template: the
    dataset's hand prompt with "{}" for the name. val None: no image may be used for choices.
    imagined: images of the same classes that no camera took, or None. text: (C, D) zero-shot
    classifier, unit-norm rows. prompts: sentences of each class, or none. Raises ValueError if a
    label has no name or text lacks a row.
    """

    dataset: str
    names: list[str]
    hint: str
    template: str
    train: Features
    val: Features | None
    imagined: Features | None
    clip: Clip
    text: Tensor
    prompts: tuple[tuple[str, ...], ...] = ()

    def classifier(self, which: TemplateSet) -> Tensor:
        """(C, D) zero-shot classifier from these templates, unit-norm rows."""
        return zero_shot_classifier(self.clip, self.names, which, self.template, self.prompts)

    def __post_init__(self) -> None:
        if len(self.text) != len(self.names):
            raise ValueError(f"text has {len(self.text)} rows for {len(self.names)} names")
        for role in ("train", "val", "imagined"):
            features: Features | None = getattr(self, role)
            if features is not None and len(features):
                last = int(features.labels.max())
                if last >= len(self.names):
                    raise ValueError(f"{role} has label {last}, but {len(self.names)} names")
