"""Workers of a cluster compute with their driver's libraries, and where they were told to."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from cluster.pool import GROUP

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
POOLS = [
    ("rows", {"group": "trainer"}),
    ("pieces", {"group": "trainer"}),
    ("rows", {"group": "painter"}),
    ("pieces", {"group": "painter"}),
    ("rows", {"gpus": 1}),
    ("pieces", {"group": "drummer"}),
]


def installed(folder: Path, name: str, release: str) -> dict[str, str]:
    """The environment of a node on which a library has this version."""
    record = folder / f"{name}-{release}.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A head that tells its groups, a painter with a library more, a trainer with another torch."""
    groups = dict.fromkeys([f"{GROUP}painter", f"{GROUP}trainer"], 1)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "resources": groups})
    try:
        for group, name, release in (("painter", "vllm", "9.9"), ("trainer", "torch", "1.0")):
            env = installed(tmp_path / group, name, release)
            cluster.add_node(num_cpus=2, resources={group: 2}, env_vars=env)
        yield cluster.address
    finally:
        cluster.shutdown()


def test_a_worker_with_another_version_is_refused_and_the_others_are_in_the_manifest(
    tmp_path: Path, address: str
) -> None:
    """So is a pool that would take a GPU of no group, or waits for a group that is not there."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.toy_versions", str(tmp_path), json.dumps(POOLS)],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    other_torch = f" has torch 1.0 (elsewhere {version('torch')}); allowed: the same on all nodes"
    for outcome in outcomes[:2]:
        assert outcome["refusal"].startswith("versions: a worker on ")
        assert other_torch in outcome["refusal"]
    for outcome in outcomes[2:4]:
        assert "vllm" not in outcome["versions"]
        assert outcome["workers"] == outcome["versions"] | {"vllm": "9.9"}
    allowed = "; allowed on this cluster: painter, trainer"
    assert [outcome["refusal"] for outcome in outcomes[4:]] == [
        f"pool.group: None, with 1 GPUs a worker{allowed}",
        f"pool.group: 'drummer', with 0 GPUs a worker{allowed}",
    ]
