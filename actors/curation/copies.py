"""Near-copies among pictures: of several the first is kept."""

import numpy as np

from actors.curation.hashes import HashIndex, ranges
from actors.curation.likeness import BLOCK, NONE, Advance, Near, Pictures

FEW = 4096
"""Pictures up to which all are compared with all: there an index takes as long."""
PARTS = 8
"""Of more than a few: a picture is looked up once for each time that they are cut."""


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
