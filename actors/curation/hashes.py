"""Which hashes of 64 bits are within so many bits of others: exact, without looking at all pairs.

Q queries, K keys: both (N,) uint64 and distinct. Equal ones are grouped first by who asks
(`numpy.unique`), for a thousand equal hashes would be a million pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

BITS = 64
WIDEST = 22
"""Bits of a band that its table is looked up by, at most: a table of 16 MiB."""
LOOKUPS_AT_ONCE = 2**20
PAIRS_AT_ONCE = 2**21
"""Numbers of places and pairs in memory at once, a few arrays of 8 and 16 MiB."""
LOOKUP, CANDIDATE = 14.0, 20.0
"""What looking into a table once, and looking at a pair found there, take beside a pair of a plain
comparison, which takes 1. Only how fast it is depends on them."""

Pairs = tuple[np.ndarray, np.ndarray]
"""Places of the queries and of the keys, (P,) int64 each."""


def near_pairs_reference(queries: np.ndarray, keys: np.ndarray, distance: int) -> Pairs:
    """All pairs that differ in at most `distance` bits, in the order of the queries."""
    query, key = np.nonzero(np.bitwise_count(queries[:, None] ^ keys) <= distance)
    return query, key


@dataclass(frozen=True)
class _Band:
    """Some bits of all keys, sorted."""

    bits: tuple[int, ...]
    """Which ones; of a wide band as many as a table is looked up by."""
    mask: np.uint64
    """They alone set."""
    radius: int
    """Bits in which near hashes may differ in the band, if they differ in more in all others."""
    flips: np.ndarray
    """(F,) int64: all values with up to `radius` bits."""
    starts: np.ndarray
    """(2 ** len(bits) + 1,) int32 or int64: where keys of a value begin in `places`."""
    places: np.ndarray
    """(K,) of the keys, by their value in the band."""
    keys: np.ndarray
    """(K,) uint64: the keys in that order, for what is looked at together lies together."""


class HashIndex:
    """The pairs of `near_pairs_reference` for growing queries, found by bands of bits.

    The 64 bits are dealt to m bands with radii r that add up to distance + 1 - m. Hashes that
    differ in more than r bits in each of them differ in more than `distance`, so of every near pair
    one band differs in at most r bits: a query looks up its band, and all values within r bits of
    it, in a table of the keys' bands, and what is there is compared. A pair is given by the first
    band that has it, so bands may be looked into apart (by other workers), and what they give is
    simply added. Bands and radii are those of the least cost for so many keys; where hashes crowd
    so much that a plain comparison is cheaper, it is done instead.
    Memory: 12 bytes a key and band, and arrays of a fixed size.
    Source: multi-index hashing (Norouzi et al., 2012).
    """

    def __init__(self, keys: np.ndarray, distance: int) -> None:
        self.keys, self.distance = keys, distance
        radii = _radii(len(keys), distance)
        self.bands = [_band(keys, i, len(radii), radius) for i, radius in enumerate(radii)]

    def pairs(self, queries: np.ndarray) -> Iterator[Pairs]:
        """All near pairs, a bounded number at once, each pair once, in no order."""
        lookups = sum(len(band.flips) for band in self.bands)
        step = max(1, LOOKUPS_AT_ONCE // max(lookups, 1))
        for start in range(0, len(queries), step):
            for query, key in self._pairs(queries[start : start + step]):
                yield query + start, key

    def _pairs(self, queries: np.ndarray) -> Iterator[Pairs]:
        buckets = [_buckets(band, queries) for band in self.bands]
        candidates = sum(int(sizes.sum()) for _, _, sizes in buckets)
        if not self.bands or candidates * CANDIDATE > len(queries) * len(self.keys):
            yield from self._plain_pairs(queries)
            return
        for number, (query, first, sizes) in enumerate(buckets):
            for part in _parts(sizes):
                at = ranges(first[part], sizes[part])
                asking = np.repeat(query[part], sizes[part])
                band = self.bands[number]
                differing = queries[asking] ^ band.keys[at]
                near = np.bitwise_count(differing) <= self.distance
                asking, at, differing = asking[near], at[near], differing[near]
                new = np.ones(len(at), dtype=bool)
                for earlier in self.bands[:number]:
                    new &= np.bitwise_count(differing & earlier.mask) > earlier.radius
                yield asking[new], band.places[at[new]].astype(np.int64)

    def _plain_pairs(self, queries: np.ndarray) -> Iterator[Pairs]:
        rows = min(len(queries), 64)  # a block of 64 × 1024 stays in a cache
        columns = PAIRS_AT_ONCE // rows
        for start in range(0, len(queries), rows):
            for before in range(0, len(self.keys), columns):
                block = self.keys[before : before + columns]
                pair = near_pairs_reference(queries[start : start + rows], block, self.distance)
                yield pair[0] + start, pair[1] + before


def place_type(count: int) -> np.dtype:
    """int32 if it holds the places of so many, else int64."""
    return np.dtype(np.int32 if count < 2**31 else np.int64)


def places_where(mask: np.ndarray) -> np.ndarray:
    """`numpy.flatnonzero` in half of the bytes: of a hundred million rows that is a lot."""
    return np.flatnonzero(mask).astype(place_type(len(mask)))


def ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """start, start + 1 … of each range, one after the other: (sizes.sum(),) int64."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)


def _radii(keys: int, distance: int) -> list[int]:
    """Radius of each band, of least cost if hashes were random; none if nothing beats comparing."""
    plans: list[tuple[float, list[int]]] = [(float(keys), [])]
    for count in range(1, min(distance + 1, BITS // 4) + 1):
        whole, more = divmod(distance + 1 - count, count)
        radii = [whole + (band < more) for band in range(count)]
        cost = 0.0
        for band, radius in enumerate(radii):
            width = len(range(band, BITS, count))
            if radius > width:
                break
            width = min(width, _widest(keys))
            flips = sum(comb(width, r) for r in range(min(radius, width) + 1))
            cost += flips * (LOOKUP + CANDIDATE * keys / 2**width)
        else:
            plans.append((cost, radii))
    return min(plans)[1]


def _widest(keys: int) -> int:
    """Tables that are far larger than their keys only cost time."""
    return min(WIDEST, keys.bit_length() + 2)


def _band(keys: np.ndarray, band: int, bands: int, radius: int) -> _Band:
    """Every `bands`-th bit, so that bits of a kind, which lie together, are in all bands."""
    bits = tuple(range(band, BITS, bands))[: _widest(len(keys))]
    mask = np.uint64(sum(1 << bit for bit in bits))
    values = _values(keys, bits)
    places = np.argsort(values, kind="stable")
    counts = np.bincount(values, minlength=2 ** len(bits))
    small = place_type(len(keys))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(small)
    flips = [
        sum(1 << bit for bit in chosen)
        for size in range(min(radius, len(bits)) + 1)
        for chosen in combinations(range(len(bits)), size)
    ]
    return _Band(
        bits,
        mask,
        radius,
        np.array(flips, dtype=np.int64),
        starts,
        places.astype(small),
        keys[places],
    )


def _values(hashes: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """(N,) int64: these bits of each hash, side by side."""
    values = np.zeros(len(hashes), dtype=np.uint64)
    for place, bit in enumerate(bits):
        values |= ((hashes >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place)
    return values.astype(np.int64)


def _buckets(band: _Band, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, first key of the bucket, and keys in it, of every bucket that is not empty."""
    values = (_values(queries, band.bits)[:, None] ^ band.flips).ravel()
    first = band.starts[values]
    sizes = band.starts[values + 1] - first
    full = np.flatnonzero(sizes)
    return full // len(band.flips), first[full].astype(np.int64), sizes[full].astype(np.int64)


def _parts(sizes: np.ndarray) -> Iterator[slice]:
    """Runs of buckets with about PAIRS_AT_ONCE keys, at least one bucket each."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start] - sizes[start]
        stop = max(start + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
        yield slice(start, stop)
        start = stop
