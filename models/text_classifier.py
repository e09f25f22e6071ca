"""Classifiers from class names alone: one unit vector per name, the mean over some templates."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.clip import Clip

TemplateSet = Literal["hand", "ensemble", "prompts", "templates+prompts"]
"""Texts of a classifier. hand: the dataset's own prompt. ensemble: the seven ImageNet templates and
the hand prompt. prompts: sentences of each class, which a dataset may bring. templates+prompts: the
seven ImageNet templates and those sentences, each text counted alike: ImagineFSL's "simple+cafo".
"""
OF_PROMPTS: frozenset[TemplateSet] = frozenset({"prompts", "templates+prompts"})
"""Sets that need sentences of each class."""

IMAGENET_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""CLIP's selection of seven of its 80 ImageNet templates, as CoOp and ImagineFSL use them."""

TEXTS_PER_BATCH = 256


def templates(which: TemplateSet, hand: str) -> tuple[str, ...]:
    """The templates of a set.

    hand: the dataset's prompt, which also stands for names without prompts of their own. Raises
    ValueError if it has no "{}".
    """
    if "{}" not in hand:
        raise ValueError(f"template {hand!r} has no {{}}")
    if which == "templates+prompts":
        return IMAGENET_TEMPLATES
    return (*IMAGENET_TEMPLATES, hand) if which == "ensemble" else (hand,)


def zero_shot_classifier(
    clip: Clip,
    names: Sequence[str],
    which: TemplateSet,
    hand: str,
    prompts: Sequence[Sequence[str]],
) -> Tensor:
    """Classifier of C names from a template set: (C, D) float32, unit-norm rows.

    hand: the dataset's prompt. prompts: each class's own, or none. Raises ValueError if the set is
    one OF_PROMPTS and there are none.
    """
    if which not in OF_PROMPTS:
        return text_classifier(clip, names, templates(which, hand))
    if not prompts:
        raise ValueError(f"templates: {which!r}, but the dataset came without prompts of classes")
    if which == "templates+prompts":
        prompts = [
            [*(filled(template, name) for template in IMAGENET_TEMPLATES), *of_class]
            for name, of_class in zip(names, prompts, strict=True)
        ]
    return prompt_classifier(clip, prompts)


@torch.no_grad()
def prompt_classifier(clip: Clip, prompts: Sequence[Sequence[str]]) -> Tensor:
    """Classifier from the prompts of C classes: (C, D) float32, unit-norm rows.

    prompts: of each class one or more, averaged as in `text_classifier`.
    """
    ids = clip.tokenizer([prompt for class_prompts in prompts for prompt in class_prompts])
    unit = _encoded(clip, ids.to(clip.mean.device))
    parts = normalize(unit, dim=-1).split([len(class_prompts) for class_prompts in prompts])
    return normalize(torch.stack([part.mean(dim=0) for part in parts]), dim=-1)


@torch.no_grad()
def text_classifier(clip: Clip, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Zero-shot classifier of C names: (C, D) float32, unit-norm rows.

    Every template is filled with every name ("_" reads as a space), each text's feature is
    normalised, the mean over the templates is normalised again.
    Source: CLIP (Radford et al., 2021), section 3.1.4; CoOp's hand-crafted ensembles.
    """
    unit = [normalize(text_features(clip, names, template), dim=-1) for template in templates]
    return normalize(torch.stack(unit).mean(dim=0), dim=-1)


@torch.no_grad()
def text_features(clip: Clip, names: Sequence[str], template: str) -> Tensor:
    """(C, D) float32 features of one template with C names in it, not normalised."""
    return _encoded(clip, prompt_ids(clip, names, template))


def prompt_ids(clip: Clip, names: Sequence[str], template: str) -> Tensor:
    """(C, 77) int64 ids of a template with every name, "_" read as a space."""
    texts = [filled(template, name) for name in names]
    return clip.tokenizer(texts).to(clip.mean.device)


def filled(template: str, name: str) -> str:
    """A template with a name in it, "_" read as a space."""
    return template.replace("{}", name.replace("_", " "))  # format would read braces of names


def _encoded(clip: Clip, ids: Tensor) -> Tensor:
    """(B, D) float32 features of (B, 77) ids, not normalised."""
    return torch.cat([clip.encode_text(part) for part in ids.split(TEXTS_PER_BATCH)])
