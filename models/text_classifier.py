"""Classifiers from class names alone: one unit vector per name, the mean over some templates."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from models.clip import Clip

TemplateSet = Literal["hand", "ensemble"]
"""hand: the dataset's own prompt. ensemble: the seven ImageNet templates and the hand prompt."""

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
    """The templates of a set; hand: the dataset's prompt. ValueError if it has no "{}"."""
    if "{}" not in hand:
        raise ValueError(f"template {hand!r} has no {{}}")
    return (hand,) if which == "hand" else (*IMAGENET_TEMPLATES, hand)


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
    # replace, not format: a name or a template may hold braces
    texts = [template.replace("{}", name.replace("_", " ")) for name in names]
    ids = clip.tokenizer(texts).to(clip.mean.device)
    return torch.cat([clip.encode_text(part) for part in ids.split(TEXTS_PER_BATCH)])
