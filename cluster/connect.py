"""Connecting a job to Ray: to the cluster it was sent to, else to a local Ray of its own."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before Ray is imported: it reads these once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Stages show their own progress (cluster/progress.py).
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_DATA_LOG_LEVEL", "WARNING")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # else Tune prints a table even at verbose=0
# Tune runs each trial in a thread of its own, and glibc gives a thread an arena of its own, which
# keeps what was freed: a worker of the demo's search grew to 2.6 GB, with one arena to 1.3.
os.environ.setdefault("MALLOC_ARENA_MAX", "1")
# Workers that start side by side. Ray's default, the cores, makes it warn on a small machine.
os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "4")

import ray

logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # "bars disabled"

# Ray Data spills to disk beyond it. Ray's own default, 30 % of the memory, is too much of a laptop.
OBJECT_STORE_BYTES = 400_000_000


@contextmanager
def connect(cpus: int | None = None) -> Iterator[None]:
    """Connected to Ray inside; a no-op in a process that is connected already.

    With RAY_ADDRESS (set by a user, or by `ray job submit`) joins that cluster; otherwise starts a
    local Ray with `cpus` logical CPUs and ends it.
    cpus: default max(4, cores). A resumed Ray Data job needs up to one CPU more than its stages,
    and on two cores with two logical CPUs would wait for ever.
    """
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS", "local") == "local":
        ray.init(
            address="local",
            num_cpus=cpus or max(4, os.cpu_count() or 1),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,  # what fails is raised in the driver; the rest is in Ray's logs
        )
    else:
        ray.init(runtime_env=_code_for_workers(), logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


def _code_for_workers() -> dict[str, Any] | None:
    """The checkout as working directory of all workers, if this driver runs from one.

    A submitted job has been given its working directory already; an installed package is on every
    node by the cluster's set-up commands.
    """
    root = Path(__file__).resolve().parents[1]
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted or not (root / "pyproject.toml").exists():
        return None
    return {"working_dir": str(root)}
