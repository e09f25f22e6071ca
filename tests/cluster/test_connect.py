import json
import subprocess
import sys
from pathlib import Path

import pytest
import ray

from cluster.connect import connect
from tests.cluster import toy_job


@pytest.mark.usefixtures("local_ray")
def test_connecting_within_a_connection_changes_nothing() -> None:
    node = ray.get_runtime_context().get_node_id()
    with connect(cpus=1):
        assert ray.get_runtime_context().get_node_id() == node
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_job_runs_from_any_folder(tmp_path: Path) -> None:
    """Its workers find the project, and a relative storage root is the driver's, not theirs."""
    command = [sys.executable, toy_job.__file__, "--storage", "runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert Path(json.loads(done.stdout)["artifact"]).parent == tmp_path / "runs" / "factors"
