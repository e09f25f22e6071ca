"""What a method gets to learn from: one dataset's few shots as frozen features, and its names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from models.clip import Clip
from models.text_classifier import TemplateSet, zero_shot_classifier

Reads = Literal["class token", "tokens", "images"]
"""What a model answers from: CLIP's frozen class token alone, all its tokens, or pictures, because
its image tower is not frozen."""


@dataclass(frozen=True, eq=False)
class Features:
    """Frozen image tokens of N images with their labels.

    stored: (V, M, 1 + P, D) float16 or float32, not normalised; V views of each image, view 0 the
    clean one, the others augmented; token 0 the class token, then P patches. May be memory-mapped.
    labels: (N,) int64, index into the task's names. captions: one text per image ("" if it has
    none), or None. images: (N, 3, S, S) uint8, the pictures themselves for a method that reads
    them, else None; S is CLIP's input size where nothing is trained on, and at least that where it
    is. May be memory-mapped. places: (N,) int64, where each image lies among the M that are stored;
    None if image i lies at i and M is N. Where a GPU computes, the labels lie on it; all tokens,
    and pictures, stay in the CPU's memory, and who reads them moves a batch at a time. Raises
    ValueError if the sizes disagree.
    """

    stored: Tensor
    labels: Tensor
    captions: tuple[str, ...] | None = None
    images: Tensor | None = None
    places: Tensor | None = None

    def __post_init__(self) -> None:
        if self.stored.ndim != 4:
            shape = tuple(self.stored.shape)
            raise ValueError(f"tokens must be (views, images, tokens, channels), got {shape}")
        images = self.stored.shape[1] if self.places is None else len(self.places)
        if len(self.labels) != images:
            raise ValueError(f"{images} images, but {len(self.labels)} labels")
        if self.captions is not None and len(self.captions) != images:
            raise ValueError(f"{images} images, but {len(self.captions)} captions")
        if self.images is not None and len(self.images) != images:
            raise ValueError(f"{images} images, but {len(self.images)} pictures")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def tokens(self) -> Tensor:
        """All of them, (V, N, 1 + P, D), not copied.

        Raises ValueError if they lie scattered among others'; then `part` and `views` read some.
        """
        if self.places is not None:
            raise ValueError("tokens: scattered; allowed: to read some, or those of a copy")
        return self.stored

    @property
    def view_count(self) -> int:
        """V."""
        return len(self.stored)

    @property
    def clean(self) -> Tensor:
        """View 0, (N, 1 + P, D); copied if it lies scattered."""
        return self.part(0, slice(None))

    @property
    def without_patches(self) -> Tensor:
        """The class tokens alone, (V, N, 1, D)."""
        return self.stored[:, :, :1] if self.places is None else self.stored[:, self.places, :1]

    def part(self, view: int, images: slice) -> Tensor:
        """One view of some images, (n, 1 + P, D); copied if they lie scattered."""
        return self.stored[view, images if self.places is None else self.places[images]]

    def passes(self, images: int) -> list[slice]:
        """All images, so many at a time; one empty slice if there is none."""
        return [slice(start, start + images) for start in range(0, max(1, len(self)), images)]

    def views(self, numbers: Tensor) -> Tensor:
        """Some views of some images, (K, 1 + P, D), copied.

        numbers: (K,) int64; view 0 of all images is counted first, then view 1, and so on.
        """
        view, image = numbers // len(self), numbers % len(self)
        return self.stored[view, image if self.places is None else self.places[image]]

    def of_images(self, images: Sequence[int] | Tensor) -> "Features":
        """The features of these images, in this order, without pictures; no token is copied."""
        rows = torch.as_tensor(images, dtype=torch.int64)
        return Features(
            self.stored,
            self.labels[rows],
            self.captions and tuple(self.captions[row] for row in rows.tolist()),
            None,
            rows if self.places is None else self.places[rows],
        )

    def copied(self) -> "Features":
        """The same with tokens that do not lie scattered."""
        if self.places is None:
            return self
        return replace(self, stored=self.stored[:, self.places], places=None)

    def to(self, device: str, reads: Reads) -> "Features":
        """The same with the labels there, and with the class tokens for who reads no others.

        On the CPU nothing is copied.
        """
        if device == "cpu":
            return self
        labels = self.labels.to(device)
        if reads != "class token":
            return replace(self, labels=labels)
        return replace(self, stored=self.without_patches.to(device), labels=labels, places=None)

    def inputs(self, reads: Reads, images: slice = slice(None)) -> Tensor:
        """What a model that reads this answers from, of some images: `clean` or its first token, or
        the pictures.

        Raises ValueError if they are not there.
        """
        if reads == "class token":
            return self.stored[0, images if self.places is None else self.places[images], :1]
        if reads == "tokens":
            return self.part(0, images)
        if self.images is None:
            raise ValueError("images: none; allowed: the pictures of all images, as uint8")
        return self.images[images]


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
