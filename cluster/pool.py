"""The workers of a job: how many, and what each of them gets."""

import dataclasses
import os
import sys
from typing import Any

from jsonargparse.typing import NonNegativeFloat, PositiveInt


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
    name. By default any node."""

    @property
    def device(self) -> str:
        """Where a worker computes, as torch calls it."""
        return "cuda" if self.gpus else "cpu"

    @property
    def threads(self) -> int:
        """Threads that fill a worker's CPUs."""
        return max(1, int(self.cpus))

    def use_cpus(self) -> None:
        """Makes the process compute in as many threads as its worker has CPUs.

        Ray says so in OMP_NUM_THREADS, but not where the environment says else already, nor to a
        process that has loaded its libraries for another worker.
        """
        os.environ["OMP_NUM_THREADS"] = str(self.threads)  # read by what is loaded later
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(self.threads)

    def options(self) -> dict[str, Any]:
        """Arguments of `ray.remote` for an actor or task that is one of the workers."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus or None,
            "resources": {self.group: 1} if self.group else None,
        }

    def resources(self) -> dict[str, float]:
        """What one worker takes, by the names of Ray's resources, without what it does not."""
        resources = {"CPU": self.cpus, "GPU": self.gpus} | ({self.group: 1} if self.group else {})
        return {name: amount for name, amount in resources.items() if amount}

    def map_options(self) -> dict[str, Any]:
        """Arguments of `Dataset.map_batches`."""
        from ray.data import ActorPoolStrategy  # seconds that other jobs need not wait

        actors = ActorPoolStrategy(min_size=1, max_size=self.workers)
        return {"compute": actors, **self.options()}
