"""Rows made by Ray Data, committed block by block: a run that was killed goes on with the rows
that are missing, and so does a pipeline that has lost a node."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import ray
from pyarrow.fs import FileSystem
from ray.data import Dataset
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.checkpoint import CheckpointConfig

from cluster.artifacts import WORK, Artifact, Draft
from cluster.beside_driver import Counter, actor_beside_driver
from cluster.commits import (
    PENDING,
    all_committed,
    commit_files,
    count_rows,
    put_together,
    rows_of_block,
)
from cluster.connect import require_ray
from cluster.errors import refusals_of_workers
from cluster.nodes import Nodes
from cluster.pool import Pool
from cluster.progress import Progress, show_progress, watched
from cluster.rows import digest
from cluster.worker_versions import built_alike

Batch = dict[str, np.ndarray]
Worker = Callable[[Batch], Batch]
TRIES = 3
FILE_TASK_CPUS = 0.5
"""CPUs of tasks on files: a small machine must have room for them beside the pools."""
BESIDE_CPUS = 2.0
"""Without which a pipeline that begins again gets no rows to its worker: the actor that leaves out
what is committed takes one, what lists files or cuts blocks the other."""
STILL_SECONDS = 60.0
"""Without any worker at work, after which a pipeline that has lost a node begins again. Twice as
long each time that it has made nothing new, for workers may be slow to start, up to MOST_STILL
times."""
MOST_STILL = 16


def make_rows(
    draft: Draft,
    table: str,
    plan: pa.Table,
    worker: Callable[[], Worker],
    *,
    title: str,
    unit: str,
    block_rows: int,
    pool: Pool,
) -> int:
    """Writes the Parquet folder `table` of a draft: each row of the plan, as `worker` returns it.

    Returns the number of rows refused by their worker, those with a `reason`.

    plan: what is to be made, one row each, with a unique string column `id`, which workers must
    keep.
    worker: builds, on a Ray worker, the callable that maps batches of the plan to finished rows.
    block_rows: rows that are made, written and committed together (see
    `cluster.commits.rows_of_block`), and given to a worker at once; a kill loses at most what is
    under way. If nothing is left to be made, no pipeline starts.
    """
    if nothing_left(draft, table, plan["id"]):
        return count_refused(draft, table)
    planned = f"{WORK}/{table}.plan"
    draft.write_table(planned, plan)
    with counted(title, len(plan), unit, pool, committed_rows(draft, table)) as rows:
        write_committed(
            draft,
            table,
            rows,
            lambda: (
                read_rows(draft, planned)
                # Without it small inputs become one task, and a task is what is committed.
                .repartition(target_num_rows_per_block=rows_of_block(len(plan), block_rows))
                .map_batches(
                    Counted,
                    fn_constructor_args=(worker, rows.counter_name, pool),
                    batch_size=block_rows,
                    **pool.map_options(),
                )
            ),
        )
    return count_refused(draft, table)


def read_rows(source: Draft | Artifact, table: str) -> Dataset:
    """A Parquet folder of an artifact as Ray Data reads it, block by block."""
    require_ray()
    # Else a worker's error comes as one of Ray Data's, which has lost what it came from.
    ray.data.DataContext.get_current().raise_original_map_exception = True
    return ray.data.read_parquet(
        table, filesystem=source.as_root(), num_cpus=FILE_TASK_CPUS, partitioning=None
    )


def write_committed(
    draft: Draft,
    table: str,
    rows: "CountedRows",
    pipeline: Callable[[], Dataset],
    key: str = "id",
) -> None:
    """Runs a pipeline into the Parquet folder `table`; what it reads is only what is not there yet.

    Rows are known by their string column `key`, at the beginning of the pipeline as at its end. A
    block of the last stage is written and committed as a whole, and stays whole whatever its size,
    so rows that belong together are to leave that stage in one batch. Ray can write a row twice
    (a worker is killed between writing and committing); `Artifact.read_table` drops repeated ids.

    rows: as `counted` counts them. pipeline: builds the dataset, inside, with the counter that
    `rows` has then; Ray Data takes its settings over at that time, too. It begins again, with what
    is not there yet, if a node is lost and Ray Data cannot go on without it.
    """
    filesystem, committed = draft.as_root(), _committed(table)
    filesystem.create_dir(table, recursive=True)
    filesystem.create_dir(committed, recursive=True)
    put_together(filesystem, committed)
    context = ray.data.DataContext.get_current()
    block_bytes = context.target_max_block_size
    # Global to the process: any other pipeline's rows with these ids would be dropped silently.
    context.checkpoint_config = CheckpointConfig(
        key, committed, override_filesystem=filesystem, delete_checkpoint_on_success=False
    )
    context.target_max_block_size = None
    context.custom_execution_callback_classes.append(_StandstillEnds)
    _StandstillEnds.rows = rows
    try:
        with refusals_of_workers():
            while not _written(pipeline, table, filesystem, rows):
                rows.begin_again(committed_rows(draft, table))
    finally:
        _StandstillEnds.rows = None
        context.custom_execution_callback_classes.remove(_StandstillEnds)
        context.checkpoint_config = None
        context.target_max_block_size = block_bytes


def _written(
    pipeline: Callable[[], Dataset], table: str, filesystem: FileSystem, rows: "CountedRows"
) -> bool:
    """Writes what is missing; False if that has ended early, because a node is lost."""
    try:
        with rows.nodes.outlived():
            _write(pipeline, table, filesystem)
            return True
    except StandstillError:
        pass
    return False


def _write(pipeline: Callable[[], Dataset], table: str, filesystem: FileSystem) -> None:
    """Writes what is missing; again if workers of a run that was killed just now were still
    committing, so that a file that was listed had another name when it was read."""
    for tries_left in reversed(range(TRIES)):
        try:
            pipeline().write_parquet(
                table, filesystem=filesystem, ray_remote_args={"num_cpus": FILE_TASK_CPUS}
            )
            return
        except FileNotFoundError as error:
            if not tries_left or PENDING not in str(error):
                raise


def committed_rows(draft: Draft, table: str) -> int:
    """Rows that earlier runs have committed."""
    filesystem = draft.as_root()
    return count_rows(filesystem, commit_files(filesystem, _committed(table)))


def nothing_left(draft: Draft, table: str, keys: pa.ChunkedArray) -> bool:
    """Whether earlier runs have committed all rows of these keys."""
    return all_committed(draft.as_root(), _committed(table), keys)


def count_refused(draft: Draft, table: str) -> int:
    """Rows of a finished table that have a `reason`."""
    rows = draft.open_table(table)
    refused = rows.to_table(columns=["id"], filter=ds.field("reason") != "")
    return len(set(refused["id"].to_pylist()))


class Counted:
    """A worker that tells a counter when it begins a batch, and how many rows it has made of it."""

    def __init__(self, worker: Callable[[], Worker], counter_name: str, pool: Pool) -> None:
        pool.use_share()
        self.worker, self.counter = built_alike(worker), ray.get_actor(counter_name)
        context = ray.get_runtime_context()
        self.name, self.node = context.get_actor_id(), context.get_node_id()

    def __call__(self, batch: Batch) -> Batch:
        self.counter.begin.remote(self.name, self.node)
        rows = self.worker(batch)
        ids = rows["id"]
        number = int.from_bytes(digest(str(ids[0]), size=8)) if len(ids) else 0
        self.counter.add.remote(self.name, number, len(ids))
        return rows


class StandstillError(Exception):
    """Of a pipeline: a node is lost, and it waits for what does not come."""


class CountedRows:
    """How far a pipeline is whose rows are `Counted` elsewhere, and what it has lost.

    Ray Data gives the batches of a lost worker to that worker alone, once it is started again: with
    no room left for it they wait for ever. And where it takes the last room, what reads and writes
    files does; so may a new pipeline, for Ray Data counts the CPUs of a lost node for up to 20 s.
    """

    def __init__(self, progress: Progress, nodes: Nodes) -> None:
        self.progress, self.nodes = progress, nodes
        self._still_seconds = STILL_SECONDS
        self._begin(progress.done)

    def begin_again(self, committed: int) -> None:
        """From now on rows count beside those that are committed."""
        if committed > self._counting[1]:
            self._still_seconds = STILL_SECONDS
        else:
            self._still_seconds = min(2 * self._still_seconds, MOST_STILL * STILL_SECONDS)
        self._begin(committed)

    def _begin(self, committed: int) -> None:
        self.counter_name = f"rows-{uuid.uuid4().hex}"
        counter = actor_beside_driver(Counter, name=self.counter_name)
        self._counting = counter, committed  # at once: another thread looks
        self._last_work = time.monotonic()

    def look(self) -> None:
        """Brings progress and nodes up to date."""
        self.nodes.look()
        counter, committed = self._counting
        counted, at_work = ray.get(counter.look.remote(set(self.nodes.lost)))
        new = min(committed + counted, self.progress.total) - self.progress.done
        if new or at_work:
            self._last_work = time.monotonic()
        if new:
            self.progress.advance(new)

    def stands_still(self) -> bool:
        """Whether a node is lost, and for long no worker is at work."""
        still = time.monotonic() - self._last_work > self._still_seconds
        return still and bool(self.nodes.lost)


class _StandstillEnds(ExecutionCallback):
    """Has a pipeline of Ray Data end with StandstillError; Ray Data knows callbacks by class."""

    rows: CountedRows | None = None

    def on_execution_step(self, executor: object) -> None:
        if self.rows and self.rows.stands_still():
            raise StandstillError


@contextmanager
def counted(
    title: str, total: int, unit: str, pool: Pool, done: int, beside: float = 0.0
) -> Iterator[CountedRows]:
    """Shows how far work is whose rows are `Counted` elsewhere, and which nodes it has lost.

    done: rows that are committed already; an earlier plan may have had more of them. beside: CPUs
    that workers of other stages of the pipeline take.
    """
    require_ray()
    with show_progress(title, total, unit, done=done) as progress:
        rows = CountedRows(progress, Nodes(title, pool.resources(), BESIDE_CPUS + beside))
        with watched(rows.look):
            yield rows


def _committed(table: str) -> str:
    """Folder, below the draft, of the ids of committed rows."""
    return f"{WORK}/{table}.committed"
