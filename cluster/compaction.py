"""Tables of few large files, from the many small ones in which rows are committed.

What opens a table pays for each of its files, a request and about a millisecond; what loses a run
that was killed pays for each row of a large commit. So rows are committed in small files, and these
are put together when all are there.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from pyarrow.fs import FileSystem

from cluster.artifacts import Draft
from cluster.connect import require_ray
from cluster.files import READERS, FileFacts, HashedStream, listed
from cluster.progress import show_progress
from cluster.row_pipeline import FILE_TASK_CPUS
from cluster.rows import digest

FILE_BYTES = 256_000_000
"""Of a file of the large ones, at least, but for the last."""
GROUP_BYTES = 4_000_000
"""Of a row group, about: what a reader of one picture has to read."""
ROWS_AT_ONCE = 64
TASKS_AT_ONCE = 64


@dataclass(frozen=True)
class _Group:
    """Small files, below the draft's folder, that become one."""

    table: str
    sources: tuple[str, ...]
    repeated: dict[str, list[int]] = field(default_factory=dict)
    """By source its rows that another file has, too: a row can be committed twice."""

    @property
    def name(self) -> str:
        """Of the large file: other sources are another one."""
        return f"part-{digest(*self.sources, size=8).hex()}.parquet"

    @property
    def file(self) -> str:
        return f"{self.table}/{self.name}"


def compact(draft: Draft, source: str, table: str) -> None:
    """Writes the table `table` from all files of the folder `source` of a draft, each id once.

    source: Parquet with a string column `id`, below the folder WORK, which goes when the draft is
    published. Rows keep the order of their files' names. One file is written here; several are
    written by tasks of Ray. What an earlier run has written is kept.
    """
    fs, folder = draft.filesystem()
    groups = list(_groups(fs, folder, source, table))
    there = set(listed(fs, f"{folder}/{table}", without="")) if groups else set()
    for name in there - {group.name for group in groups}:
        fs.delete_file(f"{folder}/{table}/{name}")  # of fewer small files than there are now
    missing = [group for group in groups if group.name not in there]
    if len(groups) == 1:
        for group in missing:
            _written(draft, group)
        return
    with show_progress(f"files of {table}", len(groups), "files", len(groups) - len(missing)) as p:
        for group, of_file in _by_tasks(draft, missing):
            draft.written[group.file] = of_file
            p.advance()


def _groups(fs: FileSystem, folder: str, source: str, table: str) -> Iterator[_Group]:
    """The small files in order of their names, as many to a group as FILE_BYTES take."""
    sizes = listed(fs, f"{folder}/{source}", without="")
    names = sorted(name for name in sizes if name.endswith(".parquet"))
    repeated = _repeated(fs, [f"{folder}/{source}/{name}" for name in names])
    waiting: list[str] = []
    held = 0
    for name in names:
        waiting.append(f"{source}/{name}")
        held += sizes[name]
        if held >= FILE_BYTES or name == names[-1]:
            rows = {s: repeated[f"{folder}/{s}"] for s in waiting if f"{folder}/{s}" in repeated}
            yield _Group(table, tuple(waiting), rows)
            waiting, held = [], 0


def _repeated(fs: FileSystem, paths: Sequence[str]) -> dict[str, list[int]]:
    """By file the rows whose id an earlier row has; reads the ids of all."""

    def ids_of(path: str) -> pa.ChunkedArray:
        ids = pq.read_table(path, columns=["id"], filesystem=fs, partitioning=None)["id"]
        return ids.cast(pa.string())

    with ThreadPoolExecutor(READERS) as pool:
        columns = list(pool.map(ids_of, paths))
    ids = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    if pc.count_distinct(ids).as_py() == len(ids):
        return {}
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(np.array(ids.to_pylist()), return_index=True)[1]] = True
    rows: dict[str, list[int]] = {}
    start = 0
    for path, column in zip(paths, columns, strict=True):
        again = np.flatnonzero(~first[start : start + len(column)]).tolist()
        start += len(column)
        if again:
            rows[path] = again
    return rows


def _by_tasks(draft: Draft, groups: Sequence[_Group]) -> Iterator[tuple[_Group, FileFacts]]:
    """Each group and the facts of its file, as they are written."""
    if not groups:
        return
    require_ray()
    write = ray.remote(num_cpus=FILE_TASK_CPUS, max_retries=2)(_written)
    bare = Draft(draft.uri, None, draft.manifest)  # no lock, which stays with this process
    waiting = iter(groups)
    running: dict[Any, _Group] = {}
    while True:
        for group in waiting:
            running[write.remote(bare, group)] = group
            if len(running) == TASKS_AT_ONCE:
                break
        if not running:
            return
        (done,), _ = ray.wait(list(running))
        yield running.pop(done), ray.get(done)


def _written(draft: Draft, group: _Group) -> FileFacts:
    """Writes the file of a group, some hundred rows at a time."""
    with draft.open_file(group.file) as stream:
        _copy(*draft.filesystem(), group, stream)
    return draft.written[group.file]


def _copy(fs: FileSystem, folder: str, group: _Group, target: HashedStream) -> None:
    # A column that is empty in a whole file has no type there.
    schemas = [pq.read_schema(f"{folder}/{source}", filesystem=fs) for source in group.sources]
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    waiting: list[pa.RecordBatch] = []
    held = 0
    with pq.ParquetWriter(target, schema) as writer:
        for batch in _rows(fs, folder, group):
            waiting.append(batch.cast(schema))
            held += batch.nbytes
            if held >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(waiting, schema))
                waiting, held = [], 0
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting, schema))


def _rows(fs: FileSystem, folder: str, group: _Group) -> Iterator[pa.RecordBatch]:
    """Without those that are repeated. A small file is read by few requests, whatever columns it
    has, and is in memory meanwhile."""
    for source in group.sources:
        again = np.array(group.repeated.get(source, []), dtype=int)
        start = 0
        with pq.ParquetFile(f"{folder}/{source}", filesystem=fs, pre_buffer=True) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                kept = np.setdiff1d(np.arange(start, start + len(batch)), again) - start
                start += len(batch)
                if len(kept):
                    yield batch.take(pa.array(kept))
