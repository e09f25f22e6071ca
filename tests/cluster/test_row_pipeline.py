"""Rows made by Ray Data survive a kill of their driver, in a folder of any name."""

import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import Artifact, draft, open_artifact
from cluster.beside_driver import Counter
from cluster.errors import ConfigError
from cluster.pool import Pool
from cluster.row_pipeline import make_rows
from tests.cluster.toy_pipeline import BLOCK, ROWS, RefusedConfig, SlowDice, refused, run
from tests.processes import wait_until

ROOT = Path(__file__).parents[2]
COMMITTED_BEFORE_THE_KILL = 3 * BLOCK


def committed_rows(folder: Path) -> int:
    files = folder.glob("images/*/work/rows.committed/*.parquet")
    return sum(pq.read_metadata(path).num_rows for path in files if "pending" not in path.name)


@dataclass(frozen=True)
class GoneOn:
    """A run that was killed, and the run that went on."""

    committed: int
    """Rows, before the kill."""
    artifact: Artifact
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> GoneOn:
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.cluster.toy_pipeline", str(folder)]
    first = subprocess.Popen(command, cwd=ROOT)
    wait_until(lambda: committed_rows(folder) >= COMMITTED_BEFORE_THE_KILL, first)
    first.kill()
    first.wait()
    committed = committed_rows(folder)
    assert not list(folder.glob("images/*/manifest.json"))
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert second.returncode == 0, second.stderr
    (made,) = folder.glob("images/*")
    return GoneOn(committed, open_artifact(str(made), "images"), second)


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(
    gone_on: GoneOn, tmp_path: Path, local_ray: None
) -> None:
    artifact, unbroken = gone_on.artifact, run(tmp_path)
    assert artifact.read_table("rows").equals(unbroken.read_table("rows"))
    assert artifact.manifest.rows == unbroken.manifest.rows
    assert artifact.manifest.rows["rows"] == ROWS
    assert artifact.manifest.rows["refused"] > 0
    lines = Path(artifact.uri).parents[1].joinpath("made.txt").read_text().split()
    assert len(lines) <= ROWS + (ROWS - gone_on.committed), (
        "rows that were committed have been made again"
    )
    assert len(lines) < 2 * ROWS


@pytest.mark.parametrize("when", ["built", "called"])
def test_what_a_worker_refuses_is_raised_as_it_is(
    tmp_path: Path, local_ray: None, when: Literal["built", "called"]
) -> None:
    with pytest.raises(ConfigError) as raised:
        refused(RefusedConfig(storage=str(tmp_path), when=when))
    assert type(raised.value) is ConfigError
    assert str(raised.value) == "dice: loaded; allowed: fair ones"


@pytest.mark.ray
def test_what_a_worker_refuses_is_one_line_and_exit_2(tmp_path: Path) -> None:
    code = """if True:
        from cluster.job import run_job
        from tests.cluster.toy_pipeline import RefusedConfig, refused
        run_job(RefusedConfig, refused)"""
    command = [sys.executable, "-c", code, "--storage", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "error: dice: loaded; allowed: fair ones\n"


@pytest.mark.ray
def test_a_good_run_says_how_far_it_is_and_nothing_else(gone_on: GoneOn) -> None:
    assert gone_on.second.stdout == ""
    lines = gone_on.second.stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("dice: ")] == []


def test_a_batch_that_is_made_again_counts_once() -> None:
    """And a worker that went with its node is not at work."""
    counter = Counter()
    for worker, node in (("1", "here"), ("2", "there")):
        counter.begin(worker, node)
    assert counter.look(set()) == (0, True)
    counter.add("1", batch=10, rows=5)
    counter.begin("1", "there")
    assert counter.look(set()) == (5, True)
    assert counter.look({"there"}) == (5, False)
    counter.begin("1", "here")  # it is started again, and has both batches, and one already made
    assert counter.look({"there"}) == (5, True)
    for batch, rows in ((11, 5), (10, 4), (10, 5)):
        counter.add("1", batch, rows)
    assert counter.look({"there"}) == (10, False)


ODD = "id=7 eyes=1?a#b%20c/[*]"
"""Names a column, and holds what a URI and a glob read something into."""


def test_a_folder_of_any_name_holds_the_same_rows(tmp_path: Path, local_ray: None) -> None:
    """Also of a run that goes on: what was committed is found there."""
    (folder := tmp_path / ODD).mkdir(parents=True)
    out = draft(str(folder), "images", "toy", config={}, inputs={})
    worker = partial(SlowDice, str(folder / "made.txt"), 0)
    ids = [f"row {number:02d}" for number in range(4 * BLOCK)]
    make = partial(make_rows, title="dice", unit="rows", block_rows=BLOCK, pool=Pool(workers=1))
    for rows in (ids[: 2 * BLOCK], ids):
        refused = make(out, "rows", pa.table({"id": rows}), worker)
    assert sorted((folder / "made.txt").read_text().splitlines()) == ids, "each once"
    made = out.publish({"rows": len(ids), "refused": refused}).read_table("rows").to_pydict()
    expected = SlowDice(str(tmp_path / "elsewhere.txt"), 0)({"id": np.array(ids, dtype=object)})
    assert made == {name: values.tolist() for name, values in expected.items()}
    assert refused == np.count_nonzero(expected["reason"]) > 0
