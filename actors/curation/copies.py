"""Near-copies among pictures: of several the first is kept.

A picture is kept if it is no near-copy of one that is kept before it. Which earlier pictures it is
like depends on the two alone, so any process can look for them (`EarlierPictures`); who is kept
follows from the pairs in their order, without the pictures (`first_likes`).

Cost among N pictures: near linear where hashes differ (`actors.curation.hashes`), and a product of
embeddings for each pair whose hashes are near, until a picture has MOST. Memory: of whoever looks
some 110 bytes a picture and a few blocks of 8 MB; of whoever decides 14 bytes a picture, and the
pairs of one batch.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from actors.curation.hashes import HashIndex, place_type, places_where, ranges
from actors.curation.likeness import BLOCK, NONE, Advance, Near, Pictures

MOST = 16
"""Earlier pictures that are looked for at once. Of a crowd of copies one is enough; more are looked
for where all of them are refused themselves."""
FIRST_LOOK = 64
"""Pictures that each is compared with first: of a crowd of copies most need no more."""
FEW = 4096
"""Pictures up to which all are compared with all: there an index takes as long."""
AT_ONCE = 65_536
"""Pictures that are looked up together."""
ROWS_AT_ONCE = 2**20
"""Rows of which a column is in memory a second time."""
KEPT, REFUSED, OPEN = np.int8(0), np.int8(1), np.int8(2)

Pairs = tuple[np.ndarray, np.ndarray]
"""Rows and an earlier row that each is a near-copy of: (P,) each, sorted by both."""
Look = Callable[[np.ndarray, np.ndarray], Iterator[Pairs]]
"""From rows in question and the rows that are not refused, (Q,) and (M,) in ascending order, to
the first MOST pairs of each row in question with one of those, in batches in order of the rows in
question; those of one row are in one batch."""


def exact_copies(digests: np.ndarray, rows: np.ndarray) -> Pairs:
    """Places in `rows` of those whose digest an earlier one has, and of the first that has it.

    digests: (N, 2) uint64; rows: (M,) in ascending order. They are sorted by half of the bytes, and
    only what is equal there is compared in full. Memory: 16 bytes a row beside the digests.
    """
    halves = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        values = digests[rows[start : start + ROWS_AT_ONCE]]
        halves[start : start + ROWS_AT_ONCE] = values[:, 0] ^ values[:, 1]
    places = _places_of_equals(halves)
    del halves
    values = digests[rows[places]]
    by_value = np.lexsort(values.T)  # equal ones stay in their order
    places, values = places[by_value], values[by_value]
    new = np.ones(len(places), dtype=bool)
    new[1:] = (values[1:] != values[:-1]).any(axis=1)
    first = places[new][np.cumsum(new) - 1]
    return places[~new], first[~new]


def _places_of_equals(values: np.ndarray) -> np.ndarray:
    """In ascending order the places of the values, (N,), that there are more than one of."""
    order = np.argsort(values)
    tied = np.zeros(len(order), dtype=bool)
    for start in range(0, len(order), ROWS_AT_ONCE):
        part = values[order[start : start + ROWS_AT_ONCE + 1]]
        equal = part[1:] == part[:-1]
        tied[start : start + len(equal)] |= equal
        tied[start + 1 : start + 1 + len(equal)] |= equal
    return np.sort(order[tied])


def first_likes(count: int, look: Look) -> np.ndarray:
    """For each of so many pictures in their order the kept one that it is a near-copy of, or NONE.

    No two kept ones are near-copies, and no chain of copies of copies leads away from a kept one.
    A picture of which all MOST pairs are with refused ones is asked for again, then with those
    alone that are not refused; so the first of a round is always decided.
    """
    state, likes = np.full(count, OPEN), np.full(count, NONE, dtype=place_type(count))
    while (state == OPEN).any():
        batches = look(places_where(state == OPEN), places_where(state != REFUSED))
        state[state == OPEN] = KEPT
        for later, earlier in batches:
            starts = np.flatnonzero(np.diff(later, prepend=NONE))
            for start, end in pairwise([*starts, len(later)]):
                row, others = later[start], earlier[start:end]
                state[row], likes[row] = _decided(others, state)
    return likes


def _decided(others: np.ndarray, state: np.ndarray) -> tuple[np.int8, int]:
    """State of a picture that is a near-copy of these, and the kept one that it is a copy of."""
    for other in others:
        if state[other] == KEPT:
            return REFUSED, int(other)
        if state[other] == OPEN:
            return OPEN, NONE
    return (OPEN if len(others) == MOST else KEPT), NONE


def first_likes_here(
    pictures: Pictures, captions: np.ndarray, near: Near, advance: Advance
) -> np.ndarray:
    """`first_likes` of pictures in their order, by this process alone.

    captions: (N,) int; pictures of one caption are meant to be alike and are not compared.
    """
    if len(pictures) <= FEW:
        advance(len(pictures))
        return first_likes_reference(pictures, captions, near)
    done = 0

    def look(rows: np.ndarray, members: np.ndarray) -> Iterator[Pairs]:
        nonlocal done
        index = EarlierPictures(pictures, captions, near, members)
        for start in range(0, len(rows), AT_ONCE):
            yield index.pairs(rows[start : start + AT_ONCE])
            looked_up = min(start + AT_ONCE, len(rows))
            advance(max(looked_up - done, 0))
            done = max(looked_up, done)

    return first_likes(len(pictures), look)


def first_likes_reference(pictures: Pictures, captions: np.ndarray, near: Near) -> np.ndarray:
    """`first_likes` by comparing every picture with all that are kept before it, in blocks.

    captions: (N,) int; pictures of one caption are meant to be alike and are not compared.
    """
    likes = np.full(len(pictures), NONE)
    originals = np.empty(len(pictures), dtype=np.int64)
    count = 0
    for start in range(0, len(pictures), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(pictures)))
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
    return likes


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


def _alike(
    pictures: Pictures, rows: np.ndarray, others: np.ndarray, captions: np.ndarray, near: Near
) -> np.ndarray:
    """(A, B) bool: near-copies of other captions. Cosines are taken where a hash is near."""
    pairs = pictures.distances(rows, pictures, others) <= near.hash_distance
    pairs &= captions[rows, None] != captions[others]
    near_rows, near_others = pairs.any(axis=1), pairs.any(axis=0)
    cosines = pictures.exact_cosines(rows[near_rows], pictures, others[near_others])
    pairs[np.ix_(near_rows, near_others)] &= cosines >= near.cosine
    return pairs


class EarlierPictures:
    """Pictures in their order, of which those that are no longer refused are known by hash."""

    def __init__(
        self, pictures: Pictures, captions: np.ndarray, near: Near, members: np.ndarray
    ) -> None:
        """captions: (N,) int; pictures of one caption are meant to be alike and are not compared.
        members: (M,) in ascending order; the earlier pictures that are looked for are of these."""
        self.pictures, self.captions, self.near = pictures, captions, near
        small = place_type(len(pictures))
        hashes = pictures.hashes[members]
        by_key = np.argsort(hashes, kind="stable").astype(small)
        hashes = hashes[by_key]
        new = np.ones(len(hashes), dtype=bool)
        new[1:] = hashes[1:] != hashes[:-1]
        self._starts = np.append(np.flatnonzero(new), len(hashes)).astype(small)
        self._by_key = members.astype(small)[by_key]
        self._first = self._by_key[self._starts[:-1]]
        hashes = hashes[new]
        self._index = HashIndex(hashes, near.hash_distance)

    def pairs(self, rows: np.ndarray) -> Pairs:
        """The first MOST pairs of each of these rows; see `Look`.

        Equal hashes are looked up once. Rows are taken in the order of the first hash that is near
        theirs, so that those of one crowd share a block, whose others are those of the crowd.
        """
        hashes = self.pictures.hashes[rows]
        queries, query_of = np.unique(hashes, return_inverse=True)
        last = np.zeros(len(queries), dtype=np.int64)
        np.maximum.at(last, query_of, rows)
        first = np.full(len(queries), len(self._first))
        for query, key in self._near_keys(queries, last):
            np.minimum.at(first, query, key)
        first_of = first[query_of]
        crowded = np.argsort(first_of, kind="stable")[: int((first_of < len(self._first)).sum())]
        later, earlier = [rows[:0]], [rows[:0]]
        for start in range(0, len(crowded), BLOCK):
            block = crowded[start : start + BLOCK]
            which = np.unique(query_of[block])
            for pairs in self._among(rows[block], self._of_keys(queries[which], last[which])):
                later.append(pairs[0])
                earlier.append(pairs[1])
        both = np.concatenate(later), np.concatenate(earlier)
        order = np.lexsort(both[::-1])
        return both[0][order], both[1][order]

    def _near_keys(self, queries: np.ndarray, last: np.ndarray) -> Iterator[Pairs]:
        """Places of queries and of near keys that a picture before their last one, (Q,), has."""
        for query, key in self._index.pairs(queries):
            before = self._first[key] < last[query]
            yield query[before], key[before]

    def _of_keys(self, queries: np.ndarray, last: np.ndarray) -> np.ndarray:
        """In ascending order the members whose hash is near one of the queries."""
        is_near = np.zeros(len(self._first), dtype=bool)
        for _, key in self._near_keys(queries, last):
            is_near[key] = True
        keys = np.flatnonzero(is_near)
        sizes = np.diff(self._starts)[keys]
        return np.sort(self._by_key[ranges(self._starts[keys], sizes)])

    def _among(self, rows: np.ndarray, others: np.ndarray) -> Iterator[Pairs]:
        """The first MOST pairs of each of `rows`, a block of them, with `others`."""
        counts = np.zeros(len(rows), dtype=np.int64)
        start, size = 0, FIRST_LOOK
        while start < len(others):
            left = np.flatnonzero((counts < MOST) & (rows > others[start]))
            block = others[start : start + size]
            alike = _alike(self.pictures, rows[left], block, self.captions, self.near)
            row, other = np.nonzero(alike & (block < rows[left, None]))
            number = np.arange(len(row)) - np.searchsorted(row, row) + counts[left[row]]
            row, other = left[row[number < MOST]], other[number < MOST]
            counts += np.bincount(row, minlength=len(rows))
            yield rows[row], block[other]
            start, size = start + size, min(2 * size, BLOCK)
