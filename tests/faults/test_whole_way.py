"""The demo as a whole: submitted to a real head node of this test's own (ports, token, home and
folder), and killed in every stage."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray._private.runtime_env.packaging import create_package

from cluster.artifacts import open_artifact
from tests.processes import PATIENCE_SECONDS, free_ports, kill_tree

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
UPLOAD_LIMIT = 25_000_000
"""Bytes."""
DEMO = ("python", "-m", "jobs.demo", "--config", "jobs/recipes/smoke.yaml", "--storage")
STAGES = ("captions", "images", "teacher", "features", "adapted", "results")
"""Kinds of the artifacts that take time to make, in the demo's order."""


@dataclass(frozen=True)
class Head:
    """A running head node, and the environment in which a client finds it."""

    gcs: str
    dashboard: str
    env: dict[str, str]

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env={**self.env, **env}, capture_output=True, text=True, timeout=1200
        )


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    home = Path(tempfile.mkdtemp(prefix="head-"))  # short: Unix sockets allow 107 characters
    (home / "token").write_text(secrets.token_hex(32))
    gcs, dashboard, client, agent = free_ports(4)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(home), "PATH": f"{BIN}{os.pathsep}{env['PATH']}"}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home / "token")}
    options = {
        "port": gcs, "dashboard-port": dashboard, "ray-client-server-port": client,
        "dashboard-agent-listen-port": agent, "min-worker-port": 0, "max-worker-port": 0,
        "num-cpus": 4, "object-store-memory": 400_000_000, "temp-dir": home / "ray",
    }  # fmt: skip
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (home / "log").open("w") as log:
        node = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_jobs_are_served(node, dashboard, home / "log", env)
        yield Head(f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", env)
    finally:
        kill_tree(node)  # ended gently, it takes half a minute
        shutil.rmtree(home, ignore_errors=True)


def wait_until_jobs_are_served(
    node: subprocess.Popen[bytes], port: int, log: Path, env: dict[str, str]
) -> None:
    listing = [str(BIN / "ray"), "job", "list", "--address", f"http://127.0.0.1:{port}"]
    for _ in range(30):
        assert node.poll() is None, log.read_text()
        if subprocess.run(listing, env=env, capture_output=True, timeout=300).returncode == 0:
            return
    pytest.fail(f"the head node serves no jobs: {log.read_text()}")


def kinds(storage: Path) -> set[str]:
    return {json.loads(path.read_text())["kind"] for path in storage.rglob("manifest.json")}


@pytest.fixture(scope="module")
def submitted(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Storage of a demo that ran as a submitted job."""
    storage = tmp_path_factory.mktemp("submitted")
    done = head.run(
        *("ray", "job", "submit", "--address", head.dashboard, "--working-dir", ".", "--"),
        *(*DEMO, str(storage)),
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert "succeeded" in done.stdout
    return storage


def test_a_submitted_demo_leaves_its_artifacts(submitted: Path) -> None:
    assert kinds(submitted) == {"dataset", "factors", *STAGES, "report"}
    assert list(submitted.rglob("report.html"))


def kill_in(stage: str, storage: Path, seconds: float) -> None:
    """Runs the demo, and kills its driver some seconds after the stage has begun to write.

    If it ends before, it has to end well.
    """
    python = str(BIN / "python")
    driver = subprocess.Popen(
        [python, *DEMO[1:], str(storage)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not list(storage.glob(f"{stage}/*")) and driver.poll() is None:
        assert time.monotonic() < deadline, f"{stage} was never begun"
        time.sleep(0.05)
    time.sleep(seconds)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() in (0, -signal.SIGKILL)


def scores(storage: Path) -> list[dict[str, Any]]:
    """All result rows, without the time that they took and the hash of the folder's settings."""
    (folder,) = storage.glob("results/*")
    table = open_artifact(str(folder), "results").read_table("rows")
    return table.drop_columns(["wall_s", "config_hash"]).to_pylist()


def test_a_demo_killed_in_every_stage_ends_as_the_submitted_one(
    submitted: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng()
    for stage in STAGES:
        kill_in(stage, tmp_path, seconds=rng.uniform(0, 4))
    done = subprocess.run(
        [str(BIN / "python"), *DEMO[1:], str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert scores(tmp_path) == scores(submitted)
    assert {path.parent.parent.name for path in tmp_path.glob("*/*/manifest.json")} == kinds(
        submitted
    )


def test_a_job_on_the_head_node_joins_the_cluster(head: Head, tmp_path: Path) -> None:
    command = ("python", "-m", "tests.cluster.toy_job", "--storage", str(tmp_path))
    done = head.run(*command, RAY_ADDRESS=head.gcs)
    assert done.returncode == 0, done.stderr
    assert kinds(tmp_path) == {"factors"}


def test_a_client_without_the_token_is_turned_away(head: Head, tmp_path: Path) -> None:
    other = tmp_path / "token"
    other.write_text(secrets.token_hex(32))
    listing = ("ray", "job", "list", "--address", head.dashboard)
    assert head.run(*listing, RAY_AUTH_TOKEN_PATH=str(other)).returncode != 0


def test_the_upload_is_small_and_holds_what_a_job_needs(tmp_path: Path) -> None:
    """Packed by Ray's own code, as `--working-dir .` is."""
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True)
    assert package.stat().st_size < UPLOAD_LIMIT
    names = zipfile.ZipFile(package).namelist()
    needed = {"jobs/demo.py", "jobs/recipes/smoke.yaml", "actors/embedded/concepts.csv"}
    needed |= {"models/assets/tiny_clip.safetensors"}
    assert needed <= set(names)
    excluded = (".venv/", ".git/", "runs/", "tests/", ".mypy_cache/", ".pytest_cache/")
    assert [name for name in names if name.startswith(excluded) or "__pycache__" in name] == []
