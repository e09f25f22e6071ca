"""What open_clip's architectures are and give, without a weight of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.model import _build_vision_tower
from torch import nn

from models.building import built, vision_settings
from models.towers.gifts import gifts_of
from models.towers.interface import Gift
from models.towers.registry import image_tower, text_tower


@dataclass(frozen=True)
class Facts:
    """Of one architecture."""

    image_size: int
    """Pixels of its pictures' sides."""
    patches: int
    """Patches of a picture; 0 without tokens of patches."""
    embed_dim: int
    """Size of the joint space."""
    parameters: int
    """Numbers of both towers; of one whose text tower the hub describes, of the image tower."""
    text: str
    """The text tower that only the hub describes; empty for all others."""
    gifts: frozenset[Gift]
    """What methods may use."""
    unknown: frozenset[Gift]
    """What they may use perhaps: of a text tower that only the hub describes."""


def facts(config: Mapping[str, Any]) -> Facts:
    """The facts of an open_clip model config; it is built on the meta device, in no memory.

    Raises what open_clip and timm raise for a config that is none.
    """
    hub = config["text_cfg"].get("hf_model_name") or ""
    with torch.device("meta"):
        if hub:
            vision = vision_settings(config)
            quick_gelu = config.get("quick_gelu", False)
            visual = _build_vision_tower(config["embed_dim"], vision, quick_gelu)
            model: Any = SimpleNamespace(visual=visual)
        else:
            model = built(config)
    image = image_tower(model, config["embed_dim"])
    text = None if hub else text_tower(model)
    network: nn.Module = model.visual if hub else model
    return Facts(
        image_size=image.size,
        patches=math.prod(image.grid),
        embed_dim=image.embed_dim,
        parameters=sum(weight.numel() for weight in network.parameters()),
        text=hub,
        gifts=gifts_of(image, text),
        unknown=frozenset({"names", "text maps"} if hub else ()),
    )
