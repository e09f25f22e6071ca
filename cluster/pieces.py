"""Keyed pieces of work: each is computed on a worker and lies in atomic files under its key.

One of the three ways in which a killed job goes on; the others are Ray Data's committed blocks
(`cluster.row_pipeline`) and Ray Train's checkpoints. A piece is there or it is not: what is missing
is made by the next run, and so the result is that of an unbroken one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray
from pyarrow.fs import FileSelector
from ray.util import ActorPool

from cluster.artifacts import WORK, Draft
from cluster.connect import require_ray
from cluster.errors import refusals_of_workers
from cluster.pool import Pool
from cluster.progress import show_progress
from cluster.storage import opened_whole
from cluster.worker_versions import built_alike

PIECES = f"{WORK}/pieces"
ROWS_AT_ONCE = 100_000

Tables = Mapping[str, pa.Table]


class Work(Protocol):
    """What one piece is made from; goes to a worker by pickle."""

    @property
    def key(self) -> str:
        """A safe file name that no other piece of the job has."""


AnyWork = TypeVar("AnyWork", bound=Work)


@dataclass(frozen=True)
class Pieces:
    """Some tables of a draft, written piece by piece.

    schemas: by table. Of each piece the tables are written in this order, so that the last one says
    that the piece is complete; one that a piece does not give is empty.
    """

    draft: Draft
    schemas: Mapping[str, pa.Schema]

    def write(self, key: str, tables: Tables) -> None:
        """Keeps a piece; what a worker left half written before is written over."""
        fs, _ = self.draft.filesystem()
        for name, schema in self.schemas.items():
            with opened_whole(fs, self._file(name, key)) as stream:
                pq.write_table(tables.get(name, schema.empty_table()).cast(schema), stream)

    def read(self, name: str, key: str) -> pa.Table:
        """One table of a piece that is there."""
        fs, _ = self.draft.filesystem()
        return pq.read_table(self._file(name, key), filesystem=fs, partitioning=None)

    def complete(self) -> set[str]:
        """Keys of all pieces that are there; one request, however many they are."""
        fs, folder = self.draft.filesystem()
        last = f"{folder}/{PIECES}/{list(self.schemas)[-1]}"
        files = fs.get_file_info(FileSelector(last, allow_not_found=True))
        names = (file.base_name for file in files)
        return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}

    def gather(self, keys: Iterable[str]) -> dict[str, int]:
        """Writes the draft's tables from these pieces, in their order.

        Returns the rows of each table. No more than ROWS_AT_ONCE rows are in memory.
        """
        ordered, counts = list(keys), {}
        for name, schema in self.schemas.items():
            counts[name] = 0
            with (
                self.draft.open_file(f"{name}/part-0.parquet") as stream,
                pq.ParquetWriter(stream, schema) as table,
            ):
                for batch in self.batches(name, ordered):
                    table.write_batch(batch)
                    counts[name] += len(batch)
        return counts

    def batches(self, name: str, keys: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of one table of these pieces, in their order, ROWS_AT_ONCE at most together."""
        fs, _ = self.draft.filesystem()
        files = [self._file(name, key) for key in keys]
        if files:
            pieces = ds.dataset(files, self.schemas[name], "parquet", filesystem=fs)
            yield from pieces.to_batches(batch_size=ROWS_AT_ONCE)

    def _file(self, name: str, key: str) -> str:
        return f"{self.draft.filesystem()[1]}/{PIECES}/{name}/{key}.parquet"


class _Worker:
    """Makes pieces on a node and writes them there, so that no rows pass through the driver."""

    def __init__(
        self, load: Callable[[], Callable[[Any], Tables]], pieces: Pieces, pool: Pool
    ) -> None:
        pool.use_cpus()
        self.make, self.pieces = built_alike(load), pieces

    def run(self, work: Work) -> str:
        self.pieces.write(work.key, self.make(work))
        return work.key


def make_pieces(
    pieces: Pieces,
    works: Sequence[AnyWork],
    load: Callable[[], Callable[[AnyWork], Tables]],
    pool: Pool,
    *,
    title: str,
    unit: str,
    size: Callable[[AnyWork], int] = lambda _: 1,
) -> None:
    """Makes every piece that is not there yet, on the workers of a pool.

    load: builds, on a worker, the callable that makes the tables of a piece. A worker that dies is
    started again and its piece tried twice more; ConfigError of a worker is raised as it is.
    size: units of a piece.
    """
    complete = pieces.complete()
    missing = {work.key: work for work in works if work.key not in complete}
    total, done = sum(map(size, works)), sum(size(w) for w in works if w.key in complete)
    with show_progress(title, total, unit, done=done) as progress:
        if not missing:
            return
        require_ray()
        worker = ray.remote(_Worker).options(max_restarts=2, max_task_retries=2, **pool.options())
        count = min(pool.workers, len(missing))
        actors = ActorPool([worker.remote(load, pieces, pool) for _ in range(count)])
        with refusals_of_workers():
            made = actors.map_unordered(
                lambda actor, work: actor.run.remote(work), list(missing.values())
            )
            for key in made:
                progress.advance(size(missing[key]))
