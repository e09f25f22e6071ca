"""What is committed of a table: how many blocks there are, and whether anything is left."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from cluster.commits import (
    MANY_FILES,
    MOST_BLOCKS,
    MOST_GROWTH,
    PENDING,
    all_committed,
    commit_files,
    count_rows,
    keys_of,
    put_together,
    rows_of_block,
)

FS = LocalFileSystem()


def commit(folder: Path, name: str, keys: list[str]) -> None:
    pq.write_table(pa.table({"id": keys}), folder / name)


def keys(count: int) -> pa.ChunkedArray:
    return pa.chunked_array([[f"row {number}" for number in range(count)]])


@pytest.mark.parametrize("asked", [1, 4, 128, 256])
def test_blocks_are_bounded_until_they_are_as_large_as_a_kill_may_lose(asked: int) -> None:
    assert rows_of_block(0, asked) == rows_of_block(MOST_BLOCKS * asked, asked) == asked
    for times in (2, 7, MOST_GROWTH):
        rows = times * MOST_BLOCKS * asked
        assert -(-rows // rows_of_block(rows, asked)) == MOST_BLOCKS
    assert rows_of_block(10**9, asked) == MOST_GROWTH * asked


def test_nothing_is_left_if_all_keys_are_committed_whatever_else_is(tmp_path: Path) -> None:
    assert not all_committed(FS, str(tmp_path), keys(0)), "no row was made"
    commit(tmp_path, "a.parquet", ["row 0", "row 1", "row 9"])
    assert all_committed(FS, str(tmp_path), keys(2))
    assert not all_committed(FS, str(tmp_path), keys(3)), "as many, but others"
    commit(tmp_path, "b.parquet", ["row 2", "row 1"])
    assert all_committed(FS, str(tmp_path), keys(3))
    assert not all_committed(FS, str(tmp_path), keys(5)), "one of them twice"
    commit(tmp_path, f"c{PENDING}", ["row 2"])
    assert not all_committed(FS, str(tmp_path), keys(3)), "a kill has left rows to be removed"


def test_many_files_become_one_that_says_the_same(tmp_path: Path) -> None:
    folder = str(tmp_path)
    for number in range(MANY_FILES - 1):
        commit(tmp_path, f"{number:03d}.parquet", [f"row {number}", f"row {number}"])
    put_together(FS, folder)
    assert len(commit_files(FS, folder)) == MANY_FILES - 1, "few files stay"
    commit(tmp_path, "last.parquet", [f"row {MANY_FILES - 1}"])
    commit(tmp_path, f"under way{PENDING}", ["row"])
    put_together(FS, folder)
    (one,) = commit_files(FS, folder)
    assert count_rows(FS, [one]) == 2 * MANY_FILES - 1, "a caption is committed once per picture"
    assert set(keys_of(FS, [one])["id"].to_pylist()) == set(keys(MANY_FILES).to_pylist())
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == f"under way{PENDING}"
