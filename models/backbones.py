"""CLIPs by name: the embedded one, open_clip's by tag, local files, or a model config."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip

from models.building import INTERPOLATE, clip_from_config, clip_of, with_positions_of
from models.clip import Clip
from models.hugging_face import as_open_clips, quick_gelu
from models.towers.preprocessing import CLIPS_OWN, Preprocessing, preprocessing
from models.weights import read_state, require_finite

ASSETS = Path(__file__).parent / "assets"
HUB_CONFIG = "open_clip_config.json"
"""File beside weights on the hub: `model_cfg` and `preprocess_cfg`."""
OPENAIS_FACTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's TorchScript holds beside its weights."""
TINY = "tiny"
"""Name of the embedded CLIP, whose weights lie in `models/assets/`."""


def load_clip(backbone: str, *, download: bool = True) -> Clip:
    """Loads CLIP by name: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE" with a local file.

    "config:FILE" is a local file of any architecture, with the whole open_clip model config in the
    JSON file beside it (same name, suffix .json, as for "tiny", or the hub's HUB_CONFIG).

    Whether QuickGELU is used, and how pictures are prepared, comes from the weights: the tag's own
    entry in open_clip, or `quick_gelu` and `preprocess_cfg` in the JSON file beside a local file,
    or transformers' config.json there, whose layout of weights is read, too. A
    file without one is taken as the architecture's name and its released weights say; OpenAI's own
    file brings its QuickGELU, with a warning where the name says GELU. Positions of another grid of
    patches than the config's are refused, or interpolated with INTERPOLATE true beside the file.

    Raises ValueError, naming the backbone, for a name that is not known, a file that is missing or
    does not fit, and for an architecture that says QuickGELU where the weights say GELU. Of all
    weights, ValueError if a number is not finite.

    download: whether the weights of a tag may be fetched; else ValueError where they are not here.
    """
    arch, tag, file = parts_of(backbone)
    if file:
        return _from_file(backbone, arch, file)
    return _from_tag(backbone, arch, tag, download=download)


def parts_of(backbone: str) -> tuple[str, str, str]:
    """Architecture, tag and file of a backbone's name, the last two in turn empty; ValueError if it
    is none."""
    if backbone == TINY:
        return "config", "", str(ASSETS / "tiny_clip.safetensors")
    if ":" in backbone:
        arch, file = backbone.split(":", 1)
        return arch, "", file
    if "/" in backbone:
        arch, tag = backbone.split("/", 1)
        return arch, tag, ""
    raise ValueError(f'backbone: {backbone!r}; allowed are "tiny", "ARCH/TAG" and "ARCH:FILE"')


def config_of(backbone: str) -> dict[str, Any]:
    """open_clip's model config of a backbone; no weight is read. ValueError as of `load_clip`."""
    arch, tag, file = parts_of(backbone)
    if file:
        path, settings = _beside(backbone, file)
        return _file_config(backbone, arch, settings, path)
    config = _arch_config(backbone, arch)
    _tag_settings(backbone, arch, tag)
    return config


def _from_tag(backbone: str, arch: str, tag: str, *, download: bool) -> Clip:
    config = _arch_config(backbone, arch)
    weights = _tag_settings(backbone, arch, tag)
    activation = _quick_gelu(backbone, config, weights.get("quick_gelu", False))
    source = tag if download else _cached(backbone, weights)
    model = open_clip.create_model(arch, pretrained=source, force_quick_gelu=activation)
    require_finite(f"backbone: {backbone!r}", model.state_dict())
    config = {**config, "quick_gelu": activation}
    return clip_of(model, backbone, config, preprocessing(weights))


def _tag_settings(backbone: str, arch: str, tag: str) -> dict[str, Any]:
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag not in tags:
        raise ValueError(f"backbone: {backbone!r}, no tag {tag!r} for {arch}; allowed are {tags}")
    return open_clip.get_pretrained_cfg(arch, tag)


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


def _from_file(backbone: str, arch: str, file: str) -> Clip:
    path, settings = _beside(backbone, file)
    config = _file_config(backbone, arch, settings, path)
    try:
        state = as_open_clips(read_state(path))
        prepare = _file_preprocessing(arch, settings or {})
    except ValueError as error:
        raise ValueError(f"backbone: {backbone!r}, {error}") from error
    if settings is None and all(fact in state for fact in OPENAIS_FACTS):
        config = _with_openais_activation(backbone, config)
    state = {name: t for name, t in state.items() if name not in OPENAIS_FACTS}
    if settings and settings.get(INTERPOLATE) is True:
        state = with_positions_of(config, state, backbone)
    return clip_from_config(config, state, backbone, prepare)


def _beside(backbone: str, file: str) -> tuple[Path, dict[str, Any] | None]:
    """The path of a file of weights, and what the JSON file beside it holds, if there is one."""
    path = Path(os.path.expanduser(file))  # of both functions Path's raise on names that cannot be
    if not os.path.isfile(path):
        raise ValueError(f"backbone: {backbone!r}, no file {path}")
    for beside in (path.with_suffix(".json"), path.with_name(HUB_CONFIG)):
        if beside.is_file():
            return path, _settings(backbone, beside)
    transformers = path.with_name("config.json")
    settings = _settings(backbone, transformers) if transformers.is_file() else {}
    if settings.get("model_type") in ("clip", "siglip"):
        return path, {"quick_gelu": quick_gelu(settings)}
    return path, None


def _file_config(
    backbone: str, arch: str, settings: Mapping[str, Any] | None, path: Path
) -> dict[str, Any]:
    """The model config of a file. settings: what lies beside it."""
    model = (settings or {}).get("model_cfg", settings)
    if arch == "config":
        if not isinstance(model, dict):
            raise ValueError(
                f"backbone: {backbone!r}, no model config {path.with_suffix('.json')} "
                f"or {HUB_CONFIG} beside it"
            )
        return model
    config = dict(_arch_config(backbone, arch))
    if isinstance(model, dict):
        config["quick_gelu"] = _quick_gelu(backbone, config, model.get("quick_gelu", False))
    return config


def _file_preprocessing(arch: str, settings: Mapping[str, Any]) -> Preprocessing:
    """What lies beside a file says it, or else the architecture's released weights."""
    beside = settings.get("preprocess_cfg")
    return preprocessing(beside) if isinstance(beside, Mapping) else released_preprocessing(arch)


def released_preprocessing(arch: str) -> Preprocessing:
    """Of all released weights of an architecture, if they agree; else CLIP's own."""
    tags = open_clip.list_pretrained_tags_by_model(arch)
    released = {preprocessing(open_clip.get_pretrained_cfg(arch, tag)) for tag in tags}
    return released.pop() if len(released) == 1 else CLIPS_OWN


def _with_openais_activation(backbone: str, config: dict[str, Any]) -> dict[str, Any]:
    """A warning and QuickGELU, where OpenAI's own file comes under a name that says GELU."""
    if not config.get("quick_gelu", False):
        warnings.warn(
            f"backbone: {backbone!r}, the weights are OpenAI's, trained with QuickGELU, which is "
            "taken; the architecture's name says GELU",
            stacklevel=2,
        )
    return config | {"quick_gelu": True}


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
