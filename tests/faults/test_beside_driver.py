"""What a driver listens to does not go with a worker node."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
ACTORS = 6
PROGRAM = f"""
import ray
from cluster.beside_driver import actor_beside_driver

class Asked:
    def node(self):
        return ray.get_runtime_context().get_node_id()

ray.init(log_to_driver=False)
actors = [actor_beside_driver(Asked) for _ in range({ACTORS})]
nodes = ray.get([actor.node.remote() for actor in actors])
print(len(ray.nodes()), nodes.count(ray.get_runtime_context().get_node_id()))
"""


def test_the_actors_of_a_driver_are_all_on_its_node() -> None:
    """Ray itself spreads actors without CPUs over the nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            env={**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)},
        )
    finally:
        cluster.shutdown()
    assert done.stdout.split() == ["2", str(ACTORS)], done.stderr
