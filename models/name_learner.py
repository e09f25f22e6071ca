"""Class names as learned word embeddings in front of a frozen text tower."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.clip import Clip
from models.prompts import Ids, Prompts, PromptTokenizer, fsnl_template


class NameLearner(nn.Module):
    """One embedding per token of every class name; they are the only parameters.

    C names, L tokens of a prompt, W width of the text tower, D of the joint space. Initialised with
    CLIP's own embeddings of the names' tokens, so untrained it is zero-shot CLIP with the same
    prompt. CLIP's token table is not part of it. Source: FSNL (LAION-Beyond), default setting.
    """

    def __init__(self, clip: Clip, names: Sequence[str], hint: str) -> None:
        super().__init__()
        self._clip = (clip,)  # in a tuple: a frozen tower is not this module's to save or train
        self.tokenizer = PromptTokenizer(clip)
        self.names: list[Ids] = [self.tokenizer.name(name) for name in names]
        lengths = torch.tensor([len(ids) for ids in self.names])
        self._starts = (lengths.cumsum(0) - lengths).to(clip.mean.device)
        flat = torch.tensor([token for ids in self.names for token in ids])
        self.table = nn.Parameter(clip.token_embedding(flat.to(clip.mean.device)).detach().clone())
        """(ΣL_c, W): the names' embeddings one after the other."""
        self.hand = self.tokenizer.template(fsnl_template(hint))
        self._prompts = self.tokenizer.fill([self.hand] * len(names), self.names)

    def class_features(self) -> Tensor:
        """(C, D) unit-norm text features of the hand prompt with every name."""
        return self.features(self._prompts, torch.arange(len(self.names)))

    def features(self, prompts: Prompts, labels: Tensor) -> Tensor:
        """(B, D) unit-norm features of prompts; labels: (B,) int64, whose name each one holds."""
        (clip,) = self._clip
        device = self.table.device
        frozen = clip.token_embedding(prompts.ids.to(device))
        at = prompts.name_token.to(device)
        learned = self.table[self._starts[labels.to(device), None] + at.clamp(min=0)]
        embeds = torch.where((at >= 0).unsqueeze(-1), learned, frozen)
        return normalize(clip.encode_embeddings(embeds, prompts.eot.to(device)), dim=-1)

    def embeddings(self) -> list[Tensor]:
        """(L_c, W) per name, views of the table."""
        return list(self.table.split([len(ids) for ids in self.names]))

    @torch.no_grad()
    def set_embedding(self, number: int, embedding: Tensor) -> None:
        """Replaces one name's embedding; ValueError if its shape is not (L_c, W)."""
        own = self.embeddings()[number]
        if own.shape != embedding.shape:
            shapes = f"expected {tuple(own.shape)}, got {tuple(embedding.shape)}"
            raise ValueError(f"embedding of name {number}: {shapes}")
        own.copy_(embedding)
