"""The smoke recipe on services and nodes, with SIGKILLs in the stages that take longest."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.services.cluster import HEAD, Cluster
from tests.services.object_store import ObjectStore
from tests.services.smoke import RECIPE, files, folders, start_on_disk, tables

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(
        "KILLS" not in os.environ,
        reason="KILLS: none; with KILLS=8 in the environment these take a quarter of an hour",
    ),
]
LONGER = ("--pretrainer.epochs=5", "--save_every=2")
"""20 steps, so that pretraining can be killed between two checkpoints."""
PATIENCE_SECONDS = 600
PIECES = r"^ray::_Worker(\.run)?$"
"""Title of a worker that makes pieces."""
STAGES = {
    "teacher": r"^ray::(RayTrainWorker.*)?$",
    "encoding": PIECES,
    "adapted": r"^ray::ImplicitFunc(\.train)?$",
    "results": PIECES,
}
"""Folder in which a stage works, in their order, and the title that Ray gives its workers."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, Any]]:
    """Tables of a run on one machine's disk, which goes on beside the first test."""
    storage = tmp_path_factory.mktemp("disk")
    run = start_on_disk(storage, *LONGER)

    def tables_of_run() -> dict[str, Any]:
        assert run.wait(timeout=900) == 0, (storage / "log").read_text()[-5000:]
        return tables(str(storage))

    return tables_of_run


def at_work(nodes: Cluster, storage: str, stage: str) -> str | None:
    """Address of the node where a worker of the stage is, once there is something to lose."""
    names = files(storage, stage)
    assert not any(name.endswith("manifest.json") for name in names), f"{stage} is over"
    if stage == "teacher" and not any("/checkpoint_" in name for name in names):
        return None
    if not folders(storage, stage):
        return None
    for address in nodes.workers():
        if any(re.search(STAGES[stage], title) for title in nodes.titles(address).values()):
            return address
    return None


def wait_for_work(
    job: subprocess.Popen[bytes], nodes: Cluster, storage: str, stage: str, log: Path
) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (address := at_work(nodes, storage, stage)) is None:
        assert job.poll() is None, log.read_text()[-5000:]
        assert time.monotonic() < deadline, f"{stage} was never begun"
        time.sleep(0.1)
    return address


def test_a_driver_killed_in_every_stage_changes_nothing(
    nodes: Cluster,
    store: ObjectStore,
    studies: str,
    undisturbed: Callable[[], dict[str, Any]],
    tmp_path: Path,
) -> None:
    storage, log = store.uri("drivers"), tmp_path / "log"
    settings = (*RECIPE, "--storage", storage, "--studies", studies, *LONGER)
    for stage in STAGES:
        job = nodes.submit("jobs.demo", *settings, log=log)
        wait_for_work(job, nodes, storage, stage, log)
        for pid, title in nodes.titles(HEAD).items():
            if "-m jobs.demo" in title:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert job.wait(timeout=PATIENCE_SECONDS) != 0
        assert not [name for name in files(storage, stage) if name.endswith("manifest.json")]
    job = nodes.submit("jobs.demo", *settings, log=log)
    assert job.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text()[-5000:]
    assert tables(storage) == undisturbed()


def test_a_job_that_loses_a_node_in_every_stage_ends_as_if_it_had_not(
    nodes: Cluster,
    store: ObjectStore,
    studies: str,
    undisturbed: Callable[[], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """One job; another node comes after each that goes."""
    storage, log = store.uri("nodes"), tmp_path / "log"
    settings = (*RECIPE, "--storage", storage, "--studies", studies, *LONGER)
    job = nodes.submit("jobs.demo", *settings, log=log)
    for stage in STAGES:
        nodes.kill_node(wait_for_work(job, nodes, storage, stage, log))
        nodes.add_node()
    assert job.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text()[-5000:]
    assert tables(storage) == undisturbed()
