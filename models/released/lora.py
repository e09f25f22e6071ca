"""ImagineFSL-LoRA's `*_visual_model.pth`: an image tower whose LoRA update is applied once.

The original saves the merged weights and the update's factors together, and applies the update
again where it loads them in another order. Whether a file is merged is therefore not assumed, but
read from how far its weights are from plain CLIP's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from models.clip import Clip
from models.released.teacher import (
    DRIFT,
    Inventory,
    distance,
    fit,
    read_state,
    require_near,
    shapes,
    size_of,
)
from models.weights import State

CLEAR = 0.1
"""Largest distance of the applied part of the update from 0 or 1."""
_NAMES = {"qkv.weight": "in_proj_weight", "qkv.bias": "in_proj_bias"}
_NAMES |= {"proj.weight": "out_proj.weight", "proj.bias": "out_proj.bias"}


@dataclass(frozen=True)
class LoraUpdate:
    """The LoRA update of a file of an image tower."""

    rank: int
    """Rank of the factors; 0 if the file has none."""
    alpha: float | None
    """Alpha of the update, as it was given."""
    found: Literal["merged", "unmerged", "without update"]
    """Whether the file's weights had the update in them; a field of the saved model's card."""


def read_visual_model(
    path: Path, clip: Clip, alpha: float | None
) -> tuple[State, LoraUpdate, Inventory]:
    """The image tower by open_clip's names, float32, with the update α/r·BA in it exactly once.

    alpha: α of the update; the rank r is read from the shapes. A file without factors is taken as
    merged. Raises ValueError, naming the file, for tensors missing, unknown or of another shape, if
    factors have no alpha, if a weight that LoRA leaves alone is not CLIP's, and if one that it
    moves is neither CLIP's nor CLIP's with the update.
    """
    saved = read_state(path)
    factors = {name: tensor for name, tensor in saved.items() if ".lora_" in name}
    if factors and alpha is None:
        raise ValueError(
            f"lora_alpha: none, but {path} has LoRA factors; allowed: the alpha of its training"
        )
    state = {_renamed(name): t for name, t in saved.items() if name not in factors}
    if len(state) + len(factors) < len(saved):
        raise ValueError(f"{path} has weights of an attention under two names")
    ignored = {}
    if state.pop("mask_token", None) is not None:
        ignored["mask_token"] = "used in pretraining alone"
    expected = clip.model.visual.state_dict()
    rank = size_of(path, factors, "proj.lora_A", 0) if factors else 0
    required = shapes(expected) | _factor_shapes(factors, expected, rank)
    fit(path, state | factors, required, "CLIP image tower with LoRA")
    updates = dict(_updates(factors, rank, alpha or 0.0))
    tuned = set(updates) if factors else {name for name in state if ".attn." in name}
    frozen = {name: tensor for name, tensor in state.items() if name not in tuned}
    require_near(path, frozen, expected, clip)
    update_state = _update_state(path, state, expected, updates, alpha)
    if update_state == "unmerged":
        state |= {name: (state[name].double() + u).float() for name, u in updates.items()}
    ignored |= dict.fromkeys(
        factors, f"LoRA factors, {update_state}: the update is in the weights once"
    )
    inventory = Inventory(path.name, {"visual_model": len(state)}, ignored)
    return state, LoraUpdate(rank, alpha, update_state), inventory


def _renamed(name: str) -> str:
    """open_clip's name of a weight of the attention that carries LoRA; others have the same."""
    before, mark, after = name.partition(".attn.")
    return before + mark + _NAMES.get(after, after)


def _factor_shapes(factors: State, tower: State, rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of all factors: A is (r, W) and B (W, r), for qkv three one below the other."""
    width = tower["class_embedding"].shape[0]
    sizes: dict[str, tuple[int, ...]] = {}
    for attention in {name.partition(".attn.")[0] + ".attn" for name in factors}:
        for layer, parts in (("qkv", 3), ("proj", 1)):
            sizes[f"{attention}.{layer}.lora_A"] = (parts * rank, width)
            sizes[f"{attention}.{layer}.lora_B"] = (parts * width, rank)
    return sizes


def _updates(factors: State, rank: int, alpha: float) -> Iterator[tuple[str, Tensor]]:
    """α/r·BA by the name of the weight that it belongs to, float64.

    Source: LoRA (Hu et al., 2022), section 4.1; the layout is that of its authors' package.
    """
    for name in factors:
        if not name.endswith(".lora_A"):
            continue
        layer = name.removesuffix(".lora_A")
        parts = 3 if layer.endswith(".qkv") else 1
        a, b = (factors[f"{layer}.lora_{which}"].double().chunk(parts) for which in "AB")
        product = torch.cat([up @ down for up, down in zip(b, a, strict=True)])
        yield _renamed(f"{layer}.weight"), alpha / max(rank, 1) * product


def _update_state(
    path: Path, state: State, clip: State, updates: State, alpha: float | None
) -> Literal["merged", "unmerged", "without update"]:
    """Whether the update is in the weights: its share in their distance from CLIP's says so."""
    size = sum(float(update.square().sum()) for update in updates.values())
    if not size:
        return "without update" if updates else "merged"
    moved = {name: state[name].double() - clip[name].double() for name in updates}
    share = sum(float((moved[name] * update).sum()) for name, update in updates.items()) / size
    applied = round(share)
    if abs(share - applied) > CLEAR or applied not in (0, 1):
        raise ValueError(
            f"lora_alpha: {alpha}, and {path} has the update in it {share:.2f} times; allowed: an "
            f"alpha with which that is 0 or 1"
        )
    plain = {name: state[name].double() - applied * update for name, update in updates.items()}
    if far := sorted(name for name, w in plain.items() if not distance(w, clip[name]) <= DRIFT):
        raise ValueError(f"{path}: {far} are neither CLIP's nor CLIP's with the update")
    return "merged" if applied else "unmerged"
