"""Which pictures are copies of others, by perceptual hash and CLIP's embedding, block by block.

Cost of near-copies among N pictures: near linear where hashes differ (`actors.curation.hashes`),
and a product of embeddings for each pair of kept pictures whose hashes are near. Of test images:
every picture is compared with every one of them, for a copy may be found by its embedding alone;
rows are independent of one another, so any part of them can be given to another worker. Memory: the
embeddings, 1 kB a picture of 512 numbers, the index, some 100 bytes a picture, and a few blocks of
8 MB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jsonargparse.typing import restricted_number_type

from actors.curation.hashes import BITS, HashIndex, ranges

BLOCK = 1024
IN_CACHE = 64
"""Rows whose hashes are compared with a block of others without leaving a cache."""
FEW = 4096
"""Pictures up to which all are compared with all: there an index takes as long."""
PARTS = 8
"""Of more than a few: a picture is looked up once for each time that they are cut."""
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
    embeddings: np.ndarray

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

    def exact_cosines(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """(A, B) float64: cosines of own embeddings, without any rounding.

        Products of float16 are multiples of 2^-48, so float64 holds their sums; what is decided by
        them is the same in any block, order and number of threads.
        """
        left, right = self.embeddings[rows], self.embeddings[places]
        return left.astype(np.float64) @ right.astype(np.float64).T


def first_likes(
    pictures: Pictures, order: np.ndarray, captions: np.ndarray, near: Near, advance: Advance
) -> np.ndarray:
    """For each picture in `order` the row of the kept one that it is a near-copy of, or NONE.

    order: (M,) rows; a picture is kept if it is no near-copy of one that is kept before it, so no
    two kept ones are near-copies, and no chain of copies of copies leads away from the kept one.
    captions: (N,) int; pictures of one caption are meant to be alike and are not compared.
    The same as `first_likes_reference`, part by part: each is looked up in an index of what is kept
    of those before, and what is no copy there is decided on like a set of its own.
    """
    if len(order) <= FEW:
        return first_likes_reference(pictures, order, captions, near, advance)
    likes, originals = [], order[:0]
    for part in np.array_split(order, PARTS):
        like = _likes_among(pictures, part, originals, captions, near)
        left = like == NONE
        advance(int((~left).sum()))
        like[left] = first_likes(pictures, part[left], captions, near, advance)
        likes.append(like)
        originals = np.concatenate([originals, part[like == NONE]])
    return np.concatenate(likes)


def first_likes_reference(
    pictures: Pictures, order: np.ndarray, captions: np.ndarray, near: Near, advance: Advance
) -> np.ndarray:
    """`first_likes` by comparing every picture with all that are kept before it, in blocks."""
    likes = np.full(len(order), NONE)
    originals = np.empty_like(order)
    count = 0
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        like = likes[start : start + BLOCK]  # a view: written below
        like[:] = _first_alike(pictures, rows, originals[:count], captions, near)
        earlier = np.tril(_alike(pictures, rows, rows, captions, near), -1)
        for row in np.flatnonzero(earlier.any(axis=1) & (like == NONE)):
            copied = np.flatnonzero(earlier[row] & (like == NONE))
            if len(copied):
                like[row] = rows[copied[0]]
        new = rows[like == NONE]
        originals[count : count + len(new)] = new
        count += len(new)
        advance(len(rows))
    return likes


def _alike(
    pictures: Pictures, rows: np.ndarray, others: np.ndarray, captions: np.ndarray, near: Near
) -> np.ndarray:
    """(A, B) bool: near-copies of other captions. Cosines are taken where a hash is near."""
    pairs = pictures.distances(rows, pictures, others) <= near.hash_distance
    pairs &= captions[rows, None] != captions[others]
    near_rows, near_others = pairs.any(axis=1), pairs.any(axis=0)
    cosines = pictures.exact_cosines(rows[near_rows], others[near_others])
    pairs[np.ix_(near_rows, near_others)] &= cosines >= near.cosine
    return pairs


def _first_alike(
    pictures: Pictures, rows: np.ndarray, others: np.ndarray, captions: np.ndarray, near: Near
) -> np.ndarray:
    """For each of `rows`, a block of them, the first of `others` that is alike, or NONE."""
    likes = np.full(len(rows), NONE)
    for before in range(0, len(others), BLOCK):
        left = np.flatnonzero(likes == NONE)
        block = others[before : before + BLOCK]
        pairs = _alike(pictures, rows[left], block, captions, near)
        copies = pairs.any(axis=1)
        likes[left[copies]] = block[pairs[copies].argmax(axis=1)]
    return likes


def _likes_among(
    pictures: Pictures, rows: np.ndarray, others: np.ndarray, captions: np.ndarray, near: Near
) -> np.ndarray:
    """`_first_alike` for any number of rows, and a look at none that has no near hash.

    Equal hashes are looked up once. Rows are taken in the order of the first hash that is near
    theirs, so that those of one crowd share a block, whose others are those of the crowd.
    """
    likes = np.full(len(rows), NONE)
    keys, key_of = np.unique(pictures.hashes[others], return_inverse=True)
    by_key = np.argsort(key_of, kind="stable")
    bounds = np.searchsorted(key_of[by_key], np.arange(len(keys) + 1))
    queries, query_of = np.unique(pictures.hashes[rows], return_inverse=True)
    index = HashIndex(keys, near.hash_distance)
    first = np.full(len(queries), len(keys))
    for query, key in index.pairs(queries):
        np.minimum.at(first, query, key)
    first_of = first[query_of]
    crowded = np.argsort(first_of, kind="stable")[: int((first_of < len(keys)).sum())]
    for start in range(0, len(crowded), BLOCK):
        block = crowded[start : start + BLOCK]
        is_near = np.zeros(len(keys), dtype=bool)
        for _, key in index.pairs(queries[np.unique(query_of[block])]):
            is_near[key] = True
        near_keys = np.flatnonzero(is_near)
        places = by_key[ranges(bounds[near_keys], np.diff(bounds)[near_keys])]
        likes[block] = _first_alike(pictures, rows[block], others[np.sort(places)], captions, near)
    return likes


@dataclass(frozen=True)
class Nearest:
    """For each of M pictures a row among N others, or NONE, and how near it is."""

    by_cosine: np.ndarray
    by_hash: np.ndarray
    copied: np.ndarray
    """The row of largest cosine among those that the picture is a near-copy of."""
    cosine: np.ndarray
    """Cosine of the picture and by_cosine, float32; -2 where there is none."""
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
            cosines = pictures.cosines(rows[part], others, places)
            at, cosine = _largest(cosines)
            by_cosine.take(part, first + at, cosine)
            at = distances.argmin(axis=1)
            bits = distances[np.arange(len(part)), at]
            by_hash.take(part, first + at, -bits.astype(np.float32))
            # copies are rare: all others are looked at where the nearest ones are near enough
            some = np.flatnonzero(_near(bits, cosine, near))
            copies = _near(distances[some], cosines[some], near)
            at, cosine = _largest(np.where(copies, cosines[some], np.float32(-2)))
            copied.take(part[some], first + at, cosine)
        advance(len(part))
    return Nearest(
        by_cosine=by_cosine.place,
        by_hash=by_hash.place,
        copied=copied.place,
        cosine=by_cosine.value,
        distance=-by_hash.value.astype(int),
    )


def _near(distances: np.ndarray, cosines: np.ndarray, near: Sequence[Near]) -> np.ndarray:
    """Where any of the rules holds: bool, of the shape of distances and cosines."""
    return np.any([(distances <= n.hash_distance) & (cosines >= n.cosine) for n in near], axis=0)


class _Best:
    """Of each of N pictures the best of what was looked at so far."""

    def __init__(self, count: int, worst: float) -> None:
        self.place = np.full(count, NONE)
        self.value = np.full(count, np.float32(worst))

    def take(self, rows: np.ndarray, places: np.ndarray, values: np.ndarray) -> None:
        """places, values: (A,) the best of a block for each of these rows, which are distinct."""
        better = values > self.value[rows]
        self.place[rows[better]], self.value[rows[better]] = places[better], values[better]


def _largest(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of (A, B) the first place of the largest value, and the value: (A,) each."""
    at = values.argmax(axis=1)
    return at, values[np.arange(len(values)), at]
