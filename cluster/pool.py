"""The workers of a job: how many, and what each of them gets."""

import dataclasses
import os
import sys
from typing import Any

from jsonargparse.typing import NonNegativeFloat, PositiveInt

from cluster.errors import ConfigError

GROUP = "group:"
"""Begins the resources by which the head of ray_cluster.yaml says which groups there are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """Workers of a stage; Ray starts them as there is work and room, and ends idle ones."""

    workers: PositiveInt = 2
    """Workers at most."""
    cpus: NonNegativeFloat = 1.0
    """CPUs of each worker; it computes in as many threads."""
    gpus: NonNegativeFloat = 0.0
    """GPUs of each worker; fractions share one. 0: it computes on the CPU."""
    group: str | None = None
    """Worker group of ray_cluster.yaml to run in: each worker takes a unit of the resource of that
    name. By default any node; with GPUs on a cluster that has groups, one must be named."""

    @property
    def device(self) -> str:
        """Where a worker computes, as torch calls it."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        """Threads that fill a worker's CPUs."""
        return max(1, int(self.cpus))

    def use_share(self) -> None:
        """Makes the process compute in as many threads as its worker has CPUs, and take no more of
        the memory of a GPU that workers share than its fraction.

        Ray says the former in OMP_NUM_THREADS, but not where the environment says else already, nor
        to a process that has loaded its libraries for another worker; the latter it says to nobody.
        """
        os.environ["OMP_NUM_THREADS"] = str(self.threads)  # read by what is loaded later
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(self.threads)
        if 0 < self.gpus < 1:
            from torch.cuda import set_per_process_memory_fraction

            set_per_process_memory_fraction(self.gpus)

    def options(self) -> dict[str, Any]:
        """Arguments of `ray.remote` for an actor or task that is one of the workers.

        Raises ConfigError if this cluster needs another `group`, or this machine has less.
        """
        self.require_room(at_once=1)
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus or None,
            "resources": self._unit_of_group() or None,
        }

    def resources(self) -> dict[str, float]:
        """What one worker takes, by the names of Ray's resources, without what it does not.

        Raises ConfigError if this cluster needs another `group`, or this machine has less.
        """
        self.require_room(at_once=1)
        resources = {"CPU": self.cpus, "GPU": self.gpus} | self._unit_of_group()
        return {name: amount for name, amount in resources.items() if amount}

    def require_room(self, at_once: int) -> None:
        """ConfigError if a Ray of this machine's own has no room for so many workers at once.

        It gets no other nodes, so they would wait for ever. Ray has to be connected, else nothing
        is asked.
        """
        import ray

        from cluster.connect import ray_address

        if ray_address() != "local" or not ray.is_initialized():
            return
        there = ray.cluster_resources()
        for field, each, kind in (("cpus", self.cpus, "CPU"), ("gpus", self.gpus, "GPU")):
            if at_once * each > there.get(kind, 0):
                times = f", {at_once} workers at once" if at_once > 1 else ""
                raise ConfigError(
                    f"pool.{field}: {each:g}{times}; allowed: at most the {there.get(kind, 0):g} "
                    f"{kind}s of this machine"
                )

    def _unit_of_group(self) -> dict[str, float]:
        """Nothing on a Ray of this machine's own, which has no groups."""
        from cluster.connect import ray_address  # imports Ray

        if ray_address() == "local":
            return {}
        self._require_group()
        return {self.group: 1} if self.group else {}

    def _require_group(self) -> None:
        """Raises ConfigError if this cluster has groups and none of them is the pool's.

        A pool without GPUs may name none. With GPUs it could be given those of any group, and take
        the trainer's from pretraining; with an unknown group it would wait for ever.
        """
        import ray

        offers = ray.cluster_resources() if ray.is_initialized() else {}
        names = sorted(name.removeprefix(GROUP) for name in offers if name.startswith(GROUP))
        if names and self.group not in names and (self.group or self.gpus):
            raise ConfigError(
                f"pool.group: {self.group!r}, with {self.gpus:g} GPUs a worker; allowed on this "
                f"cluster: {', '.join(names)}"
            )

    def map_options(self) -> dict[str, Any]:
        """Arguments of `Dataset.map_batches`."""
        from ray.data import ActorPoolStrategy  # seconds that other jobs need not wait

        actors = ActorPoolStrategy(min_size=1, max_size=self.workers)
        return {"compute": actors, **self.options()}
