"""What discovery gets: unlabelled images, images of known concepts, and candidate names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from models.clip import Clip
from models.methods.adapted import class_tokens


@dataclass(frozen=True, eq=False)
class Problem:
    """One dataset to be discovered. Of an unlabelled image no label is in here, nor a group.

    Known concepts are those with labelled images (IP classes); there may be none. V views, view 0
    clean; T tokens of D channels. Raises ValueError if known labels have no name, or a known name
    is no candidate.
    """

    dataset: str
    hint: str
    template: str
    clip: Clip
    tokens: Tensor
    """(V, N, T, D) float16, all training images, may be memory-mapped. It and all that follows lie
    in the CPU's memory; what is computed on many of them goes to the CLIP's device."""
    unlabelled: Tensor
    """(U,) int64: which of them are to be discovered."""
    labelled: Tensor
    """(L,) int64: which of them show a known concept."""
    labels: Tensor
    """(L,) int64 into known_names."""
    val: Tensor
    """(M, T, D) clean tokens of further images of known concepts, for choices."""
    val_labels: Tensor
    """(M,) int64 into known_names."""
    known_names: Sequence[str]
    candidates: Sequence[str]
    """Names that a concept may have, those of known concepts among them."""
    imagined: Mapping[str, Tensor] = field(default_factory=dict)
    """Candidate to the class tokens (n, D) of images that were imagined from its name."""

    def __post_init__(self) -> None:
        if missing := sorted(set(self.known_names) - set(self.candidates)):
            raise ValueError(f"candidates: {missing[0]!r} is missing; allowed: all known names")
        for labels in (self.labels, self.val_labels):
            if len(labels) and int(labels.max()) >= len(self.known_names):
                raise ValueError(f"label {int(labels.max())}, but {len(self.known_names)} names")

    @property
    def device(self) -> torch.device:
        """Where features are learned and compared."""
        return self.clip.mean.device

    @cached_property
    def pool(self) -> Tensor:
        """CLIP's features (U + L + M, D) of unit norm: unlabelled, labelled and val images."""
        rows = torch.cat([self.unlabelled, self.labelled])
        return torch.cat([self.features(rows), class_tokens(self.val)])

    def features(self, rows: Tensor) -> Tensor:
        """CLIP's features (n, D) of unit norm of these training images."""
        return class_tokens(self.tokens[0, rows, :1])

    def parts(self, pool_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values of the pool's images, cut into unlabelled, labelled and val ones."""
        sizes = [len(self.unlabelled), len(self.labelled), len(self.val)]
        unlabelled, labelled, val = pool_values.split(sizes)
        return unlabelled, labelled, val
