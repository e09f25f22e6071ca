"""A reserved CPU is a used one, whatever starts the worker.

The other kinds of workers are looked at where they run: trials in `tests/jobs/test_search.py`,
pretraining in `tests/jobs/test_pretrain.py`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
import torch

from cluster.artifacts import Draft, draft
from cluster.errors import ConfigError
from cluster.pieces import Pieces, Tables, make_pieces
from cluster.pool import Pool
from cluster.row_pipeline import Batch, make_rows

CPUS = 2
POOL = Pool(workers=1, cpus=CPUS)
SCHEMA = pa.schema([("threads", pa.int32())])


class RowsOfThreads:
    def __call__(self, batch: Batch) -> Batch:
        threads = np.full(len(batch["id"]), torch.get_num_threads())
        return {**batch, "threads": threads, "reason": np.full(len(threads), "")}


@dataclass(frozen=True)
class Piece:
    key: str


class PieceOfThreads:
    def __call__(self, piece: Piece) -> Tables:
        return {"threads": pa.table({"threads": [torch.get_num_threads()]})}


def drafted(folder: Path) -> Draft:
    assert os.environ["OMP_NUM_THREADS"] == "1", "which workers inherit"
    return draft(str(folder), "factors", "threads", config=None, inputs={})


def test_a_worker_of_rows_computes_on_all_its_cpus(tmp_path: Path, local_ray: None) -> None:
    out, plan = drafted(tmp_path), pa.table({"id": ["a", "b"]})
    make_rows(out, "rows", plan, RowsOfThreads, title="rows", unit="rows", block_rows=1, pool=POOL)
    assert out.read_table("rows")["threads"].to_pylist() == [CPUS, CPUS]


def test_a_worker_of_pieces_computes_on_all_its_cpus(tmp_path: Path, local_ray: None) -> None:
    pieces = Pieces(drafted(tmp_path), {"threads": SCHEMA})
    make_pieces(pieces, [Piece("a")], PieceOfThreads, POOL, title="pieces", unit="pieces")
    assert pieces.read("threads", "a")["threads"].to_pylist() == [CPUS]


def test_part_of_a_cpu_is_one_thread() -> None:
    assert [Pool(cpus=cpus).threads for cpus in (0.0, 0.5, 1.0, 2.5)] == [1, 1, 1, 2]


def test_a_part_of_a_gpu_is_a_part_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", taken.append)
    for gpus in (0.0, 0.25, 1.0, 2.0):
        Pool(gpus=gpus).use_share()
    assert taken == [0.25]


def test_a_machine_of_its_own_has_no_groups() -> None:
    """The recipes for a cluster run there, too, and do not wait for a node that cannot come."""
    pool = Pool(group="trainer")
    assert pool.resources() == {"CPU": 1}
    assert pool.options()["resources"] is None


def test_what_this_machine_does_not_have_is_refused(local_ray: None) -> None:
    """Ray would wait for a node that cannot come."""
    there = ray.cluster_resources()
    cpus = there["CPU"]
    assert "GPU" not in there
    Pool(cpus=cpus).require_room(at_once=1)
    for pool, at_once, line in (
        (Pool(gpus=1), 1, "pool.gpus: 1; allowed: at most the 0 GPUs of this machine"),
        (Pool(cpus=cpus + 1), 1, f"pool.cpus: {cpus + 1:g}; allowed: at most the {cpus:g} CPUs"),
        (Pool(cpus=cpus), 2, f"pool.cpus: {cpus:g}, 2 workers at once; allowed: at most"),
    ):
        with pytest.raises(ConfigError, match=line):
            pool.require_room(at_once)
    for taken in (Pool.options, Pool.resources, Pool.map_options):
        with pytest.raises(ConfigError, match=r"pool\.gpus: 0\.5; allowed: at most the 0 GPUs"):
            taken(Pool(gpus=0.5))


def test_a_pool_takes_a_unit_of_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    pool = Pool(gpus=1, group="trainer")
    assert pool.resources() == {"CPU": 1, "GPU": 1, "trainer": 1}
    assert pool.options()["resources"] == {"trainer": 1}
