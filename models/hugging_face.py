"""Weights in the layout of transformers' CLIPModel and SiglipModel, as open_clip names them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]

MARK = "vision_model.embeddings.patch_embedding.weight"
"""A tensor that weights of this layout have, and no others."""
_BUFFERS = re.compile(r"(text|vision)_model\.embeddings\.position_ids")
_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)")
_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
"""Parts of a block in open_clip's transformers."""
_TIMM_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_CLIP: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "logit_scale": ("logit_scale", lambda t: t.reshape(())),
    "text_model.embeddings.token_embedding.weight": ("token_embedding.weight", torch.clone),
    "text_model.embeddings.position_embedding.weight": ("positional_embedding", torch.clone),
    "text_projection.weight": ("text_projection", torch.t),
    "vision_model.embeddings.class_embedding": ("visual.class_embedding", torch.clone),
    "vision_model.embeddings.patch_embedding.weight": ("visual.conv1.weight", torch.clone),
    "vision_model.embeddings.position_embedding.weight": (
        "visual.positional_embedding",
        torch.clone,
    ),
    "visual_projection.weight": ("visual.proj", torch.t),
}
_CLIP_NORMS = {
    "text_model.final_layer_norm": "ln_final",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
}
_SIGLIP: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "logit_scale": ("logit_scale", lambda t: t.reshape(())),
    "logit_bias": ("logit_bias", lambda t: t.reshape(())),
    "text_model.embeddings.token_embedding.weight": ("text.token_embedding.weight", torch.clone),
    "text_model.embeddings.position_embedding.weight": ("text.positional_embedding", torch.clone),
    "vision_model.embeddings.position_embedding.weight": (
        "visual.trunk.pos_embed",
        lambda t: t.unsqueeze(0),
    ),
    "vision_model.head.probe": ("visual.trunk.attn_pool.latent", torch.clone),
}
_SIGLIP_PARTS = {
    "text_model.final_layer_norm": "text.ln_final",
    "text_model.head": "text.text_projection",
    "vision_model.embeddings.patch_embedding": "visual.trunk.patch_embed.proj",
    "vision_model.post_layernorm": "visual.trunk.norm",
    "vision_model.head.attention.out_proj": "visual.trunk.attn_pool.proj",
    "vision_model.head.layernorm": "visual.trunk.attn_pool.norm",
    "vision_model.head.mlp.fc1": "visual.trunk.attn_pool.mlp.fc1",
    "vision_model.head.mlp.fc2": "visual.trunk.attn_pool.mlp.fc2",
}


def as_open_clips(state: Mapping[str, Tensor]) -> State:
    """The same weights by open_clip's names, if they are in this layout; else as they are.

    What has no place there keeps its name, and is refused where the weights are compared.
    """
    if MARK not in state:
        return dict(state)
    tensors = {name: t for name, t in state.items() if not _BUFFERS.fullmatch(name)}
    siglip = "vision_model.head.probe" in tensors
    renamed: State = {}
    for name, tensor in _joined(tensors).items():
        renamed.update(_siglip(name, tensor) if siglip else _clip(name, tensor))
    return renamed


def quick_gelu(settings: Mapping[str, Any]) -> bool:
    """Whether transformers' config.json of a CLIPModel says QuickGELU, which is its default."""
    vision = settings.get("vision_config")
    default = "quick_gelu" if settings.get("model_type") == "clip" else "gelu"
    return (vision.get("hidden_act", default) if isinstance(vision, dict) else default) == (
        "quick_gelu"
    )


def _joined(state: State) -> State:
    """With queries, keys and values of each block in one tensor, in this order."""
    joined: State = {}
    for name, tensor in state.items():
        if ".self_attn.q_proj." in name:
            parts = [state.get(name.replace(".q_proj.", f".{x}_proj.")) for x in "qkv"]
            if all(part is not None for part in parts):
                joined[name.replace("q_proj", "in_proj")] = torch.cat(
                    [p for p in parts if p is not None]
                )
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            joined[name] = tensor
    return joined


def _clip(name: str, tensor: Tensor) -> State:
    if name in _CLIP:
        place, turned = _CLIP[name]
        return {place: turned(tensor).contiguous()}
    if match := _LAYER.fullmatch(name):
        tower, layer, part = match.groups()
        root = "visual.transformer" if tower == "vision" else "transformer"
        return {f"{root}.resblocks.{layer}.{_in_block(part)}": tensor}
    return {_part(name, _CLIP_NORMS): tensor}


def _siglip(name: str, tensor: Tensor) -> State:
    pool = "vision_model.head.attention.in_proj_"
    if name.startswith(pool):
        kind, width = name.removeprefix(pool), len(tensor) // 3
        places = ("visual.trunk.attn_pool.q", "visual.trunk.attn_pool.kv")
        parts = tensor.split([width, 2 * width])
        return {f"{place}.{kind}": part for place, part in zip(places, parts, strict=True)}
    if name in _SIGLIP:
        place, turned = _SIGLIP[name]
        return {place: turned(tensor).contiguous()}
    if match := _LAYER.fullmatch(name):
        tower, layer, part = match.groups()
        if tower == "text":
            return {f"text.transformer.resblocks.{layer}.{_in_block(part)}": tensor}
        part = part.replace("self_attn.in_proj.", "attn.qkv.")
        return {f"visual.trunk.blocks.{layer}.{_part(part, _TIMM_BLOCK)}": tensor}
    return {_part(name, _SIGLIP_PARTS): tensor}


def _in_block(part: str) -> str:
    """Of an open_clip block, whose attention has its inputs as bare tensors."""
    if part.startswith("self_attn.in_proj."):
        return part.replace("self_attn.in_proj.", "attn.in_proj_")
    return _part(part, _BLOCK)


def _part(name: str, names: Mapping[str, str]) -> str:
    """A tensor's name with its module's other name, as it is if the module has none."""
    module, _, kind = name.rpartition(".")
    return f"{names[module]}.{kind}" if module in names else name
