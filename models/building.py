"""Networks of open_clip from its model configs, and weights put into them exactly."""

import math
from collections.abc import Mapping
from typing import Any

import open_clip
import timm
import torch
from open_clip.model import resize_pos_embed
from torch import Tensor, nn

from models.clip import Clip
from models.towers.preprocessing import CLIPS_OWN, Preprocessing
from models.towers.registry import image_tower, text_tower

POSITIONS = "visual.positional_embedding"
"""Name of the positions of an image tower of open_clip's own."""
INTERPOLATE = "interpolate_positions"
"""Setting beside weights: true takes positions of another grid of patches, interpolated."""
MOST_PATCHES = 2**14
"""Of a picture, where positions are interpolated."""


def clip_from_config(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
    backbone: str = "config",
    prepare: Preprocessing = CLIPS_OWN,
) -> Clip:
    """CLIP from an open_clip model config (embed_dim, vision_cfg, text_cfg, quick_gelu, …).

    state: its state dict, any float dtype, kept in float32; None leaves the weights as drawn.
    prepare: what the weights were trained with. Raises ValueError if the state does not fit
    exactly, or a tower is of a kind that is not read here.
    """
    if state is not None:
        _require_fit(config, state, backbone)
    model = built(config)
    if state is not None:
        _load_exactly(model, state, backbone)
    return clip_of(model, backbone, config, prepare)


def clip_of(
    model: Any, backbone: str, config: Mapping[str, Any], prepare: Preprocessing = CLIPS_OWN
) -> Clip:
    try:
        image, text = image_tower(model, config["embed_dim"]), text_tower(model)
    except ValueError as error:
        raise ValueError(f"backbone: {backbone!r}: {error}") from error
    return Clip(model, image, text, backbone, config, prepare)


def built(config: Mapping[str, Any]) -> Any:
    """open_clip's model of a config, as its own factory builds it, its weights as drawn.

    Raises what open_clip and timm raise for a config that is none; ValueError for a network of
    timm's that is not installed with it.
    """
    vision, text = vision_settings(config), dict(config["text_cfg"])
    kind: Any = open_clip.CLIP
    settings = ("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale")
    parts = {name: config[name] for name in settings if name in config}
    if text.get("hf_model_name"):
        text["hf_model_pretrained"] = False
    if config.get("custom_text") or text.get("hf_model_name"):
        kind = open_clip.CustomTextCLIP
        if "multimodal_cfg" in config:
            kind = open_clip.CoCa
            parts["multimodal_cfg"] = config["multimodal_cfg"]
    return kind(
        embed_dim=config["embed_dim"],
        vision_cfg=vision,
        text_cfg=text,
        quick_gelu=config.get("quick_gelu", False),
        **parts,
    )


def vision_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """`vision_cfg` of a config, without weights of timm's; ValueError if timm has no such model."""
    vision = dict(config["vision_cfg"])
    if name := vision.get("timm_model_name"):
        if not timm.is_model(name):  # else timm looks it up on the hub
            raise ValueError(f"vision_cfg.timm_model_name: {name!r} is no model of timm")
        vision["timm_model_pretrained"] = False
    return vision


def _require_fit(config: Mapping[str, Any], state: Mapping[str, Tensor], backbone: str) -> None:
    """ValueError if the config describes no CLIP, or one of other weights; nothing is allocated."""
    expected = _unallocated(config, state, backbone).state_dict()
    wrong = [
        name
        for name in sorted(expected.keys() | state.keys())
        if name not in state or name not in expected or expected[name].shape != state[name].shape
    ]
    if wrong:
        how = f'; allowed with "{INTERPOLATE}": true beside them' if wrong == [POSITIONS] else ""
        raise ValueError(
            f"backbone: {backbone!r}, the weights do not fit: {wrong[:5]} of {len(wrong)} are "
            f"missing, unknown or of another shape{how}"
        )


def _unallocated(config: Mapping[str, Any], state: Mapping[str, Tensor], backbone: str) -> Any:
    """The config's network on the meta device; ValueError if it describes none of these weights."""
    try:
        for tower in ("vision_cfg", "text_cfg"):  # the names of a block's weights hold its number
            layers = config[tower].get("layers", 12)
            if isinstance(layers, int) and layers > len(state):
                raise ValueError(f"{tower}.layers")
        with torch.device("meta"):
            return built(config)
    except Exception as error:  # what open_clip makes of a foreign config has no list
        raise ValueError(
            f"backbone: {backbone!r}, its config describes no CLIP of these weights ({error!r:.80})"
        ) from error


def with_positions_of(
    config: Mapping[str, Any], state: Mapping[str, Tensor], backbone: str
) -> dict[str, Tensor]:
    """The weights with positions of the config's grid of patches, as open_clip interpolates them.

    ValueError for a config that describes no CLIP of these weights, weights without positions of a
    class token and a square of patches, or a grid of more than MOST_PATCHES.
    """
    positions = state.get(POSITIONS)
    count = 0 if positions is None or positions.ndim != 2 else len(positions) - 1
    model = _unallocated(config, state, backbone)
    grid = getattr(model.visual, "grid_size", (0, 0))
    if count < 1 or math.isqrt(count) ** 2 != count or not 0 < math.prod(grid) <= MOST_PATCHES:
        raise ValueError(
            f"backbone: {backbone!r}, {INTERPOLATE}: true; allowed for weights with positions of a "
            f"class token and a square of patches, and for at most {MOST_PATCHES} patches"
        )
    resized = {name: t.float() if name == POSITIONS else t for name, t in state.items()}
    resize_pos_embed(resized, model)
    return resized


def _load_exactly(model: nn.Module, state: Mapping[str, Tensor], backbone: str) -> None:
    try:
        model.load_state_dict({name: t.float() for name, t in state.items()}, strict=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())
        raise ValueError(f"backbone: {backbone!r}, the weights do not fit: {why}") from error
