"""CLIPs by name: the embedded one, open_clip's by tag, local files, or a model config."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import load_file
from torch import Tensor, nn

from models.clip import Clip

ASSETS = Path(__file__).parent / "assets"
TINY = "tiny"
"""Name of the embedded CLIP, whose weights lie in `models/assets/`."""


def load_clip(backbone: str) -> Clip:
    """Loads CLIP by name: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE" with a local file.

    "config:FILE" is a local file of any architecture, with the whole open_clip model config in the
    JSON file beside it.

    Whether QuickGELU is used comes from the weights: the tag's own entry in open_clip, or
    `quick_gelu` in a JSON file beside a local file (same name, suffix .json, as for "tiny"). A file
    without one is taken as the architecture's name says. Raises ValueError, naming the backbone,
    for a name that is not known, a file that is missing or does not fit, and for an architecture
    that says QuickGELU where the weights say GELU.
    """
    if backbone == TINY:
        return _from_file(TINY, "config", str(ASSETS / "tiny_clip.safetensors"))
    if ":" in backbone:
        return _from_file(backbone, *backbone.split(":", 1))
    if "/" in backbone:
        return _from_tag(backbone, *backbone.split("/", 1))
    raise ValueError(f'backbone: {backbone!r}; allowed are "tiny", "ARCH/TAG" and "ARCH:FILE"')


def clip_from_config(
    config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None, backbone: str = "config"
) -> Clip:
    """CLIP from an open_clip model config (embed_dim, vision_cfg, text_cfg, quick_gelu).

    state: its state dict, any float dtype, kept in float32; None leaves the weights as drawn.
    Raises ValueError if the state does not fit exactly.
    """
    parts = ("embed_dim", "vision_cfg", "text_cfg")
    model = open_clip.CLIP(
        **{part: config[part] for part in parts}, quick_gelu=config.get("quick_gelu", False)
    )
    if state is not None:
        _load_exactly(model, state, backbone)
    return Clip(model, backbone, config)


def _from_tag(backbone: str, arch: str, tag: str) -> Clip:
    config = _arch_config(backbone, arch)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise ValueError(f"backbone: {backbone!r}, no tag {tag!r} for {arch}; allowed are {tags}")
    weights = open_clip.get_pretrained_cfg(arch, tag)
    quick_gelu = _quick_gelu(backbone, config, weights.get("quick_gelu", False))
    model = open_clip.create_model(arch, pretrained=tag, force_quick_gelu=quick_gelu)
    mean, std = (weights.get(k, d) for k, d in _PREPROCESSING.items())
    config = {**config, "quick_gelu": quick_gelu}
    return Clip(model, backbone, config, tuple(mean), tuple(std))


_PREPROCESSING = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}


def _from_file(backbone: str, arch: str, file: str) -> Clip:
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(f"backbone: {backbone!r}, no file {path}")
    beside = path.with_suffix(".json")
    settings = json.loads(beside.read_text()) if beside.is_file() else None
    if arch == "config":
        if settings is None:
            raise ValueError(f"backbone: {backbone!r}, no model config {beside}")
        config = settings
    else:
        config = dict(_arch_config(backbone, arch))
        if settings is not None:
            config["quick_gelu"] = _quick_gelu(backbone, config, settings.get("quick_gelu", False))
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
    return clip_from_config(
        config, {name.removeprefix("module."): t for name, t in state.items()}, backbone
    )


def _arch_config(backbone: str, arch: str) -> dict[str, Any]:
    config = open_clip.get_model_config(arch)
    if config is None:
        raise ValueError(
            f"backbone: {backbone!r}, open_clip knows no architecture {arch!r}; "
            "allowed are the names of open_clip.list_models()"
        )
    return config


def _quick_gelu(backbone: str, arch: Mapping[str, Any], weights: bool) -> bool:
    """The weights' own activation; an architecture that claims QuickGELU for others is refused."""
    if arch.get("quick_gelu", False) and not weights:
        raise ValueError(
            f"backbone: {backbone!r} names an architecture with QuickGELU, "
            "but the weights were trained with GELU; use the architecture without -quickgelu"
        )
    return weights


def _load_exactly(model: nn.Module, state: Mapping[str, Tensor], backbone: str) -> None:
    try:
        model.load_state_dict({name: t.float() for name, t in state.items()}, strict=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ValueError(f"backbone: {backbone!r}, the weights do not fit: {why}") from error
