"""Context words as learned embeddings in front of class names, before a frozen text tower."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from models.clip import Clip
from models.prompts.interface import Context
from models.prompts.registry import prompt_tokenizer

TEMPLATE = "a photo of a {name}."
"""The context before the name is learned; the class token stands at the end."""


class ContextLearner(nn.Module):
    """Context vectors that all class names share; they are the only parameters.

    C names, M context vectors, as many as the tokenizer makes of "a photo of a" (CLIP's own: 4), L
    tokens of a prompt, W width of the text tower, D of the joint space. Initialised with CLIP's
    embeddings of those, so untrained it is zero-shot CLIP with that prompt. Raises ValueError for a
    name that leaves no room for the context. Source: CoOp (Zhou et al., 2022), unified context.
    """

    def __init__(self, clip: Clip, names: Sequence[str]) -> None:
        super().__init__()
        self._clip = (clip,)  # in a tuple: a frozen tower is not this module's to save or train
        tokenizer = prompt_tokenizer(clip)
        contexts, ids = tokenizer.named(TEMPLATE, names)
        before, self._start = tokenizer.before(TEMPLATE), len(tokenizer.start)
        room = tokenizer.room - len(before)
        for name, name_ids in zip(names, ids, strict=True):
            if len(name_ids) > room:
                raise ValueError(
                    f"class name {name!r} has {len(name_ids)} tokens; allowed 1 to {room}"
                )
        start = clip.token_embedding(torch.tensor(before).to(clip.mean.device))
        self.context = nn.Parameter(start.detach().clone())
        """The learned context, (M, W)."""
        shared = [Context((before, *context.pieces[1:])) for context in contexts]
        self.prompts = tokenizer.fill(shared, ids)

    def features(self, contexts: Tensor) -> Tensor:
        """(B, C, D) unit-norm text features of all names in B contexts (B, M, W), all at once."""
        (clip,) = self._clip
        (B, M, W), start = contexts.shape, self._start
        frozen = clip.token_embedding(self.prompts.ids.to(contexts.device))
        C, L, _ = frozen.shape
        parts = [frozen[:, :start], contexts[:, None], frozen[:, start + M :]]
        embeds = torch.cat([part.expand(B, C, -1, W) for part in parts], dim=2)
        eot = self.prompts.eot.to(contexts.device).repeat(B)
        texts = clip.encode_embeddings(embeds.reshape(B * C, L, W), eot)
        return normalize(texts, dim=-1).view(B, C, -1)

    def class_features(self) -> Tensor:
        """(C, D) unit-norm text features of all names in the learned context."""
        return self.features(self.context[None])[0]
