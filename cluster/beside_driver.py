"""Small actors that the driver of a job listens to: they live and die with its node."""

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.connect import require_ray


def actor_beside_driver(kind: type, *args: Any, name: str | None = None) -> Any:
    """An actor on the driver's node, which takes no CPU.

    Ray places an actor without CPUs on any node, so that one lost worker node could end a job that
    would have gone on without it. The driver's node cannot be lost without the job.

    name: by which workers find it with `ray.get_actor`.
    """
    require_ray()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(kind).options(num_cpus=0, name=name, scheduling_strategy=here).remote(*args)


class Counter:
    """Rows that workers have made so far in this run.

    An actor's process imports the file of its class: this one does without Ray Data and Arrow.
    """

    def __init__(self) -> None:
        self.rows = 0

    def add(self, rows: int) -> None:
        self.rows += rows

    def total(self) -> int:
        return self.rows
