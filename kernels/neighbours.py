"""Nearest neighbours by cosine, exact, in blocks: never a whole matrix of similarities.

Q queries, N keys, D channels, k neighbours. All rows have unit norm.
"""

import torch
from torch import Tensor

QUERIES_AT_ONCE, KEYS_AT_ONCE = 1024, 16384
"""Block of similarities that is in memory: 64 MiB in float32, whatever Q and N are."""


def nearest_reference(
    queries: Tensor, keys: Tensor, k: int, itself: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and places of the k keys nearest to each query, the nearest first.

    queries: (Q, D); keys: (N, D), same float dtype; itself: (Q,) int64, the key that is the query
    itself and does not count, -1 for none. Returns (Q, k) in that dtype and (Q, k) int64.
    Raises ValueError if there are not k other keys.
    """
    _require(len(keys), k, itself)
    cosines = queries @ keys.T
    if itself is not None:
        rows = (itself >= 0).nonzero().squeeze(1)
        cosines[rows, itself[rows]] = -torch.inf
    nearest_keys = cosines.topk(k, dim=1)
    return nearest_keys.values, nearest_keys.indices


def nearest(
    queries: Tensor, keys: Tensor, k: int, itself: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What `nearest_reference` returns, in memory that grows with Q·k alone.

    Every block of keys gives its k best, which are merged with the best so far. Of keys that are
    equally near any may come first.
    """
    _require(len(keys), k, itself)
    values = queries.new_empty(len(queries), k)
    places = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = slice(start, start + QUERIES_AT_ONCE)
        of_block = None if itself is None else itself[rows]
        values[rows], places[rows] = _nearest(queries[rows], keys, k, of_block)
    return values, places


def _nearest(queries: Tensor, keys: Tensor, k: int, itself: Tensor | None) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0)
    at = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        block = keys[start : start + KEYS_AT_ONCE]
        cosines = queries @ block.T
        if itself is not None:
            rows = ((itself >= start) & (itself < start + len(block))).nonzero().squeeze(1)
            cosines[rows, itself[rows] - start] = -torch.inf
        nearest_keys = cosines.topk(min(k, len(block)), dim=1)
        best = torch.cat([best, nearest_keys.values], dim=1)
        at = torch.cat([at, nearest_keys.indices + start], dim=1)
        if best.shape[1] > k:
            best, chosen = best.topk(k, dim=1)
            at = at.gather(1, chosen)
    return best, at


def _require(keys: int, k: int, itself: Tensor | None) -> None:
    others = keys - (itself is not None)
    if not 1 <= k <= others:
        raise ValueError(f"neighbours: {k}; allowed: 1 to {others}, the other images there are")
