"""A search, an evaluation and a discovery that are killed again and again end with the bytes of a
run that was not."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.artifacts import Artifact, open_artifact
from cluster.content import plain
from cluster.pool import Pool
from jobs.discover import discover_all
from jobs.evaluate import EvaluateConfig, evaluate
from jobs.search import search
from tests.actors.small_world import make_dataset, make_features
from tests.faults.under_fire import DRIVER, Fire
from tests.jobs import small_discovery, small_search

pytestmark = pytest.mark.ray
KILLS = int(os.environ.get("KILLS", 3))
"""Of each job; with KILLS=20 in the environment they take a quarter of an hour."""
SEED = 2026
LONGEST_WAIT = 1.0
"""Seconds in which a worker is at work, before a kill."""
TIMES = {"wall_s", "cpu_s"}
"""Columns that no two runs have in common."""
DIARIES = ("progress/part-0.parquet", "studies.journal", "fit.json")
"""Ends of the names of a search's files that are about times; what else is in them, its tables
`trials` and `fits` have, too."""


@dataclass(frozen=True)
class Killed:
    """A job, and what it made unbroken."""

    module: str
    worker: str
    """Pattern of the title that Ray gives its workers once they are built."""
    settings: Any
    unbroken: Artifact


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_features(folder, make_dataset(folder))
    return folder


@pytest.fixture(scope="module")
def searched(world: Path, local_ray: None) -> Killed:
    cfg = dataclasses.replace(small_search.config(world, "unbroken"), seeds=list(range(6)))
    return Killed("jobs.search", r"^ray::ImplicitFunc(\.train)?$", cfg, search(cfg))


@pytest.fixture(scope="module")
def evaluated(world: Path, searched: Killed, local_ray: None) -> Killed:
    cfg = EvaluateConfig(
        storage=str(world / "unbroken"),
        adapted=searched.unbroken.uri,
        datasets=[str(path) for path in world.glob("dataset/*")],
        features=[str(path) for path in world.glob("features/*")],
        pool=Pool(workers=1),
    )
    return Killed("jobs.evaluate", r"^ray::_Worker(\.run)?$", cfg, evaluate(cfg))


@pytest.fixture(scope="module")
def discovered(world: Path, local_ray: None) -> Killed:
    cfg = small_discovery.config(world, "unbroken", baselines=small_discovery.BASELINES)
    return Killed("jobs.discover", r"^ray::_Worker(\.run)?$", cfg, discover_all(cfg))


@pytest.mark.parametrize("job", ["searched", "evaluated", "discovered"])
def test_random_kills_change_nothing(
    job: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    killed: Killed = request.getfixturevalue(job)
    fire = Fire(KILLS, {"worker": killed.worker}, LONGEST_WAIT, np.random.default_rng(SEED))
    while fire.killed.total() < KILLS:
        storage = tmp_path_factory.mktemp(job)
        (recipe := storage / "recipe.json").write_text(json.dumps(plain(killed.settings)))
        command = [sys.executable, "-m", killed.module, "--config", str(recipe)]
        fire.run([*command, "--storage", str(storage)])
        (folder,) = storage.glob(f"{killed.unbroken.manifest.kind}/*")
        same(open_artifact(str(folder), killed.unbroken.manifest.kind), killed.unbroken)
    print(f"killed: {dict(fire.killed)}")
    assert fire.killed[DRIVER] * fire.killed["worker"] > 0


def same(made: Artifact, unbroken: Artifact) -> None:
    """Asserts that all files have the same bytes; tables with times, all other columns."""
    files, expected = made.manifest.files, unbroken.manifest.files
    assert list(files) == list(expected)
    differing = {name for name in files if files[name] != expected[name]}
    tables = {name.split("/")[0] for name in differing if not name.endswith(DIARIES)}
    assert tables <= set(unbroken.manifest.rows), differing
    for table in tables:
        rows = made.read_table(table)
        assert TIMES & set(rows.column_names), table
        assert timeless(rows).equals(timeless(unbroken.read_table(table))), table


def timeless(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in table.column_names if name in TIMES])
