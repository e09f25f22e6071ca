"""LoRA on CLIP's towers, through peft."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jsonargparse.typing import PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.clip import Clip
from models.moment_adapter import BelowOne
from models.precision import Precision, autocast

Tower = Literal["image", "text"]
Part = Literal["q", "k", "v", "out", "fc", "proj"]
"""Linear maps of a block: queries, keys, values, the attention's output, both of the MLP."""
TOWERS: dict[Tower, str] = {"image": "visual.transformer", "text": "transformer"}
PARTS: dict[Part, str] = {
    "q": "attn.q",
    "k": "attn.k",
    "v": "attn.v",
    "out": "attn.out_proj",
    "fc": "mlp.c_fc",
    "proj": "mlp.c_proj",
}
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


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer that shares both."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def require_rank(updates: Mapping[str, Tensor], rank: int) -> None:
    """ValueError if saved updates are of another rank, before anything of it is allocated."""
    ranks = {len(tensor) for name, tensor in updates.items() if name.endswith(".lora_A")}
    if rank not in ranks:
        raise ValueError(f"rank: {rank}; the saved updates are of rank {sorted(ranks)}")


class Lora:
    """A CLIP with LoRA: `clip` is used as any other, its frozen weights are those of the given one.

    The update starts at 0 (B is 0; A is drawn from the seed). `merged` predicts by it; what is
    saved is the update alone. Source: LoRA (Hu et al., 2022), section 4.1.
    """

    def __init__(self, clip: Clip, config: LoraConfig, seed: int) -> None:
        import peft  # slow to import, and most methods never need it

        self.frozen, self.towers = clip, config.towers
        self.clip = _sharing(clip)
        for tower in config.towers:
            for block in self.clip.model.get_submodule(TOWERS[tower]).resblocks:
                block.attn = SplitAttention(block.attn)
        towers = "|".join(re.escape(TOWERS[tower]) for tower in config.towers)
        parts = "|".join(re.escape(PARTS[part]) for part in config.parts)
        wrapped = peft.LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=rf"(?:{towers})\.resblocks\.\d+\.(?:{parts})",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(wrapped, self.clip.model)
        self.train(False)

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
        for tower in self.towers:
            towers = (model.get_submodule(TOWERS[tower]) for model in (clip.model, self.clip.model))
            for block, updated in zip(*(t.resblocks for t in towers), strict=True):
                attn, mlp = updated.attn, updated.mlp
                of_inputs = torch.cat([_weight(part) for part in (attn.q, attn.k, attn.v)])
                block.attn.in_proj_weight = nn.Parameter(of_inputs, requires_grad=False)
                block.attn.out_proj.weight = _weight(attn.out_proj)
                block.mlp.c_fc.weight, block.mlp.c_proj.weight = map(
                    _weight, (mlp.c_fc, mlp.c_proj)
                )
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
