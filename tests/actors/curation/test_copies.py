"""Exact copies, and the closest pairs of pictures that are looked at some at a time."""

import numpy as np
import pyarrow as pa
import pytest

from actors.curation import copies
from actors.curation.closest import CLOSEST, ClosestPairs
from actors.curation.copies import exact_copies
from actors.curation.critique import digests
from actors.curation.likeness import NONE, Nearest

RNG = np.random.default_rng(0)


def first_of_equals(values: list[tuple[int, int]]) -> dict[int, int]:
    """By place of an exact copy the first place of its value."""
    first: dict[tuple[int, int], int] = {}
    return {
        place: first[value]
        for place, value in enumerate(values)
        if first.setdefault(value, place) != place
    }


@pytest.mark.parametrize("rows_at_once", [7, 2**20])
@pytest.mark.parametrize("distinct", [1, 5, 300, 2**60])
def test_exact_copies_are_those_of_equal_digests(
    distinct: int, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of digests that are only equal with their halves exchanged, which share a sort key."""
    monkeypatch.setattr(copies, "ROWS_AT_ONCE", rows_at_once)
    values = RNG.integers(0, distinct, (500, 2), dtype=np.uint64)
    values[::3] = values[::3, ::-1]
    values[5] = values[490]
    rows = np.sort(RNG.permutation(500)[:400]).astype(np.int32)
    again, first = exact_copies(values, rows)
    expected = first_of_equals([(int(a), int(b)) for a, b in values[rows]])
    assert dict(zip(again.tolist(), first.tolist(), strict=True)) == expected
    assert len(again) == len(expected)
    if distinct == 5:
        assert len(expected) > 300


def test_nothing_has_no_copies() -> None:
    again, first = exact_copies(np.empty((0, 2), np.uint64), np.empty(0, np.int32))
    assert len(again) == len(first) == 0


def test_digests_are_equal_where_the_texts_are() -> None:
    texts = [f"{number:032x}" for number in (7, 2**127 + 1, 7, 2**64, 1)]
    data = pa.array([bytes.fromhex(text) for text in texts], pa.binary(16))
    packed = digests(pa.chunked_array([data[:0], data[:3], data[3:]]))
    for values in (packed, digests(pa.chunked_array([texts])), digests(pa.chunked_array([data]))):
        assert values.shape == (5, 2)
        expected = [[one == other for other in texts] for one in texts]
        assert (values[:, None] == values).all(axis=2).tolist() == expected
    assert packed.tobytes() == b"".join(data.to_pylist())
    assert digests(pa.chunked_array([data[:0]])).shape == (0, 2)


def test_the_closest_pairs_are_the_same_in_parts_of_any_order() -> None:
    """Values tie, and of those of equal values the first rows are taken."""
    count = 400
    near = Nearest(
        by_cosine=np.where(RNG.random(count) < 0.1, NONE, RNG.integers(0, 90, count)),
        by_hash=RNG.integers(0, 90, count),
        copied=np.where(RNG.random(count) < 0.2, 3, NONE),
        cosine=RNG.integers(0, 40, count) / 40,
        distance=RNG.integers(0, 30, count),
    )
    accepted = [i for i in range(count) if near.copied[i] == NONE and near.by_cosine[i] != NONE]
    by_cosine = sorted(accepted, key=lambda row: (-near.cosine[row], row))[:CLOSEST]
    by_hash = sorted(accepted, key=lambda row: (near.distance[row], row))[:CLOSEST]
    for size in (1, 13, count):
        closest, order = ClosestPairs(), RNG.permutation(count)
        for start in range(0, count, size):
            rows = order[start : start + size]
            closest.take(rows, Nearest(**{k: v[rows] for k, v in vars(near).items()}))
        assert closest.by_cosine.rows.tolist() == by_cosine
        assert closest.by_cosine.tests.tolist() == near.by_cosine[by_cosine].tolist()
        assert closest.by_hash.rows.tolist() == by_hash
        assert closest.by_hash.tests.tolist() == near.by_hash[by_hash].tolist()
