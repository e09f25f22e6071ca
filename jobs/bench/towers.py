"""`python -m jobs.bench towers`: image towers of all kinds against open_clip's own forward pass."""

import dataclasses
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from jsonargparse.typing import PositiveInt
from open_clip.model import _build_vision_tower
from torch import Tensor

from cluster.errors import ConfigError
from models.building import vision_settings
from models.precision import Precision, autocast
from models.towers.interface import ImageTower
from models.towers.registry import image_tower

KINDS = ("ViT-B-16", "EVA02-B-16", "PE-Core-B-16", "ViT-B-16-SigLIP2", "MobileCLIP2-S0", "RN50")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TowersBench:
    """Images per second of image towers with random weights, and what that is of open_clip's."""

    archs: list[str] = dataclasses.field(default_factory=lambda: list(KINDS))
    """Architectures of open_clip."""
    images: PositiveInt = 8
    """In one pass."""
    passes: PositiveInt = 3
    """Of each kind in turn, of which the fastest counts."""

    def __post_init__(self) -> None:
        for arch in self.archs:
            if arch not in open_clip.list_models():
                raise ConfigError(f"archs: {arch!r}; allowed: the names of open_clip.list_models()")


def towers(cfg: TowersBench) -> dict[str, float]:
    """By architecture and arithmetic: images per second of `encode_tokens`, and its speed and that
    of `encode_images` over open_clip's own forward pass, measured in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    measurements: dict[str, float] = {}
    for arch in cfg.archs:
        visual, tower = _tower(arch, device)
        images = torch.randn(cfg.images, 3, tower.size, tower.size, device=device)
        for precision in ("fp32", "bf16"):
            theirs, tokens, feature = _seconds(cfg, visual, tower, images, precision)
            measurements |= {
                f"{arch}_{precision}_images_per_s": cfg.images / tokens,
                f"{arch}_{precision}_tokens_over_open_clip": theirs / tokens,
                f"{arch}_{precision}_feature_over_open_clip": theirs / feature,
            }
    return measurements


def _tower(arch: str, device: torch.device) -> tuple[Any, ImageTower]:
    """open_clip's image network, frozen, and the tower that reads it."""
    config = open_clip.get_model_config(arch) or {}
    quick_gelu = config.get("quick_gelu", False)
    visual = _build_vision_tower(config["embed_dim"], vision_settings(config), quick_gelu)
    visual.requires_grad_(False).eval().to(device)
    return visual, image_tower(SimpleNamespace(visual=visual), config["embed_dim"])


@torch.no_grad()
def _seconds(
    cfg: TowersBench, visual: Any, tower: ImageTower, images: Tensor, precision: Precision
) -> list[float]:
    """The fastest pass of open_clip's forward, of all tokens, and of the feature alone."""
    ways: tuple[Callable[[], Any], ...] = (
        lambda: visual(images),
        lambda: tower.tokens(images, None, None),
        lambda: tower.feature(images),
    )
    times: list[list[float]] = [[] for _ in ways]
    with autocast(images.device, precision):
        for _ in range(1 + cfg.passes):  # the first is to warm up
            for way, of_way in zip(ways, times, strict=True):
                of_way.append(_timed(way, images.is_cuda))
    return [min(of_way[1:]) for of_way in times]


def _timed(way: Callable[[], Any], on_gpu: bool) -> float:
    """Seconds; of a CPU its own, which other programs do not lengthen."""
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    started = clock()
    way()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - started
