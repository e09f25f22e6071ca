"""Says which arithmetic and which kernels a job's workers run."""

from collections.abc import Iterable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError

from cluster.connect import ray_address, require_ray
from cluster.pool import Pool
from cluster.progress import say
from models.precision import TrainPrecision, computing_on

LONGEST_WAIT_SECONDS = 60


def say_computing(title: str, precisions: Iterable[TrainPrecision], pool: Pool) -> None:
    """One line for the user at the start of a job.

    precisions: of all that the job computes. On a Ray of this machine's own the workers' CPU is
    this process's; elsewhere, and of GPUs, a worker of the pool is asked.
    """
    asked = (pool.device, sorted(set(precisions)))
    if pool.gpus or ray_address() != "local":
        line = _of_a_worker(asked, pool)
    else:
        line = computing_on(*asked)
    say(f"{title}: {line}")


def precision_of(hyper: Any) -> TrainPrecision:
    """Of a method with these hyper-parameters: float32 where it has none to choose."""
    return getattr(hyper, "precision", "fp32")


def _of_a_worker(asked: tuple[str, list[TrainPrecision]], pool: Pool) -> str:
    require_ray()
    answer = ray.remote(**pool.options())(computing_on).remote(*asked)
    try:
        return ray.get(answer, timeout=LONGEST_WAIT_SECONDS)
    except GetTimeoutError:
        ray.cancel(answer)
        return f"arithmetic: not known, no worker had room within {LONGEST_WAIT_SECONDS} s"
