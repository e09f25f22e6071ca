"""Nodes that are lost while a job runs: it says so, and goes on with what is left."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import (
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    WorkerCrashedError,
)

from cluster.errors import links
from cluster.progress import say, watched

NEWS_SECONDS = 60.0
"""In which Ray has noticed that a node is gone. It asks each node every 3 seconds, and gives it up
after 5 questions without an answer."""
SECONDS_BETWEEN_ASKING = 0.5
IDLE = 4
"""Ray's number, in its NodeDeathInfo, for the end of a node that the autoscaler saw do nothing."""
LOST = (RayActorError, WorkerCrashedError, OutOfMemoryError, ObjectLostError, RaySystemError)
"""Raised where a process of Ray's, or what it held, is gone: of the work it says nothing."""


class Nodes:
    """The nodes that the work of one title has lost so far.

    title: begins the lines for the user. worker: what a worker takes of a node, by the names of
    Ray's resources. beside: CPUs that the work needs besides a worker, on any node.
    """

    def __init__(self, title: str, worker: Mapping[str, float], beside: float = 0.0) -> None:
        self.title, self.worker, self.beside = title, worker, beside
        self.lost: set[str] = set()
        self._alive: set[str] = set()
        self._waits = False
        self._looking = threading.Lock()
        self.look()

    def look(self) -> None:
        """Says in a line which nodes are lost since the last look; and in another, once, if what is
        left has no room for a worker."""
        with self._looking:
            nodes = ray.nodes()
            for node in nodes:
                if node["NodeID"] in self._alive and not node["Alive"]:
                    self._tell(node)
            alive = [node for node in nodes if node["Alive"]]
            self._alive = {node["NodeID"] for node in alive}
            waits = bool(self.lost) and not self._has_room([node["Resources"] for node in alive])
            if waits and not self._waits:
                needs = ", ".join(f"{amount:g} {name}" for name, amount in self.worker.items())
                needs += f" and {self.beside:g} CPU beside it" if self.beside else ""
                say(f"{self.title}: no room is left for a worker ({needs}); waits for a node")
            self._waits = waits

    def lost_since(self, count: int) -> bool:
        """Whether more than `count` nodes are lost; waits for the news, which come late."""
        deadline = time.monotonic() + NEWS_SECONDS
        while len(self.lost) <= count and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_ASKING)
            self.look()
        return len(self.lost) > count

    @contextmanager
    def outlived(self) -> Iterator[None]:
        """Ends the block early, without an error, if the error comes of a node that is lost
        meanwhile."""
        lost_before = len(self.lost)
        try:
            yield
        except Exception as error:
            if not is_loss(error) or not self.lost_since(lost_before):
                raise

    def _tell(self, node: Mapping[str, Any]) -> None:
        if node["DeathReason"] == IDLE:
            return  # nothing was under way there
        self.lost.add(node["NodeID"])
        address = node["NodeManagerAddress"]
        say(f"{self.title}: the node {address} is lost; what was under way there is done again")

    def _has_room(self, nodes: Sequence[Mapping[str, float]]) -> bool:
        """nodes: what each of those that are left offers."""
        cpus = sum(node.get("CPU", 0) for node in nodes)
        return cpus >= self.worker.get("CPU", 0) + self.beside and any(
            all(node.get(name, 0) >= amount for name, amount in self.worker.items())
            for node in nodes
        )


@contextmanager
def watched_nodes(title: str, worker: Mapping[str, float]) -> Iterator[Nodes]:
    """`Nodes` that are looked at about once a second, until the block is left."""
    nodes = Nodes(title, worker)
    with watched(nodes.look):
        yield nodes


def is_loss(error: BaseException) -> bool:
    """Whether an error comes from a process of Ray's, or what it held, that is gone."""
    return any(isinstance(link, LOST) for link in links(error))
