"""Text towers of transformers, read as open_clip reads them: BERT, RoBERTa, T5, M2M-100."""

from inspect import signature
from typing import Any

import torch
from open_clip.hf_model import HFTextEncoder
from torch import Tensor, nn

from models.towers.interface import Maps, Part, TextTower


class HuggingFaceText(TextTower):
    """A text tower of transformers behind open_clip's pool and projection.

    Padding is hidden from all other tokens and not pooled, so only as many positions are computed
    as the longest text has.
    """

    trims = True
    hides_padding = True

    def __init__(self, text: Any, path: str) -> None:
        """text: open_clip's. path: its name in the model."""
        self.text = text
        self.context_length = text.context_length
        self.width = text.transformer.get_input_embeddings().embedding_dim
        self.depth = text.config.num_hidden_layers
        self.reads_embeddings = "inputs_embeds" in signature(text.transformer.forward).parameters
        self.maps = _maps(text.transformer, f"{path}transformer.")

    @staticmethod
    def fits(text: nn.Module) -> bool:
        """Whether a text tower is one of these."""
        return isinstance(text, HFTextEncoder)

    def ends(self, ids: Tensor, last: Tensor) -> Tensor:
        return ids.ne(self.text.config.pad_token_id).sum(dim=-1) - 1

    def from_ids(self, ids: Tensor) -> Tensor:
        out = self.text(ids)
        return out[0] if isinstance(out, tuple) else out

    def embedding(self, ids: Tensor) -> Tensor:
        return self.text.transformer.get_input_embeddings()(ids)

    def from_embeddings(self, embeds: Tensor, end: Tensor, pad_id: int) -> Tensor:
        if not self.reads_embeddings:
            raise ValueError("this text tower is read from ids alone")
        text = self.text
        mask = (torch.arange(embeds.shape[1], device=end.device) <= end.unsqueeze(1)).long()
        out = text.transformer(inputs_embeds=embeds, attention_mask=mask)
        return text.proj(text.pooler(out, mask))


_BERTS: dict[Part, tuple[str, ...]] = {
    "q": ("attention.self.query",),
    "k": ("attention.self.key",),
    "v": ("attention.self.value",),
    "out": ("attention.output.dense",),
    "fc": ("intermediate.dense",),
    "proj": ("output.dense",),
}
_T5S: dict[Part, tuple[str, ...]] = {
    "q": ("layer.0.SelfAttention.q",),
    "k": ("layer.0.SelfAttention.k",),
    "v": ("layer.0.SelfAttention.v",),
    "out": ("layer.0.SelfAttention.o",),
    "fc": ("layer.1.DenseReluDense.wi",),
    "proj": ("layer.1.DenseReluDense.wo",),
}
_GATED: tuple[str, ...] = ("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1")
_M2MS: dict[Part, tuple[str, ...]] = {
    "q": ("self_attn.q_proj",),
    "k": ("self_attn.k_proj",),
    "v": ("self_attn.v_proj",),
    "out": ("self_attn.out_proj",),
    "fc": ("fc1",),
    "proj": ("fc2",),
}
_KINDS: tuple[tuple[str, dict[Part, tuple[str, ...]]], ...] = (
    ("encoder.layer", _BERTS),
    ("block", _T5S),
    ("block", _T5S | {"fc": _GATED}),
    ("layers", _M2MS),
)
"""Where transformers' towers have their blocks, and of each part the maps in a block."""


def _maps(transformer: nn.Module, path: str) -> Maps | None:
    """The linear maps of a tower, by the modules that it has; None if they are not those."""
    modules = dict(transformer.named_modules())
    for blocks, parts in _KINDS:
        names = [f"{blocks}.0.{name}" for maps in parts.values() for name in maps]
        if all(isinstance(modules.get(name), nn.Linear) for name in names):
            return Maps(path + blocks, parts)
    return None
