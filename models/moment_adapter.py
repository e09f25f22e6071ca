"""The trainable part of ImagineFSL: a few transformer blocks on CLIP's tokens, read by moments."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt, restricted_number_type
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm
from torch.utils.checkpoint import checkpoint

from kernels.attention import attention
from models.weights import read_safetensors

BelowOne = restricted_number_type(
    "BelowOne", float, [(">=", 0), ("<", 1)], docstring="float restricted to be ≥0 and <1"
)
"""A part of something, such as a probability of dropping, that is not all of it."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Sizes of the adapter; the defaults are those released for ViT-B/16."""

    depth: PositiveInt = 4
    """Transformer blocks."""
    inner: PositiveInt = 384
    """Width of queries, keys and values, over all heads."""
    heads: PositiveInt = 6
    """Attention heads; must divide `inner`."""
    mlp_ratio: PositiveFloat = 2.0
    """Hidden width of the MLP, relative to the token width."""
    drop_path: BelowOne = 0.1  # type: ignore[valid-type]
    """Probability of leaving out a residual branch, per crop and branch, in pretraining."""


class MomentAdapter(nn.Module):
    """Pre-LN transformer blocks without layer scale and without a final norm.

    Its output goes through `kernels.moments.moments`. Parameter names are those of the original's
    checkpoints: blocks.N.{norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2}.
    Source: ImagineFSL (Yang et al., 2025), its released models.
    """

    def __init__(self, dim: int, config: AdapterConfig) -> None:
        super().__init__()
        if config.inner % config.heads:
            raise ValueError(
                f"adapter.heads: {config.heads}; allowed are divisors of inner ({config.inner})"
            )
        self.dim, self.config = dim, config
        self.recompute = False
        """Whether the backward pass computes the blocks' activations again, to save memory."""
        self.blocks = nn.ModuleList(Block(dim, config) for _ in range(config.depth))

    def forward(self, tokens: Tensor, drop_path: Tensor | None = None) -> Tensor:
        """(B, 1 + N, D) CLIP's tokens to as many tokens of the same width.

        drop_path: (depth, 2, B) factors of the attention and MLP branches, from `draw_drop_path`;
        None keeps all, as outside pretraining.
        """
        for number, block in enumerate(self.blocks):
            block_drop_path = None if drop_path is None else drop_path[number]
            if self.recompute and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, block_drop_path, use_reentrant=False)
            else:
                tokens = block(tokens, block_drop_path)
        return tokens


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, config: AdapterConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, config.inner, config.heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))

    def forward(self, x: Tensor, drop_path: Tensor | None) -> Tensor:
        attended, mixed = (None, None) if drop_path is None else drop_path.view(2, -1, 1, 1)
        x = x + _scaled(self.attn(self.norm1(x)), attended)
        return x + _scaled(self.mlp(self.norm2(x)), mixed)


class Attention(nn.Module):
    """Multi-head self-attention whose inner width differs from the token width."""

    def __init__(self, dim: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * inner)
        self.proj = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


def stacked_adapt(parameters: Mapping[str, Tensor], tokens: Tensor, heads: int) -> Tensor:
    """What k adapters of one size make of the same tokens, each as alone: (k, B, 1 + N, D).

    parameters: (k, …) each, by their names inside `MomentAdapter`; tokens: (B, 1 + N, D); heads: of
    the attention. Linear maps are one batched product over the members, and attention takes members
    and images as one batch, so that it is the fused one: under torch.func.vmap it is none.
    """
    x = tokens.unsqueeze(0)
    for number in range(len({name.split(".")[1] for name in parameters})):
        block = f"blocks.{number}."
        qkv = _linear(parameters, block + "attn.qkv", _norm(parameters, block + "norm1", x))
        q, k, v = qkv.flatten(0, 1).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        attended = attention(q, k, v).transpose(1, 2).flatten(2).unflatten(0, qkv.shape[:2])
        x = x + _linear(parameters, block + "attn.proj", attended)
        hidden = gelu(_linear(parameters, block + "mlp.fc1", _norm(parameters, block + "norm2", x)))
        x = x + _linear(parameters, block + "mlp.fc2", hidden)
    return x


def _norm(parameters: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """k layer norms of x, (k, B, L, D) or (1, B, L, D): (k, B, L, D)."""
    weight, bias = (parameters[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
    return torch.addcmul(bias, layer_norm(x, x.shape[-1:]), weight)


def _linear(parameters: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """k linear maps: (k, B, L, inputs) to (k, B, L, outputs)."""
    weight, bias = (parameters[f"{name}.{part}"] for part in ("weight", "bias"))
    return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.mT).unflatten(1, x.shape[1:3])


def draw_drop_path(crops: int, config: AdapterConfig, generator: torch.Generator) -> Tensor:
    """Drop path as data: (depth, 2, crops) factors, 0 for a dropped branch, else 1 / (1 − rate).

    Drawn outside the model, so that a step repeated after a crash drops the same branches.
    Source: stochastic depth (Huang et al., 2016), one rate for all blocks.
    """
    keep = 1.0 - config.drop_path
    uniform = torch.rand(config.depth, 2, crops, generator=generator)
    return (uniform < keep).float() / keep


def identity_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an adapter of the same size that changes no token: its branches add nothing.

    state: of any adapter. Of every block the last maps of attention and MLP become zero, so such an
    adapter still learns: their gradients are not zero.
    """
    last = (".attn.proj.weight", ".attn.proj.bias", ".mlp.fc2.weight", ".mlp.fc2.bias")
    return {
        name: torch.zeros_like(tensor) if name.endswith(last) else tensor.clone()
        for name, tensor in state.items()
    }


@dataclass(frozen=True)
class Teacher:
    """A pretrained teacher as `load_teacher` reads it."""

    adapter: MomentAdapter
    """The adapter in evaluation mode, parameters trainable; drops nothing without `drop_path`."""
    adapter_state: dict[str, Tensor]
    """The adapter's weights by their names inside `MomentAdapter` ("blocks.0.norm1.weight", …)."""
    model: dict[str, Any]
    """model.json: backbone, weights_hash, dim, adapter (fields of AdapterConfig), heads."""


def require_fit(dim: int, config: AdapterConfig, state: Mapping[str, Tensor]) -> None:
    """ValueError if these are not all weights of such an adapter, by their names inside it.

    Nothing of the sizes' is allocated: they may have been edited.
    """
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if len(blocks) != config.depth:
        raise ValueError(f"adapter.depth: {config.depth}; allowed for this file: {len(blocks)}")
    try:
        with torch.device("meta"):
            expected = MomentAdapter(dim, config).state_dict()
    except (OverflowError, RuntimeError, TypeError) as error:  # past 64 bits
        raise ValueError(f"adapter: {config} is of no size that there is") from error
    wrong = [
        name
        for name in sorted(expected.keys() | state.keys())
        if name not in state or name not in expected or expected[name].shape != state[name].shape
    ]
    if wrong:
        raise ValueError(f"adapter: {wrong[:5]} are missing, unknown or of another shape")


def load_teacher(folder: Path) -> Teacher:
    """Reads a teacher artifact (`Artifact.local_dir()`): teacher.safetensors and model.json.

    Keys of the file: mask_token; adapter.blocks.N.{norm1, attn.qkv, attn.proj, norm2, mlp.fc1,
    mlp.fc2}.{weight, bias}; dino_head.*; ibot_head.*. Only the adapter's are used here, strictly:
    ValueError if one is missing, unknown or of another shape, or if a number is not finite.
    """
    model = json.loads((folder / "model.json").read_text())
    config = AdapterConfig(**model["adapter"])
    state = {
        name.removeprefix("adapter."): tensor
        for name, tensor in read_safetensors(folder / "teacher.safetensors").items()
        if name.startswith("adapter.")
    }
    try:
        require_fit(model["dim"], config, state)
    except ValueError as error:
        raise ValueError(f"teacher in {folder} does not fit its model.json: {error}") from error
    adapter = MomentAdapter(model["dim"], config)
    adapter.load_state_dict(state)
    return Teacher(adapter.eval(), state, model)


def _scaled(branch: Tensor, drop_path: Tensor | None) -> Tensor:
    return branch if drop_path is None else branch * drop_path.to(branch.dtype)
