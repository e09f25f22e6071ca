"""Rows made by Ray Data survive a kill of their driver, in a folder of any name."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import Artifact, draft
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


@pytest.fixture
def after_a_kill(tmp_path: Path, local_ray: None) -> tuple[Artifact, int]:
    """The artifact that a second run finished, and the rows that the first one had committed."""
    first = subprocess.Popen([sys.executable, "-m", "tests.cluster.toy_pipeline", str(tmp_path)])
    wait_until(lambda: committed_rows(tmp_path) >= COMMITTED_BEFORE_THE_KILL, first)
    first.kill()
    first.wait()
    done = committed_rows(tmp_path)
    assert not list(tmp_path.glob("images/*/manifest.json"))
    return run(tmp_path), done


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(
    after_a_kill: tuple[Artifact, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    artifact, done = after_a_kill
    unbroken = run(tmp_path_factory.mktemp("unbroken"))
    assert artifact.read_table("rows").equals(unbroken.read_table("rows"))
    assert artifact.manifest.rows == unbroken.manifest.rows
    assert artifact.manifest.rows["rows"] == ROWS
    assert artifact.manifest.rows["refused"] > 0
    lines = Path(artifact.uri).parents[1].joinpath("made.txt").read_text().split()
    assert len(lines) <= ROWS + (ROWS - done), "rows that were committed have been made again"
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
def test_a_good_run_says_how_far_it_is_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster.toy_pipeline", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout) == (0, "")
    lines = ended.stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("dice: ")] == []


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
