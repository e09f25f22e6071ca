"""Rows made by Ray Data, committed block by block: a run that was killed goes on with the rows
that are missing."""

import dataclasses
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import ray
from jsonargparse.typing import NonNegativeFloat, PositiveInt
from pyarrow.fs import FileSelector
from ray.data import Dataset
from ray.data.checkpoint import CheckpointConfig

from cluster.artifacts import Artifact, Draft
from cluster.progress import Stage, stage
from cluster.storage import ConfigError

Batch = dict[str, np.ndarray]
Worker = Callable[[Batch], Batch]
SECONDS_BETWEEN_LOOKS = 1.0
FILE_TASK_CPUS = 0.5
"""Of tasks that read and write files: a small machine must have room for them beside the pools."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """The workers of one stage. Ray starts them as there is work and room, and ends idle ones."""

    min_workers: PositiveInt = 1
    """Workers that are kept from beginning to end."""
    max_workers: PositiveInt = 2
    """Workers at most."""
    cpus: NonNegativeFloat = 1.0
    """CPUs of each worker."""
    gpus: NonNegativeFloat = 0.0
    """GPUs of each worker; fractions share one."""
    group: str | None = None
    """Worker group of ray_cluster.yaml to run in: each worker takes a unit of the resource of that
    name. By default any node."""

    def options(self) -> dict[str, Any]:
        """Arguments of `Dataset.map_batches`. Raises ConfigError if the bounds are crossed."""
        if self.max_workers < self.min_workers:
            raise ConfigError(
                f"pool: max_workers {self.max_workers} is below min_workers {self.min_workers}; "
                f"allowed: {self.min_workers} or more"
            )
        sizes = {"min_size": self.min_workers, "max_size": self.max_workers}
        return {
            "compute": ray.data.ActorPoolStrategy(**sizes),
            "num_cpus": self.cpus,
            "num_gpus": self.gpus or None,
            "resources": {self.group: 1} if self.group else None,
        }


def make_rows(
    draft: Draft,
    table: str,
    plan: pa.Table,
    worker: Callable[[], Worker],
    *,
    title: str,
    unit: str,
    block_rows: int,
    workers: int,
    gpus_per_worker: float = 0,
) -> int:
    """Writes the Parquet folder `table` of a draft: each row of the plan, as `worker` returns it.

    Returns the number of rows refused by their worker, those with a `reason`.

    plan: what is to be made, one row each, with a unique string column `id`, which workers must
    keep.
    worker: builds, on a Ray worker, the callable that maps batches of the plan to finished rows.
    block_rows: rows that are made, written and committed together; a kill loses at most what is
    under way.
    """
    draft.write_table(f"{table}.plan", plan)
    pool = Pool(max_workers=workers, gpus=gpus_per_worker)
    done = min(committed_rows(draft, table), len(plan))  # an earlier plan may have had more
    with counted(title, len(plan), unit, done=done) as counter:
        write_committed(
            draft,
            table,
            lambda: (
                read_rows(draft, f"{table}.plan")
                # Without it small inputs become one task, and a task is what is committed.
                .repartition(target_num_rows_per_block=block_rows)
                .map_batches(
                    Counted,
                    fn_constructor_args=(worker, counter),
                    batch_size=block_rows,
                    **pool.options(),
                )
            ),
        )
    return count_refused(draft, table)


def read_rows(source: Draft | Artifact, table: str) -> Dataset:
    """A Parquet folder of an artifact as Ray Data reads it, block by block."""
    filesystem, folder = source.filesystem()
    return ray.data.read_parquet(
        f"{folder}/{table}", filesystem=filesystem, num_cpus=FILE_TASK_CPUS
    )


def write_committed(
    draft: Draft, table: str, pipeline: Callable[[], Dataset], key: str = "id"
) -> None:
    """Runs a pipeline into the Parquet folder `table`; what it reads is only what is not there yet.

    Rows are known by their string column `key`, at the beginning of the pipeline as at its end. A
    block of the last stage is written and committed as a whole, and stays whole whatever its size,
    so rows that belong together are to leave that stage in one batch. Ray can write a row twice
    (a worker is killed between writing and committing); `Artifact.read_table` drops repeated ids.

    pipeline: builds the dataset, inside; Ray Data takes its settings over at that time.
    """
    filesystem, folder = draft.filesystem()
    committed = _committed(draft, table)
    filesystem.create_dir(f"{folder}/{table}", recursive=True)
    filesystem.create_dir(committed, recursive=True)
    context = ray.data.DataContext.get_current()
    block_bytes = context.target_max_block_size
    # Global to the process: any other pipeline's rows with these ids would be dropped silently.
    context.checkpoint_config = CheckpointConfig(
        key, committed, override_filesystem=filesystem, delete_checkpoint_on_success=False
    )
    context.target_max_block_size = None
    try:
        pipeline().write_parquet(
            f"{folder}/{table}",
            filesystem=filesystem,
            ray_remote_args={"num_cpus": FILE_TASK_CPUS},
        )
    finally:
        context.checkpoint_config = None
        context.target_max_block_size = block_bytes


def committed_rows(draft: Draft, table: str) -> int:
    """Rows that earlier runs have committed."""
    filesystem, _ = draft.filesystem()
    files = filesystem.get_file_info(
        FileSelector(_committed(draft, table), recursive=True, allow_not_found=True)
    )
    return sum(
        pq.read_metadata(file.path, filesystem=filesystem).num_rows
        for file in files
        if file.path.endswith(".parquet") and "pending" not in file.path
    )


def count_refused(draft: Draft, table: str) -> int:
    """Rows of a finished table that have a `reason`."""
    filesystem, folder = draft.filesystem()
    made = ds.dataset(f"{folder}/{table}", filesystem=filesystem, format="parquet")
    refused = made.to_table(columns=["id"], filter=ds.field("reason") != "")
    return len(set(refused["id"].to_pylist()))


class _Counter:
    """Rows made so far in this run."""

    def __init__(self) -> None:
        self.rows = 0

    def add(self, rows: int) -> None:
        self.rows += rows

    def total(self) -> int:
        return self.rows


class Counted:
    """A worker that tells a counter how many rows it has made."""

    def __init__(self, worker: Callable[[], Worker], counter_name: str) -> None:
        self.worker, self.counter = worker(), ray.get_actor(counter_name)

    def __call__(self, batch: Batch) -> Batch:
        made = self.worker(batch)
        self.counter.add.remote(len(made["id"]))
        return made


@contextmanager
def counted(title: str, total: int, unit: str, done: int = 0) -> Iterator[str]:
    """Progress of a stage whose rows are `Counted` on other processes; yields a counter's name."""
    name = f"rows-{uuid.uuid4().hex}"
    counter = ray.remote(num_cpus=0)(_Counter).options(name=name).remote()
    with stage(title, total, unit, done=done) as progress, _watching(counter, progress):
        yield name


@contextmanager
def _watching(counter: Any, progress: Stage) -> Iterator[None]:
    """Shows the newly made rows, from a thread, until the block is left."""
    stopped, shown = threading.Event(), 0

    def look() -> None:
        nonlocal shown
        total = ray.get(counter.total.remote())
        if total > shown:
            progress.advance(total - shown)
            shown = total

    def watch() -> None:
        while not stopped.wait(SECONDS_BETWEEN_LOOKS):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    look()


def _committed(draft: Draft, table: str) -> str:
    return f"{draft.filesystem()[1]}/{table}.committed"
