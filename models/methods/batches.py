"""Order of training rows: independent endless streams, so that steps are stated, not epochs."""

from collections.abc import Iterator

import torch
from torch import Tensor


def endless_batches(rows: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Row numbers (min(batch, rows),) int64, permutation after permutation, for ever.

    No row comes twice before every row came once; a batch may span two permutations.
    Raises ValueError if there are no rows.
    """
    if rows < 1:
        raise ValueError("no training images: train needs at least 1")
    size, waiting = min(batch, rows), torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(rows, generator=generator)])
        yield waiting[:size]
        waiting = waiting[size:]
