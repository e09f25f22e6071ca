import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.rows import digest, id_texts, packed_ids, row_id, row_rng, row_seed, slug


def test_id_is_32_hex_and_the_same_again() -> None:
    first = row_id("animals", "okapi", 3, 1, "sprites-1")
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first == row_id("animals", "okapi", 3, 1, "sprites-1")


def test_id_depends_on_every_field() -> None:
    base = ("animals", "okapi", 3, 1, "sprites-1")
    others = [("plants", *base[1:]), ("animals", "cat", 3, 1, "sprites-1")]
    others += [(*base[:2], 4, 1, base[4]), (*base[:3], 2, base[4]), (*base[:4], "sprites-2")]
    assert len({row_id(*fields) for fields in [base, *others]}) == 6


def test_fields_that_concatenate_alike_have_other_ids() -> None:
    assert row_id("ab", "c", 1, 12, "r") != row_id("a", "bc", 1, 12, "r")
    assert row_id("a", "b", 1, 12, "r") != row_id("a", "b", 11, 2, "r")
    assert digest("ab", "") != digest("a", "b") != digest("", "ab")


def test_packed_ids_are_the_same_ids_in_the_same_order() -> None:
    ids = pa.array([row_id("animals", "cat", index, 0, "r") for index in range(300)])
    for texts in (ids, ids.cast(pa.large_string()), ids.slice(0, 0)):
        packed = packed_ids(texts)
        assert id_texts(packed).equals(texts.cast(pa.string()))
        assert pc.sort_indices(packed).equals(pc.sort_indices(texts))
    some = packed_ids(ids.slice(7, 20))
    assert id_texts(some.slice(1)).equals(ids.slice(8, 19))


@pytest.mark.parametrize("other", ["cat", "", "A" * 32, " " * 32, "é" * 16, "0" * 33, None])
def test_what_is_no_id_is_named(other: str | None) -> None:
    ids = pa.array(["0" * 32, other], pa.string())
    with pytest.raises(ValueError, match=re.escape(repr(other))):
        packed_ids(ids)


def test_generator_is_a_function_of_row_and_purpose() -> None:
    one, again, other = (row_rng("0" * 32, purpose) for purpose in ("crop", "crop", "noise"))
    numbers = one.integers(2**62, size=8)
    assert np.array_equal(numbers, again.integers(2**62, size=8))
    assert not np.array_equal(numbers, other.integers(2**62, size=8))


def test_generator_is_the_same_on_every_machine() -> None:
    """Numbers written down once: another would mean that old artifacts cannot be made again."""
    assert row_rng("f" * 32).integers(1000, size=4).tolist() == [994, 962, 99, 16]


def test_seed_has_63_bits() -> None:
    seeds = [row_seed(f"{i:032x}") for i in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_plain_names_stay_readable() -> None:
    assert slug("okapi") == "okapi"
    assert slug("sea-horse-2") == "sea-horse-2"


def test_slug_is_one_harmless_name() -> None:
    hostile = ["../../x", "a/b", "..", "", " ", "\x00", "-rf", "C:\\x", "日本", "x" * 500, "CON"]
    for name in hostile:
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,79}", slug(name)), name


def test_different_names_have_different_slugs() -> None:
    names = ["Cat", "cat", "c at", "c-at", "c/at", "cät", "cat ", "", " ", "x" * 500, "x" * 501]
    names.append(slug("Cat"))  # a name that looks like another name's slug
    assert len({slug(name) for name in names}) == len(names)


def test_composed_and_decomposed_unicode_are_one_name() -> None:
    assert slug("caf\u00e9") == slug("cafe\u0301")
