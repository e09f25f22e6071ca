"""CLIPs by name: the embedded one, open_clip's by tag, local files, or a model config."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from models.clip import Clip
from models.weights import read_state, require_finite

ASSETS = Path(__file__).parent / "assets"
TINY = "tiny"
"""Name of the embedded CLIP, whose weights lie in `models/assets/`."""


def load_clip(backbone: str, *, download: bool = True) -> Clip:
    """Loads CLIP by name: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE" with a local file.

    "config:FILE" is a local file of any architecture, with the whole open_clip model config in the
    JSON file beside it.

    Whether QuickGELU is used comes from the weights: the tag's own entry in open_clip, or
    `quick_gelu` in a JSON file beside a local file (same name, suffix .json, as for "tiny"). A file
    without one is taken as the architecture's name says. Raises ValueError, naming the backbone,
    for a name that is not known, a file that is missing or does not fit, and for an architecture
    that says QuickGELU where the weights say GELU. Of all weights, ValueError if a number is not
    finite.

    download: whether the weights of a tag may be fetched; else ValueError where they are not here.
    """
    if backbone == TINY:
        return _from_file(TINY, "config", str(ASSETS / "tiny_clip.safetensors"))
    if ":" in backbone:
        return _from_file(backbone, *backbone.split(":", 1))
    if "/" in backbone:
        return _from_tag(backbone, *backbone.split("/", 1), download=download)
    raise ValueError(f'backbone: {backbone!r}; allowed are "tiny", "ARCH/TAG" and "ARCH:FILE"')


def clip_from_config(
    config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None, backbone: str = "config"
) -> Clip:
    """CLIP from an open_clip model config (embed_dim, vision_cfg, text_cfg, quick_gelu).

    state: its state dict, any float dtype, kept in float32; None leaves the weights as drawn.
    Raises ValueError if the state does not fit exactly.
    """
    if state is not None:
        _require_fit(config, state, backbone)
    model = _built(config)
    if state is not None:
        _load_exactly(model, state, backbone)
    return Clip(model, backbone, config)


def _built(config: Mapping[str, Any]) -> open_clip.CLIP:
    parts = {part: config[part] for part in ("embed_dim", "vision_cfg", "text_cfg")}
    return open_clip.CLIP(**parts, quick_gelu=config.get("quick_gelu", False))


def _require_fit(config: Mapping[str, Any], state: Mapping[str, Tensor], backbone: str) -> None:
    """ValueError if the config describes no CLIP, or one of other weights; nothing is allocated."""
    try:
        for tower in ("vision_cfg", "text_cfg"):  # the names of a block's weights hold its number
            if config[tower].get("layers", 12) > len(state):
                raise ValueError(f"{tower}.layers")
        with torch.device("meta"):
            expected = _built(config).state_dict()
    except Exception as error:  # what open_clip makes of a foreign config has no list
        raise ValueError(
            f"backbone: {backbone!r}, its config describes no CLIP of these weights ({error!r:.80})"
        ) from error
    wrong = [
        name
        for name in sorted(expected.keys() | state.keys())
        if name not in state or name not in expected or expected[name].shape != state[name].shape
    ]
    if wrong:
        raise ValueError(
            f"backbone: {backbone!r}, the weights do not fit: {wrong[:5]} of {len(wrong)} are "
            "missing, unknown or of another shape"
        )


def _from_tag(backbone: str, arch: str, tag: str, *, download: bool) -> Clip:
    config = _arch_config(backbone, arch)
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise ValueError(f"backbone: {backbone!r}, no tag {tag!r} for {arch}; allowed are {tags}")
    weights = open_clip.get_pretrained_cfg(arch, tag)
    quick_gelu = _quick_gelu(backbone, config, weights.get("quick_gelu", False))
    source = tag if download else _cached(backbone, weights)
    model = open_clip.create_model(arch, pretrained=source, force_quick_gelu=quick_gelu)
    require_finite(f"backbone: {backbone!r}", model.state_dict())
    mean, std = (weights.get(k, d) for k, d in _PREPROCESSING.items())
    config = {**config, "quick_gelu": quick_gelu}
    return Clip(model, backbone, config, tuple(mean), tuple(std))


def _cached(backbone: str, weights: Mapping[str, Any]) -> str:
    """The file of a tag's weights in the caches that open_clip fetches to; ValueError if none."""
    repository, _, name = str(weights.get("hf_hub", "")).rpartition("/")
    name = name or "open_clip_pytorch_model.bin"
    names = {"open_clip_model.safetensors", f"{name.rpartition('.')[0]}.safetensors", name}
    for name in sorted(names, reverse=True) if repository else ():
        file = huggingface_hub.try_to_load_from_cache(repository, name)
        if isinstance(file, str):
            return file
    file = Path("~/.cache/clip").expanduser() / str(weights.get("url", "")).rpartition("/")[2]
    if file.is_file():
        return str(file)
    raise ValueError(
        f"backbone: {backbone!r} is not on this machine; allowed: one that is, or --download"
    )


_PREPROCESSING = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}


def _from_file(backbone: str, arch: str, file: str) -> Clip:
    path = Path(os.path.expanduser(file))  # of both functions Path's raise on names that cannot be
    if not os.path.isfile(path):
        raise ValueError(f"backbone: {backbone!r}, no file {path}")
    beside = path.with_suffix(".json")
    settings = _settings(backbone, beside) if beside.is_file() else None
    if arch == "config":
        if settings is None:
            raise ValueError(f"backbone: {backbone!r}, no model config {beside}")
        config = settings
    else:
        config = dict(_arch_config(backbone, arch))
        if settings is not None:
            config["quick_gelu"] = _quick_gelu(backbone, config, settings.get("quick_gelu", False))
    try:
        state = read_state(path)
    except ValueError as error:
        raise ValueError(f"backbone: {backbone!r}, {error}") from error
    facts = ("input_resolution", "context_length", "vocab_size")  # of OpenAI's TorchScript
    return clip_from_config(config, {n: t for n, t in state.items() if n not in facts}, backbone)


def _settings(backbone: str, file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"backbone: {backbone!r}, {file} cannot be read ({type(error).__name__})"
        ) from error
    if not isinstance(settings, dict):
        raise ValueError(f"backbone: {backbone!r}, {file} holds no settings")
    return settings


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
