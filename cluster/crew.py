"""Workers that each do one piece of work after the other; one that is lost is replaced."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import ray
from ray.exceptions import RayActorError

from cluster.nodes import LOST, Nodes

START = ""
"""Stands for a worker's own start where others have the key of their piece."""
TRIES = 3
"""Of a piece, whose worker was lost each time though no node was."""


class Work(Protocol):
    """What one piece is made from; goes to a worker by pickle."""

    @property
    def key(self) -> str:
        """A safe file name that no other piece of the job has."""


AnyWork = TypeVar("AnyWork", bound=Work)


def works_done(
    works: Sequence[AnyWork], start: Callable[[], Any], workers: int, nodes: Nodes
) -> Iterator[AnyWork]:
    """Yields each piece of work when it is done, in any order.

    start: a new worker, an actor with the methods `begin()` and `run(work)`. A worker gets work
    once it has begun, so that one without room keeps nothing from the others. workers: at most.
    Raises what a worker raises. The piece of a worker that is lost goes to another one, TRIES times
    in all; where a node was lost meanwhile, these tries do not count.
    """
    waiting, faults = deque(works), _Faults(nodes)
    busy: dict[Any, tuple[Any, AnyWork | None]] = {}

    def add_worker() -> None:
        worker = start()
        busy[worker.begin.remote()] = worker, None

    for _ in range(min(workers, len(works))):
        add_worker()
    while waiting or any(work is not None for _, work in busy.values()):
        (done,), _ = ray.wait(list(busy))
        worker, work = busy.pop(done)
        key = START if work is None else work.key
        try:
            ray.get(done)
        except LOST as error:
            faults.note(key, error)
            if work is not None:
                waiting.appendleft(work)
            add_worker()
            continue
        faults.clear(key)
        if waiting:
            following = waiting.popleft()
            busy[worker.run.remote(following)] = worker, following
        if work is not None:
            yield work


class _Faults:
    """How often workers were lost over each piece, and over their own start (START)."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes, self.tries = nodes, Counter[str]()
        self.lost_before: dict[str, int] = {}
        """Nodes, when the tries of a piece began to count."""

    def clear(self, key: str) -> None:
        """It was done."""
        self.tries.pop(key, None)

    def note(self, key: str, error: Exception) -> None:
        """Raises the error if the work itself, and not its node, seems to cost the worker."""
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise error
        self.tries[key] += 1
        if self.tries[key] >= TRIES:
            if not self.nodes.lost_since(self.lost_before.get(key, 0)):
                raise error
            del self.tries[key]
            self.lost_before[key] = len(self.nodes.lost)
