"""Who is kept and why, on arrays made by hand."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from actors.curation import copies as near_copies
from actors.curation import likeness
from actors.curation.copies import first_likes_here, first_likes_reference
from actors.curation.critique import Critique
from actors.curation.decisions import Curation, CurationConfig, curate
from actors.curation.likeness import NONE, Near, Pictures, nearest

DIMENSIONS = 16
RNG = np.random.default_rng(0)


def unit(count: int) -> np.ndarray:
    """(count, D) float16 of unit length, in all directions."""
    vectors = RNG.standard_normal((count, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def turned(embedding: np.ndarray, cosine: float) -> np.ndarray:
    """A unit vector at this cosine of another one."""
    away = RNG.standard_normal(DIMENSIONS)
    away -= (away @ embedding) * embedding
    away /= np.linalg.norm(away)
    return (cosine * embedding + np.sqrt(1 - cosine**2) * away).astype(np.float16)


def flipped(text: str, bits: int) -> str:
    """A hash that differs in the lowest bits."""
    return f"{int(text, 16) ^ ((1 << bits) - 1):016x}"


class Set:
    """Pictures that are unlike each other, to be changed before they are judged."""

    def __init__(self, name: str, classes: dict[str, list[float]], views: int = 4) -> None:
        scores = [(c, i, score) for c, scores in classes.items() for i, score in enumerate(scores)]
        self.rows: list[dict[str, Any]] = [
            {
                "id": f"{name}-{class_name}-{number:04d}",
                "dataset": "toys",
                "class_name": class_name,
                "group": "IP",
                "index": number // views,
                "view": number % views,
                "score": score,
                "contrast": 0.2,
                "hash": f"{int(RNG.integers(0, 2**63)):016x}",
                "pixels": f"{name}-{class_name}-{number}",
                "reason": "",
            }
            for class_name, number, score in scores
        ]
        self.embeddings = unit(len(self.rows))

    def critique(self, order: np.ndarray | None = None) -> Critique:
        order = np.arange(len(self.rows)) if order is None else order
        return Critique(pa.Table.from_pylist(self.rows).take(order), self.embeddings[order])

    def copy(self, row: int, source: "Set", original: int, bits: int, cosine: float) -> None:
        """Makes a row a picture this far from another one."""
        self.rows[row]["hash"] = flipped(source.rows[original]["hash"], bits)
        self.embeddings[row] = turned(source.embeddings[original].astype(np.float64), cosine)


def spread(count: int, around: float = 0.5) -> list[float]:
    return (around + 0.05 * RNG.standard_normal(count)).tolist()


def curated(imagined: Set, tests: Set | None = None, **settings: Any) -> Curation:
    tests = tests or Set("test", {"cat": spread(4)})
    return curate(imagined.critique(), tests.critique(), CurationConfig(**settings))


def reasons(curation: Curation) -> dict[str, str]:
    """Refused pictures by id."""
    return {r["id"]: r["reason"] for r in curation.decisions.to_pylist() if r["reason"]}


def test_a_class_that_clip_does_not_know_is_not_thrown_away() -> None:
    """Its best score is below the worst of the others; a tenth of it shows something else."""
    known, unknown = spread(80), [*spread(72, around=0.0), *[-3.0] * 8]
    assert max(unknown) < min(known)
    curation = curated(Set("a", {"cat": known, "okapi": unknown}), low_score=6.0)
    share = {c["class_name"]: c["kept_share"] for c in curation.summary["classes"]}
    assert share == {"cat": 1.0, "okapi": 0.9}


def test_low_scores_never_take_more_than_the_bound_and_take_the_lowest() -> None:
    scores = [*spread(60), *np.linspace(-5, -3, 40)]
    pictures = Set("a", {"cat": scores})
    curation = curated(pictures, min_kept_share=0.7)
    assert curation.summary["classes"][0]["kept"] == 70
    refused = [row["score"] for row in curation.decisions.to_pylist() if not row["kept"]]
    assert sorted(refused) == pytest.approx(sorted(scores)[:30])
    for row in pictures.rows[75:]:  # the bound counts all pictures, so no room is left
        row["contrast"] = 0.0
    low = curated(pictures, min_kept_share=0.7).summary
    assert (low["flat"], low["low score"], low["below_it"]) == (25, 5, 0)
    for row in pictures.rows[60:]:
        row["contrast"] = 0.0
    assert curated(pictures).summary["below_it"] == 1


def test_of_near_copies_the_first_caption_is_kept() -> None:
    pictures = Set("a", {"cat": spread(12), "dog": spread(12)})
    pictures.copy(20, pictures, 5, bits=6, cosine=0.97)  # dog, caption 2, of cat, caption 1
    pictures.copy(9, pictures, 6, bits=0, cosine=0.5)  # only the hash is near
    pictures.copy(10, pictures, 6, bits=20, cosine=0.99)  # only the embedding is
    pictures.copy(1, pictures, 0, bits=0, cosine=0.99)  # views of one caption are meant to be alike
    pictures.rows[3]["pixels"] = pictures.rows[2]["pixels"]  # but not to be the same
    curation = curated(pictures, low_score=100.0)
    refused = {row["id"]: row for row in curation.decisions.to_pylist() if not row["kept"]}
    assert {row["reason"] for row in refused.values()} == {"duplicate"}
    assert {name: row["detail"] for name, row in refused.items()} == {
        "a-dog-0008": "a-cat-0005",
        "a-cat-0003": "a-cat-0002",
    }


def test_pictures_near_a_test_image_are_refused_by_any_of_the_measures() -> None:
    tests = Set("test", {"cat": spread(6)})
    tests.rows[5]["reason"] = "not a readable image"
    pictures = Set("a", {"dog": spread(12)})
    pictures.copy(0, tests, 0, bits=0, cosine=0.0)
    pictures.copy(1, tests, 1, bits=32, cosine=0.99)
    pictures.copy(2, tests, 2, bits=10, cosine=0.91)
    pictures.copy(3, tests, 3, bits=10, cosine=0.85)
    pictures.copy(4, tests, 5, bits=0, cosine=1.0)  # of bytes that are no picture
    pictures.copy(8, pictures, 0, bits=8, cosine=0.99)  # a duplicate of what is not kept
    curation = curated(pictures, tests, low_score=100.0)
    assert reasons(curation) == dict.fromkeys((f"a-dog-000{i}" for i in range(3)), "contaminated")
    listed = curation.contamination.to_pylist()
    refused = [
        (row["test_id"], row["hash_distance"]) for row in listed if row["listed"] == "refused"
    ]
    assert sorted(refused) == [("test-cat-0000", 0), ("test-cat-0001", 32), ("test-cat-0002", 10)]
    closest = {row["listed"]: row for row in reversed(listed)}
    assert closest["closest by hash"]["imagined_id"] == "a-dog-0008"
    assert closest["closest by cosine"]["test_id"] == "test-cat-0003"
    assert closest["closest by cosine"]["cosine"] == pytest.approx(0.85, abs=2e-3)
    assert curation.summary["test_images"] == {"toys": 5}


def test_without_datasets_nothing_is_contaminated() -> None:
    pictures = Set("a", {"dog": spread(12)})
    none = Critique(pictures.critique().rows[:0], pictures.embeddings[:0])
    curation = curate(pictures.critique(), none, CurationConfig())
    assert curation.summary["contaminated"] == curation.contamination.num_rows == 0


def test_the_order_of_the_rows_plays_no_part() -> None:
    tests, pictures = (
        Set("test", {"cat": spread(20)}),
        Set("a", {"cat": spread(60), "dog": spread(60)}),
    )
    for row in range(40, 60):
        pictures.copy(row, pictures, row - 37, bits=row % 9, cosine=0.97)
        pictures.copy(row + 40, tests, row % 20, bits=row % 13, cosine=0.92)
    orders = [RNG.permutation(120) for _ in range(3)]
    curations = [
        curate(pictures.critique(order), tests.critique(RNG.permutation(20)), CurationConfig())
        for order in orders
    ]
    assert {"duplicate", "contaminated"} <= set(reasons(curations[0]).values())
    for other in curations[1:]:
        assert other.decisions.equals(curations[0].decisions)
        assert other.contamination.equals(curations[0].contamination)
        assert other.summary == curations[0].summary


def test_blocks_find_what_a_comparison_of_all_pairs_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of near-copies over the borders of blocks: who is kept depends on who was before."""
    hashes = RNG.integers(0, 2**14, 100, dtype=np.uint64)
    embeddings = unit(100)
    pictures, order = Pictures(hashes, embeddings), RNG.permutation(100)[:90]
    captions = np.arange(100) // 4
    near = Near(hash_distance=3, cosine=-0.3)
    bits = np.bitwise_count(hashes[:, None] ^ hashes)
    cosines = embeddings.astype(np.float32) @ embeddings.astype(np.float32).T
    alike = (bits <= 3) & (cosines >= -0.3)
    originals: list[int] = []
    expected = []
    for place, row in enumerate(order):
        copied = [
            k for k in originals if alike[row, order[k]] and captions[row] != captions[order[k]]
        ]
        expected.append(copied[0] if copied else NONE)
        originals += [] if copied else [place]
    ordered = Pictures(hashes[order], embeddings[order])
    for module in (likeness, near_copies):
        monkeypatch.setattr(module, "BLOCK", 7)
    reference = first_likes_reference(ordered, captions[order], near)
    assert reference.tolist() == expected
    monkeypatch.setattr(near_copies, "FEW", 9)
    for most in (1, 2, 5):
        monkeypatch.setattr(near_copies, "MOST", most)
        likes = first_likes_here(ordered, captions[order], near, lambda _: None)
        assert likes.tolist() == expected
    assert 20 < len(originals) < 70
    others = Pictures(hashes[:30], unit(30))
    closest = nearest(pictures, order, others, [near], lambda _: None)
    every = pictures.cosines(order, others, np.arange(30))
    assert closest.by_hash.tolist() == bits[order, :30].argmin(axis=1).tolist()
    assert closest.by_cosine.tolist() == every.argmax(axis=1).tolist()
    copied_any = (bits[order, :30] <= 3) & (every >= -0.3)
    assert ((closest.copied != NONE) == copied_any.any(axis=1)).all()


def some_pictures(kind: str, count: int) -> tuple[Pictures, np.ndarray]:
    """Pictures and their captions: `count` of a kind that is hard for an index of hashes."""
    hashes = RNG.integers(0, 2**64, count, dtype=np.uint64)
    embeddings = unit(count)
    which = RNG.integers(0, count // 10, count)
    if kind == "clustered":  # copies of copies, a few bits and a little of the cosine away
        bits = np.left_shift(np.uint64(1), RNG.integers(0, 64, (count, 3)).astype(np.uint64))
        hashes = hashes[which] ^ np.bitwise_or.reduce(bits, axis=1)
        embeddings = (embeddings[which] + 0.05 * unit(count)).astype(np.float16)
    if kind == "equal hashes":  # half of them alike, half not
        hashes[: count // 2] = hashes[0]
        embeddings[: count // 4] = embeddings[0]
    if kind == "one crowd":  # all within 8 bits of a few
        hashes = RNG.integers(0, 2**12, count, dtype=np.uint64)
        embeddings = (embeddings[which % 5] + 0.2 * unit(count)).astype(np.float16)
    return Pictures(hashes, embeddings), RNG.integers(0, count // 4, count)


@pytest.mark.parametrize("kind", ["random", "clustered", "equal hashes", "one crowd"])
@pytest.mark.parametrize("cosine", [-1.0, 0.5, 0.95])
@pytest.mark.parametrize("most", [2, 16])
def test_an_index_of_hashes_decides_as_a_comparison_of_all_pairs(
    kind: str, cosine: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, captions = some_pictures(kind, 3_000)
    near = Near(hash_distance=8, cosine=cosine)
    expected = first_likes_reference(pictures, captions, near)
    monkeypatch.setattr(near_copies, "MOST", most)
    monkeypatch.setattr(near_copies, "AT_ONCE", 1_000)
    monkeypatch.setattr(near_copies, "FEW", 200)
    monkeypatch.setattr(near_copies, "BLOCK", 128)
    advanced: list[int] = []
    likes = first_likes_here(pictures, captions, near, advanced.append)
    assert np.array_equal(likes, expected)
    assert sum(advanced) == len(pictures)
    if kind != "random":
        assert (likes != NONE).sum() > 100


def test_no_picture_is_compared_with_one_whose_hash_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are equal hashes that are alike compared with each other: only with the kept one."""
    pictures, _ = some_pictures("random", 6_000)
    assert isinstance(pictures.embeddings, np.ndarray)
    pictures.hashes[3_000:] = pictures.hashes[0]
    pictures.embeddings[3_000:] = pictures.embeddings[0]
    compared = 0
    distances = Pictures.distances

    def counted(self: Pictures, rows: np.ndarray, others: Pictures, at: np.ndarray) -> np.ndarray:
        nonlocal compared
        compared += len(rows) * len(at)
        return distances(self, rows, others, at)

    monkeypatch.setattr(Pictures, "distances", counted)
    monkeypatch.setattr(near_copies, "FEW", 100)
    near = Near(hash_distance=8, cosine=0.95)
    likes = first_likes_here(pictures, np.arange(6_000), near, lambda _: None)
    assert (likes[3_000:] == 0).all()
    assert (likes[:3_000] == NONE).all()
    assert compared < 150 * len(pictures)  # each with a hundred: the parts that no index is made of
