"""A painter pool on Ray's autoscaler, with the groups of ray_cluster.yaml as local nodes."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config

from actors.synthesis.captions.writer import WriterConfig
from cluster.artifacts import Artifact, open_artifact
from jobs.synthesize import SynthesizeConfig, synthesize
from tests.processes import PATIENCE_SECONDS, free_ports, kill_tree

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
HEAD_ID, HEAD_GROUP = "f" * 51 + "00000", "ray.head.default"  # as Ray's fake provider has them
MOST_NODES = 2
"""On a fast machine all is painted before a third one is there."""
PAINTERS = {"group": "painter"}
WATCH = """
import ray, sys, time

ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
with open(sys.argv[1], "w") as seen:
    while True:
        nodes = sum("painter" in node["Resources"] for node in ray.nodes() if node["Alive"])
        print(nodes, file=seen, flush=True)
        time.sleep(0.5)
"""
"""Writes how many painter nodes are alive; to a file, since Ray prints lines of its own."""


@pytest.fixture
def cluster() -> Iterator[dict[str, str]]:
    """A head with the autoscaler; the environment in which a client finds it."""
    home = Path(tempfile.mkdtemp(prefix="scale-"))
    (port,) = free_ports(1)
    (home / "cluster.yaml").write_text(yaml.safe_dump(fake_cluster(f"127.0.0.1:{port}")))
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    env |= {"RAY_AUTH_MODE": "disabled", "RAY_enable_autoscaler_v2": "1"}
    env |= {"RAY_CLOUD_INSTANCE_ID": HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID}
    env |= {"RAY_NODE_TYPE_NAME": HEAD_GROUP}
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
    command += ["--disable-usage-stats", "--include-dashboard=false", "--num-cpus=4"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={home / 'ray'}"]
    command += ["--object-store-memory=400000000", f"--autoscaling-config={home / 'cluster.yaml'}"]
    with (home / "log").open("w") as log:
        node = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        yield env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        assert node.poll() is None, (home / "log").read_text()
    finally:
        kill_tree(node)
        shutil.rmtree(home, ignore_errors=True)


def fake_cluster(address: str) -> dict[str, Any]:
    """ray_cluster.yaml, its nodes started as processes by Ray's fake provider."""
    launcher = prepare_config(yaml.safe_load((ROOT / "ray_cluster.yaml").read_text()))
    groups = launcher["available_node_types"]
    groups[HEAD_GROUP] = groups.pop(launcher["head_node_type"])
    for group in groups.values():
        group["node_config"] = {}
        group["resources"]["object_store_memory"] = 200_000_000
    return launcher | {
        "head_node_type": HEAD_GROUP,
        "idle_timeout_minutes": 0.1,
        "docker": {},
        "file_mounts": {},
        "provider": {
            # By its type, "fake_multinode", Ray would look for a file that its wheel lacks.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": address,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
        },
    }


def test_a_painter_pool_grows_under_load_and_its_nodes_go_when_it_ends(
    cluster: dict[str, str], table: Artifact, tmp_path: Path
) -> None:
    writer = WriterConfig(per_class=240, attempts=1)
    texts = synthesize(
        SynthesizeConfig(storage=str(tmp_path), factors=table.uri, writer=writer, painter=None)
    )
    seen, pool = tmp_path / "nodes", {"workers": MOST_NODES, "cpus": 4, "gpus": 1}
    painting = [sys.executable, "-m", "jobs.synthesize", "--storage", str(tmp_path)]
    painting += [f"--captions={texts.uri}", f"--painter.pool={json.dumps(pool | PAINTERS)}"]
    watch = subprocess.Popen([sys.executable, "-c", WATCH, str(seen)], env=cluster)
    try:
        done = subprocess.run(painting, cwd=ROOT, env=cluster, capture_output=True, timeout=600)
        assert done.returncode == 0, done.stderr[-5000:]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while int(seen.read_text().split()[-1]):
            assert time.monotonic() < deadline, "idle nodes stay"
            time.sleep(1)
    finally:
        watch.kill()
    counts = [int(count) for count in seen.read_text().split()]
    assert counts[0] == 0
    assert 1 in counts
    assert max(counts) == MOST_NODES
    made = open_artifact(json.loads(done.stdout.splitlines()[-1])["artifact"], "images")
    assert made.manifest.rows["rows"] == 4 * texts.manifest.rows["rows"]
