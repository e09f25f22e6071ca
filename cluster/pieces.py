"""Keyed pieces of work: each is computed on a worker and lies in atomic files under its key.

One of the three ways in which a killed job goes on; the others are Ray Data's committed blocks
(`cluster.row_pipeline`) and Ray Train's checkpoints. A piece is there or it is not: what is missing
is made by the next run, and so the result is that of an unbroken one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray
from pyarrow.fs import FileSelector

from cluster.artifacts import WORK, Draft
from cluster.connect import require_ray
from cluster.crew import AnyWork, Work, works_done
from cluster.errors import refusals_of_workers
from cluster.nodes import watched_nodes
from cluster.pool import Pool
from cluster.progress import show_progress
from cluster.storage import opened_whole
from cluster.worker_versions import built_alike

PIECES = f"{WORK}/pieces"
ROWS_AT_ONCE = 100_000

Tables = Mapping[str, pa.Table]


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

    def read(self, name: str, key: str, columns: list[str] | None = None) -> pa.Table:
        """One table of a piece that is there, or some of its columns."""
        fs, _ = self.draft.filesystem()
        file = self._file(name, key)
        return pq.read_table(file, columns=columns, filesystem=fs, partitioning=None)

    def complete(self) -> set[str]:
        """Keys of all pieces that are there; one request, however many they are."""
        names = (path.rpartition("/")[2] for path in self._sizes(list(self.schemas)[-1]))
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
        if not keys:
            return
        fs, _ = self.draft.filesystem()
        sizes = self._sizes(name)  # else an object store is asked for that of each file
        files = [self._file(name, key) for key in keys]
        format_ = ds.ParquetFileFormat()
        fragments = [format_.make_fragment(f, fs, file_size=sizes.get(f)) for f in files]
        pieces = ds.FileSystemDataset(fragments, self.schemas[name], format_, fs)
        yield from pieces.to_batches(batch_size=ROWS_AT_ONCE)

    def _sizes(self, name: str) -> dict[str, int]:
        """Path to bytes of all files of a table that are there; one request."""
        fs, folder = self.draft.filesystem()
        selector = FileSelector(f"{folder}/{PIECES}/{name}", allow_not_found=True)
        return {info.path: info.size for info in fs.get_file_info(selector)}

    def _file(self, name: str, key: str) -> str:
        return f"{self.draft.filesystem()[1]}/{PIECES}/{name}/{key}.parquet"


class _Worker:
    """Makes pieces on a node and writes them there, so that no rows pass through the driver."""

    def __init__(
        self, load: Callable[[], Callable[[Any], Tables]], pieces: Pieces, pool: Pool
    ) -> None:
        pool.use_share()
        self.make, self.pieces = built_alike(load), pieces

    def begin(self) -> None:
        """Returns once there is a worker."""

    def run(self, work: Work) -> None:
        self.pieces.write(work.key, self.make(work))


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

    load: builds, on a worker, the callable that makes the tables of a piece. A worker that is lost
    is replaced, and its piece made by another (see `cluster.crew`); ConfigError of a worker is
    raised as it is. size: units of a piece.
    """
    complete = pieces.complete()
    missing = [work for work in works if work.key not in complete]
    total, left = sum(map(size, works)), sum(map(size, missing))
    with show_progress(title, total, unit, done=total - left) as progress:
        if not missing:
            return
        require_ray()
        worker = ray.remote(_Worker).options(**pool.options())

        def start() -> Any:
            return worker.remote(load, pieces, pool)

        with refusals_of_workers(), watched_nodes(title, pool.resources()) as nodes:
            for work in works_done(missing, start, pool.workers, nodes):
                progress.advance(size(work))
