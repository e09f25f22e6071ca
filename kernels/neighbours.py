"""Nearest neighbours by cosine, in blocks: never a whole matrix of similarities.

Exact up to EXACT_KEYS keys, by inverted lists beyond them. Q queries, N keys, D channels, k
neighbours. All rows have unit norm.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

QUERIES_AT_ONCE, KEYS_AT_ONCE = 1024, 16384
"""Block of similarities that is in memory: 64 MiB in float32, whatever Q and N are."""
EXACT_KEYS = 50_000
"""Keys up to which a `NeighbourIndex` is exact: half a minute for all of them on one core."""
LISTS = 4
"""Lists of N keys, times sqrt(N)."""
PROBES = 32
"""Lists that are looked into for a query."""
ROUNDS, SAMPLE = 10, 32
"""Rounds of k-means that make the lists, and keys that it sees for each list."""
LISTED_AT_ONCE = 8192
"""Queries that go through the lists together."""


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


class NeighbourIndex:
    """The keys nearest to queries that come in any number of turns.

    Up to EXACT_KEYS keys `nearest` answers. Beyond them keys lie in LISTS·sqrt(N) lists, each with
    those nearest to a centre, and a query is compared with the keys of the PROBES lists whose
    centres are nearest to it: (LISTS + PROBES/LISTS)·sqrt(N) products in place of N. Some
    neighbours are so missed, and farther ones stand in their place; docs/discovery.md has the
    measured share.
    Nothing is drawn, and products are of float64, so the same keys give the same lists and
    neighbours in any number of threads. Queries are independent of one another, so any part of them
    can be given to another worker. Memory beyond the keys: 8 bytes for each, the centres, and a few
    blocks of 64 MiB.
    Source: inverted files (Jégou et al., 2011), with whole vectors in them.
    """

    def __init__(self, keys: Tensor) -> None:
        """keys: (N, D), float."""
        self.keys = keys
        self.centres = _centres(keys) if len(keys) > EXACT_KEYS else None
        if self.centres is not None:
            of_key = _nearest_centre(keys, self.centres)
            self.places = of_key.argsort(stable=True)
            sizes = of_key.bincount(minlength=len(self.centres))
            self.bounds: list[int] = [0, *sizes.cumsum(0).tolist()]

    def nearest(
        self, queries: Tensor, k: int, itself: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `nearest_reference`, of these keys; the cosines are exact in any case."""
        if self.centres is None:
            return nearest(queries, self.keys, k, itself)
        _require(len(self.keys), k, itself)
        if itself is None:
            itself = torch.full((len(queries),), -1, device=queries.device)
        parts = [
            self._listed(part, self.centres, k, of_part)
            for part, of_part in zip(
                queries.split(LISTED_AT_ONCE), itself.split(LISTED_AT_ONCE), strict=True
            )
        ]
        values, places = (torch.cat(column) for column in zip(*parts, strict=True))
        # whose lists hold too few keys
        few = (values[:, -1] == -torch.inf).nonzero().squeeze(1)
        if len(few):
            values[few], places[few] = nearest(queries[few], self.keys, k, itself[few])
        return values, places

    def _listed(
        self, queries: Tensor, centres: Tensor, k: int, itself: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The best k of all lists of each query; -inf where there are not as many."""
        exact = queries.double()
        probes = (exact @ centres.T).topk(min(PROBES, len(centres)), dim=1).indices
        best = exact.new_full((probes.numel(), k), -torch.inf)
        at = torch.zeros(probes.numel(), k, dtype=torch.int64, device=queries.device)
        number, slots = probes.flatten().sort(stable=True)
        askers = number.bincount(minlength=len(centres)).tolist()
        for which, of_list in enumerate(slots.split(askers)):
            keys = self.places[self.bounds[which] : self.bounds[which + 1]]
            if not len(of_list) or not len(keys):
                continue
            rows = of_list // probes.shape[1]
            cosines = exact[rows] @ self.keys[keys].double().T
            cosines.masked_fill_(itself[rows, None] == keys, -torch.inf)
            most = min(k, len(keys))
            best[of_list, :most], columns = cosines.topk(most, dim=1)
            at[of_list, :most] = keys[columns]
        best, at = best.view(len(queries), -1), at.view(len(queries), -1)
        values, chosen = best.topk(k, dim=1)
        return values.to(queries.dtype), at.gather(1, chosen)


def _centres(keys: Tensor) -> Tensor:
    """(LISTS·sqrt(N), D) float64 of unit norm: spherical k-means of some keys, in equal steps."""
    count = round(LISTS * len(keys) ** 0.5)
    sample = keys[_spread(len(keys), min(len(keys), SAMPLE * count), keys.device)].double()
    centres = sample[_spread(len(sample), count, keys.device)]
    for _ in range(ROUNDS):
        nearest_centre = _nearest_centre(sample, centres)
        # a centre without keys stays where it is
        sums = torch.zeros_like(centres).index_add_(0, nearest_centre, sample)
        sizes = nearest_centre.bincount(minlength=count)
        centres = torch.where(sizes[:, None] > 0, normalize(sums, dim=1), centres)
    return centres


def _spread(count: int, size: int, device: torch.device) -> Tensor:
    """(size,) int64: places in `count`, in equal steps."""
    return torch.arange(size, device=device) * count // size


def _nearest_centre(keys: Tensor, centres: Tensor) -> Tensor:
    """(N,) int64."""
    parts = [(part.double() @ centres.T).argmax(dim=1) for part in keys.split(LISTED_AT_ONCE)]
    return torch.cat(parts)


def _require(keys: int, k: int, itself: Tensor | None) -> None:
    others = keys - (itself is not None)
    if not 1 <= k <= others:
        raise ValueError(f"neighbours: {k}; allowed: 1 to {others}, the other images there are")
