"""Which pictures are copies of others, by perceptual hash and CLIP's embedding, block by block.

Cost: every pair of pictures is looked at once, so it grows with the square of their number; cosines
are only taken where the hashes are near. Memory: the embeddings, 1 kB a picture of 512 numbers, and
a few blocks of 8 MB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jsonargparse.typing import restricted_number_type

BLOCK = 1024
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
        return np.bitwise_count(self.hashes[rows, None] ^ others.hashes[places])

    def cosines(self, rows: np.ndarray, others: "Pictures", places: np.ndarray) -> np.ndarray:
        """(A, B) float32: cosines of the embeddings."""
        left, right = self.embeddings[rows], others.embeddings[places]
        return left.astype(np.float32) @ right.astype(np.float32).T


def first_likes(
    pictures: Pictures, order: np.ndarray, captions: np.ndarray, near: Near, advance: Advance
) -> np.ndarray:
    """For each picture in `order` the row of the kept one that it is a near-copy of, or NONE.

    order: (M,) rows; a picture is kept if it is no near-copy of one that is kept before it, so no
    two kept ones are near-copies, and no chain of copies of copies leads away from the kept one.
    captions: (N,) int; pictures of one caption are meant to be alike and are not compared.
    """
    likes = np.full(len(order), NONE)
    originals = np.empty_like(order)
    count = 0

    def alike(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(A, B) bool. Cosines are taken where a hash is near, which is rare."""
        pairs = pictures.distances(rows, pictures, others) <= near.hash_distance
        pairs &= captions[rows, None] != captions[others]
        near_rows, near_others = pairs.any(axis=1), pairs.any(axis=0)
        cosines = pictures.cosines(rows[near_rows], pictures, others[near_others])
        pairs[np.ix_(near_rows, near_others)] &= cosines >= near.cosine
        return pairs

    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        like = likes[start : start + BLOCK]  # a view: written below
        for before in range(0, count, BLOCK):
            others = originals[before : min(before + BLOCK, count)]
            pairs = alike(rows, others)
            copies = pairs.any(axis=1) & (like == NONE)
            like[copies] = others[pairs[copies].argmax(axis=1)]
        earlier = np.tril(alike(rows, rows), -1)
        for row in np.flatnonzero(earlier.any(axis=1) & (like == NONE)):
            copied = np.flatnonzero(earlier[row] & (like == NONE))
            if len(copied):
                like[row] = rows[copied[0]]
        new = rows[like == NONE]
        originals[count : count + len(new)] = new
        count += len(new)
        advance(len(rows))
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
    best = {
        name: (np.full(len(rows), NONE), np.full(len(rows), np.float32(worst)))
        for name, worst in (("cosine", -2), ("hash", -65), ("copy", -2))
    }
    for start in range(0, len(rows), BLOCK):
        part = slice(start, min(start + BLOCK, len(rows)))
        for first in range(0, len(others), BLOCK):
            places = np.arange(first, min(first + BLOCK, len(others)))
            distances = pictures.distances(rows[part], others, places)
            cosines = pictures.cosines(rows[part], others, places)
            copies = np.any(
                [(distances <= n.hash_distance) & (cosines >= n.cosine) for n in near], axis=0
            )
            values = {
                "cosine": cosines,
                "hash": -distances.astype(np.float32),
                "copy": np.where(copies, cosines, -2),
            }
            for name, (place, value) in best.items():
                _take_better(place[part], value[part], values[name], first)
        advance(part.stop - part.start)
    return Nearest(
        by_cosine=best["cosine"][0],
        by_hash=best["hash"][0],
        copied=best["copy"][0],
        cosine=best["cosine"][1],
        distance=-best["hash"][1].astype(int),
    )


def _take_better(place: np.ndarray, value: np.ndarray, candidates: np.ndarray, first: int) -> None:
    """Writes into place and value, (A,), where the best of `candidates`, (A, B), is better."""
    at = candidates.argmax(axis=1)
    best = np.take_along_axis(candidates, at[:, None], axis=1)[:, 0]
    better = best > value
    place[better], value[better] = first + at[better], best[better]
