"""Which pictures are copies of others, by perceptual hash and CLIP's embedding, block by block.

Of test images: every picture is compared with every one of them, for a copy may be found by its
embedding alone; rows are independent of one another, so any part of them can be given to another
worker. Memory: the embeddings, 1 kB a picture of 512 numbers, and a few blocks of 8 MB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jsonargparse.typing import restricted_number_type

from actors.curation.hashes import BITS
from actors.curation.stored import StoredEmbeddings

BLOCK = 1024
IN_CACHE = 64
"""Rows whose hashes are compared with a block of others without leaving a cache."""
FEW_TIES = 4
"""Pictures that may be the nearest one, by their rounded cosine, for which one by one is faster."""
NONE = -1
"""Row number that stands where there is no row."""

HashDistance = restricted_number_type("HashDistance", int, [(">=", 0), ("<=", 64)])
Cosine = restricted_number_type("Cosine", float, [(">=", -1), ("<=", 1)])
Advance = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Near:
    """When a picture is a near-copy of another: both must hold."""

    hash_distance: HashDistance  # type: ignore[valid-type]
    """Bits, of 64, in which the perceptual hashes differ at most; 64 asks nothing."""
    cosine: Cosine  # type: ignore[valid-type]
    """Cosine of CLIP's embeddings at least; -1 asks nothing."""


@dataclass(frozen=True)
class Pictures:
    """N pictures. hashes: (N,) uint64; embeddings: (N, D) float16 of unit length."""

    hashes: np.ndarray
    embeddings: np.ndarray | StoredEmbeddings

    def __len__(self) -> int:
        return len(self.hashes)

    def distances(self, rows: np.ndarray, others: "Pictures", places: np.ndarray) -> np.ndarray:
        """(A, B) uint8: bits in which the hashes of `rows` and of the others' `places` differ."""
        distances = np.empty((len(rows), len(places)), dtype=np.uint8)
        hashes, keys = self.hashes[rows, None], others.hashes[places]
        for start in range(0, len(rows), IN_CACHE):  # three times as fast as all at once
            part = slice(start, start + IN_CACHE)
            np.bitwise_count(hashes[part] ^ keys, out=distances[part])
        return distances

    def cosines(self, rows: np.ndarray, others: "Pictures", places: np.ndarray) -> np.ndarray:
        """(A, B) float32: cosines of the embeddings."""
        left, right = self.embeddings[rows], others.embeddings[places]
        return left.astype(np.float32) @ right.astype(np.float32).T

    def exact_cosines(self, rows: np.ndarray, others: "Pictures", places: np.ndarray) -> np.ndarray:
        """(A, B) float64: cosines of the embeddings, without any rounding.

        Products of float16 are multiples of 2^-48, so float64 holds their sums; what is decided by
        them is the same in any block, order and number of threads.
        """
        left, right = self.embeddings[rows], others.embeddings[places]
        return left.astype(np.float64) @ right.astype(np.float64).T


@dataclass(frozen=True)
class Nearest:
    """For each of M pictures a row among N others, or NONE, and how near it is."""

    by_cosine: np.ndarray
    by_hash: np.ndarray
    copied: np.ndarray
    """The row of largest cosine among those that the picture is a near-copy of."""
    cosine: np.ndarray
    """Cosine of the picture and by_cosine, float64 and exact; -2 where there is none."""
    distance: np.ndarray
    """Bits in which the hashes of the picture and by_hash differ; 65 where there is none."""


def nearest(
    pictures: Pictures,
    rows: np.ndarray,
    others: Pictures,
    near: Sequence[Near],
    advance: Advance,
) -> Nearest:
    """The nearest other of each picture in `rows`, (M,); near: a near-copy is one by any of these.

    Of equally near ones it is the first.
    """
    by_cosine, by_hash, copied = (_Best(len(rows), worst) for worst in (-2, -BITS - 1, -2))
    for start in range(0, len(rows), BLOCK):
        part = np.arange(start, min(start + BLOCK, len(rows)))
        for first in range(0, len(others), BLOCK):
            places = np.arange(first, min(first + BLOCK, len(others)))
            distances = pictures.distances(rows[part], others, places)
            at, cosine = _nearest_by_cosine(pictures, rows[part], others, places)
            by_cosine.take(part, first + at, cosine)
            at = distances.argmin(axis=1)
            bits = distances[np.arange(len(part)), at]
            by_hash.take(part, first + at, -bits.astype(np.float64))
            # copies are rare: all others are looked at where the nearest ones are near enough
            some = np.flatnonzero(_near(bits, cosine, near))
            cosines = pictures.exact_cosines(rows[part[some]], others, places)
            copies = _near(distances[some], cosines, near)
            at, cosine = _largest(np.where(copies, cosines, -2))
            copied.take(part[some], first + at, cosine)
        advance(len(part))
    return Nearest(
        by_cosine=by_cosine.place,
        by_hash=by_hash.place,
        copied=copied.place,
        cosine=by_cosine.value,
        distance=-by_hash.value.astype(int),
    )


def _nearest_by_cosine(
    pictures: Pictures, rows: np.ndarray, others: Pictures, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the first of the largest exact cosines, and it: (A,) each.

    Of the products in float32, which are faster, those are taken again that may be the largest.
    """
    cosines = pictures.cosines(rows, others, places)
    rounding = others.embeddings.shape[1] * np.finfo(np.float32).eps
    row, place = np.nonzero(cosines >= cosines.max(axis=1, keepdims=True) - rounding)
    if len(row) > FEW_TIES * len(rows):
        return _largest(pictures.exact_cosines(rows, others, places))
    left, right = pictures.embeddings[rows[row]], others.embeddings[places[place]]
    exact = np.einsum("ij,ij->i", left.astype(np.float64), right.astype(np.float64))
    order = np.lexsort((place, -exact, row))
    first = order[np.searchsorted(row, np.arange(len(rows)))]
    return place[first], exact[first]


def _near(distances: np.ndarray, cosines: np.ndarray, near: Sequence[Near]) -> np.ndarray:
    """Where any of the rules holds: bool, of the shape of distances and cosines."""
    return np.any([(distances <= n.hash_distance) & (cosines >= n.cosine) for n in near], axis=0)


class _Best:
    """Of each of N pictures the best of what was looked at so far."""

    def __init__(self, count: int, worst: float) -> None:
        self.place = np.full(count, NONE)
        self.value = np.full(count, np.float64(worst))

    def take(self, rows: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
        """places, values: (A,) the best of a block for each of these rows, which are distinct."""
        better = values > self.value[rows]
        self.place[rows[better]], self.value[rows[better]] = places[better], values[better]


def _largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of (A, B) the first place of the largest value, and the value: (A,) each."""
    at = values.argmax(axis=1)
    return at, values[np.arange(len(values)), at]
