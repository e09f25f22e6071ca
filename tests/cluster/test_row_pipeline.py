"""Rows made by Ray Data survive a kill of their driver."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.artifacts import Artifact
from tests.cluster.toy_pipeline import BLOCK, ROWS, run
from tests.processes import wait_until

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
