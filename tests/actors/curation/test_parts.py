"""A base set that is decided on part by part, by workers, is decided on as by one process."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.curation import parts
from actors.curation.critique import packed, read_critique
from actors.curation.decisions import Curation, CurationConfig, curate
from actors.curation.parts import critique_parts, curate_parts
from actors.curation.stored import StoredEmbeddings, store_part
from cluster.artifacts import Artifact, Draft, draft
from cluster.errors import ConfigError
from cluster.folder import Folder
from cluster.pool import Pool
from cluster.rows import row_id

ROWS, TESTS, DIMENSIONS = 1_200, 90, 24


def looks(rng: np.random.Generator) -> list[dict[str, Any]]:
    """What a critic says of pictures with copies of each other and of tests, crowds and rubbish."""
    count = ROWS + TESTS
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    embeddings = rng.standard_normal((count, DIMENSIONS))
    copies, sources = rng.permutation(count)[:300], rng.integers(0, count, 300)
    hashes[copies] = hashes[sources] ^ np.left_shift(np.uint64(1), np.uint64(7))
    embeddings[copies] = embeddings[sources] + 0.05 * rng.standard_normal((300, DIMENSIONS))
    hashes[count // 2 : count // 2 + 80] = hashes[0]  # a crowd of one hash, half of them alike
    embeddings[count // 2 : count // 2 + 40] = embeddings[0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return [
        {
            "id": row_id("toys", str(row), 0, 0, "looks"),
            "role": "imagined" if row < ROWS else "test",
            "dataset": f"toys {row % 2}",
            "class_name": f"class {row % 7}",
            "group": "OOP" if row % 7 == 3 else "IP",
            "index": row % 31,
            "view": row % 4,
            "score": float(rng.normal(0.3, 0.1)),
            "embedding": b"" if row % 50 == 9 else embeddings[row].astype(np.float16).tobytes(),
            "hash": "" if row % 50 == 9 else f"{int(hashes[row]):016x}",
            "contrast": float(rng.random()),
            "pixels": "" if row % 50 == 9 else f"{row - row % 40 // 39:032x}",
            "reason": "no picture" if row % 50 == 9 else "",
        }
        for row in rng.permutation(count).tolist()
    ]


@pytest.fixture(scope="module")
def critique(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    out = draft(str(tmp_path_factory.mktemp("looks")), "critique", "toys", config=None, inputs={})
    rows = pa.Table.from_pylist(looks(np.random.default_rng(0)))
    rows = rows.set_column(7, "score", rows["score"].cast(pa.float32()))
    rows = rows.set_column(10, "contrast", rows["contrast"].cast(pa.float32()))
    for number, start in enumerate((0, 700)):
        with out.open_file(f"pictures/part-{number}.parquet") as stream:
            pq.write_table(rows.slice(start, 700), stream, row_group_size=100)
    return out.publish({"rows": len(rows)}, {"embed_dim": DIMENSIONS})


def same(one: Curation, other: Curation) -> bool:
    decisions = pa.concat_tables(one.batches())
    return (
        decisions.equals(other.decisions)
        and one.contamination.equals(other.contamination)
        and one.summary == other.summary
    )


def pieces(out: Draft) -> dict[str, int]:
    """Time at which each file of a piece was written."""
    files = Path(out.uri).glob("work/pieces/*/*.parquet")
    return {f"{file.parent.name}/{file.name}": file.stat().st_mtime_ns for file in files}


def test_parts_are_decided_on_as_the_whole_and_none_twice(
    critique: Artifact, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 250)
    assert [(part.first, part.last) for part in critique_parts(critique)] == [
        (0, 3),
        (3, 6),
        (6, 7),
        (0, 3),
        (3, 6),
    ]
    expected = curate(*read_critique(critique), CurationConfig())
    for reason in ("broken", "flat", "contaminated", "duplicate"):
        assert expected.summary[reason] > 10
    out = draft(str(tmp_path), "curation", "toys", config=None, inputs={"critique": critique})
    assert same(curate_parts(out, critique, CurationConfig(), Pool(workers=2)), expected)
    before = pieces(out)
    assert {name.partition("/")[0] for name in before} >= {"rows", "tests", "nearest", "pairs-0"}
    removed = {"nearest/000001.parquet", "pairs-0/000000000250.parquet"}
    for name in removed:
        Path(out.uri, "work", "pieces", name).unlink()
    assert same(curate_parts(out, critique, CurationConfig(), Pool(workers=1)), expected)
    after = pieces(out)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == removed


def test_a_critique_of_one_part_needs_no_worker(critique: Artifact, tmp_path: Path) -> None:
    assert len(critique_parts(critique)) == 2, "a part ends with its file"
    out = draft(str(tmp_path), "critique", "one", config=None, inputs={})
    out.write_table("pictures", critique.read_table("pictures"))
    one = out.publish({}, {"embed_dim": DIMENSIONS})
    curation = draft(str(tmp_path), "curation", "one", config=None, inputs={"critique": one})
    decided = curate_parts(curation, one, CurationConfig(), Pool())
    assert same(decided, curate(*read_critique(critique), CurationConfig()))
    assert not pieces(curation)


def test_stored_embeddings_are_read_in_any_order(tmp_path: Path) -> None:
    every = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float16)
    folder = Folder(str(tmp_path))
    sizes = {"a": 90, "b": 0, "c": 110}
    for key, start in zip(sizes, (0, 90, 90), strict=True):
        store_part(folder, key, every[start : start + sizes[key]])
    stored = StoredEmbeddings(folder, sizes, 3)
    assert stored.shape == (200, 3)
    assert np.array_equal(stored.of_part("c"), every[90:])
    rows = np.array([199, 3, 90, 89, 3, 120])
    assert np.array_equal(stored[rows], every[rows])
    assert len(stored[rows[:0]]) == 0
    some = stored.at(rows).taken(np.array([5, 0]))
    assert np.array_equal(some[np.array([1, 0, 0])], every[[199, 120, 120]])


def test_foreign_ids_are_refused(critique: Artifact) -> None:
    rows = critique.read_table("pictures").set_column(0, "id", pa.array(["x"] * (ROWS + TESTS)))
    with pytest.raises(ConfigError, match="critique: its ids are foreign; allowed: ids of 32"):
        packed(rows)
