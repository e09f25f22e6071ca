"""Rows made by Ray Data survive a kill of their driver, in a folder of any name."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.artifacts import Artifact, draft
from cluster.pool import Pool
from cluster.row_pipeline import make_rows
from tests.cluster.toy_pipeline import BLOCK, ROWS, SlowDice, run
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


ODD = "id=7 eyes=1?a#b%20c/[*]"
"""Names a column, and holds what a URI and a glob read something into."""


def test_a_folder_of_any_name_holds_the_same_rows(tmp_path: Path, local_ray: None) -> None:
    """Also of a run that goes on: what was committed is found there."""

    def made(folder: Path) -> Artifact:
        folder.mkdir(parents=True)
        out = draft(str(folder), "images", "toy", config={}, inputs={})
        worker = partial(SlowDice, str(folder / "made.txt"), 0)
        ids = [f"row {number:02d}" for number in range(4 * BLOCK)]
        settings = {"title": "dice", "unit": "rows", "block_rows": BLOCK, "pool": Pool(workers=1)}
        for rows in (ids[: 2 * BLOCK], ids):
            refused = make_rows(out, "rows", pa.table({"id": rows}), worker, **settings)
        assert sorted((folder / "made.txt").read_text().splitlines()) == ids, "each once"
        return out.publish({"rows": len(ids), "refused": refused})

    odd, plain = made(tmp_path / ODD), made(tmp_path / "plain")
    assert odd.read_table("rows").equals(plain.read_table("rows"))
    assert odd.manifest.rows == plain.manifest.rows
