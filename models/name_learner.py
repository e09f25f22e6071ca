"""Class names as learned word embeddings in front of a frozen text tower."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.clip import Clip
from models.prompts.interface import Ids, Prompts, fsnl_template
from models.prompts.registry import prompt_tokenizer


class NameLearner(nn.Module):
    """Some embeddings for every class name; they are the only parameters.

    C names, L tokens of a prompt, W width of the text tower, D of the joint space. Initialised with
    CLIP's own embeddings of the names' tokens, so untrained it is zero-shot CLIP with the same
    prompt. CLIP's token table is not part of it. Source: FSNL (LAION-Beyond), default setting.

    embeddings: by place of a name, (L_c, W) that it starts with instead, as many as one likes.
    ValueError if they are none, or do not fit into a prompt.
    """

    def __init__(
        self,
        clip: Clip,
        names: Sequence[str],
        hint: str,
        embeddings: Mapping[int, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._clip = (clip,)  # in a tuple: a frozen tower is not this module's to save or train
        self.tokenizer = prompt_tokenizer(clip)
        device, embeddings, template = clip.mean.device, embeddings or {}, fsnl_template(hint)
        self.hands, ids = self.tokenizer.named(template, names)
        """The hand prompt around each name."""
        start = [
            embeddings[place].to(device)
            if place in embeddings
            else clip.token_embedding(torch.tensor(of_name).to(device))
            for place, of_name in enumerate(ids)
        ]
        self.names: list[Ids] = [
            self._places(*name) for name in zip(names, ids, map(len, start), strict=True)
        ]
        lengths = torch.tensor([len(ids) for ids in self.names])
        self._starts = (lengths.cumsum(0) - lengths).to(device)
        self.table = nn.Parameter(torch.cat(start).detach().clone())
        """The names' embeddings one after the other, (ΣL_c, W)."""
        self.prompts = self.tokenizer.fill(self.hands, self.names)
        """The hand prompt with every name."""

    def _places(self, name: str, ids: Ids, length: int) -> Ids:
        """Ids that hold the places of a name's embeddings, whatever they are."""
        if not 1 <= length <= self.tokenizer.room:
            allowed = f"allowed 1 to {self.tokenizer.room}"
            raise ValueError(f"class name {name!r} has {length} embeddings; {allowed}")
        return ids if len(ids) == length else ids[:1] * length

    def class_features(self) -> Tensor:
        """(C, D) unit-norm text features of the hand prompt with every name."""
        return self.features(self.prompts, torch.arange(len(self.names)))

    def features(self, prompts: Prompts, labels: Tensor) -> Tensor:
        """(B, D) unit-norm features of prompts; labels: (B,) int64, whose name each one holds."""
        return self.stacked_features(self.table[None], prompts, labels)[0]

    def stacked_features(self, tables: Tensor, prompts: Prompts, labels: Tensor) -> Tensor:
        """`features` with k tables (k, ΣL_c, W) in place of its own, all at once: (k, B, D)."""
        (clip,) = self._clip
        device, (k, _, W) = tables.device, tables.shape
        frozen = clip.token_embedding(prompts.ids.to(device))
        at = prompts.name_token.to(device)
        learned = tables[:, self._starts[labels.to(device), None] + at.clamp(min=0)]
        embeds = torch.where((at >= 0).unsqueeze(-1), learned, frozen)
        eot = prompts.eot.to(device).repeat(k)
        texts = clip.encode_embeddings(embeds.view(-1, at.shape[1], W), eot)
        return normalize(texts, dim=-1).view(k, len(at), -1)

    def embeddings(self) -> list[Tensor]:
        """(L_c, W) per name, views of the table."""
        return list(self.table.split([len(ids) for ids in self.names]))
