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
    """Rows that workers have made so far, and which of the workers are at work.

    A batch that is made again, because it was lost with a node, counts once; some 100 bytes each.
    An actor's process imports the file of its class: this one does without Ray Data and Arrow.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.batches: dict[int, int] = {}
        self.at_work: dict[str, str] = {}

    def begin(self, worker: str, node: str) -> None:
        """A worker, on this node, has a batch."""
        self.at_work[worker] = node

    def add(self, worker: str, batch: int, rows: int) -> None:
        """The worker has made it."""
        self.at_work.pop(worker, None)
        self.rows += rows - self.batches.get(batch, 0)
        self.batches[batch] = rows

    def look(self, lost: set[str]) -> tuple[int, bool]:
        """Rows so far, and whether a worker is at work on a node that is not among the lost."""
        return self.rows, any(node not in lost for node in self.at_work.values())
