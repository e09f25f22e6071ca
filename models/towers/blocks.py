"""Blocks of open_clip's own transformers, one after the other."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models import clip
from models.towers.interface import Part

_PARTS: dict[Part, str] = {
    "q": "attn.q",
    "k": "attn.k",
    "v": "attn.v",
    "out": "attn.out_proj",
    "fc": "mlp.c_fc",
    "proj": "mlp.c_proj",
}


def part_names() -> Mapping[Part, tuple[str, ...]]:
    """The linear maps of an open_clip block whose attention is a `models.lora.SplitAttention`."""
    return {part: (name,) for part, name in _PARTS.items()}


class Blocks:
    """How the blocks of a tower are computed."""

    def __init__(self) -> None:
        self.recompute = False
        self._block: Callable[..., Tensor] | None = None

    def set_compiled(self, on: bool) -> None:
        self._block = torch.compile(clip.residual_block) if on else None

    def through(
        self, transformer: Any, x: Tensor, causal: bool, mask: Tensor | None = None
    ) -> Tensor:
        """(B, L, W) through all blocks of an open_clip transformer; mask: of `attention`."""
        one = self._block or clip.residual_block
        for block in transformer.resblocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(one, block, x, causal, mask, use_reentrant=False)
            else:
                x = one(block, x, causal, mask)
        return x
