"""Rows made by Ray Data, committed block by block: a run that was killed goes on with the rows
that are missing."""

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
from pyarrow.fs import FileSelector
from ray.data.checkpoint import CheckpointConfig

from cluster.artifacts import Draft
from cluster.progress import stage

Batch = dict[str, np.ndarray]
Worker = Callable[[Batch], Batch]
SECONDS_BETWEEN_LOOKS = 1.0


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
    under way. Rows can be written twice (written, killed, not yet committed); `Artifact.read_table`
    drops repeated ids.
    """
    draft.write_table(f"{table}.plan", plan)
    filesystem, folder = draft.filesystem()
    committed = f"{folder}/{table}.committed"
    filesystem.create_dir(f"{folder}/{table}", recursive=True)
    filesystem.create_dir(committed, recursive=True)
    done = _rows_in(filesystem, committed)
    counter_name = f"rows-{uuid.uuid4().hex}"
    counter = ray.remote(num_cpus=0)(_Counter).options(name=counter_name).remote()
    with stage(title, len(plan), unit, done=done) as progress, _watching(counter, progress.advance):
        context = ray.data.DataContext.get_current()
        # Global to the process: any other pipeline's rows with these ids would be dropped silently.
        context.checkpoint_config = CheckpointConfig(
            "id", committed, override_filesystem=filesystem, delete_checkpoint_on_success=False
        )
        try:
            (
                ray.data.read_parquet(f"{folder}/{table}.plan", filesystem=filesystem)
                # Without it small inputs become one task, and a task is what is committed.
                .repartition(target_num_rows_per_block=block_rows)
                .map_batches(
                    _Counted,
                    fn_constructor_args=(worker, counter_name),
                    batch_size=block_rows,
                    compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
                    num_cpus=1,
                    num_gpus=gpus_per_worker or None,
                )
                .write_parquet(f"{folder}/{table}", filesystem=filesystem)
            )
        finally:
            context.checkpoint_config = None
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


class _Counted:
    """A worker that tells the counter how many rows it has made."""

    def __init__(self, worker: Callable[[], Worker], counter_name: str) -> None:
        self.worker, self.counter = worker(), ray.get_actor(counter_name)

    def __call__(self, batch: Batch) -> Batch:
        made = self.worker(batch)
        self.counter.add.remote(len(made["id"]))
        return made


@contextmanager
def _watching(counter: Any, advance: Callable[[int], None]) -> Iterator[None]:
    """Calls `advance` with the newly made rows, from a thread, until the block is left."""
    stopped, shown = threading.Event(), 0

    def look() -> None:
        nonlocal shown
        total = ray.get(counter.total.remote())
        if total > shown:
            advance(total - shown)
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


def _rows_in(filesystem: Any, folder: str) -> int:
    files = filesystem.get_file_info(FileSelector(folder, recursive=True))
    return sum(
        pq.read_metadata(file.path, filesystem=filesystem).num_rows
        for file in files
        if file.path.endswith(".parquet") and "pending" not in file.path
    )
