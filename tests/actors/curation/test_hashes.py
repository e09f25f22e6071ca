"""Near hashes by bands are those of a comparison of all with all."""

import numpy as np
import pytest

from actors.curation import hashes
from actors.curation.hashes import HashIndex, near_pairs_reference

RNG = np.random.default_rng(0)


def flipped(values: np.ndarray, bits: int) -> np.ndarray:
    """Each with up to `bits` of its bits turned over."""
    masks = np.zeros(len(values), dtype=np.uint64)
    for _ in range(bits):
        masks |= np.left_shift(np.uint64(1), RNG.integers(0, 64, len(values)).astype(np.uint64))
    return values ^ masks


def random_hashes(count: int) -> np.ndarray:
    return RNG.integers(0, 2**64, count, dtype=np.uint64)


def crowds(count: int) -> np.ndarray:
    """A tenth of them in one crowd, and pairs at every distance up to 12."""
    pairs = random_hashes(count // 20)
    crowd = flipped(np.full(count // 10, pairs[0]), 6)
    return np.concatenate(
        [random_hashes(count), crowd, pairs, *(flipped(pairs, n) for n in range(1, 13))]
    )


def few_bits(count: int) -> np.ndarray:
    """As many as there are of 13 bits that lie together, or beside one another in other bands."""
    values = np.arange(2**13, dtype=np.uint64)
    return np.concatenate([values, values << np.uint64(40)])[: max(count, 2**13)]


def plain_ground(count: int) -> np.ndarray:
    """Half of the bits the same in all, as pictures of small things on plain ground have them."""
    return random_hashes(count) & np.uint64(0x00FF_0F0F_3333_5555)


@pytest.mark.parametrize("kind", [random_hashes, crowds, few_bits, plain_ground])
@pytest.mark.parametrize("distance", [0, 1, 4, 8, 10, 14, 40, 64])
def test_bands_find_all_near_pairs_each_once(
    kind: object, distance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "LOOKUPS_AT_ONCE", 5_000)
    monkeypatch.setattr(hashes, "PAIRS_AT_ONCE", 2_000)
    assert callable(kind)
    keys = np.unique(kind(4_000))
    queries = np.unique(np.concatenate([flipped(keys[:150], 9), keys[-150:]]))
    index = HashIndex(keys, distance)
    assert index.bands or distance > 10
    pairs = [np.stack(part, axis=1) for part in index.pairs(queries)]
    assert all(len(part) <= 64 * 2_000 for part in pairs)
    together = np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)
    expected = np.stack(near_pairs_reference(queries, keys, distance), axis=1)
    assert np.array_equal(together[np.lexsort(together.T[::-1])], expected)
    if distance >= 1:
        assert len(expected) >= 150


@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_few_keys_are_compared_plainly(count: int) -> None:
    keys = np.unique(random_hashes(count))
    pairs = list(HashIndex(keys, 8).pairs(keys))
    assert sum(len(query) for query, _ in pairs) == count
    assert not list(HashIndex(keys, 8).pairs(keys[:0]))


def test_every_plan_leaves_no_distance_unseen() -> None:
    """If all bands differ in more than their radius, the sum is more than the distance."""
    for keys in (5_000, 10**6, 10**8):
        for distance in range(17):
            radii = hashes._radii(keys, distance)
            assert not radii or sum(radius + 1 for radius in radii) == distance + 1


def test_looking_up_a_million_takes_few_looks() -> None:
    """What is looked at for one query, of a million random keys, at the distance of a duplicate."""
    radii = hashes._radii(10**6, 8)
    assert len(radii) == 3
    keys = np.unique(random_hashes(10**6))
    index = HashIndex(keys, 8)
    queries = random_hashes(2_000)
    candidates = sum(hashes._buckets(band, queries)[2].sum() for band in index.bands)
    assert candidates / len(queries) < 1e-3 * len(keys)
    assert sum(len(band.flips) for band in index.bands) < 1e-3 * len(keys)
