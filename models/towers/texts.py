"""Text towers of open_clip's own: CLIP's, causal or not, and CoCa's."""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn
from torch.nn.functional import pad

from models.towers.blocks import Blocks, part_names
from models.towers.interface import Maps, TextTower


class ClipText(TextTower):
    """open_clip's text transformer, in a CLIP or beside one.

    Where it is causal and read at its end token, only as many positions are computed as the longest
    text has: what comes behind changes nothing. Any other reads all positions, padding too.
    """

    def __init__(self, text: Any, path: str) -> None:
        """text: what holds the modules. path: its name in the model, "" for the model itself."""
        self.text, self.blocks = text, Blocks()
        self.width = text.token_embedding.embedding_dim
        self.context_length, self.depth = text.context_length, len(text.transformer.resblocks)
        self.causal = text.attn_mask is not None
        self.pool: str = getattr(text, "text_pool_type", None) or text.pool_type
        self.maps = Maps(f"{path}transformer.resblocks", part_names())
        self.trims = self.causal and self.pool in ("argmax", "eos")
        self._end_id: int = getattr(text, "text_eos_id", getattr(text, "eos_id", -1))

    @staticmethod
    def fits(text: Any) -> bool:
        """Whether a text tower is one of these."""
        pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
        return (
            pool in ("first", "last", "argmax", "eos")
            and hasattr(text, "token_embedding")
            and getattr(text, "cls_emb", None) is None
            and not getattr(text, "use_pad_mask", False)
            and all(type(b) is ResidualAttentionBlock for b in text.transformer.resblocks)
        )

    @property
    def plain(self) -> bool:
        return self.trims and self.pool == "argmax"

    def ends(self, ids: Tensor, last: Tensor) -> Tensor:
        if self.pool == "eos":
            return ids.eq(self._end_id).int().argmax(dim=-1)
        return ids.argmax(dim=-1) if self.pool == "argmax" else last  # of all ids the highest

    def from_ids(self, ids: Tensor) -> Tensor:
        end = self.ends(ids, torch.full_like(ids[:, 0], ids.shape[1] - 1))
        if self.trims:
            ids = ids[:, : int(end.max()) + 1]
        return self._read(self.embedding(ids), end)

    def embedding(self, ids: Tensor) -> Tensor:
        return self.text.token_embedding(ids)

    def from_embeddings(self, embeds: Tensor, end: Tensor, pad_id: int) -> Tensor:
        if not self.trims:
            embeds = _padded(self, embeds, end, pad_id)
        return self._read(embeds, end)

    def _read(self, embeds: Tensor, end: Tensor) -> Tensor:
        text = self.text
        x = embeds + text.positional_embedding[: embeds.shape[1]].to(embeds.dtype)
        x = text.ln_final(self.blocks.through(text.transformer, x, causal=self.causal))
        places = {"first": torch.zeros_like(end), "last": torch.full_like(end, x.shape[1] - 1)}
        x = x[torch.arange(len(x), device=x.device), places.get(self.pool, end)]
        return _projected(text, x)

    def set_recompute(self, on: bool) -> None:
        self.blocks.recompute = on

    def set_compiled(self, on: bool) -> None:
        self.blocks.set_compiled(on)


class CocaText(TextTower):
    """CoCa's: a class token behind the padding is read, and padding is hidden from it.

    What is hidden follows from where each text ends, by open_clip's own mask.
    """

    hides_padding = True

    def __init__(self, text: Any, path: str) -> None:
        """text: what holds the modules. path: its name in the model."""
        self.text, self.blocks = text, Blocks()
        self.width = text.token_embedding.embedding_dim
        self.context_length, self.depth = text.context_length, len(text.transformer.resblocks)
        self.maps = Maps(f"{path}transformer.resblocks", part_names())

    @staticmethod
    def fits(text: Any) -> bool:
        """Whether a text tower is one of these."""
        return (
            isinstance(text, TextTransformer)
            and text.cls_emb is not None
            and all(type(b) is ResidualAttentionBlock for b in text.transformer.resblocks)
        )

    def from_ids(self, ids: Tensor) -> Tensor:
        return self._read(self.embedding(ids), ids)

    def embedding(self, ids: Tensor) -> Tensor:
        return self.text.token_embedding(ids)

    def from_embeddings(self, embeds: Tensor, end: Tensor, pad_id: int) -> Tensor:
        embeds, padding = _padded(self, embeds, end, pad_id), self.text.pad_id
        behind = torch.arange(self.context_length, device=end.device) > end.unsqueeze(1)
        return self._read(embeds, torch.where(behind, padding, padding + 1))

    def _read(self, embeds: Tensor, ids: Tensor) -> Tensor:
        """(B, L, W) to (B, D); of the (B, L) ids it only matters which are padding."""
        text, length = self.text, embeds.shape[1] + 1
        x = torch.cat([embeds, text.cls_emb.to(embeds.dtype).expand(len(embeds), 1, -1)], dim=1)
        x = x + text.positional_embedding[:length].to(x.dtype)
        mask = text._build_additive_mask(ids, length, x.dtype).unflatten(0, (len(x), -1))
        if text.attn_mask is not None:
            mask = mask + text.attn_mask[:length, :length].to(mask.dtype)
        x = self.blocks.through(text.transformer, x, causal=False, mask=mask)
        return _projected(text, text.ln_final(x[:, -1]))

    def set_recompute(self, on: bool) -> None:
        self.blocks.recompute = on

    def set_compiled(self, on: bool) -> None:
        self.blocks.set_compiled(on)


def _padded(tower: TextTower, embeds: Tensor, end: Tensor, pad_id: int) -> Tensor:
    """All positions of the tower, with the padding's embedding behind each end."""
    embeds = pad(embeds, (0, 0, 0, tower.context_length - embeds.shape[1]))
    behind = torch.arange(tower.context_length, device=end.device) > end.unsqueeze(1)
    padding = tower.embedding(torch.tensor(pad_id, device=end.device)).to(embeds.dtype)
    return torch.where(behind.unsqueeze(-1), padding, embeds)


def _projected(text: Any, x: Tensor) -> Tensor:
    """(B, W) to (B, D) by the tower's own projection, where it has one."""
    projection = text.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
