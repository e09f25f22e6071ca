"""LoRA on CLIP's towers, through peft."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.clip import Clip
from models.moment_adapter import BelowOne
from models.precision import Precision, autocast
from models.towers.interface import Maps
from models.towers.interface import Part as Part

Tower = Literal["image", "text"]
IMAGES_PER_PASS = 128


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Where a low-rank update is learned, and its size."""

    rank: PositiveInt
    """r: A is (r, inputs) and B (outputs, r); queries, keys and values have one of each."""
    alpha: PositiveFloat
    """Scale of the update, which is alpha / rank · BA."""
    dropout: BelowOne
    """Dropout of the update's inputs, while it is learned."""
    towers: tuple[Tower, ...]
    """Towers that have an update, in every block."""
    parts: tuple[Part, ...]
    """Linear maps of a block that have an update."""


class SplitAttention(nn.Module):
    """An nn.MultiheadAttention's weights as one linear map each for q, k, v and the output.

    peft's own wrapper of nn.MultiheadAttention has one A for q, k and v together, takes the output
    in always, and drops nothing out; of a linear map it wraps what is asked for, with dropout.
    """

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads = whole.num_heads
        weights, biases = whole.in_proj_weight.chunk(3), whole.in_proj_bias.chunk(3)
        self.q, self.k, self.v = map(_linear, weights, biases)
        self.out_proj = _linear(whole.out_proj.weight, whole.out_proj.bias)

    def in_proj(self, x: Tensor) -> Tensor:
        """(B, L, W) to queries, keys and values side by side, (B, L, 3 W)."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


class SplitMaps(nn.Module):
    """A linear map to queries, keys and values at once, as three that share its weights."""

    def __init__(self, whole: nn.Linear, biases: Sequence[Tensor | None]) -> None:
        """biases: of queries, keys and values."""
        super().__init__()
        self.q, self.k, self.v = map(_linear, whole.weight.chunk(3), biases)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, W) to queries, keys and values side by side, (B, L, 3 W)."""
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer that shares both."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _split(block: Any) -> None:
    """Takes apart what holds several of a block's linear maps."""
    attend = getattr(block, "attn", None)
    if isinstance(attend, nn.MultiheadAttention):
        block.attn = SplitAttention(attend)
    elif isinstance(getattr(attend, "qkv", None), nn.Linear):
        block.attn.qkv = SplitMaps(block.attn.qkv, _biases(block.attn))
        block.attn.q_bias = None  # of EVA: without it the map's own biases are all


def _biases(attend: Any) -> Sequence[Tensor | None]:
    """Of a map to queries, keys and values: EVA has those of two beside it, and none of keys."""
    if getattr(attend, "q_bias", None) is not None:
        return attend.q_bias, None, attend.v_bias
    return (None, None, None) if attend.qkv.bias is None else attend.qkv.bias.chunk(3)


def _merge(block: Any, updated: Any, maps: Maps) -> None:
    """Gives a block the weights of an updated one, which has been split."""
    attend = getattr(updated, "attn", None)
    if isinstance(attend, SplitAttention):
        block.attn.in_proj_weight = _joined(attend)
    elif isinstance(fused := getattr(attend, "qkv", None), SplitMaps):
        block.attn.qkv.weight = _joined(fused)
    own = dict(block.named_modules())
    for name in (name for names in maps.parts.values() for name in names if name in own):
        own[name].weight = _weight(updated.get_submodule(name))


def _joined(parts: Any) -> nn.Parameter:
    return nn.Parameter(torch.cat([_weight(x) for x in (parts.q, parts.k, parts.v)]), False)


def _maps(clip: Clip, tower: Tower) -> Maps:
    """ValueError if the tower has no maps that take an update."""
    maps = (clip.image if tower == "image" else clip.text).maps
    if maps is None:
        raise ValueError(
            f"towers: the {tower} tower of {clip.backbone!r} has no linear maps that take an update"
        )
    return maps


def require_rank(updates: Mapping[str, Tensor], rank: int) -> None:
    """ValueError if saved updates are of another rank, before anything of it is allocated."""
    ranks = {len(tensor) for name, tensor in updates.items() if name.endswith(".lora_A")}
    if rank not in ranks:
        raise ValueError(f"rank: {rank}; the saved updates are of rank {sorted(ranks)}")


class Lora:
    """A CLIP with LoRA: `clip` is used as any other, its frozen weights are those of the given one.

    The update starts at 0 (B is 0; A is drawn from the seed). `merged` predicts by it; what is
    saved is the update alone. ValueError if a tower has no maps that take one. Source: LoRA (Hu et
    al., 2022), section 4.1.
    """

    def __init__(self, clip: Clip, config: LoraConfig, seed: int) -> None:
        import peft  # slow to import, and most methods never need it

        self.frozen, self.towers = clip, config.towers
        self.clip = _sharing(clip)
        targets = []
        for maps in (_maps(clip, tower) for tower in config.towers):
            for block in self._blocks(self.clip, maps):
                _split(block)
            names = [re.escape(name) for part in config.parts for name in maps.parts[part]]
            targets.append(rf"{re.escape(maps.blocks)}\.\d+\.(?:{'|'.join(names)})")
        wrapped = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules="|".join(targets),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(wrapped, self.clip.model)
        self.train(False)

    @staticmethod
    def _blocks(clip: Clip, maps: Maps) -> Any:
        return clip.model.get_submodule(maps.blocks)

    def train(self, on: bool) -> None:
        """Whether dropout is drawn (from torch's own generator); all else is as in evaluation."""
        for module in self.clip.modules():
            if isinstance(module, nn.Dropout):
                module.train(on)

    def parameters(self) -> dict[str, nn.Parameter]:
        """A and B of all wrapped maps: "visual.transformer.resblocks.0.attn.q.lora_A" and so on."""
        return {
            name.replace(".default.weight", ""): parameter
            for name, parameter in self.clip.model.named_parameters()
            if ".lora_" in name
        }

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Sets every A and B, all of which `tensors` holds in their shapes."""
        for name, parameter in self.parameters().items():
            parameter.copy_(tensors[name])

    @torch.no_grad()
    def merged(self) -> Clip:
        """A CLIP with the updates added to its weights: the same answers, at a plain CLIP's cost.

        Weights without an update are those of the given CLIP.
        """
        clip = _sharing(self.frozen)
        for maps in (_maps(clip, tower) for tower in self.towers):
            blocks = self._blocks(clip, maps), self._blocks(self.clip, maps)
            for block, updated in zip(*blocks, strict=True):
                _merge(block, updated, maps)
        return clip


def _sharing(clip: Clip) -> Clip:
    """A copy of a CLIP whose modules can be replaced, with the same weights in it."""
    shared = [*clip.parameters(), *clip.buffers(), clip.tokenizer]
    return copy.deepcopy(clip, {id(part): part for part in shared})


def _weight(layer: Any) -> Tensor:
    """Of a linear map or of what peft has made of one: with its update."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    weight = layer.base_layer.weight + layer.get_delta_weight("default")
    return nn.Parameter(weight, requires_grad=False)


@torch.no_grad()
def picture_tokens(clip: Clip, images: Tensor, precision: Precision) -> Tensor:
    """Tokens of any number of pictures, as features are stored, in bounded memory.

    images: (N, 3, R, R) uint8, anywhere. Returns (N, 1 + P, D) float16, where CLIP is.
    """
    tokens, device = [], clip.mean.device
    for part in images.split(IMAGES_PER_PASS):
        with autocast(device, precision):
            tokens.append(clip.encode_tokens(clip.normalise(part.to(device))).half())
    return torch.cat(tokens)
