"""Small tasks made by hand: a tiny random CLIP, and tokens and pictures whose classes can be told
apart (the tokens are not those of the pictures)."""

import functools

import torch

from models.building import clip_from_config
from models.clip import Clip
from models.task import Features, Task
from models.text_classifier import text_classifier

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "layers": 1,
        "width": 24,
        "patch_size": 8,
        "head_width": 12,
    },
    "text_cfg": {
        "context_length": 77,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
    },
}
NAMES = ["red panda", "panda", "ant", "ant_eater", "okapi"]
TEMPLATE = "a photo of a {}, a type of animal."


@functools.cache
def tiny_clip(seed: int = 0) -> Clip:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return clip_from_config(CONFIG, backbone=f"random-{seed}")


def features(
    per_class: int,
    seed: int,
    *,
    views: int = 1,
    classes: int = len(NAMES),
    noise: float = 0.7,
    captions: bool = False,
) -> Features:
    """Tokens around one fixed centre per class; float16 as the feature store keeps them."""
    clip, rng = tiny_clip(), torch.Generator().manual_seed(seed)
    centres = torch.randn(len(NAMES), clip.embed_dim, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(classes).repeat(per_class)
    shape = (views, len(labels), clip.num_tokens, clip.embed_dim)
    tokens = centres[labels][None, :, None] + noise * torch.randn(shape, generator=rng)
    texts = tuple(f"a photo of {NAMES[label]} at night" for label in labels.tolist())
    blobs = torch.randint(256, (len(NAMES), 3, 4, 4), generator=torch.Generator().manual_seed(98))
    images = blobs[labels].repeat_interleave(8, dim=2).repeat_interleave(8, dim=3).float()
    images += 30 * torch.randn(images.shape, generator=rng)
    images = images.clamp(0, 255).to(torch.uint8)
    return Features(tokens.half(), labels, texts if captions else None, images)


def task(
    *,
    shots: int = 4,
    val: bool = True,
    imagined: bool = False,
    classes: int = len(NAMES),
    captions: bool = False,
) -> Task:
    clip, names = tiny_clip(), NAMES[:classes]
    return Task(
        dataset="animals",
        names=names,
        hint="animal",
        template=TEMPLATE,
        train=features(shots, 1, views=3, classes=classes, captions=captions),
        val=features(4, 2, classes=classes) if val else None,
        imagined=features(8, 3, views=2, classes=classes, noise=1.0) if imagined else None,
        clip=clip,
        text=text_classifier(clip, names, [TEMPLATE]),
    )


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return (logits.argmax(dim=1) == labels).float().mean().item()
